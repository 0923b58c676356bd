"""Dask: a local cluster of this machine, or any cluster whose scheduler has an address.

A worker of Dask holds one child process, which computes: plug-ins run in it, so that one that hangs, eats memory or
ends its process can be ended and loses its own task alone. Dask itself sees only small results; a lost worker's tasks
are run again by it, and find in the store what was finished.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import cloudpickle
import psutil
from pebble import ProcessExpired, ProcessPool

from ppfr_bench.engines.base import Engine, Failure, Limits, Resources, Result, Task, passed_on
from ppfr_bench.errors import UserError
from ppfr_bench.parallel import (
    OUT_OF_MEMORY,
    deaf_children,
    default_workers,
    end_with,
    share_processors,
)

if TYPE_CHECKING:
    from distributed import Client

LOST = 3  # A task that loses so many workers counts as failed.
_USABLE = 0.9  # The workers of a machine share this part of its memory.
_WAIT = 60  # A scheduler has so many seconds to answer.


class Dask(Engine):
    """``distributed``: retries on lost workers, resources, a dashboard."""

    version = 1
    title = "Dask: worker processes of this machine, or any cluster"

    def run(
        self, packed: bytes, tasks: Sequence[Task], resources: Resources, limits: Limits,
        done: Callable[[Task, Result], None],
    ) -> None:  # fmt: skip
        """Submit all of them; Dask runs each as soon as what it needs is done and a worker is free."""
        from distributed import as_completed

        with _client(resources, limits) as client:
            wanted = {"GPU": 1} if resources.device == "cuda" and _have(client, "GPU") else None
            shared, futures = _share_out(client, packed), dict[str, Any]()
            for order, task in enumerate(tasks):
                futures[task.key] = client.submit(
                    _perform, shared, task.key, cloudpickle.dumps(task.job), limits,
                    *(futures[key] for key in task.needs), key=f"ppfr-{task.key}", pure=False, priority=-order,
                    resources=wanted,
                )  # fmt: skip
            by_future = {future.key: task for task, future in zip(tasks, futures.values(), strict=True)}
            for future in as_completed(list(futures.values())):
                done(by_future[future.key], _result_of(future, by_future[future.key]))
            client.unregister_worker_plugin(shared)


def _result_of(future: Any, task: Task) -> Result:
    if (error := future.exception()) is None:
        result: Result = future.result()
        return result
    reason = f"its worker was lost, again and again (out of memory?): {error}"
    return Result(task.key, Failure("failed", reason))


# On the side of the workers ----------------------------------------------------------------------------------------


def _perform(shared: str, key: str, job: bytes, limits: Limits, *earlier: Result) -> Result:
    """A task in the child of this worker, unless what it needs has failed.

    The worker does not unpack the job: it would load torch, which only its child needs.

    Args:
        shared: the name under which this worker has what all tasks of the run share.
    """
    from distributed import get_worker

    if failed := passed_on(key, earlier):
        return failed
    memory_mib = limits.memory_mib or _share()
    # Dask types all plugins as their base class, which has no such attribute.
    packed = get_worker().plugins[shared].packed  # type: ignore[attr-defined]
    future = _pool(memory_mib).schedule(_in_child, args=(packed, job), timeout=limits.seconds)
    try:
        result: Result = future.result()
        return result
    except TookTooLong:
        reason = f"timeout: more than {limits.seconds:g} s"
    except ProcessExpired as error:
        reason = f"its process died with exit code {error.exitcode} (out of memory?)"
        if error.exitcode == OUT_OF_MEMORY and memory_mib is not None:
            reason = f"memory: more than {memory_mib / 1024:.2g} GiB, which is what its process may take"
    return Result(key, Failure("failed", reason))


def _in_child(packed: bytes, job: bytes) -> Result:
    from ppfr_bench.runner.worker import perform

    return perform(packed, cloudpickle.loads(job))  # The run that this process belongs to has packed it.


def _share() -> float | None:
    """MiB that the child of this worker may take: the memory limit that Dask knows of the worker."""
    from distributed import get_worker

    limit = get_worker().memory_manager.memory_limit
    return None if limit is None else limit / (1 << 20)


_child: tuple[float | None, ProcessPool] | None = None  # Its limit in MiB, and itself.


def _pool(memory_mib: float | None) -> ProcessPool:
    """The child process of this worker: started with its first task, and anew after it has died."""
    global _child
    if _child is not None and _child[0] != memory_mib:
        _end_child()
    if _child is None:
        # A worker that its nanny has started is a daemon, which may start no process. The child ends with it anyway.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        context = multiprocessing.get_context("spawn")
        pool = ProcessPool(max_workers=1, context=context, initializer=end_with, initargs=(os.getpid(), memory_mib))
        _child = memory_mib, pool
        # The child ends first, as one that is just starting still needs whatever else ends with this process.
        Finalize(None, _end_child, exitpriority=100)
    return _child[1]


def _end_child() -> None:
    global _child
    if _child is not None:
        _child[1].stop()
        _child[1].join()
        _child = None


# On the side of the one who runs -----------------------------------------------------------------------------------


@contextmanager
def _client(resources: Resources, limits: Limits) -> Iterator[Client]:
    """A client of the cluster at the address, or of one that lives as long as the run.

    Raises:
        UserError: nobody answers there.
    """
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    dask.config.set({
        "distributed.scheduler.allowed-failures": LOST,
        "distributed.comm.timeouts.connect": f"{_WAIT}s",
        # The child's memory grows, and the child is held to the worker's limit.
        **{f"distributed.worker.memory.{act}": False for act in ("target", "spill", "pause", "terminate")},
    })  # fmt: skip
    if resources.scheduler:
        try:
            client = Client(resources.scheduler, timeout=_WAIT)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no scheduler answers at {resources.scheduler}: {error}",
                "Start one:  dask scheduler  and, on each machine,  dask worker ADDRESS --nthreads 1",
            ) from error
        with client:
            yield client
        return
    share_processors(resources.threads)
    workers = resources.workers or pays_off(resources.threads)
    with (
        deaf_children(),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
            memory_limit=int(_USABLE * psutil.virtual_memory().total / workers),
            resources={"GPU": 1} if resources.device == "cuda" else {}, silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


def _share_out(client: Client, packed: bytes) -> str:
    """Give every worker what all tasks share, also those that come later; the name under which they have it.

    The scheduler would keep an argument once for each task.
    """
    from distributed import WorkerPlugin

    class Packed(WorkerPlugin):
        def __init__(self) -> None:
            self.packed = packed

    name = f"ppfr-{uuid.uuid4().hex}"
    client.register_plugin(Packed(), name=name)
    return name


def pays_off(threads: int) -> int:
    """Workers of so many threads that keep this machine's processors busy, as far as its memory holds them.

    Never more threads than processors: on two, two workers of two threads took ten times the processor time a training
    step of one, as a thread that waits in a layer spins.
    """
    room = psutil.virtual_memory().total // (4 << 30)  # A worker with all its networks takes up to 4 GiB.
    return max(1, min(default_workers() // max(threads, 1), int(room)))


def _have(client: Client, resource: str) -> bool:
    """Whether a worker offers a resource; one that none offers would be waited for in vain."""
    info = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(resource in worker["resources"] for worker in info)


ENGINE = Dask
