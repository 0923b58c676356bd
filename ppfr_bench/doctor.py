"""``ppfr-bench doctor``: what this machine has, what is missing, and what to type to get it. Fetches nothing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ppfr_bench import __version__
from ppfr_bench.assets import CHOOSE, MANIFEST, cache_dir, is_cached
from ppfr_bench.errors import UserError
from ppfr_bench.places import from_environment, is_folder
from ppfr_bench.text import printable

State = Literal["ok", "missing", "note"]
EXTRAS = {"dlib": ("dlib",), "litert": ("ai_edge_litert",), "onnx": ("onnxruntime", "onnx2torch")}
OPTIONAL = {  # No shipped suite of images needs these recognizers, formats and tracks.
    "insightface": ("insightface",), "deepface": ("deepface",), "frbench": ("frbench",), "rec": ("nvidia.dali",),
    "sandbox": ("landlock", "pyseccomp"),
    "heic": ("pillow_heif",), "video": ("av",), "s3": ("s3fs",),
    "template": ("tenseal", "mpyc", "gmpy2"), "robustness": ("foolbox",), "cloak": ("torchattack",),
}  # fmt: skip
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
bf16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
print(json.dumps([torch.__version__, torch.get_num_threads(), bf16, cuda]))
"""
ROOM = 60  # GiB; the stages of `standard` over every defense have taken so much.


@dataclass(frozen=True)
class Checked:
    """One thing that was looked at; ``hint`` is what to type where it is missing."""

    what: str
    state: State
    found: str
    hint: str = ""


def examine() -> list[Checked]:
    """Everything in order: interpreter, torch, extras, tools, cache, weights, data."""
    with _started(_ASK_TORCH) as asked:  # Its import takes most of the time: the rest is looked at meanwhile.
        machine, rest = list(_machine()), [*_extras(), *_sandbox(), *_cache(), *_data()]
        return [*machine, *_torch(asked), *rest]


@contextmanager
def _started(code: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python of this environment at work on a few lines, ended with the block."""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: a torch.py in the user's folder is not torch.
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _machine() -> Iterator[Checked]:
    yield Checked("ppfr-bench", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Checked("cores", "ok", str(cores))
    npm = shutil.which("npm")
    yield Checked(
        "npm", "ok" if npm else "missing", npm or "not on the path: all recognizers but dlib_resnet come from it",
        "" if npm else "Install Node.js (it brings npm), for example:  apt-get install npm",
    )  # fmt: skip


def _sandbox() -> Iterator[Checked]:
    """What closes in the process of a defense that is given by file."""
    from ppfr_bench.sandbox.layers import inner_layers, lacking, outer_layers

    held = (*outer_layers(), *inner_layers())
    reached = lacking(held)
    found = ", ".join(held) or "a process of its own, and nothing around it"
    if reached:
        found += f": a file given by --plugin can reach {', '.join(reached)}"
    hints = {
        "bubblewrap": "apt-get install bubblewrap" if sys.platform == "linux" else "It needs Linux.",
        "seccomp": "pip install 'ppfr-bench[sandbox]'",
    }
    hint = "  ".join(text for layer, text in hints.items() if layer not in held)
    yield Checked("sandbox", "note" if reached else "ok", found, hint)


def _torch(asked: subprocess.Popen[str]) -> Iterator[Checked]:
    """What torch says of itself in a process of its own: one that does not load, or ends the process, is reported."""
    out, err = asked.communicate()
    if asked.returncode != 0:
        last = (err.strip().splitlines() or [f"the process ended with {asked.returncode}"])[-1]
        yield Checked("torch", "missing", printable(f"does not load: {last}"), "pip install --force-reinstall torch")
        return
    version, threads, bf16, cuda = json.loads(out)
    yield Checked("torch", "ok", f"{version}, {threads} threads")
    how = "multiplied by this processor" if bf16 else "not multiplied by this processor: attacks train more slowly"
    yield Checked("bf16", "ok" if bf16 else "note", how)
    yield Checked("CUDA", "ok" if cuda else "note", cuda or "none; nothing needs it")


def _extras() -> Iterator[Checked]:
    for extra, modules in (EXTRAS | OPTIONAL).items():
        lacking = [module for module in modules if not _is_installed(module)]
        state: State = "ok" if not lacking else "note" if extra in OPTIONAL else "missing"
        yield Checked(
            f"extra {extra}", state, f"no {', '.join(lacking)}" if lacking else "installed",
            f"pip install 'ppfr-bench[{extra}]'" if lacking else "",
        )  # fmt: skip


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # The package around it is not there.
        return False


def _cache() -> Iterator[Checked]:
    try:
        folder = cache_dir()
    except UserError as error:
        yield Checked("cache", "missing", error.message, error.hint)
        for name in sorted(MANIFEST):
            yield Checked(f"weights {name}", "missing", "no cache to look in", CHOOSE)
        return
    standing = next((path for path in (folder, *folder.parents) if is_folder(path)), Path())
    writable, shown = os.access(standing, os.W_OK), printable(folder)
    yield Checked("cache", "ok" if writable else "missing", shown if writable else f"{shown} cannot be written",
                  "" if writable else CHOOSE)  # fmt: skip
    free = shutil.disk_usage(standing).free / 2**30
    yield Checked(
        "disk", "ok" if free >= ROOM else "note", f"{free:.0f} GiB free; all of standard takes {ROOM}, quick far less"
    )
    for name in sorted(MANIFEST):
        here = is_cached(name)
        yield Checked(f"weights {name}", "ok" if here else "missing", "here" if here else "not fetched",
                      "" if here else "ppfr-bench assets fetch")  # fmt: skip


def _data() -> Iterator[Checked]:
    from ppfr_bench.datasets import dataset_names

    for name in dataset_names():
        variable = f"PPFR_BENCH_{name.upper()}"
        if name in ("synthetic", "folder", "sequence"):
            continue
        try:
            root = from_environment(variable)
        except UserError as error:
            yield Checked(f"data {name}", "note", error.message, error.hint)
            continue
        if root and is_folder(root):
            yield Checked(f"data {name}", "ok", printable(root))
        else:
            found = f"{variable} is {printable(root)}, which is no folder" if root else f"{variable} is not set"
            yield Checked(f"data {name}", "note", found, f"export {variable}=/path/to/{name}")


def healthy(found: list[Checked]) -> bool:
    """Whether the everyday suite can run whole."""
    return all(one.state != "missing" for one in found)
