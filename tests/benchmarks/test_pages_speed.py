"""Publishing a suite of 2,000 records, in a process of its own: seconds, and the memory that it took."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from ppfr_bench.results import ResultStore

pytestmark = pytest.mark.slow
DEFENSES, ATTACKS = 50, 39  # and one recognizer: 2,000 records
PUBLISH = """
import re, sys
from pathlib import Path
from ppfr_bench.leaderboard.pages import publish
publish(Path(sys.argv[1]), "quick", Path(sys.argv[2]))
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)  # not its parent's
"""


def test_publishing_two_thousand_records(benchmark: Any, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    for i in range(DEFENSES):
        store.write(made.utility(f"defense_{i}", "dlib_resnet", 0.5, replicates=made.around(0.5, 0.02, i)))
        for j in range(ATTACKS):
            leaked = {"lpips": 0.3, "ssim": 0.2, "ms_ssim": 0.4}
            replicates = {name: made.around(value, 0.02, i) for name, value in leaked.items()}
            log = {"steps": 100, "validation": [[step, 0.2 - 0.001 * step] for step in range(0, 101, 12)]}
            store.write(
                made.appearance(
                    f"defense_{i}", f"attack_{j}", dict(leaked), replicates=replicates, attack_config={"steps": 100},
                    log=log,
                )
            )  # fmt: skip
    command = [sys.executable, "-c", PUBLISH, str(store.root), str(tmp_path / "out")]
    done = benchmark.pedantic(subprocess.run, (command,), {"capture_output": True, "check": True}, rounds=2)
    benchmark.extra_info["peak_memory_mib"] = float(done.stdout)
