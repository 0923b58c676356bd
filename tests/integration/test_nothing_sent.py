"""Nothing is sent: no name is looked up, no connection made, nothing kept about the user by what the package loads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from watched_network import WatchedNetwork, lacking

from ppfr_bench.telemetry import SWITCHES, switch_off

ROOT = Path(__file__).parents[2]
SESSION = """
import onnx
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
session = runtime.InferenceSession(model.SerializeToString())
print("ready", flush=True)
input()
"""
needs_watching = pytest.mark.skipif(bool(lacking()), reason=lacking())


@pytest.fixture
def network(tmp_path: Path) -> WatchedNetwork:
    return WatchedNetwork(tmp_path)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's, with a home of its own: neither what was set for these tests nor a CI's, which silences much."""
    home.mkdir(exist_ok=True)
    quiet = {*SWITCHES, "CI", "GITHUB_ACTIONS", "TF_BUILD", "XDG_CACHE_HOME", "ORT_RUNNING_UNIT_TESTS"}
    kept = {name: value for name, value in os.environ.items() if name not in quiet}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | more


def answers(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    return out, err


@needs_watching
def test_onnxruntime_reports_by_itself_and_not_under_this_package(tmp_path: Path, network: WatchedNetwork) -> None:
    """The first half shows that the watch sees it; the second waits a third longer than that took."""
    pytest.importorskip("onnxruntime")
    alone, under = "import onnxruntime as runtime", "import ppfr_bench, onnxruntime as runtime"
    start = time.monotonic()
    process = network.start(["-c", alone + SESSION], environment(tmp_path / "alone"))
    while not (asked := network.asked()) and time.monotonic() - start < 60:
        time.sleep(0.1)
    took = time.monotonic() - start
    process.kill()
    process.communicate()
    if not asked:
        pytest.skip("this build of onnxruntime reports nothing")
    assert any("microsoft" in line for line in asked)

    network.log.unlink()
    process = network.start(["-c", under + SESSION], environment(tmp_path / "under", ORT_DISABLE_TELEMETRY="0"))
    time.sleep(1.3 * took)
    answers(process)
    assert network.asked() == set()
    assert list((tmp_path / "under").rglob("*")) == []  # no id of the machine, no queue
    assert any((tmp_path / "alone").rglob("deviceid"))


@needs_watching
@pytest.mark.assets
def test_a_run_on_workers_and_its_pages_ask_nobody(
    tmp_path: Path, network: WatchedNetwork, worker_environment: dict[str, str]
) -> None:
    home, results = tmp_path / "home", str(tmp_path / "results")
    env = environment(home, PPFR_BENCH_CACHE=worker_environment["PPFR_BENCH_CACHE"], PPFR_BENCH_SCHEDULER="")
    run = ["-m", "ppfr_bench.cli", "run", "smoke", "--defense", "blackout", "--attack", "visual", "--workers", "2"]
    answers(network.start([*run, "--results", results], env))
    pages = ["-m", "ppfr_bench.cli", "leaderboard", "--results", results, "--out", str(tmp_path / "pages")]
    answers(network.start(pages, env))
    assert any((tmp_path / "pages").rglob("*.html"))
    assert network.asked() == set()
    assert not any(path.name in ("deviceid", "Microsoft") for path in home.rglob("*"))


def test_the_switches_hold_against_what_was_set_before() -> None:
    code = "import os, ppfr_bench; print(*(os.environ[name] for name in ppfr_bench.telemetry.SWITCHES))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | dict.fromkeys(SWITCHES, "yes"), text=True, capture_output=True,
        check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.split() == list(SWITCHES.values())


def test_a_runtime_that_was_loaded_before_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", object())
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    with pytest.warns(RuntimeWarning, match="Import ppfr_bench first"):
        switch_off()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    switch_off()  # It is off already: nothing to say, and a warning would be an error here.
