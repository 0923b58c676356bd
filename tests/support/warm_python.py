"""Python in a process of its own that has its libraries at hand: forked from one that has loaded them.

Most of what a small command takes is the import of torch and its like. What the package itself has is not loaded
before the fork, so a command reads its environment, its files and its registry as one that a user types does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LIBRARIES = (  # Not onnxruntime, whose threads do not outlive a fork.
    "torch", "numpy", "scipy.ndimage", "sklearn.linear_model", "pandas", "pyarrow.parquet", "PIL.Image",
    "onnx2torch", "ai_edge_litert.interpreter", "distributed", "lpips", "piq", "seaborn", "pydantic",
    "typer", "rich.progress", "jinja2",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What a command gave: its exit code, the bytes that it wrote, and what it said."""

    returncode: int
    written: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        """``written`` as text."""
        return self.written.decode("utf-8", errors="replace")


def run(arguments: Sequence[object], env: Mapping[str, str], cwd: Path | None = None, stdin: bytes = b"") -> Done:
    """What ``python ARGUMENTS`` gives, where they begin with a script, or with ``-m`` and a module."""
    words = [str(word) for word in arguments]
    where = str(cwd or Path.cwd())
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("in", "out", "err")]
        paths[0].write_bytes(stdin)
        if hasattr(os, "fork"):
            job = {"words": words, "env": dict(env), "cwd": where, "paths": [str(path) for path in paths]}
            code = _server().ask(job)
        else:
            with paths[0].open("rb") as source, paths[1].open("wb") as out, paths[2].open("wb") as err:
                code = subprocess.run([sys.executable, *words], env=env, cwd=where, stdin=source, stdout=out,
                                      stderr=err).returncode  # fmt: skip
        return Done(code, paths[1].read_bytes(), paths[2].read_text(encoding="utf-8", errors="replace"))


class _Server:
    """The process that has loaded the libraries; it ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, job: dict[str, object]) -> int:
        """The exit code of a job."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def _server() -> _Server:
    return _Server()


def _next_job() -> dict[str, object]:
    """In a process of its own for each job; the one that forks them goes on until nobody asks any more."""
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            found: dict[str, object] = json.loads(line)
            return found
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)


def _become(words: list[str], env: dict[str, str], cwd: str, paths: list[str]) -> None:
    """This process as Python would have started it."""
    for number, path in enumerate(paths):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    before = [part for part in env.get("PYTHONPATH", "").split(os.pathsep) if part]
    module = words[0] == "-m"
    sys.path[:1] = [cwd if module else str(Path(words[0]).parent), *before]
    sys.argv = words[1:] if module else words
    if module:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    for name in LIBRARIES:
        with suppress(ImportError):  # Some are optional.
            importlib.import_module(name)
    gc.freeze()  # What is loaded is never collected, which would copy its pages.
    _become(**_next_job())  # type: ignore[arg-type]
