"""The one error a user is meant to read; everything else is a bug and shows a traceback under --debug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was expected, what came, and what to type next; caught once, in ``cli.py``."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        return type(self), (self.message, self.hint)  # crosses process borders whole


class Unavailable(UserError):
    """Something optional is missing on this machine (an extra, npm, an asset): the cell is skipped."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known name, or lists them all when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."


def in_one_line(error: BaseException) -> str:
    """An error in one line; of Python's grammar, with the line of the file."""
    if isinstance(error, SyntaxError) and error.lineno and error.text:
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}:  {error.text.strip()[:120]}"
    if isinstance(error, SystemExit):
        return f"it ends the program, with exit code {error.code}"
    return f"{type(error).__name__}: {error}"
