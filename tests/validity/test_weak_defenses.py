"""The lab sees through every defense that is known to be weak, and sees nothing where there is nothing.

The weak defenses stay out of the registry: each is a plug-in file under ``weak``, run as a contributor's would be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppfr_bench import registry
from ppfr_bench.assets import cache_dir
from ppfr_bench.check import check_plugin
from ppfr_bench.conformance import randomness_flags
from ppfr_bench.testing import example_faces

HERE = Path(__file__).parent
WEAK = {path.stem: path for path in sorted((HERE / "weak").glob("*.py"))}
ATTACKS = {"ridge", "unet", "averaging", "linkage_unet"}
BROKEN_AT = 0.9  # of what the same attack regains undefended
Records = list[dict[str, Any]]


def leakages(records: Records, measures: str) -> dict[str, Any]:
    """``attack leakage_measure recognizer`` -> metric, of the attacks that measure this."""
    return {
        " ".join((r["attack"]["label"], name, (r["recognizer"] or {}).get("label", ""))).strip(): metric
        for r in records if r["measures"] == measures
        for name, metric in r["metrics"].items() if name.startswith("leakage_")
    }  # fmt: skip


def largest(found: dict[str, Any]) -> float:
    return max(float(metric["value"]) for metric in found.values() if metric["value"] is not None)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Records]:
    """Runs the suite for one defense by the command line and gives the records of its attacks.

    No stage comes from an earlier run: only downloads and synthetic faces are shared with it.
    """
    folder = tmp_path_factory.mktemp("validity")
    for shared in ("assets", "datasets"):
        (cache_dir() / shared).mkdir(parents=True, exist_ok=True)
        (folder / shared).symlink_to(cache_dir() / shared)
    environment = os.environ | {"PPFR_BENCH_CACHE": str(folder)}

    def run(name: str) -> Records:
        which = ["--plugin", str(WEAK[name])] if name in WEAK else ["--defense", name]
        command = [sys.executable, "-m", "ppfr_bench.cli", "run", str(HERE / "validity.toml"), *which]
        done = subprocess.run(
            [*command, "--results", str(folder / "results")], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr + done.stdout
        paths = sorted((folder / "results" / "validity" / "synthetic" / name).rglob("*.json"))
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        attacks = [record for record in records if record["cell"] == "attack"]
        assert {record["attack"]["label"] for record in attacks} == ATTACKS
        assert {record["status"] for record in records} == {"ok"}, [record["reason"] for record in records]
        return attacks

    return run


@pytest.mark.parametrize("name", WEAK)
def test_a_weak_defense_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but an attack tells that it is weak; and the registry knows it only where it is asked for."""
    assert name not in registry.names("defense")
    monkeypatch.setattr(registry, "_added", {})
    kind, added = registry.add_plugin(WEAK[name])
    assert (kind, added) == ("defense", name)
    assert check_plugin(kind, name) == []
    flags = randomness_flags(registry.build(kind, name, {}), example_faces().load(range(8)), seed=0)
    assert flags == (("content_seeded",) if name == "content_seeded_noise" else ())


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("name", WEAK)
def test_a_weak_defense_is_seen_through(name: str, lab: Callable[[str], Records]) -> None:
    records = lab(name)
    rebuilt = leakages(records, "appearance")
    named = {of: metric for of, metric in leakages(records, "identity").items() if "leakage_rank_1 " in of}
    assert rebuilt and named
    assert max(largest(rebuilt), largest(named)) >= BROKEN_AT, {
        of: metric["value"] for of, metric in (rebuilt | named).items()
    }


@pytest.mark.slow
@pytest.mark.assets
def test_every_attack_reaches_its_ceiling_without_a_defense(lab: Callable[[str], Records]) -> None:
    """The leakage is 1 by definition, unless the attack is broken; so the rebuilt faces have to be good as well."""
    records = lab("identity")
    for measures in ("appearance", "identity"):
        found = leakages(records, measures)
        assert found
        for of, metric in found.items():
            assert metric["value"] is not None and metric["value"] >= 0.95, (of, metric)
    for record in records:
        if record["measures"] == "appearance":
            assert record["metrics"]["ssim"]["value"] >= 0.85, record["attack"]["label"]


@pytest.mark.slow
@pytest.mark.assets
def test_no_attack_gets_anything_out_of_a_black_image(lab: Callable[[str], Records]) -> None:
    records = lab("blackout")
    for measures in ("appearance", "identity"):
        found = leakages(records, measures)
        assert found
        for of, metric in found.items():
            assert metric["value"] is not None and metric["interval"] is not None, (of, metric)
            assert metric["interval"][0] <= 0, (of, metric)
