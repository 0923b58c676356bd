"""A submission: packed only if it is whole and clean, taken only if there is nothing else in it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import made_records as made
import pytest
from made_archives import BESIDE, NAME, PLAN, Files, archive_of
from made_submission import PICTURE, recorded

from ppfr_bench import registry
from ppfr_bench.engines.base import Resources
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import archives, submission
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where
from ppfr_bench.runner.plan import Plan
from ppfr_bench.runner.request import Asked, Request, narrow_plan, resolve
from ppfr_bench.runner.scoring import environment


@pytest.fixture(scope="module")
def request_() -> Request:
    return resolve("smoke", Asked(defenses=(NAME,)))


@pytest.fixture(scope="module")
def plan(request_: Request) -> Plan:
    return request_.plan


@pytest.fixture(scope="module")
def board() -> Request:
    """The whole suite, as it stands on the board."""
    return resolve("smoke", Asked())


@pytest.fixture(scope="module")
def commit() -> str:
    """One that this checkout knows."""
    found = environment(2, "cpu").commit
    if found is None:
        pytest.skip("this is no checkout of git, which knows commits")
    return found


@pytest.fixture(scope="module")
def good(request_: Request, commit: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good archive."""
    folder = tmp_path_factory.mktemp("good")
    store = recorded(request_, folder / "results", NAME, commit)
    submission.pack(NAME, request_.plan, store, folder / "good.zip")
    with zipfile.ZipFile(folder / "good.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


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


def test_what_is_packed_is_taken_and_the_same_twice(request_: Request, plan: Plan, commit: str, tmp_path: Path) -> None:
    store = recorded(request_, tmp_path / "results", NAME, commit)
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


def test_records_that_were_set_aside_are_packed_too(request_: Request, plan: Plan, commit: str, tmp_path: Path) -> None:
    store = recorded(request_, tmp_path / "results", NAME, commit)
    submission.pack(NAME, plan, store, tmp_path / "one.zip")
    store.set_aside("smoke", [record.key for record in store.records()][:2], "superseded")
    submission.pack(NAME, plan, ResultStore(tmp_path / "results"), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "failed", "reason": "RuntimeError: no face", "metrics": {}}, "no face"),
        ({"status": "skipped", "reason": "npm is missing", "metrics": {}}, "npm is missing"),
        ({"environment": replace(made.ENVIRONMENT, dirty=True)}, "changes that are not committed"),
        ({"environment": replace(made.ENVIRONMENT, commit=None)}, "changes that are not committed"),
        ({"key": "0" * 64}, "not recorded under the settings and seed"),
    ],
    ids=["failed", "skipped", "dirty", "no commit", "other seed or settings"],
)
def test_what_is_not_whole_and_clean_is_not_packed(
    changes: dict[str, Any], says: str, request_: Request, plan: Plan, commit: str, tmp_path: Path
) -> None:
    store = recorded(request_, tmp_path / "results", NAME, commit, **changes)
    with pytest.raises(UserError, match=says):
        submission.pack(NAME, plan, store, tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def test_a_card_that_nobody_filled_in_is_not_packed(
    request_: Request, plan: Plan, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = registry.load("defense", NAME).card.model_copy(update={"reference": submission.UNFILLED[1]})
    monkeypatch.setattr(registry.load("defense", NAME), "card", card)
    with pytest.raises(UserError, match="leaves its reference open"):
        submission.pack(NAME, plan, recorded(request_, tmp_path / "results", NAME, commit), tmp_path / "out.zip")


# How it joins a board -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BESIDE)
def test_a_row_that_would_not_compare_with_the_board_or_change_it_is_refused(
    how: str, good: Files, board: Request, commit: str, tmp_path: Path
) -> None:
    change, says = BESIDE[how]
    store = recorded(board, tmp_path / "results", "no_defense", commit)
    written = tmp_path / PLAN
    stale = json.loads(written.read_text())
    change(stale["tables"]["synthetic"])
    written.write_text(json.dumps(stale))
    assert store.plan("smoke") is not None
    before = tree(tmp_path)
    path = archive_of(good, tmp_path / "good.zip")
    with pytest.raises(UserError, match=says) as error:
        submission.take(path, tmp_path)
    assert "Nothing was taken" in str(error.value)
    assert tree(tmp_path) == before | {"good.zip": path.read_bytes()}


def test_another_setting_of_the_same_defense_is_no_row_of_its_label(good: Files, plan: Plan, tmp_path: Path) -> None:
    published = plan.published()
    table = published.tables["synthetic"]
    mine = table.defenses[NAME]
    other = mine.model_copy(update={"component": mine.component.model_copy(update={"config": {"block": 2}})})
    table = table.model_copy(update={"defenses": table.defenses | {NAME: other}})
    ResultStore(tmp_path / "results").write_plan(published.model_copy(update={"tables": {"synthetic": table}}))
    with pytest.raises(UserError, match=f"{NAME} is a row of other settings on the board"):
        submission.take(archive_of(good, tmp_path / "one.zip"), tmp_path)


def test_another_record_of_the_same_cell_is_refused(
    good: Files, request_: Request, commit: str, tmp_path: Path
) -> None:
    store = recorded(request_, tmp_path / "results", NAME, commit)
    (first, *_) = store.records()
    store.write(first.model_copy(update={"metrics": {"rank_1": made.value(0.1, metric="rank_1")}}))
    before = tree(tmp_path)
    path = archive_of(good, tmp_path / "one.zip")
    with pytest.raises(UserError, match="holds another record of its key"):
        submission.take(path, tmp_path)
    assert tree(tmp_path) == before | {"one.zip": path.read_bytes()}


def test_a_good_row_joins_the_board_as_a_claim_and_no_other_is_touched(
    good: Files, board: Request, commit: str, tmp_path: Path
) -> None:
    others = [one.name for one in board.plan.defenses if one.name != NAME]
    for name in others:
        recorded(board, tmp_path / "results", name, commit)
    store = ResultStore(tmp_path / "results")
    before, plan_before = {one.key: one for one in store.records()}, store.plan("smoke")
    rows = {name: (tmp_path / f"results/smoke/synthetic/{name}.jsonl").read_bytes() for name in others}
    found = submission.take(archive_of(good, tmp_path / "one.zip"), tmp_path)
    after = {one.key: one for one in ResultStore(tmp_path / "results").records()}
    assert after == before | {one.key: one for one in found.records}
    assert rows == {name: (tmp_path / f"results/smoke/synthetic/{name}.jsonl").read_bytes() for name in others}
    assert ResultStore(tmp_path / "results").plan("smoke") == plan_before
    strips = [store.strip(one) for one in found.records if one.samples]
    assert strips == [PICTURE]
    (claim,) = store.claims("smoke").items()
    assert claim[0] == f"synthetic/{NAME}" and set(claim[1].keys) == {one.key for one in found.records}
    assert (claim[1].state, claim[1].source_sha256) == ("claimed", sha256(good[f"defenses/{NAME}.py"]).hexdigest())


def test_what_regains_more_where_nothing_is_protected_than_the_board_has_is_refused(
    good: Files, board: Request, commit: str, tmp_path: Path
) -> None:
    """The same attack on the same faces has the same ceiling, whoever measures it."""
    store = recorded(board, tmp_path / "results", "no_defense", commit)
    for record in list(store.records()):
        moved = record.model_dump()
        for one in moved["metrics"].values():
            if one["ceiling"] and one["metric"] == "lpips":
                one["ceiling"] |= {"value": 0.3, "interval": (0.29, 0.31)}
        store.write(Record.model_validate(moved))
    with pytest.raises(UserError, match=r"lpips without protection: 0\.1, the board has \[0\.29, 0\.31\]"):
        submission.take(archive_of(good, tmp_path / "one.zip"), tmp_path)


def test_what_is_written_is_the_record_and_not_the_bytes_that_came(good: Files, tmp_path: Path) -> None:
    """Spaces and the order of keys are the author's; the files are the harness's own."""
    row = f"results/smoke/synthetic/{NAME}.jsonl"
    lines = [json.loads(line) for line in good[row].decode().splitlines()]
    other = "".join(json.dumps(dict(reversed(line.items())), separators=(" ,  ", " : ")) + "\n" for line in lines)
    assert other.encode() != good[row]
    submission.take(archive_of(good | {row: other.encode()}, tmp_path / "one.zip"), tmp_path)
    assert (tmp_path / row).read_bytes() == good[row]


def test_taking_one_imports_nothing_of_it(good: Files, tmp_path: Path) -> None:
    """Neither as it is checked nor as it is planned: the file would leave a trace."""
    trace = tmp_path / "imported"
    source = good[f"defenses/{NAME}.py"] + f"\nopen({str(trace)!r}, 'w').close()\n".encode()
    submission.take(archive_of(good | {f"defenses/{NAME}.py": source}, tmp_path / "one.zip"), tmp_path / "there")
    assert not trace.exists() and (tmp_path / f"there/defenses/{NAME}.py").read_bytes() == source


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
    with pytest.raises(UserError, match="no archive at"):
        submission.read(tmp_path / "nowhere.zip")
    many = archive_of({f"results/a/b/{i}.jsonl": b"{}" for i in range(archives.MOST + 1)}, tmp_path / "m.zip")
    with pytest.raises(UserError, match="201 files and"):
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


def test_a_score_counts_what_is_the_same_and_names_what_moved(
    request_: Request, plan: Plan, commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison alone: that cells are really measured again is an integration test."""
    store = recorded(request_, tmp_path / "results", NAME, commit)
    cells = [cell for cell in plan.cells if cell.defense.name == NAME]

    def number(value: float, *draws: float) -> Measurement:
        return made.value(value, draws, metric="rank_1")

    numbers = {cell.key: number(0.5, 0.4, 0.6) for cell in cells}
    for record in list(store.records()):
        store.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))
    numbers[cells[0].key] = number(0.55, 0.5, 0.6)
    numbers[cells[1].key] = number(0.9, 0.8, 1.0)

    stages = []

    def measured(of: Plan, fresh: ResultStore, where: Where | None) -> None:
        stages.append(where and where.stages)
        for record in store.records():
            fresh.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))

    monkeypatch.setattr(submission, "execute", measured)
    found = submission.score(narrow_plan(request_, [cell.key for cell in cells]), store)
    assert (found.same, found.within, len(found.outside)) == (len(cells) - 2, 1, 1)
    assert replace(found, outside=()) != found and "rank_1" in found.outside[0]
    narrow = narrow_plan(request_, [cells[0].key])
    for anew in (False, True):
        submission.score(narrow, store, anew, Where(stages="/shared/stages"))
    assert stages == [None, "/shared/stages", ""], "what is measured anew is read from no store of stages"
    with pytest.raises(UserError, match="needs an empty cache"):
        submission.score(narrow, store, True, Where(resources=Resources(scheduler="tcp://x:8786")))
