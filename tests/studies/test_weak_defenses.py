"""The attacks see through every defense that is known to be weak, and see nothing where there is nothing.

The weak defenses are not in the registry: each is a plug-in file of ``studies/weak_defenses/defenses``, run as the
plug-in of a contributor is. The run takes twenty minutes (``pytest tests/studies -m slow``). The records of the last
full run are committed in ``studies/weak_defenses/records``.
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
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.contracts.defense import randomness_flags
from ppfr_bench.testing import example_faces

STUDY = Path(__file__).parents[2] / "studies" / "weak_defenses"
WEAK = {path.stem: path for path in sorted((STUDY / "defenses").glob("*.py"))}
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
def attack_records(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Records]:
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
        command = [sys.executable, "-m", "ppfr_bench.cli", "run", str(STUDY / "validity.toml"), *which]
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


def committed(name: str) -> Records:
    """The committed records of the attacks on one defense."""
    paths = sorted((STUDY / "records" / "validity" / "synthetic" / name).rglob("*.json"))
    return [r for r in (json.loads(path.read_text(encoding="utf-8")) for path in paths) if r["cell"] == "attack"]


def is_seen_through(records: Records) -> None:
    rebuilt = leakages(records, "appearance")
    named = {of: metric for of, metric in leakages(records, "identity").items() if "leakage_rank_1 " in of}
    assert rebuilt and named
    assert max(largest(rebuilt), largest(named)) >= BROKEN_AT, {
        of: metric["value"] for of, metric in (rebuilt | named).items()
    }


def reaches_the_ceiling(records: Records) -> None:
    """The leakage is 1 by definition, unless the attack is broken; so the rebuilt faces have to be good as well."""
    for measures in ("appearance", "identity"):
        found = leakages(records, measures)
        assert found
        for of, metric in found.items():
            assert metric["value"] is not None and metric["value"] >= 0.95, (of, metric)
    for record in records:
        if record["measures"] == "appearance":
            assert record["metrics"]["ssim"]["value"] >= 0.85, record["attack"]["label"]


def sees_nothing(records: Records) -> None:
    for measures in ("appearance", "identity"):
        found = leakages(records, measures)
        assert found
        for of, metric in found.items():
            assert metric["value"] is not None and metric["interval"] is not None, (of, metric)
            assert metric["interval"][0] <= 0, (of, metric)


EXPECTED = {name: is_seen_through for name in WEAK} | {"identity": reaches_the_ceiling, "blackout": sees_nothing}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_committed_records_say_so(name: str) -> None:
    records = committed(name)
    assert {record["attack"]["label"] for record in records} == ATTACKS
    assert {record["environment"]["dirty"] for record in records} == {False}
    EXPECTED[name](records)


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_says_so(name: str, attack_records: Callable[[str], Records]) -> None:
    EXPECTED[name](attack_records(name))
