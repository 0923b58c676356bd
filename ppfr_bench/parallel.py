"""Work over many items in processes, in order, a few items in flight; and the bar that goes with it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TypeVar

from ppfr_bench.console import err
from ppfr_bench.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # items in flight a worker: enough to keep it busy, few enough to hold in memory


def default_workers() -> int:
    """As many as this process may use processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    for library in ("OMP", "OPENBLAS", "MKL"):  # one thread a worker: read by the libraries as they load
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers, context, initializer=_watch, initargs=(os.getpid(),)) as pool:
        try:
            for item in items:
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


def _watch(parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class Steps:
    """A bar with rate and estimate on a terminal, a line now and then without one."""

    def __init__(self, total: int, title: str, unit: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.done, self.title, self.unit = total, 0, title, unit
        self.start = self.last = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Bar(*columns, console=err, disable=not err.is_terminal)
        self.task = self.bar.add_task(title, total=total or None)

    def __enter__(self) -> Steps:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()

    def advance(self) -> None:
        """One more is done."""
        self.done += 1
        self.bar.update(self.task, advance=1)
        now = time.monotonic()
        if not err.is_terminal and now - self.last > 15:
            self.last = now
            rate = self.done / (now - self.start)
            left = f"{max(0, self.total - self.done) / rate:.0f} s left" if self.total else ""
            of = f" of {self.total}" if self.total else ""
            print(
                f"{self.title}: {self.done}{of} {self.unit}, {rate:.1f} a second, {left}", file=sys.stderr, flush=True
            )
