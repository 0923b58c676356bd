"""Keeping boards: the nightly run, submissions, records of earlier versions."""
