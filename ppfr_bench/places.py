"""Folders and files that people name: ``~`` is the home folder, and an empty variable is not set."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ppfr_bench.errors import UserError
from ppfr_bench.text import printable

__all__ = [
    "folder_at", "from_environment", "home_folder", "is_file", "is_folder", "no_home", "reason", "resolved",
    "user_path",
]  # fmt: skip

_ESCAPED = {"\t": "t", "\n": "n", "\r": "r", "\b": "b", "\f": "f"}  # TOML makes these of C:\temp in double quotes.


def user_path(text: str | Path, what: str) -> Path:
    """A path as a person wrote it, with a leading ``~`` or ``~user`` read as a home folder. Nothing is looked up.

    Args:
        what: names the path in a message, such as ``PPFR_BENCH_CACHE`` or ``--results``.

    Raises:
        UserError: no such home folder, or characters that no path holds.
    """
    text = str(text)
    if "\0" in text:
        raise UserError(f"{what} holds a null character: {printable(text)!r}", "Write the path without it.")
    odd = sorted(set(_ESCAPED) & set(text))
    if odd and not is_folder(Path(text)) and not is_file(Path(text)):
        shown = "".join(f"\\{_ESCAPED[one]}" if one in odd else one for one in text)
        raise UserError(
            f"{what} holds a tab, a line end or the like: {printable(shown)}",
            f"In double quotes TOML reads \\t and \\n as such. Write single quotes: '{printable(shown)}'",
        )
    if not text.startswith("~"):
        return Path(text)
    first, *rest = Path(text).parts
    home = home_folder(first[1:])
    if home is None and first == "~":
        raise UserError(
            f"{what} is {printable(text)}, and there is no home folder: {no_home()}", "Write the whole path, from / on."
        )
    if home is None:
        raise UserError(
            f"{what} is {printable(text)}, but no user is named '{printable(first[1:])}'",
            f"Your own home folder is ~/; a name that begins with ~ is written ./{printable(text)}",
        )
    return home.joinpath(*rest)


def from_environment(variable: str) -> Path | None:
    """The path in a variable, None where it is not set or empty.

    Raises:
        UserError: as ``user_path``.
    """
    text = os.environ.get(variable, "").strip()
    return user_path(text, variable) if text else None


def home_folder(user: str = "") -> Path | None:
    """The home folder of a user, of this account without a name; None where there is none."""
    given = Path(os.environ.get("HOME", ""))
    if not user and given.is_absolute():
        return given
    try:
        import pwd
    except ImportError:  # Windows
        try:
            return Path(f"~{user}").expanduser()
        except RuntimeError:
            return None
    try:
        known = Path((pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())).pw_dir)
    except (KeyError, ValueError):  # no such user, or a name that none can have
        return None
    return known if known.is_absolute() else None


def no_home() -> str:
    """Why this account has no home folder, for a message."""
    given = os.environ.get("HOME", "")
    why = f"HOME is {printable(given)}, which is no absolute path," if given else "HOME is not set"
    who = f"user {os.getuid()}" if hasattr(os, "getuid") else "this user"
    return f"{why} and {who} is not in the system's list of users"


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False too where that cannot be looked at."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False too where that cannot be looked at."""
    return stat.S_ISDIR(_mode(path))


def folder_at(path: Path, what: str, hint: str) -> Path:
    """The path as it came, once seen to be a folder or a place where one can be made. Makes nothing.

    Args:
        what: names the path in a message, such as ``the cache`` or ``--results``.
        hint: what to type instead.

    Raises:
        UserError: a file is there or on the way, a link leads nowhere, or a folder on the way cannot be entered.
    """
    shown = printable(path)
    for place in (path, *path.parents):
        try:
            mode = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                raise UserError(f"{what} is {shown}, and {printable(place)} is a link to nowhere", hint) from None
            continue
        except (OSError, ValueError) as error:
            raise UserError(f"{what} is {shown}, which cannot be reached: {reason(error)}", hint) from error
        if not stat.S_ISDIR(mode):
            which = "that" if place == path else printable(place)
            raise UserError(f"{what} is {shown}, expected a folder, and {which} is a file", hint)
        break
    return path


def resolved(path: Path, what: str) -> Path:
    """The absolute path with its links followed.

    Raises:
        UserError: links in a circle, a null character, or a working folder that is gone.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{what} {printable(path)} leads nowhere: {reason(error)}", "Check the path.") from error


def reason(error: Exception) -> str:
    """What an error of the system says, without number and path."""
    return str(getattr(error, "strerror", None) or error)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0
