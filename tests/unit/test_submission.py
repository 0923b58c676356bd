"""A submission: packed only if it is whole and clean, taken only if there is nothing else in it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records as made
import pytest
from ppfr_bench.records.store import ResultStore

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import submission
from ppfr_bench.records.record import Record
from ppfr_bench.runner.plan import Plan, make_plan, open_dataset
from ppfr_bench.suites import load_suite

NAME = "block_permutation"


@pytest.fixture(scope="module")
def plan() -> Plan:
    suite = load_suite("smoke")
    suite = suite.model_copy(update={"defense": tuple(entry for entry in suite.defense if entry.name == NAME)})
    return make_plan(suite, open_dataset(suite.dataset))


def recorded(plan: Plan, root: Path, **changes: Any) -> ResultStore:
    """A good record for each cell of the plan; the last with changes."""
    store = ResultStore(root)
    cells = [cell for cell in plan.cells if cell.defense.name == NAME]
    for cell in cells:
        record = Record.model_validate(
            made.record(NAME, cell.kind, metrics={"rank_1": made.value(0.5)}, attack="unet").model_dump()
            | {
                "key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "defense": cell.defense,
                "attack": cell.attack, "recognizer": cell.recognizer,
            }
            | (changes if cell is cells[-1] else {})
        )  # fmt: skip
        store.write(record)
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


def test_what_is_packed_is_taken_byte_for_byte_and_the_same_twice(plan: Plan, tmp_path: Path) -> None:
    store = recorded(plan, tmp_path / "results")
    count = submission.pack(NAME, plan, store, tmp_path / "one.zip")
    submission.pack(NAME, plan, store, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert count == len([cell for cell in plan.cells if cell.defense.name == NAME])
    found = submission.take(tmp_path / "one.zip", tmp_path / "there")
    assert found.name == NAME and len(found.records) == count
    taken = {path.relative_to(tmp_path / "there" / "results") for path in (tmp_path / "there").rglob("*.json")}
    assert taken == {path.relative_to(tmp_path / "results") for path in (tmp_path / "results").rglob("*.json")}
    for path in (tmp_path / "results").rglob("*.json"):
        assert (tmp_path / "there/results" / path.relative_to(tmp_path / "results")).read_bytes() == path.read_bytes()
    submission.take(tmp_path / "one.zip", tmp_path / "there")  # again: nothing is different
    (tmp_path / "there/defenses" / f"{NAME}.py").write_text("other")
    with pytest.raises(UserError, match="holds something else"):
        submission.take(tmp_path / "one.zip", tmp_path / "there")


def test_records_that_were_set_aside_are_packed_too(plan: Plan, tmp_path: Path) -> None:
    store = recorded(plan, tmp_path / "results")
    submission.pack(NAME, plan, store, tmp_path / "one.zip")
    for path in list((tmp_path / "results").rglob("*.json"))[:2]:
        store.set_aside(path, "superseded")
    submission.pack(NAME, plan, store, tmp_path / "two.zip")
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


def edited(**changes: Any) -> Any:
    """A change of the first record of an archive."""

    def edit(files: dict[str, bytes]) -> dict[str, bytes]:
        place = next(name for name in files if name.endswith(".json"))
        return files | {place: json.dumps(json.loads(files[place]) | changes).encode()}

    return edit


def nan(files: dict[str, bytes]) -> dict[str, bytes]:
    place = next(name for name in files if name.endswith(".json"))
    data = json.loads(files[place])
    data["metrics"]["rank_1"]["value"] = float("nan")
    return files | {place: json.dumps(data).encode()}


def more(name: str, content: bytes = b"x") -> Any:
    return lambda files: files | {name: content}


HOSTILE = {
    "up and away": (more("../outside.py"), "no place of"),
    "absolute": (more("/etc/cron.d/x"), "no place of"),
    "backslash": (more("defenses\\..\\x.py"), "no place of"),
    "inside a hidden folder": (more(".github/workflows/x.yml"), "no place of"),
    "a test": (more("tests/conftest.py"), "no place of"),
    "a package": (more("defenses/__init__.py"), "no place of"),
    "a shared module": (more("defenses/_filters.py"), "no place of"),
    "two defenses": (more("defenses/other.py"), "expected one defenses/NAME.py, got 2"),
    "a bomb": (more(f"results/smoke/a/b/c/{'0' * 64}.json", b" " * 5_000_000), "larger than"),
    "a picture of nothing": (more(f"results/smoke/a/b/c/{'0' * 64}.jpg"), "belongs to no record"),
    "no number": (nan, "NaN is not a number"),
    "deep": (more(f"results/smoke/a/b/c/{'0' * 64}.json", b"[" * 100_000), "not a record"),
    "not JSON": (more(f"results/smoke/a/b/c/{'0' * 64}.json", b"import os"), "not a record"),
    "another defense": (edited(defense={"label": NAME, "name": "other", "version": 1}), "not of 'block_permutation'"),
    "another place": (edited(suite="official"), "belongs elsewhere"),
    "a name": (edited(suite="../../x"), "belongs elsewhere"),
    "failed": (edited(status="failed", reason="x"), "failed, clean code"),
    "unknown key": (edited(extra=1), "not a record"),
    "a picture elsewhere": (edited(samples="../../../x.jpg", samples_sha256="0" * 64), "named otherwise"),
    "no record": (lambda files: {name: x for name, x in files.items() if name.endswith(".py")}, "holds no record"),
    "no defense": (lambda files: {name: x for name, x in files.items() if name.endswith(".json")}, "got 0"),
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
    many = archive_of({f"results/a/b/c/d/{i:064x}.json": b"{}" for i in range(submission.MOST + 1)}, tmp_path / "m.zip")
    with pytest.raises(UserError, match="2001 files"):
        submission.read(many)


def test_a_score_counts_what_is_the_same_and_names_what_moved(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison alone: that cells are really measured again is an integration test."""
    store = recorded(plan, tmp_path / "results")
    cells = [cell for cell in plan.cells if cell.defense.name == NAME]
    numbers = {cell.key: made.value(0.5, (0.4, 0.6)) for cell in cells}
    for record in list(store.records()):
        store.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))
    numbers[cells[0].key] = made.value(0.55, (0.5, 0.6))
    numbers[cells[1].key] = made.value(0.9, (0.8, 1.0))

    def measured(of: Plan, fresh: ResultStore, workers: int) -> None:
        for record in store.records():
            fresh.write(record.model_copy(update={"metrics": {"rank_1": numbers[record.key]}}))

    monkeypatch.setattr(submission, "execute", measured)
    found = submission.score(plan, store, cells)
    assert (found.same, found.within, len(found.outside)) == (len(cells) - 2, 1, 1)
    assert replace(found, outside=()) != found and "rank_1" in found.outside[0]
