"""The leaderboard as a pure function of records: hand-computed rows and ranks, same bytes twice, inert hostile text."""

from __future__ import annotations

from typing import Any

import made_records as made
import numpy as np
import pytest

from ppfr_bench.leaderboard import table
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.metrics.leakage import BROKEN

HOSTILE = '"><script>alert(1)</script>| `rm -rf` [x](javascript:alert(1)) \x1b[31m\u202e\n=cmd()'


def by_label(rows: list[Row]) -> dict[str, Row]:
    return {row.defense: row for row in rows}


# Rows --------------------------------------------------------------------------------------------------------------


def test_retention_is_the_mean_over_unseen_recognizers() -> None:
    records = [
        made.utility("a", "one", 0.9, replicates=[0.8, 1.0]),
        made.utility("a", "two", 0.5, replicates=[0.4, 0.8]),
        made.utility("a", "three", 0.1, replicates=[0.0, 0.0], surrogate=True),
        made.appearance("a", "unet", {"lpips": 0.5}, replicates={"lpips": [0.5, 0.5]}),
    ]
    (row,) = table.build(records)
    assert row.retention.value == pytest.approx(0.7)
    # Replicate by replicate: (0.8 + 0.4) / 2 = 0.6 and 0.9; its percentiles lie between them.
    assert row.retention.interval == pytest.approx((0.6 + 0.025 * 0.3, 0.9 - 0.025 * 0.3))
    assert row.score.value == pytest.approx(2 * 0.7 * 0.5 / 1.2)
    assert row.replicates == pytest.approx((2 * 0.6 * 0.5 / 1.1, 2 * 0.9 * 0.5 / 1.4))


def test_retention_falls_back_to_the_surrogate_only_where_no_recognizer_is_unseen() -> None:
    only = made.utility("a", "three", 0.6, surrogate=True)
    (row,) = table.build([only])
    assert row.retention.value == pytest.approx(0.6) and "surrogate" in row.retention.reason
    failed = made.record("a", "utility", recognizer="one", status="skipped", reason="npm is missing")
    (row,) = table.build([only, failed])
    assert row.retention.value is None and "unseen" in row.retention.reason


def test_retention_above_one_or_below_zero_is_clipped_in_the_score_only() -> None:
    for kept, score in ((1.2, 2 * 1.0 * 0.5 / 1.5), (-0.1, 0.0)):
        (row,) = table.build(
            [
                made.utility("a", "one", kept, replicates=[kept, kept]),
                made.appearance("a", "unet", {"lpips": 0.5}, replicates={"lpips": [0.5, 0.5]}),
            ]
        )
        assert row.retention.value == pytest.approx(kept)
        assert row.score.value == pytest.approx(score)
        assert row.replicates == pytest.approx((score, score))


def test_privacy_is_set_by_the_worst_attack_and_measure_and_its_interval_by_the_worst_of_each_replicate() -> None:
    records = [
        made.appearance(
            "a", "ridge", {"lpips": 0.3, "ssim": 0.6}, replicates={"lpips": [0.9, 0.2], "ssim": [0.5, 0.7]}
        ),
        made.appearance("a", "unet", {"lpips": 0.5, "ssim": 0.1}, replicates={"lpips": [0.4, 0.6], "ssim": [0.1, 0.1]}),
        made.identity("a", "linkage", "one", 0.2),
        made.identity("a", "linkage", "two", 0.8),
        made.identity("a", "linkage_unet", "one", 0.4),
    ]
    (row,) = table.build(records)
    assert (row.appearance.attack, row.appearance.measure) == ("ridge", "ssim")
    assert row.appearance.figure.value == pytest.approx(0.4)
    # Worst of each replicate: 0.9 (ridge, lpips) and 0.7 (ridge, ssim). The interval reaches up to the value.
    assert row.appearance.figure.interval == pytest.approx((0.1 + 0.025 * 0.2, 0.4))
    assert row.identity.set_by == "linkage, rank_1, two"
    assert row.identity.figure.value == pytest.approx(0.2)
    assert row.identity.figure.interval is None


def test_unlinkability_and_controls_are_shown_and_set_no_privacy() -> None:
    linked = {"d_sys": made.value(0.8, direction="lower_is_better")}
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
        (row,) = table.build(records)
        assert row.measured == row.expected == 5
        assert row.identity.figure.value == pytest.approx(0.8)
        assert row.appearance.figure.value == pytest.approx(0.7)
        shown = next(cell for cell in row.cells if cell.attack == "unlinkability").worst
        assert shown.value == measured["d_sys"].value


@pytest.mark.parametrize(
    ("strong", "spread", "behind"),
    [(0.3, 0.01, True), (0.49, 0.001, False), (0.3, 0.5, False), (0.6, 0.01, False)],
    ids=["well below", "within the margin", "within chance", "above"],
)
def test_an_attack_behind_what_it_builds_on_is_undertrained(strong: float, spread: float, behind: bool) -> None:
    def records(**more: Any) -> list[Any]:
        weak = made.appearance("a", "ridge", {"lpips": 0.5}, replicates={"lpips": made.around(0.5, spread, seed=1)})
        drawn = {"lpips": made.around(strong, spread, seed=2)}
        found = made.appearance("a", "unet", {"lpips": strong}, replicates=drawn, **more)
        return [weak, found]

    weak, found = records()
    (row,) = table.build([weak, found.model_copy(update={"builds_on": ("ridge",)})])
    assert (row.flags == (("attack_undertrained", ("unet below ridge on lpips",)),)) is behind
    (row,) = table.build([weak, found])
    assert row.flags == (), "nothing is known of how they compare"


def test_more_releases_must_not_leak_less() -> None:
    def averaged(releases: int, leakage: float) -> Any:
        return made.appearance(
            "a", f"averaging_{releases}", {"ssim": leakage}, replicates={"ssim": made.around(leakage, 0.01, releases)},
            attack_name="averaging", attack_config={"releases": releases},
        )  # fmt: skip

    (row,) = table.build([averaged(4, 0.6), averaged(16, 0.4)])
    assert row.flags == (("attack_undertrained", ("averaging_16 below averaging_4 on ssim",)),)
    (row,) = table.build([averaged(4, 0.4), averaged(16, 0.6)])
    assert row.flags == ()


@pytest.mark.parametrize(("shots", "behind"), [(4, True), (16, False)])
def test_fewer_releases_may_leak_less(shots: int, behind: bool) -> None:
    """What trains against the live defense is held to those that had no more releases than it."""
    weak = made.appearance(
        "a", "averaging", {"ssim": 0.6}, replicates={"ssim": made.around(0.6, 0.01)}, log={"shots": shots}
    )
    strong = made.appearance(
        "a", "adversarial", {"ssim": 0.4}, replicates={"ssim": made.around(0.4, 0.01)}, log={"shots": 4}
    )
    (row,) = table.build([weak, strong.model_copy(update={"builds_on": ("averaging",)})])
    assert bool(row.flags) is behind


def test_looking_is_not_a_reconstruction() -> None:
    records = [
        made.appearance("a", "visual", {"lpips": 0.9, "ssim": 0.9}),
        made.appearance("a", "unet", {"lpips": 0.4}),
    ]
    (row,) = table.build(records)
    assert row.appearance.attack == "visual"
    assert row.reconstruction is not None and row.reconstruction.attack == "unet"
    assert row.reconstruction.lpips.figure.value == pytest.approx(0.6 - 0.4 * 0.5)
    assert (row.reconstruction.lpips.blind, row.reconstruction.lpips.ceiling) == (0.6, 0.1)
    assert row.reconstruction.ssim.figure.value is None and row.reconstruction.ssim.figure.reason


# Ranks -------------------------------------------------------------------------------------------------------------


def test_rank_counts_only_significantly_higher_scores_and_ties_share_one() -> None:
    rows = by_label(
        table.build(
            made.simple("best", 0.9, 0.1, seed=1)
            + made.simple("close_a", 0.70, 0.40, spread=0.03, seed=2)
            + made.simple("close_b", 0.69, 0.40, spread=0.03, seed=3)
            + made.simple("last", 0.2, 0.9, seed=4)
        )
    )
    assert {label: row.rank for label, row in rows.items()} == {"best": 1, "close_a": 2, "close_b": 2, "last": 4}
    assert rows["best"].rank_interval == (1, 1)
    assert rows["close_a"].rank_interval == (2, 3) == rows["close_b"].rank_interval
    assert rows["last"].rank_interval == (4, 4)
    assert [label for label, row in rows.items() if row.front] == ["best"]


@pytest.mark.parametrize(("higher", "rank"), [(195, 2), (194, 1)])
def test_the_comparison_is_paired_and_needs_97_5_percent_of_the_replicates(higher: int, rank: int) -> None:
    """195 of 200 is 97.5%. The intervals overlap almost wholly: only the pairing tells the two apart."""
    common = np.linspace(0.2, 0.9, 200)
    better = common + np.where(np.arange(200) < higher, 0.001, -0.001)
    records = []
    for label, replicates in (("a", better), ("b", common)):
        records += [
            made.utility(label, "one", float(replicates.mean()), replicates=list(replicates)),
            made.appearance(label, "unet", {"lpips": 0.5}, replicates={"lpips": [0.5] * 200}),
        ]
    rows = by_label(table.build(records))
    assert (rows["a"].rank, rows["b"].rank) == (1, rank)


@pytest.mark.parametrize("status", ["failed", "skipped", "absent"])
def test_an_attack_without_a_number_never_improves_a_rank(status: str) -> None:
    other = [*made.simple("honest", 0.8, 0.5, seed=1), made.appearance("honest", "ridge", {"lpips": 0.4})]
    mine = made.simple("mine", 0.8, 0.01, seed=2)
    if status != "absent":
        mine.append(
            made.record("mine", "attack", attack="ridge", measures="appearance", status=status, reason="no memory")
        )
    rows = table.build(mine + other)
    assert [row.defense for row in rows] == ["honest", "mine"]
    row = rows[1]
    assert (rows[0].rank, row.rank, row.front) == (1, None, False)
    assert row.completeness == "incomplete, 2 of 3" == row.unranked
    assert row.score.value is None and row.appearance.figure.value is None
    assert row.appearance.bound == pytest.approx(0.99) and "at most 0.99" in row.appearance.figure.reason
    assert [cell.state for cell in row.gaps] == ["missing" if status == "absent" else status]


def test_a_measure_on_which_the_attack_is_broken_undefended_is_left_out_for_all_alike() -> None:
    part = made.appearance("a", "unet", {"lpips": 0.3, "ssim": None}, reason=BROKEN)
    (row,) = table.build([made.utility("a", "one", 0.8), part])
    assert row.complete and row.appearance.measure == "lpips"
    for metrics, reason in (({"lpips": None}, BROKEN), ({"lpips": 0.3, "ssim": None}, "no value for attack")):
        (row,) = table.build([made.utility("a", "one", 0.8), made.appearance("a", "unet", metrics, reason=reason)])
        assert row.completeness == "incomplete, 1 of 2"
        assert row.gaps[0].state == "unmeasured" and reason in row.gaps[0].reason


def test_controls_have_no_rank_and_do_not_take_one() -> None:
    rows = table.build(
        made.simple("identity", 1.0, 1.0, control=True)
        + made.simple("blackout", 0.0, 0.0, control=True)
        + made.simple("cheat", 1.0, 0.0, control=True)
        + made.simple("real", 0.5, 0.5)
        + [made.record("broken", "utility", recognizer="dlib_resnet", status="failed", reason="raised")]
    )
    assert [(row.defense, row.rank) for row in rows] == [
        ("real", 1), ("cheat", None), ("identity", None), ("blackout", None), ("broken", None)
    ]  # fmt: skip
    assert rows[0].front and not any(row.front for row in rows[1:])


def test_a_row_without_replicates_cannot_be_outranked_and_so_gets_no_rank() -> None:
    rows = by_label(
        table.build(
            [
                *made.simple("measured", 0.5, 0.5),
                made.utility("bare", "dlib_resnet", 0.4),
                made.appearance("bare", "unet", {"lpips": 0.9}),
            ]
        )
    )
    assert rows["measured"].rank == 1
    assert rows["bare"].rank is None and "replicates" in rows["bare"].unranked
    assert rows["bare"].score.value == pytest.approx(2 * 0.4 * 0.1 / 0.5)


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"revision": "another"}, {"attack_config": {"steps": 1}}],
    ids=["seed", "revision", "settings"],
)
def test_records_measured_otherwise_do_not_compare(change: dict[str, Any]) -> None:
    odd = made.appearance("c", "unet", {"lpips": 0.0}, replicates={"lpips": made.around(0.0, 0)}, **change)
    kept = made.utility("c", "dlib_resnet", 0.9, replicates=made.around(0.9, 0.01))
    rows = by_label(table.build(made.simple("a", 0.5, 0.5) + made.simple("b", 0.4, 0.5) + [kept, odd]))
    assert rows["c"].rank is None and rows["c"].gaps[0].state == "incomparable"
    assert {rows["a"].rank, rows["b"].rank} == {1, 2}


def test_another_version_of_a_metric_and_a_second_record_of_a_cell_do_not_compare() -> None:
    base = made.simple("a", 0.5, 0.5) + made.simple("b", 0.4, 0.5)
    newer = made.simple("c", 0.9, 0.1)
    metrics = newer[1].metrics | {"leakage_lpips": made.value(0.1, made.around(0.1, 0.01), version=2)}
    rows = by_label(table.build([*base, newer[0], newer[1].model_copy(update={"metrics": metrics})]))
    assert rows["c"].rank is None and "versions" in rows["c"].gaps[0].reason
    twice = base[1].model_copy(update={"key": "f" * 64})
    rows = by_label(table.build([*base, twice]))
    assert rows["a"].rank is None and "2 records of one cell" in rows["a"].gaps[0].reason


def test_tables_are_kept_apart_and_the_order_of_records_is_nothing() -> None:
    records = made.simple("a", 0.5, 0.5) + made.simple("b", 0.6, 0.5)
    records += made.simple("a", 0.1, 0.5, dataset="lfw", real_people=True)
    records += made.simple("c", 0.9, 0.5, card={"track": "cloak", "title": "C"})
    rows = table.build(records)
    assert [(row.dataset, row.track, row.defense, row.rank) for row in rows] == [
        ("lfw", "recognition", "a", 1), ("synthetic", "cloak", "c", 1),
        ("synthetic", "recognition", "b", 1), ("synthetic", "recognition", "a", 2),
    ]  # fmt: skip
    assert table.build(records[::-1]) == rows


def test_flags_are_gathered_with_the_cells_that_raised_them() -> None:
    flagged = made.appearance("a", "unet", {"lpips": 0.5}, flags=("attack_not_converged", "attack_below_blind"))
    (row,) = table.build([flagged])
    assert row.flags == (("attack_below_blind", ("unet",)), ("attack_not_converged", ("unet",)))


@pytest.mark.parametrize(("steps", "early"), [(148, True), (225, False), (300, False)])
def test_an_attack_that_sets_a_privacy_and_stopped_too_soon_is_flagged(steps: int, early: bool) -> None:
    log = {"steps": steps, "validation": [[0, 0.2], [steps, 0.1]]}
    more: dict[str, Any] = {"attack_config": {"steps": 300}, "log": log}
    (row,) = table.build([made.appearance("a", "unet", {"lpips": 0.5}, **more)])
    raised = (("attack_stopped_early", (f"unet at {steps} of 300",)),) if early else ()
    assert row.flags == raised
    (row,) = table.build([
        made.appearance("a", "unet", {"lpips": 0.5}, **more), made.appearance("a", "ridge", {"lpips": 0.6})
    ])  # fmt: skip
    assert row.flags == ()  # another attack sets it


@pytest.mark.parametrize(
    "log",
    [{"steps": 10**9}, {"steps": "many"}, {"steps": 9, "validation": "none"}, {"steps": 9, "validation": [[0, "x"]]},
     {"steps": 9, "validation": [[0, float("nan")]]}, {"steps": 9, "validation": [[10**400, 0.1]]},
     {"steps": 9, "validation": [[0, 0.0], [9, 0.0]]}],
)  # fmt: skip
def test_a_log_of_another_form_draws_no_curve(log: dict[str, Any]) -> None:
    (row,) = table.build([made.appearance("a", "mine", {"lpips": 0.5}, attack_config={"steps": 10}, log=log)])
    (cell,) = row.cells
    assert cell.training is None or cell.training.error == ()


def test_attributes_set_appearance_privacy_where_they_leak_most() -> None:
    leaked = {"leakage_skin_tone": made.value(0.9, direction="lower_is_better")}
    records = [
        made.appearance("a", "ridge", {"lpips": 0.3}),
        made.record("a", "attack", attack="attributes", measures="attributes", metrics=leaked),
        made.utility("a", "one", 0.9),
    ]
    (row,) = table.build(records)
    assert row.appearance.figure.value == pytest.approx(0.1)
    assert row.appearance.set_by == "attributes, skin_tone"
