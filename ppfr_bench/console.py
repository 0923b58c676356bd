"""What a run shows: the two consoles, the plan of a dry run, the bar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from ppfr_bench.text import neutral

if TYPE_CHECKING:
    from ppfr_bench.records.record import Record
    from ppfr_bench.runner.estimates import Pace
    from ppfr_bench.runner.plan import Cell


class NeutralConsole(Console):
    """A console whose text gives the terminal no commands, wherever it comes from; those of rich itself stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What rich renders, with escapes and the like written out."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else neutral(text), style, control)


out = NeutralConsole(
    width=None if sys.stdout is not None and sys.stdout.isatty() else 160
)  # A pipe has no width of its own.
err = NeutralConsole(stderr=True)


def tell(text: str, as_json: bool, **facts: object) -> None:
    """What a command did: in words, or its facts as JSON."""
    if as_json:
        print(json.dumps(facts))
    else:
        out.print(text, highlight=False, markup=False)


def print_plan(rows: list[tuple[Cell, str]], pending: int, graph: dict[str, Any], as_json: bool) -> None:
    """The cells of a run that is not run, what is recorded, the size of the graph, and how long the rest may take."""
    if as_json:
        cells = [{"cell": cell.title, "key": cell.key, "state": state} for cell, state in rows]
        print(json.dumps({"to_run": pending, "graph": graph, "cells": cells}, indent=1))
        return
    table = Table("cell", "state", "key")
    for cell, state in rows:
        table.add_row(cell.title, state, cell.key[:12])
    out.print(table)
    out.print(f"{len(rows)} cells, {len(rows) - pending} recorded, {pending} to run", highlight=False)
    out.print(
        f"{graph['stages']} stages, {graph['to_compute']} of them to compute: {graph['words']}", highlight=False
    )  # fmt: skip


class Steps:
    """A bar with the time that is left on a terminal, a line now and then without one; a ``total`` of 0 is unknown."""

    def __init__(self, total: int, title: str, unit: str) -> None:
        self.total, self.done, self.title, self.unit = total, 0, title, unit
        self.start = self.last = time.monotonic()
        self.bar = Bar(*_columns(), console=err, disable=not err.is_terminal, expand=True)
        self.task = self.bar.add_task(neutral(title), total=total or None, left="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, what: str = "") -> None:
        """One more is done; ``what`` stands beside the bar."""
        self.done += 1
        now, seconds = time.monotonic(), self.seconds_left()
        left = "" if seconds is None else f", about {seconds:.0f} s left"
        title = f"{self.title}: {what}" if what else self.title
        self.bar.update(self.task, advance=1, description=neutral(title), left=_clock(seconds))
        if not err.is_terminal and (now - self.last > 15 or self.done == self.total):
            self.last = now
            rate = self.done / max(now - self.start, 1e-9)
            pace = f"{rate:.1f} a second" if rate > 1 else f"{rate * 60:.1f} a minute"
            of = f" of {self.total}" if self.total else ""
            print(neutral(f"{self.title}: {self.done}{of} {self.unit}, {pace}{left}"), file=sys.stderr, flush=True)

    def seconds_left(self) -> float | None:
        """Until all are done; None where that is unknown. Default: by the steps so far, one as long as the other."""
        return (time.monotonic() - self.start) / self.done * max(0, self.total - self.done) if self.total else None


def _columns() -> tuple[ProgressColumn, ...]:
    """What is done, how many of how many, elapsed and left. Where it is narrow, the first is cut and nothing else."""
    kept, task = Column(no_wrap=True), Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return (
        TextColumn("{task.description}", markup=False, table_column=task), BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=kept), _Elapsed(table_column=kept.copy()),
        TextColumn("{task.fields[left]}", markup=False, table_column=kept.copy()),
    )  # fmt: skip


class _Elapsed(ProgressColumn):
    """``0:02:31 elapsed``."""

    def render(self, task: Task) -> Text:
        return Text(f"{_clock_of(task.finished_time if task.finished else task.elapsed)} elapsed")


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else f"{_clock_of(seconds)} left"


def _clock_of(seconds: float | None) -> str:
    return str(timedelta(seconds=max(0, int(seconds or 0))))


class Progress(Steps):
    """The cells of a run; one that is not ok says why at once."""

    def __init__(self, total: int, title: str) -> None:
        super().__init__(total, title, "cells")
        self._pace: Pace | None = None

    def go_by(self, pace: Pace) -> None:
        """Tell the time that is left by this."""
        self._pace = pace

    def seconds_left(self) -> float | None:
        """By the stages that are left, which take from milliseconds to minutes."""
        return None if self._pace is None else self._pace.seconds()

    def __call__(self, cell: Cell, record: Record) -> None:
        if record.status != "ok":
            line = escape(f"{record.status}: {cell.title}: {record.reason}")
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        self.advance(cell.title)
