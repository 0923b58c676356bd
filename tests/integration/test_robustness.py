"""The robustness track end to end: a service is hardened, certified and attacked, and stands in a table of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import warm_python

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.scorers.hardened import RADII

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, command_environment: dict[str, str]) -> Path:
    pytest.importorskip("foolbox", reason="the extra robustness is not installed")
    folder = tmp_path_factory.mktemp("robustness") / "results"
    command = ["-m", "ppfr_bench.cli", "run", "robustness_smoke", "--results", str(folder)]
    done = warm_python.run(command, command_environment)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def found(results: Path, defense: str, attack: str) -> Record:
    every = ResultStore(results).records("robustness_smoke")
    (one,) = [r for r in every if (r.defense.label, r.slot[1]) == (defense, attack) and r.cell != "canary"]
    assert one.status == "ok", one.reason
    return one


def value(record: Record, name: str) -> float:
    number = record.estimate(name).value
    assert number is not None, f"{record.title} has no {name}"
    return number


def test_the_bare_target_identifies_everybody_and_every_decision_of_it_can_be_turned(results: Path) -> None:
    bare, attacked = found(results, "undefended", ""), found(results, "undefended", "projected_gradient_descent")
    assert value(bare, "clean_accuracy") > 0.9 and value(bare, "agreement") == 1
    assert value(bare, "service_queries") == 0
    assert value(attacked, "robust_l2_1") == 0
    assert attacked.estimate("dodging_l2_1", "leakage").value == 1


def test_a_surrogate_is_distilled_from_counted_queries_and_certified(results: Path) -> None:
    made = found(results, "ducd", "")
    assert value(made, "service_queries") == 24 + 48  # Photos of the enrolled people, and images of others.
    assert value(made, "retention") > 0.5
    for norm, radii in RADII.items():
        names = [name for name in made.metrics if name.startswith(f"certified_{norm}_")]
        assert len(names) == len(radii)
    curve = [value(made, f"certified_l2_{radius:g}") for radius in RADII["l2"]]
    assert curve == sorted(curve, reverse=True) and curve[2] > 0


@pytest.mark.parametrize("attack", ["projected_gradient_descent", "square"])
@pytest.mark.parametrize("defense", ["undefended", "always_abstains", "ducd"])
def test_no_attack_refutes_a_certificate(results: Path, defense: str, attack: str) -> None:
    record = found(results, defense, attack)
    assert value(record, "violations") == 0
    told = [name.removeprefix("robust_") for name in record.metrics if name.startswith("robust_")]
    assert told == ["l2_8" if attack == "square" else "l2_1"]
    assert value(record, f"robust_{told[0]}") >= value(record, f"certified_{told[0]}")
    assert record.sets == ("larger_changes" if attack == "square" else "robustness")
    assert not {"certificate_violated", "below_certificate"} & set(record.flags)


def test_who_names_nobody_tells_nothing_and_keeps_nothing(results: Path) -> None:
    assert value(found(results, "always_abstains", ""), "clean_accuracy") == 0
    for attack in ("membership_confidence", "membership_likelihood_ratio"):
        assert value(found(results, "always_abstains", attack), "membership_auc") == 0.5


def test_the_same_command_again_finds_all_done_and_the_table_is_published(
    results: Path, command_environment: dict[str, str]
) -> None:
    again = ["-m", "ppfr_bench.cli", "run", "robustness_smoke", "--results", str(results)]
    assert "19 already recorded" in (done := warm_python.run(again, command_environment)).stdout + done.stderr
    out = results.parent / "pages"
    publish = ["-m", "ppfr_bench.cli", "leaderboard", "--results", str(results), "--out", str(out)]
    done = warm_python.run(publish, command_environment)
    assert done.returncode == 0, done.stderr
    page = (out / "robustness_smoke/leaderboard.html").read_text(encoding="utf-8")
    assert "robustness track" in page and "Certified privacy" in page and "Membership privacy" in page
    assert "Larger changes privacy" in page
