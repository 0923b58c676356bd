"""The leaderboard as a pure function of records: hand-computed rows and ranks, same bytes twice, inert hostile text."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ppfr_bench.api import Guarantee
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import pages, table, terminal, text
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.samples import SampleGrid
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.results import Record, ResultStore


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("made_records", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = _load(Path(__file__).parents[1] / "browser" / "made_records.py")
HOSTILE = '"><script>alert(1)</script>| `rm -rf` [x](javascript:alert(1)) \x1b[31m\u202e\n=cmd()'


def simple(defense: str, kept: float, leaked: float, spread: float = 0.01, seed: int = 0, **more: Any) -> list[Record]:
    """A defense with one unseen recognizer and one attack, its replicates around the given numbers."""
    replicates = {"lpips": made.around(leaked, spread, seed + 100)}
    return [
        made.utility(defense, "dlib_resnet", kept, replicates=made.around(kept, spread, seed), **more),
        made.appearance(defense, "unet", {"lpips": leaked}, replicates=replicates, **more),
    ]


def by_label(rows: list[Row]) -> dict[str, Row]:
    return {row.defense: row for row in rows}


def write(root: Path, records: list[Record], pictures: dict[str, bytes] | None = None) -> Path:
    store = ResultStore(root)
    for record in records:
        store.write(record, (pictures or {}).get(record.key))
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
            simple("best", 0.9, 0.1, seed=1)
            + simple("close_a", 0.70, 0.40, spread=0.03, seed=2)
            + simple("close_b", 0.69, 0.40, spread=0.03, seed=3)
            + simple("last", 0.2, 0.9, seed=4)
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
    other = [*simple("honest", 0.8, 0.5, seed=1), made.appearance("honest", "ridge", {"lpips": 0.4})]
    mine = simple("mine", 0.8, 0.01, seed=2)
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
        simple("identity", 1.0, 1.0, control=True)
        + simple("blackout", 0.0, 0.0, control=True)
        + simple("cheat", 1.0, 0.0, control=True)
        + simple("real", 0.5, 0.5)
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
                *simple("measured", 0.5, 0.5),
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
    rows = by_label(table.build(simple("a", 0.5, 0.5) + simple("b", 0.4, 0.5) + [kept, odd]))
    assert rows["c"].rank is None and rows["c"].gaps[0].state == "incomparable"
    assert {rows["a"].rank, rows["b"].rank} == {1, 2}


def test_another_version_of_a_metric_and_a_second_record_of_a_cell_do_not_compare() -> None:
    base = simple("a", 0.5, 0.5) + simple("b", 0.4, 0.5)
    newer = simple("c", 0.9, 0.1)
    metrics = newer[1].metrics | {"leakage_lpips": made.value(0.1, made.around(0.1, 0.01), version=2)}
    rows = by_label(table.build([*base, newer[0], newer[1].model_copy(update={"metrics": metrics})]))
    assert rows["c"].rank is None and "versions" in rows["c"].gaps[0].reason
    twice = base[1].model_copy(update={"key": "f" * 64})
    rows = by_label(table.build([*base, twice]))
    assert rows["a"].rank is None and "2 records of one cell" in rows["a"].gaps[0].reason


def test_tables_are_kept_apart_and_the_order_of_records_is_nothing() -> None:
    records = simple("a", 0.5, 0.5) + simple("b", 0.6, 0.5)
    records += simple("a", 0.1, 0.5, dataset="lfw", real_people=True)
    records += simple("c", 0.9, 0.5, card={"track": "cloak", "title": "C"})
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


# Pages -------------------------------------------------------------------------------------------------------------

NAMES = {"leaderboard.html", "leaderboard.md", "leaderboard.csv", "pareto.png", "pareto_dark.png", "samples.png"}


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    records, pictures = made.quick()
    one = write(tmp_path / "one", records, pictures)
    two = write(tmp_path / "deeper" / "down" / "two", records[::-1], pictures)
    pages.publish(one, "quick", tmp_path / "out")
    first = content(tmp_path / "out")
    assert set(first) == {f"quick/{name}" for name in NAMES} | {"index.html"}
    pages.publish(two, "quick", tmp_path / "elsewhere" / "out")
    assert content(tmp_path / "elsewhere" / "out") == first
    pages.publish(one, "quick", tmp_path / "out")
    assert content(tmp_path / "out") == first
    for name in ("pareto.png", "pareto_dark.png", "samples.png"):
        with Image.open(io.BytesIO(first[f"quick/{name}"])) as image:
            assert not image.info.keys() & {"Software", "Creation Time", "date"}
            assert min(image.size) > 300


def test_the_page_says_what_the_rows_say(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", records, pictures), "quick", tmp_path / "out")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out/quick/leaderboard.csv").read_text())))
    rows = table.build(records)
    assert [line["defense"] for line in lines] == [row.defense for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line["rank"] == ("" if row.rank is None else str(row.rank))
        assert row.score.value is not None
        assert float(line["score"]) == pytest.approx(row.score.value, abs=1e-5)
        assert line["appearance_privacy_set_by"] == row.appearance.set_by
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    for row in rows:
        assert row.appearance.figure.path in page
    assert "attack_not_converged" in page and "as expected" in page


def test_a_moved_canary_is_said_first(tmp_path: Path) -> None:
    records = [*simple("a", 0.5, 0.5), made.canary("dlib_resnet", 0.90, 0.986, moved=True)]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    assert "canary moved" in page and page.index("canary moved") < page.index("<table")
    assert "canary moved" in (tmp_path / "out/quick/leaderboard.md").read_text()


def failed(defense: str) -> list[Record]:
    return [
        made.record(defense, "utility", recognizer="one", status="failed", reason="RuntimeError: no face found"),
        made.record(defense, "attack", attack="unet", measures="appearance", status="skipped", reason="npm is missing"),
    ]


@pytest.mark.parametrize(
    ("records", "files"),
    [
        (simple("only", 0.5, 0.5), NAMES - {"samples.png"}),
        (failed("a") + failed("b"), NAMES - {"samples.png", "pareto.png", "pareto_dark.png"}),
        ([made.canary("one", 0.98, 0.98)], NAMES - {"samples.png", "pareto.png", "pareto_dark.png"}),
        (
            [
                made.utility("a", "one", None, reason="clear is at chance"),
                made.appearance("a", "unet", {"lpips": None}),
            ],
            NAMES - {"samples.png", "pareto.png", "pareto_dark.png"},
        ),
        (simple("identity", 1.0, 1.0, control=True), NAMES - {"samples.png"}),
    ],
    ids=["one defense", "all failed", "canary alone", "all null", "control alone"],
)
def test_whatever_is_missing_there_is_a_page(records: list[Record], files: set[str], tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "quick").iterdir()} == files
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    for record in records:
        assert record.status == "ok" or record.reason in page
    console = Console(file=io.StringIO(), width=200)
    terminal.print_table(table.build(records), console)
    for what in (*records, *table.build(records)):
        terminal.explain(what, console)
    assert "None" not in console.file.getvalue().replace("None was", "")  # type: ignore[attr-defined]


def test_no_records_at_all(tmp_path: Path) -> None:
    (tmp_path / "r" / "quick").mkdir(parents=True)
    pages.publish(tmp_path / "r", "quick", tmp_path / "out")
    assert "no records of this suite yet" in (tmp_path / "out/quick/leaderboard.html").read_text()
    assert table.build([]) == []
    console = Console(file=io.StringIO())
    terminal.print_table([], console)
    assert "No defense has been measured" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no results at"):
        pages.publish(tmp_path / "r", "smoke", tmp_path / "out")
    with pytest.raises(UserError, match="not the name of a suite"):
        pages.publish(tmp_path / "r", "../r", tmp_path / "out")


def test_a_page_that_has_no_content_any_more_is_removed(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", records, pictures), "quick", tmp_path / "out")
    pages.publish(write(tmp_path / "s", failed("a")), "quick", tmp_path / "out")
    assert not (tmp_path / "out/quick/samples.png").exists() and not (tmp_path / "out/quick/pareto.png").exists()


# Samples -----------------------------------------------------------------------------------------------------------


def board(root: Path, records: list[Record], pictures: dict[str, bytes]) -> Board:
    write(root, records, pictures)
    return Board("quick", tuple(records), root)


def test_no_face_of_a_real_person_is_shown(tmp_path: Path) -> None:
    records, pictures = made.quick()
    real = [record.model_copy(update={"real_people": True}) for record in records]
    assert SampleGrid().publish(board(tmp_path / "a", records, pictures)) is not None
    assert SampleGrid().publish(board(tmp_path / "b", real, pictures)) is None
    one_real = [records[0].model_copy(update={"real_people": True}), *records[1:]]
    assert SampleGrid().publish(board(tmp_path / "c", one_real, pictures)) is None


def test_a_picture_that_is_not_the_recorded_one_is_not_shown(tmp_path: Path) -> None:
    records, pictures = made.quick()
    assert SampleGrid().publish(board(tmp_path / "a", records, pictures)) is not None
    assert SampleGrid().publish(board(tmp_path / "b", records, dict.fromkeys(pictures, b"not a picture"))) is None
    swapped = dict.fromkeys(pictures, made.strip(3, "clear"))
    assert SampleGrid().publish(board(tmp_path / "c", records, swapped)) is None
    outside = made.strip(1, "clear")
    (tmp_path / "secret.jpg").write_bytes(outside)
    named = {"samples": "../../../../../secret.jpg", "samples_sha256": hashlib.sha256(outside).hexdigest()}
    escaping = [record.model_copy(update=named) for record in records]
    write(tmp_path / "r", escaping)
    assert (tmp_path / "r" / escaping[-1].folder / named["samples"]).read_bytes() == outside, "it can be reached"
    assert SampleGrid().publish(board(tmp_path / "r", escaping, {})) is None


# Hostile text ------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Counts of tags, and every attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def hostile(url: str = "javascript:alert(1)") -> list[Record]:
    card = {
        "title": HOSTILE, "family": HOSTILE, "reference": HOSTILE, "licence": "x" * 5000, "track": HOSTILE,
        "code_url": url, "deviations": [HOSTILE],
    }  # fmt: skip
    good = simple("a", 0.5, 0.5, card=card)
    bad = made.record(
        "a", "attack", attack="ridge", measures="appearance", status="failed", reason=HOSTILE * 40, card=card,
        flags=(HOSTILE,),
    )  # fmt: skip
    canary = made.canary("dlib_resnet", 0.9, 0.98).model_copy(
        update={
            "environment": made.ENVIRONMENT.model_copy(update={"processor": HOSTILE}),
            "log": {"expected_accuracy": HOSTILE},
        }
    )
    return [*good, bad, canary]


def test_text_from_records_is_inert_in_html(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile()), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    found = Tags(page)
    assert found.tags.count("script") == 1
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    links = [value for name, value in found.attributes if name == "href"]
    assert links and all(not str(link).startswith(("javascript", "vbscript")) for link in links)
    assert "\x1b" not in page and "\u202e" not in page
    assert "x" * 1000 not in page
    assert not re.search(r"""(?:src|href|srcset)=["'](?:https?:)?//""", page), "nothing is loaded from elsewhere"


def test_only_web_addresses_become_links(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile("https://example.org/a?b=1&c=2")), "quick", tmp_path / "out")
    assert 'href="https://example.org/a?b=1&amp;c=2"' in (tmp_path / "out/quick/leaderboard.html").read_text()
    for url in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil",
        "file:///etc/passwd",
        "https://",
        "http://[",
        3,
        " https://a",
    ):
        assert text.link(url) == ""


def test_text_from_records_is_inert_in_markdown(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", hostile()), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.md").read_text()
    assert "<" not in page and "javascript:" not in page
    assert not re.search(r"(?<!\\)\]\(", page), "no link is made"
    tables = re.findall(r"(?:^\|.*\n?)+", page, flags=re.M)
    assert len(tables) >= 3
    for found in tables:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in found.strip().splitlines()}
        assert len(counts) == 1, "a pipe in a name split a cell"


def test_text_from_records_is_inert_in_a_spreadsheet(tmp_path: Path) -> None:
    for start in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "  =1"):
        assert text.csv_text(start).startswith("'")
    assert text.csv_text("plain") == "plain"
    reason = "=HYPERLINK(1)"
    records = [*simple("a", 0.5, 0.5, card={"track": reason})]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    (line,) = csv.DictReader(io.StringIO((tmp_path / "out/quick/leaderboard.csv").read_text()))
    assert line["track"] == f"'{reason}"


def test_text_from_records_is_inert_on_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None)
    records = hostile()
    for what in (*records, *table.build(records)):
        terminal.explain(what, console)
    terminal.print_table(table.build(records), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[31m" not in shown and "\u202e" not in shown
    assert "[x](javascript" in shown, "brackets are text, not markup"


# In words ----------------------------------------------------------------------------------------------------------


def test_a_row_and_a_record_are_explained_in_words() -> None:
    records, _ = made.quick()
    console = Console(file=io.StringIO(), width=200)
    row = by_label(table.build(records))["stochastic_local"]
    terminal.explain(row, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "Rank 1",
        "set by unet, lpips",
        "floor 0.600",
        "ceiling 0.100",
        "attack_not_converged",
        "9 of 9 cells",
    ):
        assert part in shown
    assert row.appearance.figure.path in shown
    record = next(r for r in records if r.cell == "attack" and r.measures == "identity")
    console = Console(file=io.StringIO(), width=200)
    terminal.explain(record, console)
    assert "floor (without looking) 0.0167, ceiling (no defense) 1.0000" in console.file.getvalue()  # type: ignore[attr-defined]


def test_numbers_are_printed_one_way() -> None:
    assert [text.number(x) for x in (0.934, -0.001, None, 1)] == ["0.93", "0.00", "–", "1.00"]
    assert text.percent(0.9915) == "99.1" or text.percent(0.9915) == "99.2"
    assert text.ranks(2, (1, 3)) == "2 (1 to 3)" and text.ranks(2, (2, 2)) == "2" and text.ranks(None, None) == "–"
    assert [text.duration(s) for s in (0.2, 41, 200, 7500)] == ["under 1 s", "41 s", "3 min 20 s", "2 h 05 min"]
    assert len(text.plain("x" * 5000)) == text.LONGEST


@pytest.mark.parametrize("page", ["README.md", "docs/howto/submit_a_defense.md"])
def test_the_defense_printed_in_the_documentation_keeps_the_contract(page: str, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", (Path(__file__).parents[2] / page).read_text(encoding="utf-8"), re.S)
    assert found is not None
    plugin = tmp_path / "printed.py"
    plugin.write_text(found.group(1), encoding="utf-8")
    command = [sys.executable, "-m", "ppfr_bench.cli", "check", str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "keeps the contract" in done.stdout, done.stdout + done.stderr


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


def test_privacy_against_more_releases_is_never_larger(tmp_path: Path) -> None:
    """The attacker who holds sixteen may use one: what it regains with at most so many."""
    records = [
        made.appearance("a", "unet", {"lpips": 0.5}),
        made.appearance("a", "averaging_4", {"lpips": 0.45}, log={"shots": 4}),
        made.appearance("a", "averaging_16", {"lpips": 0.8}, log={"shots": 16}),
        made.identity("a", "linkage", "one", 0.2),
        made.utility("a", "one", 0.9),
        made.record(
            "a", "attack", attack="nearest", measures="control",
            metrics={"lpips": made.value(0.31), "ssim": made.value(0.42)},
        ),
    ]  # fmt: skip
    found = board(tmp_path, records, {})
    (section,) = found.sections
    assert section.shots == [1, 4, 16] and section.controls == ["nearest"]
    (row,) = section.rows
    assert [figure.value for figure in section.against(row, "appearance")] == pytest.approx([0.5, 0.5, 0.2])
    assert [figure.value for figure in section.against(row, "identity")] == pytest.approx([0.8] * 3)
    pages.publish(tmp_path, "quick", tmp_path / "out")
    for name in ("leaderboard.html", "leaderboard.md"):
        page = (tmp_path / "out/quick" / name).read_text()
        assert "number of releases" in page and "0.310" in page and "0.420" in page


def test_one_release_for_all_needs_no_section(tmp_path: Path) -> None:
    (section,) = board(
        tmp_path, [made.appearance("a", "unet", {"lpips": 0.5}), made.utility("a", "one", 0.9)], {}
    ).sections
    assert section.shots == [] and section.controls == []


def test_a_guarantee_is_shown_wherever_the_row_is(tmp_path: Path) -> None:
    claimed = Guarantee(epsilon=1.5, per="pixels", pixels=16)
    records = [record.model_copy(update={"guarantee": claimed}) for record in simple("dp_pix", 0.5, 0.5)]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.csv"):
        assert "epsilon 1.5 per 16 pixels" in (tmp_path / "out/quick" / name).read_text()
