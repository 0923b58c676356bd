"""Work over many items in processes, in order, a few items in flight."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TypeVar

import psutil

from ppfr_bench.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

OUT_OF_MEMORY = 137  # A process that took too much memory exits with the kernel's own code.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # Parameters of mallopt, as malloc.h numbers them.
_AHEAD = 4  # Items in flight a worker: enough to keep it busy, few enough to hold in memory.


def default_workers() -> int:
    """As many as this process may use processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_processors(threads: int) -> None:
    """How many threads the libraries use in processes that start after this; they read it as they load."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(threads))


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees, where the C library is glibc; elsewhere nothing changes.

    A training step frees and takes the same arrays again and again. Given back to the system in between, their pages
    are cleared anew each time: under Dask, whose workers give back all they can, that was 40% of a run's time.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for parameter, value in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 256 << 20), (_M_TOP_PAD, 16 << 20)):
            library.mallopt(parameter, value)


def ordered(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``function`` of every item, in their order, whatever the number of processes; one worker is this process.

    Memory is flat: items are drawn as workers become free. A run that is killed leaves no worker behind.

    Args:
        function: importable by name, as processes are started anew.

    Raises:
        UserError: a worker died.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    share_processors(1)
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=end_with, initargs=(os.getpid(),)) as pool:
        try:
            for item in items:
                with deaf_children():
                    waiting.append(pool.submit(function, item))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died (out of memory?)", "Type the same again with fewer:  --workers 1"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that start meanwhile do not hear Ctrl-C: the one that starts them hears it, and ends them in order."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none.
        yield
        return
    resource_tracker.ensure_running()  # The tracker would undo the mask if it started later.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int, memory_mib: float | None = None) -> None:
    """End this process once its parent is gone, as a killed run leaves nobody working; or once it takes much memory.

    Args:
        memory_mib: resident memory that it may take; None for no limit.
    """
    threading.Thread(target=_watch, args=(parent, memory_mib), daemon=True).start()


def _watch(parent: int, memory_mib: float | None) -> None:
    me = psutil.Process()
    while os.getppid() == parent and psutil.pid_exists(parent):  # Windows goes on naming a parent that is gone.
        if memory_mib is not None and me.memory_info().rss > memory_mib * (1 << 20):
            os._exit(OUT_OF_MEMORY)
        time.sleep(0.25)
    os._exit(1)
