"""The program of the process that a plug-in runs in: it closes itself in, and then answers calls until its end.

It is started by path in an isolated interpreter, ``python -I -S child.py SETTINGS``, and imports nothing but the
standard library before it is closed in. What the plug-in does to this process afterwards is its own affair: the other
end believes nothing that comes from here.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

# Files are read with os and open here: pathlib would be one import more before the process is closed in.
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_GRAPHS = 16  # At most so many results are kept, whose gradient may be asked for.
_DEVICES = ("/dev/urandom", "/dev/random", "/dev/zero")  # And no other: /dev/shm has what the harness's workers share.
_REFUSED = (  # Calls that no defense makes, and that reach other processes or rarely used parts of the kernel.
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "mount", "umount2", "move_mount",
    "open_tree", "fsopen", "fsmount", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open",
    "userfaultfd", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
    "sethostname", "setdomainname", "acct", "quotactl", "open_by_handle_at", "personality",
    "socket", "connect",  # The channel to the harness is there already; sockets of files lead to other programs.
    # Memory that belongs to no process would be counted for none.
    "memfd_create", "memfd_secret", "shmget", "msgget",
)  # fmt: skip


def main() -> None:
    """Close this process in, say what held, and serve."""
    settings = json.loads(sys.argv[1])
    sys.argv = ["plugin"]
    sys.path[:] = settings["path"]
    if sys.platform == "linux" and not settings["apart"]:
        _keep_house(settings["socket"])
    held = _close_in(settings)
    import socket

    sock = socket.socket(fileno=settings["socket"])
    _serve(sock, held, settings)


def _keep_house(socket_number: int) -> None:
    """Go on in a new process; this one ends with it, or with whoever has started it, and all that descend from it too.

    Where there is a namespace of processes, the kernel does this.
    """
    library = ctypes.CDLL(None)
    started_by = os.getppid()
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if (child := os.fork()) == 0:
        return
    os.close(socket_number)
    signal.signal(signal.SIGTERM, _leave)
    status = 0
    try:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        while os.getppid() == started_by:
            ended, status = os.waitpid(-1, 0)
            if ended == child:
                break
    finally:
        _end_all_children()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _leave(*_: object) -> None:
    """Once: the kernel tells of the end of each thread of a parent."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _end_all_children() -> None:
    """Children of a child that ends become this process's own, so that all of them are met."""
    while True:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _close_in(settings: dict[str, Any]) -> list[str]:
    """Every layer that this process can lay on itself; the names of those that hold."""
    held = []
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for parameter, value in ((-3, 32 << 20), (-1, 256 << 20), (-2, 16 << 20)):
            library.mallopt(parameter, value)  # As ``parallel.keep_freed_memory`` does, for the same speed.
        if settings["landlock"] and _landlock(settings["readable"], settings["writable"]):
            held.append("landlock")
        if _seccomp():
            held.append("seccomp")
    return held


def _landlock(readable: list[str], writable: str) -> bool:
    """Only the files of the interpreter and of the plug-in can be read, and one empty folder written in."""
    try:
        from landlock import FSAccess, Ruleset

        rules = Ruleset()
        reading = FSAccess.READ_FILE | FSAccess.READ_DIR | FSAccess.EXECUTE
        for path in readable:
            rules.allow(path, rules=reading if os.path.isdir(path) else FSAccess.READ_FILE | FSAccess.EXECUTE)  # noqa: PTH112
        for device in _DEVICES:
            rules.allow(device, rules=FSAccess.READ_FILE)
        rules.allow("/dev/null", rules=FSAccess.READ_FILE | FSAccess.WRITE_FILE)
        rules.allow(writable)
        rules.apply()
    except Exception:  # It is not installed, or the kernel has none: what held is said by name.
        return False
    return True


def _seccomp() -> bool:
    """No sockets but pairs, no tracing, no new namespaces, no memory without a process, no rare parts of the kernel."""
    import ctypes.util
    import errno

    find = ctypes.util.find_library
    try:
        # It would ask other programs, which cannot be run in here.
        ctypes.util.find_library = lambda name: "libseccomp.so.2" if name == "seccomp" else None
        import pyseccomp as seccomp

        rules = seccomp.SyscallFilter(seccomp.ALLOW)
        for name in _REFUSED:
            try:
                rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
            except (OSError, RuntimeError, ValueError):  # This kernel or this library does not know the call.
                continue
        kind, apart = 0xF, 0x10000000  # The type of a socket without its flags, and CLONE_NEWUSER.
        for other in range(2, 7):  # A message can be sent to any address from one of a pair that is no stream.
            rules.add_rule(seccomp.ERRNO(errno.EPERM), "socketpair", seccomp.Arg(1, seccomp.MASKED_EQ, kind, other))
        rules.add_rule(seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, apart, apart))
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")  # Its arguments cannot be read; callers fall back.
        rules.load()
    except Exception:  # It is not installed, or has no library: what held is said by name.
        return False
    finally:
        ctypes.util.find_library = find
    return True


def _limit(settings: dict[str, Any]) -> bool:
    """Memory beyond what is taken by now, files, and, where they are counted apart, processes."""
    try:
        import resource
    except ImportError:
        return False

    def lower(what: int, value: int) -> None:
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))

    try:
        lower(resource.RLIMIT_CORE, 0)
        lower(resource.RLIMIT_NOFILE, settings["files"])
        lower(resource.RLIMIT_FSIZE, settings["file_bytes"])
        if settings["apart"]:  # Elsewhere the limit would count all processes of the user.
            lower(resource.RLIMIT_NPROC, settings["tasks"])
        if taken := _data_bytes():
            lower(resource.RLIMIT_DATA, taken + settings["memory_bytes"])
    except (OSError, ValueError):
        return False
    return True


def _data_bytes() -> int:
    """Private memory of this process, as RLIMIT_DATA counts it; 0 where the kernel does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return 0


def _serve(sock: Any, held: list[str], settings: dict[str, Any]) -> None:
    """Answer calls, one after the other, until nobody asks any more."""
    import torch

    from ppfr_bench.sandbox import wire
    from ppfr_bench.sandbox.serving import Serving

    if _limit(settings):
        held.append("rlimits")
    serving = Serving(sock, settings["kind"], settings["name"], settings["plugin"], _GRAPHS)
    wire.send(sock, {"held": held})
    while True:
        try:
            header, tensors = wire.receive(sock, 1 << 40)
        except wire.EndedError:
            os._exit(0)  # What the plug-in has registered for the end of the interpreter does not run.
        torch.set_num_threads(header["threads"])
        answer, results = serving.answer(header, tensors)
        try:
            wire.send(sock, answer, results)
        except wire.MalformedError as error:
            wire.send(sock, {"error": {"type": "TypeError", "message": str(error)}})


if __name__ == "__main__":
    main()
