"""Runs that are killed: whoever it is, by whatever signal, at whatever moment, nothing survives and nothing is lost.

``python tests/support/run_kills.py 100`` does so a hundred times, and says what each kill came to.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

WHO, SIGNALS, WHEN = ("main", "worker", "child"), ("SIGKILL", "SIGTERM", "SIGINT"), ("starting", "computing", "writing")
_SECONDS = 240
_VARYING = re.compile(rb'"(cost|environment)": \{[^}]*\}')
_PLUGIN = """
import torch
from ppfr_bench.api import Defense, DefenseCard


class Slow(Defense):
    version = 1
    card = DefenseCard(title="Slow", family="classical", reference="a test, 2026", licence="MIT")

    def protect(self, images, generator):
        for _ in range(20):
            torch.rand(400, 400) @ torch.rand(400, 400)
        return 0.5 + (images - 0.5) / 2


DEFENSE = Slow
"""


@dataclass(frozen=True)
class Kill:
    """One kill."""

    who: str
    signal: str
    when: str

    def __str__(self) -> str:
        return f"{self.who} {self.signal} {self.when}"


def kills() -> list[Kill]:
    """All of them."""
    return [Kill(*one) for one in itertools.product(WHO, SIGNALS, WHEN)]


class Arena:
    """A small run and what it gives when nobody kills it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        from PIL import Image

        from ppfr_bench.testing import example_faces

        self.folder, self.environment = folder, environment
        faces = example_faces()
        for i, image in enumerate(faces.load(range(len(faces)))):
            for turned in range(4):  # Other people, to whoever measures.
                place = folder / "people" / f"person_{faces.identities[i]}_{turned}" / f"{i}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.rot90(image.transpose(1, 2, 0), turned).copy()).save(place)
        self.plugin, self.suite = folder / "slow.py", folder / "small.toml"
        self.plugin.write_text(_PLUGIN.replace("torch.rand(400, 400)", "torch.ones(400, 400)"))
        self.suite.write_text(
            "title = 'Small'\nrecognizers = ['faceplugin']\n[protocol]\nreplicates = 20\nthreads = 1\n"
            "[dataset]\nname = 'folder'\n"
            f"params = {{ root = '{folder / 'people'}', folds = 2, targets = 4, gallery = 4 }}\n"
            "[[defense]]\nname = 'no_defense'\n[[attack]]\nname = 'visual'\n"
        )
        self.expected = self.whole("expected")

    def command(self, name: str, *more: str) -> list[str]:
        """A run into a folder of its own, with stages of its own."""
        return [
            sys.executable, "-m", "ppfr_bench.cli", "run", str(self.suite), "--plugin", str(self.plugin),
            "--results", str(self.folder / name / "results"), "--stages", str(self.folder / name / "stages"), *more,
        ]  # fmt: skip

    def whole(self, name: str) -> dict[str, bytes]:
        """What the results are once the same command has come to its end."""
        done = subprocess.run(
            self.command(name, "--rerun", "failed"), env=self.environment | {"PPFR_BENCH_SCHEDULER": "inline"},
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        root = self.folder / name / "results"
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
        # What was computed anew took another time, and somebody may have committed meanwhile.
        return {str(path.relative_to(root)): _VARYING.sub(b"", path.read_bytes()) for path in files}

    def killed(self, kill: Kill, name: str) -> str:
        """Kill a run, and see what is left of it, and what the same command gives after; empty if all is well."""
        process = subprocess.Popen(
            self.command(name, "--workers", "1"), env=self.environment | {"PPFR_BENCH_SCHEDULER": ""},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        seen: set[psutil.Process] = set()
        try:
            target = self._target(process, kill, name, seen)
            if target is not None:
                with contextlib.suppress(psutil.Error):
                    target.send_signal(getattr(signal, kill.signal))
            code = self._end(process, seen)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        left = _left(seen)
        if left:
            return f"left running: {left}"
        if kill.who == "main" and target is not None and code not in _CODES[kill.signal]:
            return f"exit code {code}"
        found = self.whole(name)
        halves = [str(path) for path in (self.folder / name).rglob("*.tmp*")]
        if halves:
            return f"left over: {halves}"
        return "" if found == self.expected else f"other bytes: {sorted(found.keys() ^ self.expected.keys())}"

    def _target(
        self, process: subprocess.Popen[str], kill: Kill, name: str, seen: set[psutil.Process]
    ) -> psutil.Process | None:
        """The process to kill, at its moment; None if the run was over before."""
        end = time.monotonic() + _SECONDS
        while process.poll() is None and time.monotonic() < end:
            found = list(_family(process.pid))
            seen.update(found)
            match = [one for one in found if _role(one, process.pid) == kill.who]
            if match and self._is_time(kill.when, name):
                return match[-1]
        return None

    def _is_time(self, when: str, name: str) -> bool:
        if when == "starting":
            return True
        if when == "computing":
            return any((self.folder / name / "stages").glob("*/*"))
        return any((self.folder / name / "results").rglob(".cells/*.json"))

    def _end(self, process: subprocess.Popen[str], seen: set[psutil.Process]) -> int:
        end = time.monotonic() + _SECONDS
        while process.poll() is None and time.monotonic() < end:
            seen.update(_family(process.pid))
            time.sleep(0.02)
        return process.wait(timeout=1)


# Negative before Python runs any of our code, 0 when all was done.
_CODES = {"SIGKILL": (-9,), "SIGTERM": (143, -15, 0), "SIGINT": (130, -2, 0)}


def _family(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        main = psutil.Process(pid)
        yield main
        yield from main.children(recursive=True)


def _role(process: psutil.Process, main: int) -> str:
    if process.pid == main:
        return "main"
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())
        if "sandbox/child.py" in words:
            return "child"
        if "spawn_main" in words:
            return "worker"
    return ""


def _left(seen: set[psutil.Process]) -> list[str]:
    """What of the processes of a run is still there, some seconds after its end."""
    _, alive = psutil.wait_procs(list(seen), timeout=20)
    left = []
    for one in alive:
        with contextlib.suppress(psutil.Error):
            if one.status() != psutil.STATUS_ZOMBIE:
                left.append(" ".join(one.cmdline())[:100])
                one.kill()
    return left


def main() -> int:
    """So many kills, drawn in turn; the exit code says whether all went well."""
    count, bad = int(sys.argv[1]), 0
    with tempfile.TemporaryDirectory(prefix="ppfr-bench-kills-") as folder:
        arena = Arena(Path(folder), dict(os.environ))
        drawn = (kills() * (count // len(kills()) + 1))[:count]
        random.Random(0).shuffle(drawn)
        for number, kill in enumerate(drawn):
            wrong = arena.killed(kill, f"run_{number}")
            bad += bool(wrong)
            print(f"{number + 1} {kill}: {wrong or 'ok'}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
