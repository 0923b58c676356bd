"""Rows of a board, computed by hand: their numbers, the ranks that they may have, and their flags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import made_records as made
import numpy as np
import pytest
from made_records import build, by_label

from ppfr_bench.leaderboard import table
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.privacy import regained
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.records.record import Record

# Rows --------------------------------------------------------------------------------------------------------------


def test_retention_is_the_mean_over_unseen_recognizers() -> None:
    records = [
        made.utility("a", "one", 0.9, draws=[0.8, 1.0]),
        made.utility("a", "two", 0.5, draws=[0.4, 0.8]),
        made.utility("a", "three", 0.1, draws=[0.0, 0.0], surrogate=True),
        made.appearance("a", "unet", {"lpips": 0.5}, draws={"lpips": [0.5, 0.5]}),
    ]
    (row,) = build(records)
    assert row.retention.value == pytest.approx(0.7)
    # Replicate by replicate: (0.8 + 0.4) / 2 = 0.6 and 0.9; its percentiles lie between them.
    assert row.retention.interval == pytest.approx((0.6 + 0.025 * 0.3, 0.9 - 0.025 * 0.3))
    assert row.score.value == pytest.approx(2 * 0.7 * 0.5 / 1.2)
    assert row.score.draws == pytest.approx((2 * 0.6 * 0.5 / 1.1, 2 * 0.9 * 0.5 / 1.4))


def test_retention_leaves_out_what_the_row_itself_has_seen() -> None:
    """A defense that reads a recognizer is read by it better than by others; other rows are judged by it as before."""
    records = [made.utility(name, one, kept) for name in ("a", "b") for one, kept in (("one", 0.9), ("two", 0.5))]
    plan = made.plan_of(records)
    ((dataset, whole),) = plan.tables.items()
    seeing = whole.defenses["a"].model_copy(update={"seen": ("one",)})
    tables = {dataset: whole.model_copy(update={"defenses": whole.defenses | {"a": seeing}})}
    rows = by_label(table.build(records, plan.model_copy(update={"tables": tables})))
    assert rows["a"].retention.value == pytest.approx(0.5) and rows["b"].retention.value == pytest.approx(0.7)
    assert {use.recognizer: use.mark for use in rows["a"].utilities} == {"one": "seen", "two": ""}
    assert {use.mark for use in rows["b"].utilities} == {""}
    assert {use.kind for row in rows.values() for use in row.utilities} == {""}, "of the whole column it is no mark"


def test_retention_falls_back_to_the_surrogate_only_where_no_recognizer_is_unseen() -> None:
    only = made.utility("a", "three", 0.6, surrogate=True)
    (row,) = build([only])
    assert row.retention.value == pytest.approx(0.6) and "surrogate" in row.retention.reason
    failed = made.record("a", "utility", recognizer="one", status="skipped", reason="npm is missing")
    (row,) = build([only, failed])
    assert row.retention.value is None and "unseen" in row.retention.reason


def test_retention_above_one_or_below_zero_is_clipped_in_the_score_only() -> None:
    for kept, score in ((1.2, 2 * 1.0 * 0.5 / 1.5), (-0.1, 0.0)):
        (row,) = build(
            [
                made.utility("a", "one", kept, draws=[kept, kept]),
                made.appearance("a", "unet", {"lpips": 0.5}, draws={"lpips": [0.5, 0.5]}),
            ]
        )
        assert row.retention.value == pytest.approx(kept)
        assert row.score.value == pytest.approx(score)
        assert row.score.draws == pytest.approx((score, score))


def test_privacy_is_set_by_the_worst_attack_and_measure_and_its_interval_holds_whichever_is_the_strongest() -> None:
    around = {"lpips": made.around(0.3, 0.01, 1), "ssim": made.around(0.6, 0.02, 2)}
    others = {"lpips": made.around(0.58, 0.05, 3), "ssim": made.around(0.1, 0.01, 4)}
    records = [
        made.appearance("a", "ridge", {"lpips": 0.3, "ssim": 0.6}, draws=around),
        made.appearance("a", "unet", {"lpips": 0.58, "ssim": 0.1}, draws=others),
        made.identity("a", "linkage", "one", 0.2),
        made.identity("a", "linkage", "two", 0.8),
        made.identity("a", "linkage_unet", "one", 0.4),
    ]
    (row,) = build(records)
    assert (row.privacies["appearance"].attack, row.privacies["appearance"].measure) == ("ridge", "ssim")
    assert row.privacies["appearance"].estimate.value == pytest.approx(0.4)
    # Two may be the largest, with standard errors of 0.02 and 0.05: c is 2.3, as of the larger of two deviations.
    assert row.privacies["appearance"].estimate.interval == pytest.approx(
        (0.42 - 2.3 * 0.05, 0.4 + 2.3 * 0.02), abs=0.01
    )
    assert [one.value for one in row.privacies["appearance"].contenders] == pytest.approx([0.4, 0.42])
    assert row.privacies["identity"].set_by == "linkage, rank_1, two"
    assert row.privacies["identity"].estimate.value == pytest.approx(0.2)
    assert row.privacies["identity"].estimate.interval is None


def test_unlinkability_and_controls_are_shown_and_set_no_privacy() -> None:
    linked = {"d_sys": made.value(0.8)}
    for measured in (linked, {"d_sys": made.value(None, reason="fewer than 20 mated scores")}):
        records = [
            made.appearance("a", "ridge", {"lpips": 0.3}),
            made.identity("a", "linkage", "one", 0.2),
            made.utility("a", "one", 0.9),
            made.record(
                "a", "attack", attack="unlinkability", recognizer="one", measures="unlinkability", metrics=measured
            ),
            made.record("a", "attack", attack="nearest", measures="control", metrics={"lpips": made.value(0.1)}),
        ]
        (row,) = build(records)
        assert row.measured == row.expected == 5
        assert row.privacies["identity"].estimate.value == pytest.approx(0.8)
        assert row.privacies["appearance"].estimate.value == pytest.approx(0.7)
        linking = next(cell for cell in row.cells if cell.attack == "unlinkability")
        assert dict(linking.shown)["d_sys"].value == measured["d_sys"].value.value
        assert linking.worst.value is None, "D_sys is no leakage"
        assert [baseline.attack for baseline in row.baselines] == ["nearest"]


@pytest.mark.parametrize(
    ("strong", "spread", "behind"),
    [(0.3, 0.01, True), (0.49, 0.001, False), (0.3, 0.5, False), (0.6, 0.01, False)],
    ids=["well below", "within the margin", "within chance", "above"],
)
def test_an_attack_behind_what_it_builds_on_is_undertrained(strong: float, spread: float, behind: bool) -> None:
    def records(**more: Any) -> list[Any]:
        weak = made.appearance("a", "ridge", {"lpips": 0.5}, draws={"lpips": made.around(0.5, spread, seed=1)})
        drawn = {"lpips": made.around(strong, spread, seed=2)}
        found = made.appearance("a", "unet", {"lpips": strong}, draws=drawn, **more)
        return [weak, found]

    weak, found = records()
    (row,) = build([weak, found.model_copy(update={"builds_on": ("ridge",)})])
    assert (row.flags == (("attack_undertrained", ("unet below ridge on lpips",)),)) is behind
    (row,) = build([weak, found])
    assert row.flags == (), "nothing is known of how they compare"


def test_more_releases_must_not_leak_less() -> None:
    def averaged(releases: int, leakage: float) -> Any:
        return made.appearance(
            "a", f"averaging_{releases}", {"ssim": leakage}, draws={"ssim": made.around(leakage, 0.01, releases)},
            attack_name="averaging", attack_config={"releases": releases},
        )  # fmt: skip

    (row,) = build([averaged(4, 0.6), averaged(16, 0.4)])
    assert row.flags == (("attack_undertrained", ("averaging_16 below averaging_4 on ssim",)),)
    (row,) = build([averaged(4, 0.4), averaged(16, 0.6)])
    assert row.flags == ()


@pytest.mark.parametrize(("shots", "behind"), [(4, True), (16, False)])
def test_fewer_releases_may_leak_less(shots: int, behind: bool) -> None:
    """What trains against the live defense is held to those that had no more releases than it."""
    weak = made.appearance(
        "a", "averaging", {"ssim": 0.6}, draws={"ssim": made.around(0.6, 0.01)}, log={"shots": shots}
    )
    strong = made.appearance(
        "a", "adversarial", {"ssim": 0.4}, draws={"ssim": made.around(0.4, 0.01)}, log={"shots": 4}
    )
    (row,) = build([weak, strong.model_copy(update={"builds_on": ("averaging",)})])
    assert bool(row.flags) is behind


def test_looking_is_not_a_reconstruction() -> None:
    records = [
        made.appearance("a", "visual", {"lpips": 0.9, "ssim": 0.9}),
        made.appearance("a", "unet", {"lpips": 0.4}),
    ]
    (row,) = build(records)
    assert row.privacies["appearance"].attack == "visual"
    assert row.reconstruction is not None and row.reconstruction.attack == "unet"
    assert row.reconstruction.likeness["lpips"].estimate.value == pytest.approx(0.6 - 0.5 * 0.4)
    lpips, ssim = row.reconstruction.likeness["lpips"], row.reconstruction.likeness["ssim"]
    assert (lpips.floor.value, lpips.ceiling.value) == (0.6, 0.1)
    assert ssim.estimate.value is None and ssim.estimate.reason


# Ranks -------------------------------------------------------------------------------------------------------------


def test_rows_stand_in_the_order_of_their_scores_and_say_which_ranks_they_may_have() -> None:
    rows = by_label(
        build(
            made.simple("best", 0.9, 0.1, seed=1)
            + made.simple("close_a", 0.70, 0.40, spread=0.03, seed=2)
            + made.simple("close_b", 0.69, 0.40, spread=0.03, seed=3)
            + made.simple("last", 0.2, 0.9, seed=4)
        )
    )
    assert {label: row.rank for label, row in rows.items()} == {"best": 1, "close_a": 2, "close_b": 3, "last": 4}
    assert rows["best"].rank_interval == (1, 1)
    assert rows["close_a"].rank_interval == (2, 3) == rows["close_b"].rank_interval
    assert rows["last"].rank_interval == (4, 4)
    assert [label for label, row in rows.items() if row.front] == ["best"]


@pytest.mark.parametrize(("higher", "best"), [(195, 2), (140, 1)])
def test_the_comparison_is_paired(higher: int, best: int) -> None:
    """The intervals overlap almost wholly: only the pairing tells the two apart, where the difference is steady."""
    common = np.linspace(0.5, 0.6, 200)
    better = common + np.where(np.arange(200) < higher, 0.001, -0.001)
    records = []
    for label, replicates in (("a", better), ("b", common)):
        records += [
            made.utility(label, "one", float(replicates.mean()), draws=list(replicates)),
            made.appearance(label, "unet", {"lpips": 0.5}, draws={"lpips": [0.5] * 200}),
        ]
    rows = by_label(build(records))
    assert (rows["a"].rank, rows["b"].rank) == (1, 2)
    assert rows["b"].rank_interval == (best, 2) and rows["a"].rank_interval == (1, 3 - best)


def test_nothing_that_hides_nothing_is_on_the_front() -> None:
    rows = by_label(build(made.simple("keeps_all", 1.0, 1.0, spread=0.0) + made.simple("hides", 0.5, 0.5)))
    assert [label for label, row in rows.items() if row.front] == ["hides"]


def test_all_attacks_share_the_best_floor() -> None:
    """An attack that does well without looking shows what is to be had so: what others have more of it is no leak."""
    draws = made.around(0.48, 0.02)
    plain = made.appearance("a", "ridge", {"lpips": 0.48}, draws={"lpips": draws})
    sharp = made.value(
        0.38, metric="lpips", floor=made.estimate(0.4), ceiling=made.estimate(0.1),
        leakage=made.estimate(1 / 15, made.around(1 / 15, 0.02)),
    )  # fmt: skip
    other = made.appearance("a", "unet", {"lpips": 0.1})
    other = other.model_copy(update={"metrics": {"lpips": sharp}})
    records = [made.utility("a", "dlib_resnet", 0.8, draws=made.around(0.8, 0.01)), plain, other]
    (row,) = table.build(records, made.plan_of(records))
    leaked = {cell.attack: dict(cell.leakage)["lpips"] for cell in row.cells if cell.attack}
    assert plain.metrics["lpips"].leakage is not None and plain.metrics["lpips"].leakage.value == 0.48
    assert leaked["ridge"].value == pytest.approx((0.4 - 0.36) / 0.3) and leaked["unet"].value == pytest.approx(1 / 15)
    assert leaked["ridge"].draws == pytest.approx([max(0.0, (0.5 * one - 0.2) / 0.3) for one in draws])
    assert leaked["ridge"].interval is not None and leaked["ridge"].interval[0] < 0.13 < leaked["ridge"].interval[1]
    assert row.reconstruction is not None and row.reconstruction.likeness["lpips"].floor.value == 0.4
    better = other.model_copy(update={"metrics": {"lpips": replace(sharp, floor=made.estimate(0.3))}})
    (row,) = table.build([records[0], plain, better], made.plan_of(records))
    none = next(dict(cell.leakage)["lpips"] for cell in row.cells if cell.attack == "ridge")
    assert none.value == 0 and set(none.draws) == {0.0}
    assert none.interval is not None and none.interval[0] == 0 < none.interval[1], "no interval has no width"


def identity_of(value: float, ceiling: float, **more: Any) -> Record:
    """Rank 1 of an attack whose own ceiling is that."""
    floor = 1 / 60
    share = min(1.0, (value - floor) / (ceiling - floor))
    metrics = {
        "rank_1": made.value(
            value, metric="rank_1", floor=made.estimate(floor), ceiling=made.estimate(ceiling),
            leakage=made.estimate(share, [share] * 200),
        )
    }  # fmt: skip
    return made.record("a", "attack", recognizer="one", measures="identity", metrics=metrics, **more)


def test_identity_is_measured_against_what_the_best_attack_regains_undefended() -> None:
    """A blind student that names 8 of 100 undefended and 12 of 100 here has not regained everything."""
    (row,) = build([identity_of(0.5, 0.9, attack="linkage"), identity_of(0.125, 0.083, attack="linkage_student")])
    found = {cell.attack: cell.leakage[0][1].value for cell in row.cells}
    assert found["linkage"] == pytest.approx((0.5 - 1 / 60) / (0.9 - 1 / 60))
    assert found["linkage_student"] == pytest.approx((0.125 - 1 / 60) / (0.9 - 1 / 60))
    assert row.privacies["identity"].attack == "linkage"


def test_what_is_measured_on_two_targets_a_person_is_known_as_of_so_many_people() -> None:
    """None of 120 targets of 60 people: between shared ends the limit is that of 60 people, 0.05, and not of 120."""
    none, floor, ceiling = made.estimate(0.0, [0.0] * 200), made.estimate(1 / 60), made.estimate(1.0)
    measured = made.value(1 / 60, metric="rank_1", floor=floor, ceiling=made.estimate(0.9), leakage=none)
    assert measured.leakage is not None and measured.leakage.n == 120
    found = {people: regained(measured, floor, ceiling, people).interval or (0.0, 0.0) for people in (0, 60, 1000)}
    assert found[60] == (0.0, pytest.approx(0.0487, abs=0.001))
    assert found[0] == found[1000] == (0.0, pytest.approx(0.0247, abs=0.001))


def test_an_attack_that_hardly_beats_its_floor_undefended_is_broken() -> None:
    """LPIPS 0.5 undefended, of which 0.6 is the floor and 0 the end of the scale, says nothing of any defense."""
    weak = made.value(
        0.52, metric="lpips", floor=made.estimate(0.6), ceiling=made.estimate(0.5), leakage=made.estimate(0.8)
    )
    works = made.value(
        0.5, metric="ssim", floor=made.estimate(0.3), ceiling=made.estimate(0.9), leakage=made.estimate(1 / 3)
    )
    attack = made.record("a", "attack", attack="unet", measures="appearance", metrics={"lpips": weak, "ssim": works})
    (row,) = build([made.utility("a", "one", 0.8), attack])
    assert row.complete and row.privacies["appearance"].measure == "ssim"
    (cell,) = [cell for cell in row.cells if cell.attack]
    assert dict(cell.leakage)["lpips"].value is None and dict(cell.leakage)["lpips"].reason == BROKEN


def test_more_than_undefended_is_told_of() -> None:
    beyond = made.value(
        0.99, metric="ssim", floor=made.estimate(0.3), ceiling=made.estimate(0.8), leakage=made.estimate(1.0)
    )
    (row,) = build([made.record("a", "attack", attack="unet", measures="appearance", metrics={"ssim": beyond})])
    assert row.cells[0].leakage[0][1].reason.startswith("1.38 before it is clipped")


@pytest.mark.parametrize("status", ["failed", "skipped", "absent"])
def test_an_attack_without_a_number_never_improves_a_rank(status: str) -> None:
    other = [*made.simple("honest", 0.8, 0.5, seed=1), made.appearance("honest", "ridge", {"lpips": 0.4})]
    mine = made.simple("mine", 0.8, 0.01, seed=2)
    if status != "absent":
        mine.append(
            made.record(
                "mine",
                "attack",
                attack="ridge",
                measures="appearance",
                status=status,
                reason="no memory",
            )
        )
    rows = build(mine + other)
    assert [row.defense for row in rows] == ["honest", "mine"]
    row = rows[1]
    assert (rows[0].rank, row.rank, row.front) == (1, None, False)
    assert row.completeness == "incomplete, 2 of 3" == row.unranked
    assert row.score.value is None and row.privacies["appearance"].estimate.value is None
    assert (
        row.privacies["appearance"].bound == pytest.approx(0.99)
        and "at most 0.99" in row.privacies["appearance"].estimate.reason
    )
    assert [cell.state for cell in row.gaps] == ["missing" if status == "absent" else status]


def test_a_measure_on_which_the_attack_is_broken_undefended_is_left_out_for_all_alike() -> None:
    part = made.appearance("a", "unet", {"lpips": 0.3, "ssim": None}, reason=BROKEN)
    (row,) = build([made.utility("a", "one", 0.8), part])
    assert row.complete and row.privacies["appearance"].measure == "lpips"
    metrics, reason = {"lpips": 0.3, "ssim": None}, "no value for attack"
    (row,) = build([made.utility("a", "one", 0.8), made.appearance("a", "unet", metrics, reason=reason)])
    assert row.completeness == "incomplete, 1 of 2"
    assert row.gaps[0].state == "unmeasured" and reason in row.gaps[0].reason


def test_an_attack_that_is_broken_on_all_measures_counts_for_no_row() -> None:
    """It says nothing of any defense, so it leaves none incomplete; where it is the only one, nothing is known."""
    broken = made.appearance("a", "unet", {"lpips": None}, reason=BROKEN)
    (row,) = build([made.utility("a", "one", 0.8), made.appearance("a", "ridge", {"lpips": 0.3}), broken])
    assert row.complete and row.privacies["appearance"].estimate.value == pytest.approx(0.7)
    assert [(gap.attack, gap.state) for gap in row.gaps] == [("unet", "broken")]
    (row,) = build([made.utility("a", "one", 0.8), broken])
    assert row.complete and row.rank is None and "no appearance attack that works" in row.unranked


def test_controls_have_no_rank_and_do_not_take_one() -> None:
    rows = build(
        made.simple("no_defense", 1.0, 1.0, control=True)
        + made.simple("blackout", 0.0, 0.0, control=True)
        + made.simple("cheat", 1.0, 0.0, control=True)
        + made.simple("real", 0.5, 0.5)
        + [made.record("broken", "utility", recognizer="dlib_resnet", status="failed", reason="raised")]
    )
    assert [(row.defense, row.rank) for row in rows] == [
        ("real", 1), ("cheat", None), ("no_defense", None), ("blackout", None), ("broken", None)
    ]  # fmt: skip
    assert rows[0].front and not any(row.front for row in rows[1:])


def test_a_row_without_draws_cannot_be_outranked_and_so_gets_no_rank() -> None:
    rows = by_label(
        build(
            [
                *made.simple("measured", 0.5, 0.5),
                made.utility("bare", "dlib_resnet", 0.4),
                made.appearance("bare", "unet", {"lpips": 0.9}),
            ]
        )
    )
    assert rows["measured"].rank == 1
    assert rows["bare"].rank is None and "draws" in rows["bare"].unranked
    assert rows["bare"].score.value == pytest.approx(2 * 0.4 * 0.1 / 0.5)


# Flags, training ---------------------------------------------------------------------------------------------------


def test_flags_are_gathered_with_the_cells_that_raised_them() -> None:
    flagged = made.appearance("a", "unet", {"lpips": 0.5}, flags=("attack_not_converged", "attack_below_blind"))
    (row,) = build([flagged])
    assert row.flags == (("attack_below_blind", ("unet",)), ("attack_not_converged", ("unet",)))


@pytest.mark.parametrize(("steps", "early"), [(148, True), (225, False), (300, False)])
def test_an_attack_that_sets_a_privacy_and_stopped_too_soon_is_flagged(steps: int, early: bool) -> None:
    log = {"steps": steps, "validation": ((0, 0.2), (steps, 0.1))}
    more: dict[str, Any] = {"attack_config": {"steps": 300}, "log": log}
    (row,) = build([made.appearance("a", "unet", {"lpips": 0.5}, **more)])
    raised = (("attack_stopped_early", (f"unet at {steps} of 300",)),) if early else ()
    assert row.flags == raised
    (row,) = build([
        made.appearance("a", "unet", {"lpips": 0.5}, **more), made.appearance("a", "ridge", {"lpips": 0.6})
    ])  # fmt: skip
    assert row.flags == ()  # another attack sets it


@pytest.mark.parametrize(
    "reported",
    [{"steps": 10**9}, {"validation": ((0, 0.1),)}, {"steps": 9, "validation": ((0, 0.1), (10**9, 0.1))},
     {"steps": 9, "validation": ((0, -0.1), (9, 0.1))}, {"steps": 9, "validation": ((0, 0.0), (9, 0.0))}],
)  # fmt: skip
def test_training_that_cannot_be_draws_no_curve(reported: dict[str, Any]) -> None:
    (row,) = build([made.appearance("a", "mine", {"lpips": 0.5}, attack_config={"steps": 10}, log=reported)])
    (cell,) = row.cells
    assert cell.training is None or cell.training.error == ()


def test_attributes_set_a_privacy_of_their_own() -> None:
    leaked = made.value(0.9)
    leaked = replace(leaked, leakage=leaked.value)
    records = [
        made.appearance("a", "ridge", {"lpips": 0.3}),
        made.record("a", "attack", attack="attributes", measures="attributes", metrics={"skin_tone": leaked}),
        made.utility("a", "one", 0.9),
    ]
    (row,) = build(records)
    assert list(row.privacies) == ["appearance", "identity", "attribute"]
    assert row.privacies["appearance"].set_by == "ridge, lpips"
    assert row.privacies["attribute"].estimate.value == pytest.approx(0.1)
    assert row.privacies["attribute"].set_by == "attributes, skin_tone"
    assert row.score.value == pytest.approx(2 * 0.9 * 0.7 / 1.6), "the score goes by images"


def test_an_attack_may_set_a_privacy_that_no_track_names() -> None:
    leaked = made.value(0.7)
    leaked = replace(leaked, leakage=leaked.value)
    records = [
        *made.simple("a", 0.5, 0.5),
        made.record("a", "attack", attack="places", measures="whereabouts", metrics={"country": leaked}).model_copy(
            update={"sets": "whereabouts"}
        ),
    ]
    board = Board("quick", tuple(records), made.plan_of(records))
    (section,) = board.sections
    (row,) = section.rows
    assert list(row.privacies) == ["appearance", "identity", "whereabouts"] and row.complete
    assert row.privacies["whereabouts"].estimate.value == pytest.approx(0.3)
    assert [column.title for column in section.columns][-1] == "Whereabouts privacy"
    assert [attack.label for attack in section.attacks] == ["unet", "places"]


# What papers say ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leaked", "refuted"), [(0.3, True), (0.99, False)])
def test_a_row_whose_privacy_a_published_attack_takes_holds_no_rank_until_one_here_does(
    leaked: float, refuted: bool
) -> None:
    """FaceLinkGen verifies 99.2% of pairs of PartialFace: it leaves 0.02 of identity privacy."""
    records = [
        *made.simple("partialface", 0.5, 0.5),
        made.identity("partialface", "linkage", "dlib_resnet", leaked, draws=made.around(leaked, 0.005)),
        *made.simple("pixelate", 0.6, 0.5),
        made.identity("pixelate", "linkage", "dlib_resnet", 0.3, draws=made.around(0.3, 0.01)),
    ]
    rows = by_label(build(records))
    assert (rows["partialface"].rank is None) == refuted and rows["pixelate"].rank == 1
    assert ("FaceLinkGen" in rows["partialface"].refuted) == refuted
    assert rows["partialface"].refuted in ("", rows["partialface"].unranked)
    assert rows["partialface"].complete and not rows["pixelate"].refuted
