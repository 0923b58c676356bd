"""A submission is published as a claim: shown, without a rank, and without a bearing on any other row."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import made_records as made
import pytest
from rich.console import Console

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import pages, table, terminal
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.suites import load_suite

ROOT = Path(__file__).parents[2]
CLAIMED = "local_contrast"  # It would be the best or the second of the board.
ROW = f"synthetic/{CLAIMED}"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return made.quick()[0]


def claim_of(records: list[Record], **changes: object) -> Claim:
    keys = tuple(sorted(record.key for record in records if record.defense.label == CLAIMED))
    return Claim.model_validate({"defense": CLAIMED, "source_sha256": "a" * 64, "keys": keys} | changes)


def rows_of(records: list[Record], claims: dict[str, Claim]) -> dict[str, Row]:
    return {row.defense: row for row in table.build(records, made.plan_of(records), claims)}


def test_a_claim_has_numbers_and_no_rank(records: list[Record]) -> None:
    free, rows = rows_of(records, {}), rows_of(records, {ROW: claim_of(records)})
    assert free[CLAIMED].rank is not None and free[CLAIMED].claim == ""
    row = rows[CLAIMED]
    assert (row.rank, row.front, row.claim) == (None, False, "claimed")
    assert row.unranked.startswith("claimed by the authors") and row.score.value is not None
    assert sum(one.rank is not None for one in rows.values()) == sum(one.rank is not None for one in free.values()) - 1


@pytest.mark.parametrize(("state", "claim"), [("claimed", "claimed"), ("refuted", "refuted"), ("confirmed", "")])
def test_what_came_of_measuring_it_again_decides(records: list[Record], state: str, claim: str) -> None:
    row = rows_of(records, {ROW: claim_of(records, state=state)})[CLAIMED]
    assert row.claim == claim and (row.rank is None) == bool(claim)


def test_a_claim_holds_for_its_own_records_alone(records: list[Record]) -> None:
    """Those that take their place, of a later version, are the maintainers' own."""
    other = claim_of(records, keys=("b" * 64,))
    assert rows_of(records, {ROW: other})[CLAIMED].rank is not None
    one_left = claim_of(records, keys=(*claim_of(records).keys[:1], "b" * 64))
    assert rows_of(records, {ROW: one_left})[CLAIMED].rank is None


def test_a_claim_changes_no_other_row(records: list[Record]) -> None:
    """Its floor and its ceiling would be those of all, if they were the best."""
    changed = []
    for record in records:
        if record.defense.label == CLAIMED and record.sets:
            metrics = {
                name: replace(one, floor=replace(one.floor, value=0.12)) if name == "lpips" and one.floor else one
                for name, one in record.metrics.items()
            }
            record = record.model_copy(update={"metrics": metrics})
        changed.append(record)
    without = rows_of([record for record in records if record.defense.label != CLAIMED], {})
    beside = rows_of(changed, {ROW: claim_of(records)})
    assert {name: row for name, row in beside.items() if name != CLAIMED} == without
    unmarked = rows_of(changed, {})
    assert unmarked["pixelate"] != without["pixelate"]  # Without the mark it would have changed them.


def test_pages_and_terminal_say_so(records: list[Record], tmp_path: Path) -> None:
    made.write(tmp_path / "results", records)
    store = ResultStore(tmp_path / "results")
    store.write_claims("quick", {ROW: claim_of(records)})
    pages.publish(store, "quick", tmp_path / "pages")
    folder = tmp_path / "pages" / "quick"
    page = (folder / "leaderboard.html").read_text()
    lines = [part for part in page.split("<tr") if f'href="defenses/{CLAIMED}.html"' in part and 'class="rank"' in part]
    assert len(lines) == 2, "the short table and the full one"
    for line in lines:
        assert "claimed by the authors</span>" in line and "data-sort" not in line[: line.index("</td>")]
    assert page.count("claimed by the authors</span>") == 2
    assert "claimed by the authors" in (folder / "leaderboard.md").read_text()
    assert "No rank: claimed by the authors" in (folder / f"defenses/{CLAIMED}.html").read_text()
    assert "claimed by the authors" in (folder / "leaderboard.csv").read_text()
    assert " Claimed by their authors: 1." in (tmp_path / "pages/index.html").read_text()
    console = Console(file=io.StringIO(), width=300)
    terminal.print_table(
        Board("quick", tuple(records), made.plan_of(records), None, store.claims("quick")).rows, console
    )
    assert "claimed by the authors" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_claim_of_no_row_changes_no_page(records: list[Record]) -> None:
    plan, others = made.plan_of(records), {"synthetic/nobody": claim_of(records)}
    for name in ("html", "markdown", "csv"):
        publisher = registry.load("publisher", name)()
        before, after = (publisher.publish(Board("quick", tuple(records), plan, None, one)) for one in ({}, others))
        assert before and before == after


def test_claims_are_kept_and_joined(records: list[Record], tmp_path: Path) -> None:
    store, claim = ResultStore(tmp_path), claim_of(records)
    assert store.claims("quick") == {}
    store.write_claims("quick", {ROW: claim})
    assert store.claims("quick") == {ROW: claim}
    more = claim.model_copy(update={"keys": ("c" * 64,)})
    store.write_claims("quick", {ROW: more, "lfw/other": claim})
    assert set(store.claims("quick")[ROW].keys) == {*claim.keys, "c" * 64} and len(store.claims("quick")) == 2
    confirmed = claim.model_copy(update={"state": "confirmed"})
    store.write_claims("quick", {ROW: confirmed})
    assert store.claims("quick")[ROW].state == "confirmed"
    store.write_claims("quick", {ROW: claim})  # The same records again: what came of them stays.
    assert store.claims("quick")[ROW].state == "confirmed"
    store.write_claims("quick", {ROW: claim.model_copy(update={"source_sha256": "b" * 64})})
    assert store.claims("quick")[ROW].state == "claimed"
    (tmp_path / "quick" / "claims.json").write_text('{"claims": {"a": {"defense": 1}}}')
    with pytest.raises(UserError, match=r"claims\.json holds no claims: claims\.a"):
        store.claims("quick")


@pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="no checkout: no records")
def test_no_row_of_the_boards_has_come_in_beside_accept() -> None:
    """A defense that no suite lists was submitted: its row is, or was, a claim."""
    store = ResultStore(ROOT / "results")
    for suite in store.suites():
        listed = {entry.name for entry in load_suite(suite).defense}
        plan, claims = store.plan(suite), store.claims(suite)
        assert plan is not None
        rows = {
            f"{dataset}/{label}"
            for dataset, found in plan.tables.items()
            for label, one in found.defenses.items() if one.component.name not in listed
        }  # fmt: skip
        assert rows <= claims.keys(), f"take the archive of {sorted(rows - claims.keys())} by ppfr-bench accept"
