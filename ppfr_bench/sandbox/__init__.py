"""A defense that is given by a file runs in a process of its own, which holds nothing of the harness.

``stand_ins`` gives classes that look like those of the file and send every call to that process. ``wire`` says what
crosses the border, ``layers`` what closes the process in, ``child`` is its program, ``process`` its other end.
"""
