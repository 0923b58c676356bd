"""What an engine is: it runs tasks where they fit, in an order in which each finds what it needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ppfr_bench.redaction import publishable

if TYPE_CHECKING:
    from ppfr_bench.records.record import Status
    from ppfr_bench.runner.scoring import CellJob
    from ppfr_bench.stages.spec import Job


@dataclass(frozen=True)
class Failure:
    """Why a task gave nothing, for the records of the cells that need it: without secrets, as records are published."""

    status: Status
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", publishable(self.reason))  # Here, as this process knows its own secrets.


@dataclass(frozen=True)
class Result:
    """What became of a task: ``record`` as JSON and its ``strip`` for a cell; ``seconds`` of a stage computed now."""

    key: str
    failure: Failure | None = None
    record: str = ""
    strip: bytes | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Task:
    """A stage to compute or a cell to score.

    Attributes:
        needs: keys of the tasks that must be done before.
    """

    job: Job | CellJob
    needs: tuple[str, ...]

    @property
    def key(self) -> str:
        """Of the stage, or of the record."""
        return self.job.key


@dataclass(frozen=True)
class Limits:
    """What one task may take.

    Attributes:
        seconds: after which it is ended.
        memory_mib: of its process; None for the share of its machine's that the engine gives a worker.
    """

    seconds: float
    memory_mib: float | None = None


@dataclass(frozen=True)
class Resources:
    """What a run was given.

    Attributes:
        workers: how many tasks run at a time on this machine; None for as many as pay off.
        scheduler: address of a cluster that exists already; empty for one of this machine.
        threads: that a task uses.
        device: class of the device that tasks use.
    """

    workers: int | None = None
    scheduler: str = ""
    threads: int = 1
    device: str = "cpu"


class Engine(ABC):
    """Runs tasks. A file of the package ends in ``ENGINE = <class>``.

    What a task computes lies in the store of stages, so an engine moves no data: it calls ``perform`` of
    ``ppfr_bench.runner.worker`` for each task, after those that the task needs.
    """

    version: ClassVar[int]
    title: ClassVar[str]

    @abstractmethod
    def run(
        self, packed: bytes, tasks: Sequence[Task], resources: Resources, limits: Limits,
        done: Callable[[Task, Result], None],
    ) -> None:  # fmt: skip
        """Run tasks, which come in an order in which each finds what it needs before it.

        Args:
            packed: what ``perform`` is given beside each job.
            done: called in this process, once for each task, also where one has failed or what it needs has.

        Raises:
            UserError: the workers or the cluster cannot be had.
        """


def passed_on(key: str, results: Sequence[Result]) -> Result | None:
    """The failure of what the task of a key needs, as its own; None if nothing of it has failed."""
    failed = next((result for result in results if result.failure is not None), None)
    return None if failed is None else replace(failed, key=key)
