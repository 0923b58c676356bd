"""The engine of Dask alone, without a plan."""

from __future__ import annotations

import psutil
import pytest

from ppfr_bench.engines.base import Limits, Resources, Result, Task
from ppfr_bench.engines.dask import Dask
from ppfr_bench.stages.spec import Job

MIB = 1 << 20


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")  # by another run on this machine,
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # which the dashboard's socket does not survive
def test_what_all_tasks_share_is_kept_once_and_not_for_each() -> None:
    """Nothing can be unpacked here, so that every task fails at once, in the process that would compute it."""
    packed, memory = bytes(8 * MIB), psutil.Process().memory_info
    tasks = [Task(Job("none", f"{i:064x}", {}, {}, {}), ()) for i in range(40)]
    found: list[Result] = []
    before, most = memory().rss, [0]

    def done(task: Task, result: Result) -> None:
        most[0] = max(most[0], memory().rss)
        found.append(result)

    Dask().run(packed, tasks, Resources(workers=1), Limits(seconds=120), done)
    assert len(found) == 40 and all(one.failure and "Unpickling" in one.failure.reason for one in found)
    assert most[0] - before < 150 * MIB, "forty copies would be 320 MiB"
