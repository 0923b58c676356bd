"""How the program meets its terminal: ``~`` in arguments, streams that cannot write every letter, exit codes."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.markup import escape
from typer.core import TyperGroup

from ppfr_bench.console import err, out
from ppfr_bench.errors import UserError
from ppfr_bench.places import reason, user_path
from ppfr_bench.redaction import without_secrets
from ppfr_bench.text import printable

INTERRUPTED, NO_READER, TERMINATED = 130, 141, 143  # A shell gives these codes for SIGINT, SIGPIPE and SIGTERM.


class TerminatedError(KeyboardInterrupt):
    """SIGTERM: whatever Ctrl-C ends in order, it ends in order."""


class Commands(TyperGroup):
    """The commands, with ``~`` read as the home folder where the shell leaves it: in ``--results=~/records``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """What typer does, on arguments with their ``~`` replaced.

        Raises:
            UserError: no such home folder.
        """
        return super().parse_args(ctx, [_at_home(argument) for argument in args])


def run(command: Callable[[], object]) -> None:
    """Run the command line and leave with its exit code.

    A UserError is one message and code 2, as is what the system refuses (a full disk, a folder without permission);
    Ctrl-C is 130, SIGTERM 143, a reader of the output that has gone is 141, and all three are quiet. Anything else is a
    bug, and code 1; ``--debug`` shows where an error comes from.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _write_every_letter()
    signal.signal(signal.SIGTERM, _terminate)
    code: int | str | None = 0
    try:
        try:
            command()
        except SystemExit as ended:
            code = _meant(ended)
        _flush()  # At exit the interpreter would print a traceback for a write that is refused.
    except KeyboardInterrupt as stopped:
        code = TERMINATED if isinstance(stopped, TerminatedError) else INTERRUPTED
    except BrokenPipeError as error:
        if debug and not _reader_is_gone():
            raise
        code = NO_READER if _reader_is_gone() else _explain(error)
    except Exception as error:  # Whatever is left is told in one message; --debug shows the traceback.
        if debug:
            raise
        code = _explain(error)
    try:
        _flush()
    except (OSError, UserError):
        _write_nowhere()
    sys.exit(code)


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Once is enough: what is being ended in order goes on.
    raise TerminatedError


def _at_home(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if argument.startswith("~"):
        return str(user_path(argument, "the path"))
    if equals and option.startswith("--") and value.startswith("~"):
        return f"{option}={user_path(value, option)}"
    return argument


def _write_every_letter() -> None:
    """A name that the stream's encoding does not have, or that is no text at all, is written with escapes."""
    for stream, console in ((sys.stdout, out), (sys.stderr, err)):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf"):
            console.file = stream  # rich asks only a stream of its own for its encoding, and then draws plain tables.


def _meant(ended: SystemExit) -> int | str | None:
    """The exit code; typer and rich know of a reader that has gone and of Ctrl-C, and leave with codes of their own.

    Raises:
        KeyboardInterrupt, BrokenPipeError: what made them leave.
    """
    cause: BaseException | None = ended
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt | BrokenPipeError):
            raise cause
        cause = cause.__cause__ or cause.__context__
    return ended.code


def _flush() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write to standard output: {reason(error)}", "Free some space, or write the output elsewhere."
        ) from error


def _explain(error: Exception) -> int:
    """Say what is wrong on standard error; gives the exit code."""
    code, hint = 2, ""
    if isinstance(error, UserError):
        said = without_secrets(str(error))
    elif isinstance(error, OSError) and error.errno is not None:  # The machine failed, not the program.
        where = f"{printable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        said = f"{where}{reason(error)}"
        hint = "The same command with --debug shows where."
    # pathlib raises it before Python 3.13.
    elif isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        said = printable(str(error))
    else:
        code, said = 1, without_secrets(f"{type(error).__name__}: {error}")
        hint = "This is a bug. The same command with --debug shows where."
    title = "error" if code == 2 else "internal error"
    try:
        err.print(f"[red]{title}:[/red]", escape(said), highlight=False, soft_wrap=True)
        if hint:
            err.print(hint, highlight=False)
    except (SystemExit, OSError):  # Nobody reads standard error.
        _write_nowhere()
    return code


def _reader_is_gone() -> bool:
    """Whether nobody reads standard output or error any more, or rich has sent them nowhere because of that."""
    numbers = [number for stream in (sys.stdout, sys.stderr) if (number := _number(stream)) is not None]
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for number in numbers:
        poll.register(number, 0)
    nowhere = Path(os.devnull).stat().st_rdev
    return any(event & select.POLLERR for _, event in poll.poll(0)) or any(
        os.fstat(number).st_rdev == nowhere for number in numbers
    )


def _write_nowhere() -> None:
    """What is still to be flushed goes nowhere: the interpreter would complain of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if (number := _number(stream)) is not None:
            os.dup2(nowhere, number)


def _number(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream is not None else None
    except (OSError, ValueError):  # The stream is closed, or is no file.
        return None
