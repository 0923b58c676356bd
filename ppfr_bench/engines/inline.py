"""Inline: one task after the other in this process, for tests and debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ppfr_bench.engines.base import Engine, Limits, Resources, Result, Task, passed_on


class Inline(Engine):
    """No other process, and so no limits: a task that hangs hangs the run."""

    version = 1
    title = "in this process, one task after the other"

    def run(
        self, packed: bytes, tasks: Sequence[Task], resources: Resources, limits: Limits,
        done: Callable[[Task, Result], None],
    ) -> None:  # fmt: skip
        """Run them in order."""
        from ppfr_bench.runner.worker import perform

        results: dict[str, Result] = {}
        for task in tasks:
            earlier = [results[key] for key in task.needs]
            results[task.key] = passed_on(task.key, earlier) or perform(packed, task.job)
            done(task, results[task.key])


ENGINE = Inline
