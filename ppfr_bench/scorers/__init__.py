"""Scorers: answers of attacks become measurements. A file a scorer, which ends in ``SCORER = <class>``."""
