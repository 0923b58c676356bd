"""A claim is measured again on people drawn from a secret seed: what agrees, what does not, and what is never told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import made_records as made
import pytest
from made_archives import NAME
from made_submission import record_of, recorded

from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import confirmation, submission
from ppfr_bench.maintenance.comparison import compare, disagreements, lacking
from ppfr_bench.maintenance.confirmation import SECRET, Confirmation, Secret
from ppfr_bench.maintenance.numbers import Counts
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where
from ppfr_bench.runner.plan import Plan
from ppfr_bench.runner.request import Asked, Request, resolve
from ppfr_bench.runner.scoring import environment

KEY = "00112233445566778899aabbccddeeff" * 2
NIGHT = date(2026, 11, 29)
ROW = f"synthetic/{NAME}"


@pytest.fixture(scope="module")
def request_() -> Request:
    return resolve("smoke", Asked(defenses=(NAME,)))


@pytest.fixture(scope="module")
def counts(request_: Request) -> Counts:
    return Counts.of(request_.dataset, request_.plan.setting.protocol.replicates)


@pytest.fixture(scope="module")
def commit() -> str:
    found = environment(2, "cpu").commit
    if found is None:
        pytest.skip("this is no checkout of git, which knows commits")
    return found


Measure = Callable[..., Confirmation]


@pytest.fixture
def measured(
    request_: Request, counts: Counts, commit: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Measure:
    """``confirm`` of a claim of some numbers, where measuring again would give others. No attack runs."""

    def run(
        claimed: tuple[float, float], again: tuple[float, float], change: Callable[[Record], Record] = lambda one: one
    ) -> Confirmation:
        def execute(plan: Plan, fresh: ResultStore, where: Where | None) -> None:
            for cell in plan.cells:
                fresh.write(change(record_of(plan, cell, counts, commit, *again)))

        monkeypatch.setenv(SECRET, KEY)
        monkeypatch.setattr(confirmation, "execute", execute)
        monkeypatch.setattr(Request, "audit", lambda self: None)
        store = recorded(request_, tmp_path / "made", NAME, commit, claimed)
        submission.pack(NAME, request_.plan, store, tmp_path / "one.zip")
        submission.take(tmp_path / "one.zip", tmp_path)
        return confirmation.confirm(NAME, "smoke", ResultStore(tmp_path / "results"), NIGHT)

    return run


def test_a_claim_that_other_people_bear_out_is_confirmed(measured: Measure, tmp_path: Path) -> None:
    found = measured((0.4, 0.8), (0.405, 0.795))
    assert found == Confirmation({ROW: "confirmed"}, ())
    claim = ResultStore(tmp_path / "results").claims("smoke")[ROW]
    assert (claim.state, claim.night, claim.findings) == ("confirmed", "2026-11-29", ())
    assert confirmation.Secret(bytes.fromhex(KEY)).opens(claim.commitment)


@pytest.mark.parametrize(
    ("claimed", "leaks", "says"),
    [
        ((0.0, 1.0), 0.9, "appearance privacy: 1"),
        ((0.4, 1.0), 0.4, "retention: 1"),
        ((0.1, 0.8), 0.9, "appearance privacy: 0.9"),
    ],
    ids=["narrow", "retention", "privacy"],
)
def test_numbers_that_nobody_measured_are_refuted(
    claimed: tuple[float, float], leaks: float, says: str, measured: Measure, tmp_path: Path
) -> None:
    """Such as the narrow kind of forged records: it is consistent in itself, so that only measuring again tells.

    Of the twelve people of ``smoke`` a privacy is known to a quarter only.
    """
    found = measured(claimed, (leaks, 0.8))
    assert found.rows == {ROW: "refuted"} and any(says in one.line for one in found.findings)
    claim = ResultStore(tmp_path / "results").claims("smoke")[ROW]
    assert claim.state == "refuted" and any("refuted" in line for line in claim.findings)


def test_what_is_missing_on_one_side_is_a_finding(measured: Measure) -> None:
    def without_interval(record: Record) -> Record:
        metrics = {
            name: replace(one, value=replace(one.value, interval=None)) if name == "ssim" else one
            for name, one in record.metrics.items()
        }
        return record.model_copy(update={"metrics": metrics})

    found = measured((0.4, 0.8), (0.4, 0.8), without_interval)
    assert found.rows == {ROW: "refuted"} and "ssim has no interval now" in found.findings[0].line


def test_why_a_cell_failed_is_not_published(measured: Measure, tmp_path: Path) -> None:
    """A plug-in that has seen secret people could say so in its error."""

    def failed(record: Record) -> Record:
        said = {"status": "failed", "reason": "RuntimeError: iVBORw0KGgo-secret-face", "metrics": {}}
        return record.model_copy(update=said)

    found = measured((0.4, 0.8), (0.4, 0.8), failed)
    assert found.rows == {ROW: "refuted"} and "gave no number" in found.findings[0].line
    assert "iVBORw0KGgo" not in (tmp_path / "results/smoke/claims.json").read_text()


def test_the_secret_is_in_no_file_and_in_no_environment(
    measured: Measure, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    seen: list[str | None] = []
    seeds: set[int] = set()
    found = measured(
        (0.4, 0.8), (0.1, 0.2), lambda one: (seen.append(os.environ.get(SECRET)), seeds.add(one.seed), one)[-1]
    )
    assert found.findings and seen and set(seen) == {None} and SECRET not in os.environ
    secret = Secret(bytes.fromhex(KEY))
    assert seeds == {secret.suite_seed("smoke")} and 0 < secret.suite_seed("smoke") < 2**60
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    said = "".join(capfd.readouterr()) + repr(secret) + str(secret) + "".join(one.line for one in found.findings)
    for hidden in (KEY, str(secret.seed("smoke")), str(secret.suite_seed("smoke"))):
        assert hidden not in said and not any(hidden.encode() in content for content in kept)


def test_another_seed_draws_other_people_and_the_suite_keeps_its_own() -> None:
    secret, other = Secret(bytes.fromhex(KEY)), Secret(bytes.fromhex(KEY[::-1]))
    assert secret.seed("quick") == secret.seed("quick")
    assert len({secret.seed("quick"), secret.seed("standard"), other.seed("quick")}) == 3
    assert 0 < secret.seed("quick") < 2**120
    drawn = resolve("smoke", Asked(defenses=(NAME,), settings=(f"dataset.seed={secret.seed('smoke')}",)))
    assert (
        drawn.plan.setting.dataset_revision != resolve("smoke", Asked(defenses=(NAME,))).plan.setting.dataset_revision
    )


def test_a_commitment_is_opened_by_its_secret_alone() -> None:
    secret, other = Secret(bytes.fromhex(KEY)), Secret(bytes.fromhex(KEY[::-1]))
    made_twice = secret.commitment(), secret.commitment()
    assert made_twice[0] != made_twice[1] and all(map(secret.opens, made_twice))
    assert not other.opens(made_twice[0]) and not secret.opens("0" * 32 + ":" + "0" * 64)


@pytest.mark.parametrize(("text", "says"), [("", "is not set"), ("7", "can be guessed"), ("0" * 64, "can be guessed"),
                                            ("password" * 8, "can be guessed")])  # fmt: skip
def test_a_secret_that_is_none_is_refused_and_not_shown(text: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, text)
    with pytest.raises(UserError, match=says) as error:
        Secret.from_environment()
    assert "token_hex" in str(error.value) and (not text or text not in str(error.value))


def test_what_is_no_claim_or_another_file_is_not_confirmed(measured: Measure, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results")
    with pytest.raises(UserError, match=r"no row of smoke in .* is a claim"):
        confirmation.confirm(NAME, "smoke", store, NIGHT)
    measured((0.4, 0.8), (0.4, 0.8))
    (claim,) = store.claims("smoke").values()
    store.write_claims("smoke", {ROW: claim.model_copy(update={"source_sha256": "0" * 64})})
    with pytest.raises(UserError, match="is not set"):
        confirmation.confirm(NAME, "smoke", store, NIGHT)


def test_another_file_than_the_one_that_came_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, KEY)
    store = ResultStore(tmp_path)
    store.write_claims("smoke", {ROW: Claim(defense=NAME, source_sha256="0" * 64, keys=("a" * 64,))})
    with pytest.raises(UserError, match="is not the file that came with the claim"):
        confirmation.confirm(NAME, "smoke", store, NIGHT)


def test_photographs_are_measured_anew_once_the_file_was_confirmed_on_drawn_people(tmp_path: Path) -> None:
    store, claim = ResultStore(tmp_path), Claim(defense=NAME, source_sha256="a" * 64, keys=("a" * 64,))
    with pytest.raises(UserError, match="no others can be drawn"):
        confirmation._confirmed_elsewhere(store, {"lfw/x": claim})
    commitment = Secret(bytes.fromhex(KEY)).commitment()
    for state, file in (("refuted", "a"), ("claimed", "a"), ("confirmed", "b")):
        other = Claim(defense=NAME, source_sha256=file * 64, keys=(), state=state, commitment=commitment)  # type: ignore[arg-type]
        made.write(tmp_path, made.simple("a", 0.5, 0.5))
        store.write_claims("quick", {ROW: other})
        with pytest.raises(UserError, match="no others can be drawn"):
            confirmation._confirmed_elsewhere(store, {"lfw/x": claim})
    store.write_claims("quick", {ROW: claim.model_copy(update={"state": "confirmed", "commitment": commitment})})
    assert confirmation._confirmed_elsewhere(store, {"lfw/x": claim}) == commitment


# The comparison that score, nightly and a confirmation share ----------------------------------------------------------


def test_a_number_without_interval_metric_or_n_is_a_finding() -> None:
    then = made.appearance("a", "unet", {"lpips": 0.5, "ssim": 0.4}, draws={"lpips": made.around(0.5, 0.01)})
    assert compare("drift", then, then) == [] and lacking(then, then) == []

    def changed(**parts: Estimate) -> Record:
        metrics = dict(then.metrics) | {"lpips": replace(then.metrics["lpips"], **parts)}
        return then.model_copy(update={"metrics": metrics})

    leaked = then.metrics["lpips"].leakage
    assert leaked is not None
    cases = {
        "leakage_lpips has no interval now": changed(leakage=replace(leaked, interval=None)),
        "leakage_lpips was of n 120, and is of n 7": changed(leakage=replace(leaked, n=7)),
        "ssim is not measured any more": then.model_copy(update={"metrics": {"lpips": then.metrics["lpips"]}}),
    }
    for says, now in cases.items():
        assert any(says in one.line and one.kind == "missing" for one in compare("drift", then, now)), says
        assert compare("drift", now, then), "the other way round it is one too"


def test_two_samples_of_people_may_differ_by_what_both_intervals_allow() -> None:
    def number(value: float, half: float) -> dict[str, Estimate]:
        return {"score": Estimate(value, (value - half, value + half), 60)}

    assert disagreements("a", number(0.5, 0.05), number(0.57, 0.05)) == []  # Outside either, inside both together.
    (found,) = disagreements("a", number(0.5, 0.05), number(0.58, 0.05))
    assert (found.kind, found.before, found.now) == ("refuted", 0.5, 0.58)
    more = {f"{i}": Estimate(0.5, (0.45, 0.55), 60) for i in range(9)}
    assert disagreements("a", number(0.5, 0.05) | more, number(0.58, 0.05) | more) == []  # One of ten, by chance.
    (found,) = disagreements("a", number(0.5, 0.05), {"score": Estimate(0.5, None, 60)})
    assert "the measurement has no interval" in found.line
    (found,) = disagreements("a", number(0.5, 0.05), {})
    assert "score is not measured" in found.line
