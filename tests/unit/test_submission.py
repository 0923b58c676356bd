"""A submission: packed only if it is whole and clean, taken only if there is nothing else in it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import submission
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where
from ppfr_bench.runner.plan import Plan
from ppfr_bench.runner.request import Asked, Request, narrow_plan, resolve

NAME = "block_permutation"


@pytest.fixture(scope="module")
def request_() -> Request:
    return resolve("smoke", Asked(defenses=(NAME,)))


@pytest.fixture(scope="module")
def plan(request_: Request) -> Plan:
    return request_.plan


def recorded(plan: Plan, root: Path, **changes: Any) -> ResultStore:
    """A good record for each cell of the plan; the last with changes."""
    store = ResultStore(root)
    cells = [cell for cell in plan.cells if cell.defense.name == NAME]
    for cell in cells:
        record = Record.model_validate(
            made.record(NAME, cell.kind, metrics={"rank_1": made.value(0.5, metric="rank_1")}, attack="unet").model_dump()
            | {
                "key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "defense": cell.defense,
                "dataset_revision": plan.setting.dataset_revision, "attack": cell.attack,
                "recognizer": cell.recognizer,
            }
            | (changes if cell is cells[-1] else {})
        )  # fmt: skip
        store.write(record)
    store.write_plan(plan.published())
    store.compact(plan.suite)
    return store


def packed(plan: Plan, tmp_path: Path) -> dict[str, bytes]:
    """The files of a good archive."""
    submission.pack(NAME, plan, recorded(plan, tmp_path / "good"), tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_what_is_packed_is_taken_and_the_same_twice(plan: Plan, tmp_path: Path) -> None:
    store = recorded(plan, tmp_path / "results")
    count = submission.pack(NAME, plan, store, tmp_path / "one.zip")
    submission.pack(NAME, plan, store, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert count == len([cell for cell in plan.cells if cell.defense.name == NAME])
    found = submission.take(tmp_path / "one.zip", tmp_path / "there")
    assert found.name == NAME and len(found.records) == count
    there = ResultStore(tmp_path / "there" / "results")
    assert list(there.records()) == list(store.records())
    published = there.plan("smoke")
    assert published is not None and {cell.key for cell in published.tables["synthetic"].cells} == {
        record.key for record in found.records
    }
    submission.take(tmp_path / "one.zip", tmp_path / "there")  # Again: nothing is different.
    (tmp_path / "there/defenses" / f"{NAME}.py").write_text("other")
    with pytest.raises(UserError, match="holds something else"):
        submission.take(tmp_path / "one.zip", tmp_path / "there")


def test_records_that_were_set_aside_are_packed_too(plan: Plan, tmp_path: Path) -> None:
    store = recorded(plan, tmp_path / "results")
    submission.pack(NAME, plan, store, tmp_path / "one.zip")
    store.set_aside("smoke", [record.key for record in store.records()][:2], "superseded")
    submission.pack(NAME, plan, ResultStore(tmp_path / "results"), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize("what", ["attack", "revision", "record"])
def test_a_row_that_would_not_compare_with_the_board_is_refused(what: str, plan: Plan, tmp_path: Path) -> None:
    """Another version of an attack, other data, or another record of the same key."""
    submission.pack(NAME, plan, recorded(plan, tmp_path / "results"), tmp_path / "one.zip")
    board = ResultStore(tmp_path / "there" / "results")
    published = plan.published()
    table = published.tables["synthetic"]
    if what == "attack":
        unet = table.attacks["unet"]
        newer = unet.model_copy(update={"component": unet.component.model_copy(update={"version": 99})})
        table = table.model_copy(update={"attacks": table.attacks | {"unet": newer}})
    elif what == "revision":
        table = table.model_copy(update={"revision": "other"})
    else:
        (first, *_) = ResultStore(tmp_path / "results").records()
        board.write(first.model_copy(update={"metrics": {"rank_1": made.value(0.1, metric="rank_1")}}))
    board.write_plan(published.model_copy(update={"tables": {"synthetic": table}}))
    says = {"attack": "unet was run with other settings", "revision": "the board has other", "record": "another record"}
    with pytest.raises(UserError, match=says[what]):
        submission.take(tmp_path / "one.zip", tmp_path / "there")
    assert not (tmp_path / "there" / "defenses").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "failed", "reason": "RuntimeError: no face", "metrics": {}}, "no face"),
        ({"status": "skipped", "reason": "npm is missing", "metrics": {}}, "npm is missing"),
        ({"environment": replace(made.ENVIRONMENT, dirty=True)}, "changes that no commit has"),
        ({"environment": replace(made.ENVIRONMENT, commit=None)}, "changes that no commit has"),
        ({"key": "0" * 64}, "not recorded under the settings and seed"),
    ],
    ids=["failed", "skipped", "dirty", "no commit", "other seed or settings"],
)
def test_what_is_not_whole_and_clean_is_not_packed(
    changes: dict[str, Any], says: str, plan: Plan, tmp_path: Path
) -> None:
    store = recorded(plan, tmp_path / "results", **changes)
    with pytest.raises(UserError, match=says):
        submission.pack(NAME, plan, store, tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def test_a_card_that_nobody_filled_in_is_not_packed(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.load("defense", NAME).card.model_copy(update={"reference": submission.UNFILLED[1]})
    monkeypatch.setattr(registry.load("defense", NAME), "card", card)
    with pytest.raises(UserError, match="leaves its reference open"):
        submission.pack(NAME, plan, recorded(plan, tmp_path / "results"), tmp_path / "out.zip")


def lines_of(files: dict[str, bytes]) -> tuple[str, list[Any]]:
    """The rows of an archive, line by line."""
    (place,) = [name for name in files if name.endswith(".jsonl")]
    return place, [json.loads(line) for line in files[place].decode().splitlines()]


def edited(at: int = 1, **changes: Any) -> Any:
    """A change of a line of the rows of an archive: of what all share, or of a record."""

    def edit(files: dict[str, bytes]) -> dict[str, bytes]:
        place, lines = lines_of(files)
        lines[at] = lines[at] | changes
        return files | {place: "".join(json.dumps(line) + "\n" for line in lines).encode()}

    return edit


def without_its_first_record(files: dict[str, bytes]) -> dict[str, bytes]:
    place, lines = lines_of(files)
    return files | {place: "".join(json.dumps(line) + "\n" for line in (lines[0], *lines[2:])).encode()}


def plan_edited(change: Any) -> Any:
    def edit(files: dict[str, bytes]) -> dict[str, bytes]:
        found = json.loads(files["results/smoke/plan.json"])
        change(found["tables"]["synthetic"])
        return files | {"results/smoke/plan.json": json.dumps(found).encode()}

    return edit


def nan(files: dict[str, bytes]) -> dict[str, bytes]:
    place, lines = lines_of(files)
    lines[1]["metrics"]["rank_1"]["value"]["value"] = float("nan")
    return files | {place: "".join(json.dumps(line) + "\n" for line in lines).encode()}


def of_a_rival(table: dict[str, Any]) -> None:
    component = {"label": "pixelate", "name": "pixelate", "version": 1, "config": {}}
    table["defenses"]["pixelate"] = {"component": component, "track": "image"}


def more(name: str, content: bytes = b"x") -> Any:
    return lambda files: files | {name: content}


ROWS = f"results/smoke/synthetic/{NAME}.jsonl"
HOSTILE = {
    "up and away": (more("../outside.py"), "no place of"),
    "absolute": (more("/etc/cron.d/x"), "no place of"),
    "backslash": (more("defenses\\..\\x.py"), "no place of"),
    "inside a hidden folder": (more(".github/workflows/x.yml"), "no place of"),
    "a test": (more("tests/conftest.py"), "no place of"),
    "a package": (more("defenses/__init__.py"), "no place of"),
    "a shared module": (more("defenses/_filters.py"), "no place of"),
    "a set-aside shelf": (more("results/smoke/set-aside/a/b.jsonl"), "no place of"),
    "two defenses": (more("defenses/other.py"), "expected one defenses/NAME.py, got 2"),
    "a bomb": (more("results/smoke/a/b.jsonl", b" " * 50_000_000), "larger than"),
    "no number": (nan, "not a record|NaN|finite|null"),
    "deep": (more(ROWS, b"[" * 100_000), "not a record|no file of records|records"),
    "not JSON": (more(ROWS, b"import os"), "not a record|records"),
    "draws of nothing": (more("results/smoke/draws.parquet", b"import os"), "draws"),
    "no plan": (more("results/smoke/plan.json", b"{}"), "plan"),
    "another place": (more("results/smoke/other/rows.jsonl", b"{}"), "schema_version|records"),
    "failed": (edited(status="failed", reason="x"), "failed, clean code"),
    "unknown key": (edited(extra=1), "extra"),
    "a record that its plan has not": (edited(key="0" * 64), "its plan has no such cell"),
    "another seed": (edited(seed=7), "its plan has no such cell"),
    "a cell without a record": (without_its_first_record, "cells without a record"),
    "a rival's row": (plan_edited(of_a_rival), "of other defenses too: pixelate"),
    "no record": (lambda files: {name: x for name, x in files.items() if name.endswith(".py")}, "holds no record"),
    "no defense": (lambda files: {name: x for name, x in files.items() if not name.endswith(".py")}, "got 0"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(how: str, plan: Plan, tmp_path: Path) -> None:
    change, says = HOSTILE[how]
    path = archive_of(change(packed(plan, tmp_path)), tmp_path / "bad.zip")
    with pytest.raises(UserError, match=says) as error:
        submission.take(path, tmp_path / "checkout")
    assert "Nothing was taken" in str(error.value)
    assert not (tmp_path / "checkout").exists() and not (tmp_path / "outside.py").exists()


def test_what_is_no_archive_or_holds_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(UserError, match="not an archive"):
        submission.read(tmp_path / "text.zip")
    with pytest.raises(UserError, match="not an archive"):
        submission.read(tmp_path / "nowhere.zip")
    many = archive_of({f"results/a/b/{i}.jsonl": b"{}" for i in range(submission.MOST + 1)}, tmp_path / "m.zip")
    with pytest.raises(UserError, match="201 files"):
        submission.read(many)


def test_a_score_counts_what_is_the_same_and_names_what_moved(
    request_: Request, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison alone: that cells are really measured again is an integration test."""
    store = recorded(plan, tmp_path / "results")
    cells = [cell for cell in plan.cells if cell.defense.name == NAME]

    def number(value: float, *draws: float) -> Measurement:
        return made.value(value, draws, metric="rank_1")

    numbers = {cell.key: number(0.5, 0.4, 0.6) for cell in cells}
    for record in list(store.records()):
        store.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))
    numbers[cells[0].key] = number(0.55, 0.5, 0.6)
    numbers[cells[1].key] = number(0.9, 0.8, 1.0)

    def measured(of: Plan, fresh: ResultStore, where: Where | None) -> None:
        for record in store.records():
            fresh.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))

    monkeypatch.setattr(submission, "execute", measured)
    found = submission.score(narrow_plan(request_, [cell.key for cell in cells]), store)
    assert (found.same, found.within, len(found.outside)) == (len(cells) - 2, 1, 1)
    assert replace(found, outside=()) != found and "rank_1" in found.outside[0]
