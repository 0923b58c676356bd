"""What a run shows: the two consoles, the plan of a dry run, the bar."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ppfr_bench.results import Record
    from ppfr_bench.runner.plan import Cell

out = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own
err = Console(stderr=True)


def tell(text: str, as_json: bool, **facts: object) -> None:
    """What a command did: in words, or its facts as JSON."""
    if as_json:
        print(json.dumps(facts))
    else:
        out.print(text, highlight=False, markup=False)


def print_plan(rows: list[tuple[Cell, str, float | None]], pending: int, as_json: bool) -> None:
    """The cells of a run that is not run: what is recorded, and how long the rest may take."""
    if as_json:
        cells = [{"cell": cell.title, "key": cell.key, "state": state, "seconds": s} for cell, state, s in rows]
        print(json.dumps({"to_run": pending, "cells": cells}, indent=1))
        return
    table = Table("cell", "state", "key")
    for cell, state, _ in rows:
        table.add_row(cell.title, state, cell.key[:12])
    out.print(table)
    took = [seconds for _, state, seconds in rows if state == "ok" and seconds is not None]
    guess = (
        f"; about {pending * sum(took) / len(took) / 60:.0f} min at the pace of those recorded"
        if took and pending
        else ""
    )
    out.print(f"{len(rows)} cells, {len(rows) - pending} recorded, {pending} to run{guess}", highlight=False)


class Progress:
    """A bar with rate and estimate on a terminal, a line now and then without one."""

    def __init__(self, total: int, title: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.total, self.done, self.title = total, 0, title
        self.start = self.last = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())  # fmt: skip
        self.bar = Bar(*columns, console=err, disable=not err.is_terminal)
        self.task = self.bar.add_task(title, total=total)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, cell: Cell, record: Record) -> None:
        self.done += 1
        self.bar.update(self.task, advance=1, description=f"{self.title}: {cell.title}")
        if record.status != "ok":
            line = escape(f"{record.status}: {cell.title}: {record.reason}")
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        now = time.monotonic()
        if not err.is_terminal and (now - self.last > 15 or self.done == self.total):
            self.last = now
            rate = self.done / (now - self.start)
            left = (self.total - self.done) / rate
            print(f"{self.title}: {self.done} of {self.total} cells, {rate * 60:.1f} a minute, about {left:.0f} s left",
                  file=sys.stderr, flush=True)  # fmt: skip
