"""The attacks see through every defense that is known to be weak, and see nothing where there is nothing.

The weak defenses are not in the registry: each is a plug-in file of ``studies/weak_defenses/defenses``, run as the
plug-in of a contributor is. The run takes twenty minutes (``pytest tests/studies -m slow``). The records of the last
full run are committed in ``studies/weak_defenses/records``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import warm_python

from ppfr_bench import registry
from ppfr_bench.assets import cache_dir
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.contracts.defense import randomness_flags
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.testing import example_faces

STUDY = Path(__file__).parents[2] / "studies" / "weak_defenses"
WEAK = {path.stem: path for path in sorted((STUDY / "defenses").glob("*.py"))}
KEYED = {path.stem: path for path in sorted((STUDY / "keyed").glob("*.py"))}
FINE = {path.stem: path for path in sorted((STUDY / "fine").glob("*.py"))}
ATTACKS = {
    "validity": {"ridge", "unet", "averaging", "linkage_unet"},
    "keys": {"unshuffle", "linkage_unshuffle"},
    "fine": {"ridge", "unet", "linkage_unet"},
}
BROKEN_AT = 0.9  # of what the same attack regains undefended
Records = list[Record]


def leakages(records: Records, privacy: str) -> dict[str, Estimate]:
    """``attack measure recognizer`` -> leakage, of the attacks whose answers set a privacy."""
    return {
        " ".join((record.slot[1], name, record.slot[2])).strip(): found.leakage
        for record in records
        if record.sets == privacy
        for name, found in record.metrics.items()
        if found.leakage is not None
    }


def largest(found: dict[str, Estimate]) -> float:
    return max(one.value for one in found.values() if one.value is not None)


@pytest.fixture(scope="module")
def attack_records(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Records]:
    """Runs the suite for one defense by the command line and gives the records of its attacks.

    No stage comes from an earlier run: only downloads and synthetic faces are shared with it.
    """
    folder = tmp_path_factory.mktemp("validity")
    for shared in ("assets", "datasets"):
        (cache_dir() / shared).mkdir(parents=True, exist_ok=True)
        (folder / shared).symlink_to(cache_dir() / shared)
    environment = os.environ | {"PPFR_BENCH_CACHE": str(folder)}

    def run(suite: str, name: str) -> Records:
        weak = (WEAK | KEYED | FINE).get(name)
        which = ["--plugin", str(weak)] if weak is not None else ["--defense", name]
        command = ["-m", "ppfr_bench.cli", "run", STUDY / f"{suite}.toml", *which, "--results", folder / "results"]
        done = warm_python.run(command, environment)
        assert done.returncode == 0, done.stderr + done.stdout
        attacks = of_attacks(folder / "results", suite, name)
        assert {record.slot[1] for record in attacks} == ATTACKS[suite]
        assert {record.status for record in attacks} == {"ok"}, [record.reason for record in attacks]
        return attacks

    return run


@pytest.mark.parametrize("name", WEAK | KEYED | FINE)
def test_a_weak_defense_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but an attack tells that it is weak; and the registry knows it only where it is asked for."""
    assert name not in registry.names("defense")
    monkeypatch.setattr(registry, "_added", {})
    assert registry.add_plugin((WEAK | KEYED | FINE)[name]) == [("defense", name)]
    assert check_plugin("defense", name) == []
    flags = randomness_flags(registry.build("defense", name, {}), example_faces().load(range(8)), seed=0)
    few = "low_entropy_draws"
    expected = {"content_seeded_noise": "content_seeded", "own_negative": few, "own_turn": few, "own_xor": few}
    assert flags == ((expected[name],) if name in expected else ())


def of_attacks(results: Path, suite: str, name: str) -> Records:
    """The records of the attacks on one defense."""
    found = ResultStore(results).records(suite)
    return [record for record in found if record.cell == "attack" and record.defense.label == name]


def is_seen_through(records: Records) -> None:
    rebuilt = leakages(records, "appearance")
    named = {of: found for of, found in leakages(records, "identity").items() if " rank_1 " in of}
    assert rebuilt and named
    assert max(largest(rebuilt), largest(named)) >= BROKEN_AT, {
        of: found.value for of, found in (rebuilt | named).items()
    }


def reaches_the_ceiling(records: Records) -> None:
    """The leakage is 1 by definition, unless the attack is broken; so the rebuilt faces have to be good as well."""
    for privacy in ("appearance", "identity"):
        found = leakages(records, privacy)
        assert found
        for of, one in found.items():
            assert one.value is not None and one.value >= 0.95, (of, one)
    for record in records:
        if record.sets == "appearance":
            likeness = record.estimate("ssim").value
            assert likeness is not None and likeness >= 0.85, record.slot


def sees_nothing(records: Records) -> None:
    for privacy in ("appearance", "identity"):
        found = leakages(records, privacy)
        assert found
        for of, one in found.items():
            assert one.value is not None and one.interval is not None, (of, one)
            assert one.interval[0] <= 0, (of, one)


EXPECTED = {
    (suite, name): check
    for suite, weak in (("validity", WEAK), ("keys", KEYED), ("fine", FINE))
    for name, check in (
        *((name, is_seen_through) for name in weak), ("no_defense", reaches_the_ceiling), ("blackout", sees_nothing)
    )
}  # fmt: skip


@pytest.mark.parametrize(("suite", "name"), EXPECTED)
def test_the_committed_records_say_so(suite: str, name: str) -> None:
    records = of_attacks(STUDY / "records", suite, name)
    assert {record.slot[1] for record in records} == ATTACKS[suite]
    assert {record.environment.dirty for record in records} == {False}
    EXPECTED[suite, name](records)


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize(("suite", "name"), EXPECTED)
def test_a_run_says_so(suite: str, name: str, attack_records: Callable[[str, str], Records]) -> None:
    EXPECTED[suite, name](attack_records(suite, name))
