"""What closes the process of a plug-in in, on this machine: which layers there are, and the command that starts it.

``bubblewrap``, where it runs, gives a file system with the interpreter and the plug-in and nothing else, no network, no
other process in sight, and an empty environment. Elsewhere on Linux ``unshare`` gives the network and the processes,
and Landlock the files. Seccomp and the limits come on top. Nothing of this is there on other systems: then the process
is one of its own with an empty environment, and whoever runs it is told so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import ppfr_bench

_CHILD = Path(__file__).with_name("child.py")
_INSIDE = Path("/plugin")  # The plug-in's folder, as bubblewrap shows it.
_PROBE_SECONDS = 20
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/nix/store", "/gnu/store")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/alternatives")
_NAMESPACES = ("--user", "--map-current-user", "--net", "--pid", "--ipc", "--uts", "--mount", "--mount-proc", "--fork",
               "--kill-child=SIGKILL")  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What the process of a plug-in may take.

    Attributes:
        start_seconds: until the interpreter and torch are there; ``import_seconds``: of the plug-in's import and of
            whatever is asked of its parameters; ``call_seconds``: of one call of ``protect``; ``fit_seconds``: of
            ``fit``.
        memory_mib: of all its processes together, beyond what the interpreter and torch take.
        processes: at a time; ``tasks``: processes and threads.
        output_bytes: on standard output and error together.
        disk_mib: in its own temporary folder, which is in memory.
    """

    start_seconds: float = 120
    import_seconds: float = 60
    call_seconds: float = 300
    fit_seconds: float = 1800
    memory_mib: float = 4096
    processes: int = 16
    tasks: int = 256
    output_bytes: int = 1 << 20
    disk_mib: int = 64


@dataclass(frozen=True)
class Source:
    """Where a plug-in comes from: a file, or a module of ``ppfr_bench.defenses`` that is not the package's own."""

    kind: str
    name: str
    path: Path


@dataclass(frozen=True)
class Started:
    """How to start the process of a plug-in.

    Attributes:
        command, environment: of the process; ``outer``: the layers around it.
        inside, shown: the path of the plug-in as it sees it, and as the user knows it.
    """

    command: list[str]
    environment: dict[str, str]
    outer: tuple[str, ...]
    inside: str
    shown: str


def how_to_start(source: Source, socket_number: int, scratch: str, limits: Limits) -> Started:
    """The command for a plug-in, with the best layers that this machine has.

    Args:
        scratch: the folder that the plug-in may write in where bubblewrap does not make it one.
    """
    outer = outer_layers()
    wrapped = "bubblewrap" in outer
    inside = source.path
    if wrapped and source.kind == "file":
        inside = _INSIDE / source.path.name
    beside = _beside(source.path)
    readable = [str(path) for path in (*_readable(), *beside) if path.exists()]
    settings = {
        "socket": socket_number, "kind": source.kind, "name": source.name, "plugin": str(inside),
        "path": _import_path(), "landlock": not wrapped, "readable": [*readable, str(source.path), "/proc"],
        "writable": scratch,
        "apart": bool(outer), "files": 256, "file_bytes": limits.disk_mib << 20, "tasks": limits.tasks,
        # A little more than what is watched, which gives the clearer reason.
        "memory_bytes": int(limits.memory_mib * (1 << 20) * 1.25) + (1 << 30),
    }  # fmt: skip
    python = [os.path.realpath(sys.executable), "-I", "-S", "-B", str(_CHILD), json.dumps(settings)]
    if wrapped:
        shown = [
            part for path in (source.path, *beside) for part in ("--ro-bind", str(path), str(inside.parent / path.name))
        ]
        command = [*_bubblewrap(limits), *_bound(readable), *shown, *_closed(), *python]
    elif "unshare" in outer:
        command = [*_ends_with_us(), str(shutil.which("unshare")), *_NAMESPACES, *python]
    else:
        command = python
    environment = _environment() if wrapped else _environment() | {"HOME": scratch, "TMPDIR": scratch}
    return Started(command, environment, outer, str(inside.parent), str(source.path.parent))


@cache
def outer_layers() -> tuple[str, ...]:
    """``bubblewrap`` or ``unshare``, if one of them works here; tried once a process."""
    if sys.platform != "linux":
        return ()
    true = shutil.which("true") or "/bin/true"
    if bubblewrap := shutil.which("bwrap"):
        trial = [bubblewrap, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--proc",
                 "/proc", "--dev", "/dev", true]  # fmt: skip
        if _works(trial):
            return ("bubblewrap",)
    if (unshare := shutil.which("unshare")) and _works([unshare, *_NAMESPACES, true]):
        return ("unshare",)
    return ()


def inner_layers() -> tuple[str, ...]:
    """What the process can lay on itself, as far as packages are installed; whether it holds it says itself."""
    if sys.platform != "linux":
        return ()
    found = [] if "bubblewrap" in outer_layers() else ["landlock"] if find_spec("landlock") else []
    return (*found, *(["seccomp"] if find_spec("pyseccomp") else []))


def lacking(held: Sequence[str]) -> list[str]:
    """What a plug-in can reach in spite of the layers that hold."""
    whole = "bubblewrap" in held
    return [
        what
        for what, closed in (
            ("files", whole or "landlock" in held),
            ("the network", whole or "unshare" in held or "seccomp" in held),
            ("other processes", whole or {"unshare", "seccomp"} <= set(held)),  # Sockets of files lead to them.
        )
        if not closed
    ]


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, env={}, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _ends_with_us() -> list[str]:
    """What makes a command end when the process that has started it does."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _bubblewrap(limits: Limits) -> list[str]:
    size = str(limits.disk_mib << 20)
    return [
        str(shutil.which("bwrap")), "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
        "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/tmp", "--dir", "/tmp/home",
        *(part for name, value in _environment().items() for part in ("--setenv", name, value)),
    ]  # fmt: skip


def _bound(paths: Sequence[str]) -> list[str]:
    return [part for path in paths for part in ("--ro-bind", path, path)]


def _closed() -> list[str]:
    """What bubblewrap has made itself, and could be filled without limit, is closed at the end."""
    return ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"]


def _environment() -> dict[str, str]:
    """All that the process is told of the outside: nothing that was set there but the number of threads."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
    kept = {name: os.environ[name] for name in threads if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "HOME": "/tmp/home", "TMPDIR": "/tmp", "LANG": "C.UTF-8"} | kept


def _beside(file: Path) -> list[Path]:
    """What belongs to a plug-in: files beside it under its name with another suffix, such as its weights.

    A link is none of them: whoever has packed the plug-in would choose which file of the user it opens.
    """
    found = (path for path in sorted(file.parent.glob(f"{file.stem}.*")) if path.name != file.name)
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _readable() -> list[Path]:
    """Files and folders that an interpreter with this environment's packages reads: and no folder of a user."""
    found = [Path(path) for path in (*_SYSTEM, *_SYSTEM_FILES)]
    found += [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    libraries = sysconfig.get_config_var("LIBDIR")
    found += [Path(libraries)] if libraries else []
    found += [Path(os.path.realpath(sys.executable)), Path(sys.executable)]
    found += _package()
    unique: list[Path] = []
    for path in found:
        if path.exists() and path not in unique:
            unique.append(path)
    return unique


def _package() -> list[Path]:
    """The folders of this package and of its plug-ins, and nothing else of a checkout."""
    here = Path(ppfr_bench.__file__).resolve().parent
    kinds = ("defenses", "attacks")  # A file of an attack may be made of another attack.
    return [here, *(here.parent / kind for kind in kinds if not (here / kind).is_dir())]


def _import_path() -> list[str]:
    """Where the process looks for modules: what is readable of this process's own path."""
    standard = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib")]
    loaded = [path for path in sys.path if path.endswith((".zip", "lib-dynload"))]
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    root = str(Path(ppfr_bench.__file__).resolve().parents[1])
    return list(dict.fromkeys([*standard, *loaded, root, *packages]))
