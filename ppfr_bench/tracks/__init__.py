"""Tracks: what is released decides in which table a defense is ranked. A file a track, ending in ``TRACK = <class>``.

``ppfr_bench.tracks.base`` has the class that a track derives from.
"""
