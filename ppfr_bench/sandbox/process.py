"""The other end of a plug-in's process: it is started, asked, held to its limits, and ended with all it has started."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch

from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.sandbox import layers, wire
from ppfr_bench.sandbox.layers import Limits, Source, how_to_start, lacking
from ppfr_bench.text import printable

_LOOK_SECONDS = 0.1  # Between two looks at memory and processes.
_IDLE_SECONDS = 60  # A process that nobody asks for so long gives its memory back; the next call starts another.
_END_SECONDS = 10  # A process that was ended is gone after so many, at the latest.
_NOT_NEEDED = "it was no longer needed"
_SMALLEST = 4096  # Bytes that any file counts, so that empty ones are not without number.
_SHOWN_OUTPUT = 300  # Bytes.
_BASES = {"RuntimeError": RuntimeError, "ValueError": ValueError, "TypeError": TypeError}
Load = Callable[[torch.Tensor], torch.Tensor]
Reply = tuple[dict[str, Any], list[torch.Tensor]]


class SandboxError(UserError):
    """The process of a plug-in has ended, or was ended, and why."""


class PluginError(Exception):
    """What a plug-in's own code raised in its process; the class that is raised has the name of the original."""


def said_to_user(told: Mapping[str, str]) -> UserError:
    """What a plug-in says to its user, by ``type``, ``message`` and ``hint``."""
    kind = Unavailable if told.get("type") == "Unavailable" else UserError
    return kind(told.get("message", ""), told.get("hint", ""))


class Child:
    """One process for one plug-in.

    Raises:
        SandboxError: it does not start.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        self.held: tuple[str, ...] = ()
        self._reason = ""
        self._ended = threading.Event()
        self._output = bytearray()
        self._output_bytes = 0
        self._resting = 0  # Bytes in memory before the plug-in was imported.
        self._lock = threading.Lock()
        self._asked_last = time.monotonic()
        self.keeps_state = False  # Of what it was asked, something is in it that another process would not have.
        ours, theirs = socket.socketpair()
        self._socket = ours
        # Nothing is left of it after a kill where bubblewrap makes one in memory.
        wrapped = "bubblewrap" in layers.outer_layers()
        self._scratch = "" if wrapped else tempfile.mkdtemp(prefix="ppfr-bench-plugin-")
        self.started = started = how_to_start(source, theirs.fileno(), self._scratch, limits)
        self._inside, self._shown = started.inside, started.shown
        try:
            # Where it ends with its parent, the parent is the thread that started it: that one lives as long as we do.
            self._process: subprocess.Popen[bytes] = _starter().submit(
                subprocess.Popen, started.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()], env=started.environment, cwd="/",
                start_new_session=True,
            ).result()  # fmt: skip
        except (OSError, ValueError) as error:  # Windows hands no socket on.
            ours.close()
            self._clear()
            raise SandboxError(
                f"plug-in {source.name}: its process does not start: {error}",
                "See what is missing:  ppfr-bench doctor    or, if you trust the file:  --trust",
            ) from error
        finally:
            theirs.close()
        _living.add(self)
        for task in (self._read_output, self._watch):
            threading.Thread(target=task, daemon=True).start()
        with self._lock, self._closing():
            header, _ = self._exchange("start", limits.start_seconds, lambda: wire.receive(ours, 0, self._deadline))
        inner = header.get("held")
        inner = [one for one in inner if one in ("landlock", "seccomp", "rlimits")] if isinstance(inner, list) else []
        self.held = (*started.outer, *inner)
        self._resting = _memory(_family(self._process.pid))

    @property
    def ended(self) -> str:
        """Why it answers no longer; empty while it does."""
        return self._reason

    def ready(self) -> bool:
        """Whether it can be asked; if so, it will not be let go in the next seconds."""
        with self._lock:
            self._asked_last = time.monotonic()
            return not self._reason

    @property
    def open_to(self) -> list[str]:
        """What the plug-in can reach in spite of everything."""
        return lacking(self.held)

    def call(
        self, name: str, seconds: float, most_bytes: int = 0, tensors: Sequence[torch.Tensor] = (),
        load: Load | None = None, **header: Any,
    ) -> Reply:  # fmt: skip
        """Ask for something, and wait for the answer.

        Args:
            seconds: it may take; ``most_bytes``: the tensors of the answer may have.
            load: what the plug-in is given when it asks for images by their indices.

        Raises:
            SandboxError: it has ended, or was ended for what it took.
            PluginError, UserError, Unavailable: what the plug-in raised.
        """
        with self._lock, self._closing():
            self._asked_last = time.monotonic()
            return self._exchange(name, seconds, lambda: self._asked(name, header, tensors, most_bytes, load))

    def end(self, reason: str = _NOT_NEEDED) -> None:
        """End it, and all that it has started; that they are gone is waited for."""
        if not self._reason:
            self._reason = reason
        family = _family(self._process.pid)
        _kill(family[1:])  # The first one buries the others, if they are let go before it.
        try:
            self._process.wait(_LOOK_SECONDS * 5)
        except subprocess.TimeoutExpired:
            _kill(family[:1])
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        _wait_for(family)
        self._clear()
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # Whoever waits for an answer waits no longer, and closes it.
        if self._lock.acquire(blocking=False):
            self._socket.close()
            self._lock.release()
        _living.discard(self)

    def _clear(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        """Its connection is closed by the one who uses it, so that no other file has its number meanwhile."""
        try:
            yield
        finally:
            if self._reason:
                self._socket.close()

    def _asked(
        self, name: str, header: dict[str, Any], tensors: Sequence[torch.Tensor], most_bytes: int, load: Load | None
    ) -> Reply:  # fmt: skip
        header = header | {"call": name, "threads": torch.get_num_threads()}
        wire.send(self._socket, header, tensors, self._deadline)
        while True:
            answer, found = wire.receive(self._socket, most_bytes, self._deadline)
            if "load" not in answer:
                if "error" in answer:
                    raise self._raised(answer["error"])
                return answer, found
            if load is None or len(found) != 1:
                raise wire.MalformedError("a request for images that it has none to ask for")
            try:
                images = load(found[0])
            except Exception:  # The data cannot be read; the plug-in still waits for them.
                self.end("the images that it is to learn from cannot be read")
                raise
            wire.send(self._socket, {}, [images], self._deadline)

    def _exchange(self, name: str, seconds: float, exchange: Callable[[], Reply]) -> Reply:
        """An exchange of frames, whose failure ends the process."""
        if self._reason:
            raise self.gone()
        self._deadline = time.monotonic() + seconds
        try:
            return exchange()
        except wire.LateError:
            self.end(f"timeout: more than {seconds:g} s in {name}")
        except wire.MalformedError as error:
            self.end(f"it sent {error}")
        except wire.EndedError:
            self._ended.wait(_LOOK_SECONDS * 10)
            self.end("it closed its connection")
        except (UserError, PluginError):
            raise
        except BaseException:  # Half a frame may have been sent.
            self.end("a call was broken off")
            raise
        raise self.gone()

    def gone(self) -> SandboxError:
        """Why it answers no longer, as an error."""
        last = printable(bytes(self._output[-_SHOWN_OUTPUT:]).decode("utf-8", "replace").strip())
        said = f"; it said last: {last}" if last and self._reason != _NOT_NEEDED else ""
        return SandboxError(
            f"plug-in {self.source.name}: {self._reason}{said}",
            "A plug-in runs in a process of its own, with limits: see docs/howto/run_a_file.md.",
        )

    def _raised(self, told: object) -> Exception:
        """What the plug-in raised, by what it says of it."""
        if not isinstance(told, dict):
            raise wire.MalformedError("an error that is none")
        name, message, hint, base = (self._words(told.get(key, "")) for key in ("type", "message", "hint", "base"))
        if name in ("UserError", "Unavailable"):
            return said_to_user({"type": name, "message": message, "hint": hint})
        name = name[:60] if name.isidentifier() else "Exception"
        bases = (PluginError, _BASES[base]) if base in _BASES else (PluginError,)
        made: Exception = type(name, bases, {})(message)
        return made

    def _words(self, text: object) -> str:
        """A text from the other side, with the path of the plug-in as the user knows it."""
        found = str(text)[:4000] if isinstance(text, str) else ""
        return found.replace(self._inside + "/", self._shown + "/") if self._inside != self._shown else found

    # In threads ----------------------------------------------------------------------------------------------------

    def _let_go_if_idle(self) -> bool:
        """Whether it is to end now, as nobody asks it and nothing would be lost with it."""
        if self.keeps_state or time.monotonic() - self._asked_last < _IDLE_SECONDS or not self._lock.acquire(False):
            return False
        try:
            if time.monotonic() - self._asked_last >= _IDLE_SECONDS:
                self._reason = self._reason or _NOT_NEEDED
        finally:
            self._lock.release()
        return bool(self._reason)

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while part := os.read(stream.fileno(), 1 << 16):
                self._output = (self._output + part)[-_SHOWN_OUTPUT * 2 :]
                self._output_bytes += len(part)
                if self._output_bytes > self.limits.output_bytes:
                    self.end(f"output: more than {self.limits.output_bytes} bytes")
                    return

    def _watch(self) -> None:
        """Look at what it takes now and then, and end it where that is too much."""
        seen: set[psutil.Process] = set()  # It knows a process from another that is given its number later.
        while not self._ended.is_set():
            code = self._process.poll()
            if code is not None:
                self.end(_how_it_ended(code))
                for one in seen:
                    with contextlib.suppress(psutil.Error):
                        one.kill()
                return
            family = _family(self._process.pid)
            if not self.started.outer:  # Elsewhere its processes end with the first of them.
                for pid in family[1:]:
                    with contextlib.suppress(psutil.Error):
                        seen.add(psutil.Process(pid))
            if self._let_go_if_idle():
                self.end()
            most = self._resting + self.limits.memory_mib * (1 << 20)
            if len(family) > self.limits.processes:
                self.end(f"processes: more than {self.limits.processes} at a time")
            elif self._resting and _memory(family) > most and _memory(family, _own_share) > most:
                self.end(f"memory: more than {self.limits.memory_mib / 1024:.2g} GiB")
            elif self._scratch and _on_disk(self._scratch, family) > self.limits.disk_mib << 20:
                self.end(f"disk: more than {self.limits.disk_mib} MiB in its own folder")
            self._ended.wait(_LOOK_SECONDS if self._lock.locked() else 5 * _LOOK_SECONDS)


_living: weakref.WeakSet[Child] = weakref.WeakSet()
_starters: list[ThreadPoolExecutor] = []


def _starter() -> ThreadPoolExecutor:
    if not _starters:
        _starters.append(ThreadPoolExecutor(1, "sandbox-starter"))
    return _starters[0]


@atexit.register
def end_all() -> None:
    """End the processes of all plug-ins."""
    for child in list(_living):
        child.end()


def _how_it_ended(code: int) -> str:
    number = -code if code < 0 else code - 128
    if number in {one.value for one in signal.Signals}:
        return f"its process died of {signal.Signals(number).name}"
    return f"its process died with exit code {code}"


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    if sys.platform != "linux":
        with contextlib.suppress(psutil.Error):
            return [pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))]
        return [pid]
    found, new = [pid], [pid]
    # It is asked ten times a second, and os and open take two thirds of the time of pathlib.
    while new:
        here = new.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{here}/task"):  # noqa: PTH208
                with open(f"/proc/{here}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                    born = [int(word) for word in file.read().split()]
                found += born
                new += born
    return found


def _resident(pid: int) -> int:
    """Bytes in memory of a process, with what it shares: quick to tell."""
    return int(psutil.Process(pid).memory_info().rss)


def _own_share(pid: int) -> int:
    """Of what processes share, such as a fork and its parent, the part of one of them; Linux alone tells."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return _resident(pid)


def _memory(family: Sequence[int], of: Callable[[int], int] = _resident) -> int:
    """Bytes in memory of processes."""
    total = 0
    for pid in family:
        with contextlib.suppress(psutil.Error):
            total += of(pid)
    return total


def _on_disk(folder: str, family: Sequence[int]) -> float:
    """Bytes that the files of a folder take, and those that have no name any more but are open; infinite if unknown."""
    found: dict[tuple[int, int], int] = {}

    def count(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Plain strings: a plug-in may make thousands of files, which are counted ten times a second.
            about = os.stat(path, follow_symlinks=not path.startswith(folder))  # noqa: PTH116
            if path.startswith(folder) or about.st_nlink == 0:
                found[about.st_dev, about.st_ino] = max(about.st_blocks * 512, _SMALLEST)

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    try:
        for here, folders, files in os.walk(folder, onerror=fail):
            for name in (*folders, *files):
                count(f"{here}/{name}")
    except OSError:  # It has closed a folder of its own.
        return math.inf
    for pid in family:
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                count(f"/proc/{pid}/fd/{number}")
    return sum(found.values())


def _kill(family: Sequence[int]) -> None:
    for pid in family:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def _wait_for(family: Sequence[int]) -> None:
    """Until the processes of a family are gone."""
    end = time.monotonic() + _END_SECONDS
    for pid in family:
        while psutil.pid_exists(pid) and time.monotonic() < end:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    break
            time.sleep(0.01)
