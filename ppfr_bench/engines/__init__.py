"""Engines: where the tasks of a run are carried out. A file an engine, which ends in ``ENGINE = <class>``."""
