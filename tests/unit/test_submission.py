"""A submission: packed only if it is whole and clean, taken only if there is nothing else in it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records as made
import pytest
from made_archives import BESIDE, HOSTILE, NAME, PLAN, Files, in_plan, with_one_more_attack

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance import submission
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where
from ppfr_bench.runner.plan import Plan
from ppfr_bench.runner.request import Asked, Request, narrow_plan, resolve


@pytest.fixture(scope="module")
def request_() -> Request:
    return resolve("smoke", Asked(defenses=(NAME,)))


@pytest.fixture(scope="module")
def plan(request_: Request) -> Plan:
    return request_.plan


@pytest.fixture(scope="module")
def board() -> Plan:
    """The whole suite, as it stands on the board."""
    return resolve("smoke", Asked()).plan


PICTURE = made.strip(1, "released")


def recorded(plan: Plan, root: Path, name: str = NAME, **changes: Any) -> ResultStore:
    """A good record for each cell of a defense of the plan; the last with changes."""
    store = ResultStore(root)
    cells = [cell for cell in plan.cells if cell.defense.name == name]
    for cell in cells:
        picture = PICTURE if cell.attack and cell.attack.label == "visual" else None
        metrics = {"rank_1": made.value(0.5, (0.4, 0.6), metric="rank_1")}
        record = Record.model_validate(
            made.record(name, cell.kind, metrics=metrics, attack="unet", samples=picture).model_dump()
            | {
                "key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "defense": cell.defense,
                "dataset_revision": plan.setting.dataset_revision, "attack": cell.attack,
                "recognizer": cell.recognizer,
            }
            | (changes if cell is cells[-1] else {})
        )  # fmt: skip
        store.write(record, picture)
    store.write_plan(plan.published())
    store.compact(plan.suite)
    return store


@pytest.fixture(scope="module")
def good(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good archive."""
    folder = tmp_path_factory.mktemp("good")
    submission.pack(NAME, plan, recorded(plan, folder / "results"), folder / "good.zip")
    with zipfile.ZipFile(folder / "good.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder but locks."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_an_archive_has_the_file_the_plan_the_row_its_faces_and_the_draws(good: dict[str, bytes], plan: Plan) -> None:
    row = f"results/smoke/synthetic/{NAME}"
    assert set(good) == {
        f"defenses/{NAME}.py", "results/smoke/plan.json", f"{row}.jsonl", f"{row}.jpg", "results/smoke/draws.parquet"
    }  # fmt: skip
    table = json.loads(good["results/smoke/plan.json"])["tables"]["synthetic"]
    mine = [cell for cell in plan.cells if cell.defense.name == NAME]
    assert {cell["key"] for cell in table["cells"]} == {cell.key for cell in mine} and set(table["defenses"]) == {NAME}
    assert set(table["attacks"]) == {cell.attack.label for cell in mine if cell.attack}


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


# What an archive may hold that it should not --------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(how: str, good: Files, tmp_path: Path) -> None:
    change, says = HOSTILE[how]
    path = archive_of(change(good), tmp_path / "bad.zip")
    with pytest.raises(UserError, match=says) as error:
        submission.take(path, tmp_path / "checkout")
    assert "Nothing was taken" in str(error.value)
    assert tree(tmp_path) == {"bad.zip": path.read_bytes()}


@pytest.mark.parametrize("how", BESIDE)
def test_a_row_that_would_not_compare_with_the_board_or_change_it_is_refused(
    how: str, good: Files, board: Plan, tmp_path: Path
) -> None:
    change, says = BESIDE[how]
    for name in ("no_defense", "stochastic_local"):
        recorded(board, tmp_path / "results", name)
    before = tree(tmp_path)
    path = archive_of(change(good), tmp_path / "bad.zip")
    with pytest.raises(UserError, match=says) as error:
        submission.take(path, tmp_path)
    assert "Nothing was taken" in str(error.value)
    assert tree(tmp_path) == before | {"bad.zip": path.read_bytes()}


def test_another_setting_of_the_same_defense_is_no_row_of_its_label(good: Files, plan: Plan, tmp_path: Path) -> None:
    published = plan.published()
    table = published.tables["synthetic"]
    mine = table.defenses[NAME]
    other = mine.model_copy(update={"component": mine.component.model_copy(update={"config": {"block": 2}})})
    table = table.model_copy(update={"defenses": table.defenses | {NAME: other}})
    ResultStore(tmp_path / "results").write_plan(published.model_copy(update={"tables": {"synthetic": table}}))
    with pytest.raises(UserError, match=f"{NAME} is a row of other settings on the board"):
        submission.take(archive_of(good, tmp_path / "one.zip"), tmp_path)


def test_another_record_of_the_same_cell_is_refused(good: Files, plan: Plan, tmp_path: Path) -> None:
    store = recorded(plan, tmp_path / "results")
    (first, *_) = store.records()
    store.write(first.model_copy(update={"metrics": {"rank_1": made.value(0.1, metric="rank_1")}}))
    before = tree(tmp_path)
    path = archive_of(good, tmp_path / "one.zip")
    with pytest.raises(UserError, match="holds another record of its key"):
        submission.take(path, tmp_path)
    assert tree(tmp_path) == before | {"one.zip": path.read_bytes()}


def test_a_good_row_joins_the_board_and_no_other_is_touched(good: Files, board: Plan, tmp_path: Path) -> None:
    """What is said of the whole board stays as it is, whatever title or time limits an archive has."""
    others = [one.name for one in board.defenses if one.name != NAME]
    for name in others:
        recorded(board, tmp_path / "results", name)
    store = ResultStore(tmp_path / "results")
    before, plan_before = {one.key: one for one in store.records()}, store.plan("smoke")
    rows = {name: (tmp_path / f"results/smoke/synthetic/{name}.jsonl").read_bytes() for name in others}
    found = json.loads(good[PLAN])
    found["title"] = "Mine"
    found["tables"]["synthetic"]["protocol"]["timeout"] = 1
    found = submission.take(archive_of(good | {PLAN: json.dumps(found).encode()}, tmp_path / "one.zip"), tmp_path)
    after = {one.key: one for one in ResultStore(tmp_path / "results").records()}
    assert after == before | {one.key: one for one in found.records}
    assert rows == {name: (tmp_path / f"results/smoke/synthetic/{name}.jsonl").read_bytes() for name in others}
    assert ResultStore(tmp_path / "results").plan("smoke") == plan_before
    strips = [store.strip(one) for one in found.records if one.samples]
    assert strips == [PICTURE]


def test_the_first_row_of_a_track_may_bring_cells_of_its_own(good: Files, board: Plan, tmp_path: Path) -> None:
    """Another track is another table, which the rows of this one are not ranked in."""
    recorded(board, tmp_path / "results", "no_defense")
    other = in_plan(lambda table: table["defenses"][NAME].update(track="representation"))
    submission.take(archive_of(other(with_one_more_attack(good)), tmp_path / "one.zip"), tmp_path)
    published = ResultStore(tmp_path / "results").plan("smoke")
    assert published is not None
    expected = {
        row.defense: row.expected for row in build(list(ResultStore(tmp_path / "results").records()), published)
    }
    assert expected[NAME] == expected["no_defense"] + 1


def test_a_sheet_that_is_no_picture_or_shows_other_faces_is_not_taken(good: Files, tmp_path: Path) -> None:
    """Only faces that a record names by their pixels are ever laid on a sheet again."""
    sheet = f"results/smoke/synthetic/{NAME}.jpg"
    for content in (b"no picture", made.strip(7, "clear")):
        path = archive_of(good | {sheet: content}, tmp_path / "one.zip")
        assert submission.read(path).strips == {}
        submission.take(path, tmp_path / "checkout")
        assert not list((tmp_path / "checkout").rglob("*.jpg"))


def test_what_is_no_archive_or_holds_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not an archive")
    with pytest.raises(UserError, match="not an archive"):
        submission.read(tmp_path / "text.zip")
    with pytest.raises(UserError, match="not an archive"):
        submission.read(tmp_path / "nowhere.zip")
    many = archive_of({f"results/a/b/{i}.jsonl": b"{}" for i in range(submission.MOST + 1)}, tmp_path / "m.zip")
    with pytest.raises(UserError, match="201 files"):
        submission.read(many)


def test_a_damaged_archive_is_refused(good: Files, tmp_path: Path) -> None:
    """Wherever it is damaged: in its list of files, or in what is packed, which has a check sum."""
    content = archive_of(good, tmp_path / "one.zip").read_bytes()
    start = content.index(b"defenses/") + 40
    wrong = content[:start] + bytes(x ^ 0x5A for x in content[start : start + 300]) + content[start + 300 :]
    for damaged in (wrong, content[:-30], content[: len(content) // 2]):
        path = tmp_path / "damaged.zip"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not an archive that can be read"):
            submission.read(path)


def test_one_place_twice_in_an_archive_is_refused(good: Files, tmp_path: Path) -> None:
    path = archive_of(good, tmp_path / "one.zip")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(PLAN, good[PLAN])
    with pytest.raises(UserError, match="no place of"):
        submission.read(path)


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
