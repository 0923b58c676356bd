"""Publishers: each makes some files of a suite's folder. A file a publisher, which ends in ``PUBLISHER = <class>``."""
