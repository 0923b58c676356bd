"""A night is taken only where the repository says that it can be another: a plug-in that forges is found out."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_archives import NAME
from made_submission import recorded

from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import nightly, taking
from ppfr_bench.maintenance.nightly import Night
from ppfr_bench.maintenance.taking import declared_version, take_night
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.runner.scoring import environment
from ppfr_bench.suites import load_suite

ROOT = Path(__file__).parents[2]
TONIGHT = date(2026, 11, 29)
ROWS, PLAN = f"results/smoke/synthetic/{NAME}.jsonl", "results/smoke/plan.json"
Place = tuple[Path, Path]  # A repository, and what a night has left.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a board of two rows, the files of its plug-ins, and the history of one night."""
    commit = environment(2, "cpu").commit
    if commit is None:
        pytest.skip("this is no checkout of git, which knows commits")
    root = tmp_path_factory.mktemp("repository")
    request = resolve("smoke", Asked(defenses=("no_defense", NAME)))
    for name in ("no_defense", NAME):
        recorded(request, root / "results", name, commit)
    for folder in ("defenses", "attacks"):
        (root / folder).mkdir()
        for source in (ROOT / folder).glob("[a-z]*.py"):
            shutil.copy(source, root / folder)
    nightly.append_history(root / "leaderboards" / "nights.jsonl", night_of("2026-11-28"))
    return root


def night_of(night: str) -> Night:
    return Night(night, "smoke", "c0ffee", 0, 3, (), {NAME: {"score": 1.0}}, {"test_x": 2.0})


@pytest.fixture
def places(made: Path, tmp_path: Path) -> Place:
    """The repository, and a night in which nothing has changed."""
    shutil.copytree(made, tmp_path / "repository")
    left = tmp_path / "night"
    shutil.copytree(made / "results", left / "results")
    history = left / "leaderboards" / "nights.jsonl"
    history.parent.mkdir()
    shutil.copy(made / "leaderboards" / "nights.jsonl", history)
    nightly.append_history(history, night_of("2026-11-29"))
    return tmp_path / "repository", left


def take(places: Place) -> taking.Taken:
    root, left = places
    return take_night(left, "smoke", ResultStore(root / "results"), root / "leaderboards/nights.jsonl", root, TONIGHT)


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def in_rows(left: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    lines = [json.loads(line) for line in (left / ROWS).read_text().splitlines()]
    change(lines)
    (left / ROWS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def in_plan(left: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plan = json.loads((left / PLAN).read_text())
    change(plan["tables"]["synthetic"])
    (left / PLAN).write_text(json.dumps(plan))


def measured_again(left: Path, version: int | None, leaked: float | None = None) -> None:
    """The row under new keys, as if its defense had another version; its leakage of LPIPS by choice."""
    store = ResultStore(left / "results")
    new = {}
    for record in list(store.records("smoke")):
        if record.defense.label == NAME:
            key = hashlib.sha256(record.key.encode()).hexdigest()
            defense = record.defense.model_copy(update={"version": version or record.defense.version})
            new[record.key] = record.model_copy(update={"key": key, "defense": defense, "samples": ""})
    store.set_aside("smoke", new, "superseded")
    for record in new.values():
        if leaked is not None and "lpips" in record.metrics and record.metrics["lpips"].leakage:
            one = record.metrics["lpips"]
            found = replace(one, leakage=replace(one.leakage, value=leaked, interval=(leaked, leaked)))
            record = record.model_copy(update={"metrics": {**record.metrics, "lpips": found}})
        store.write(record)

    def rename(table: dict[str, Any]) -> None:
        for cell in table["cells"]:
            if cell["key"] in new:
                cell["key"] = new[cell["key"]].key
        if version is not None:
            table["defenses"][NAME]["component"]["version"] = version

    in_plan(left, rename)
    store.compact("smoke")


def refused(places: Place, says: str) -> None:
    before = tree(places[0])
    with pytest.raises(UserError, match=says) as error:
        take(places)
    assert "Nothing was taken" in str(error.value) and tree(places[0]) == before


def test_a_night_in_which_nothing_changed_adds_its_line(places: Place) -> None:
    before = tree(places[0])
    found = take(places)
    after = tree(places[0])
    history = "leaderboards/nights.jsonl"
    assert found.records == 0
    assert {name for name in after if after[name] != before.get(name)} == {history}
    assert after[history].startswith(before[history]) and len(after[history].splitlines()) == 2
    scored = json.loads(after[history].splitlines()[1])["rows"][NAME]["score"]
    assert scored != 1.0 and 0 < scored < 1, "what the night says of a row is computed anew from its records"


def test_what_a_raised_version_has_changed_is_taken(places: Place) -> None:
    root, left = places
    source = root / "defenses" / f"{NAME}.py"
    source.write_text(re.sub(r"\n    version = \d+", "\n    version = 99", source.read_text()))
    assert declared_version(source) == 99
    old = {record.key for record in ResultStore(root / "results").records() if record.defense.label == NAME}
    measured_again(left, 99)
    assert take(places).records == len(old)
    store = ResultStore(root / "results")
    now = {record.key for record in store.records() if record.defense.label == NAME}
    assert len(now) == len(old) and not now & old and store.aside_count() == len(old)
    plan = store.plan("smoke")
    assert plan is not None and now <= {cell.key for cell in plan.tables["synthetic"].cells}


@pytest.mark.parametrize("at", ["write", "set_aside", "write_plan", "compact", "append_history"])
def test_a_night_whose_taking_was_killed_is_taken_whole_by_the_same_command(
    at: str, places: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = places[0] / "defenses" / f"{NAME}.py"
    source.write_text(re.sub(r"\n    version = \d+", "\n    version = 99", source.read_text()))
    measured_again(places[1], 99)
    shutil.copytree(places[0], tmp_path / "not killed")
    take((tmp_path / "not killed", places[1]))

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(taking if at == "append_history" else ResultStore, at, killed)
        take(places)
    take(places)
    assert tree(places[0]) == tree(tmp_path / "not killed")


# A change of a docstring that reads the token and forges its records --------------------------------------------------

FORGER = '''"""Another docstring."""
import glob, json, os, pathlib
token = [f"{k}={v}" for k, v in os.environ.items() if "TOKEN" in k or "SECRET" in k or "AUTH" in k]
token += [line for f in glob.glob(".git/config") for line in open(f) if "extraheader" in line or "@github" in line]
pathlib.Path("loot").write_text("\\n".join(token))
row = pathlib.Path("night/results/smoke/synthetic/NAME.jsonl")
lines = [json.loads(line) for line in row.read_text().splitlines()]
for line in lines[1:]:
    for one in line["metrics"].values():
        for part in (one.get("leakage"), ):
            if part and part["value"] is not None:
                part.update(value=0.0, interval=[0.0, 0.05])
row.write_text("".join(json.dumps(line) + "\\n" for line in lines))
'''


def test_a_docstring_that_reads_the_token_and_forges_its_records_is_caught(places: Place) -> None:
    """It runs as the night runs it, without a sandbox, in the job that measures: there is no token, and what it has
    forged is refused by the job that writes, which never imports it.
    """
    root, left = places
    workflow = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
    given = {"PATH": "/usr/bin:/bin"} | workflow["jobs"]["measure"].get("env", {})
    for step in workflow["jobs"]["measure"]["steps"]:
        given |= step.get("env", {})
    source = root / "defenses" / f"{NAME}.py"
    source.write_text(FORGER.replace("NAME", NAME) + source.read_text())
    subprocess.run([sys.executable, "-c", FORGER.replace("NAME", NAME)], cwd=left.parent, env=given, check=True)
    assert (left.parent / "loot").read_text() == ""
    assert '"value": 0.0' in (left / ROWS).read_text()
    refused(places, "the repository has another record of its key .*, and a night changes none")
    assert not list(root.rglob("loot"))


def test_forged_records_under_new_keys_need_a_version_that_the_source_declares(places: Place) -> None:
    measured_again(places[1], None, 0.0)
    refused(places, "has another key, and nothing that it is made of has another version")


def test_a_version_that_the_source_does_not_declare_is_none(places: Place) -> None:
    measured_again(places[1], 99, 0.0)
    refused(places, f"{NAME}.py does not declare version 99")


def test_numbers_that_nobody_can_have_measured_are_refused_in_a_raised_version_too(places: Place) -> None:
    source = places[0] / "defenses" / f"{NAME}.py"
    source.write_text(re.sub(r"\n    version = \d+", "\n    version = 99", source.read_text()))
    measured_again(places[1], 99, 0.0)
    refused(places, "leakage_lpips: it is 0, value, floor and ceiling give 0.4")


def trusted(left: Path) -> None:
    measured_again(left, 99)
    in_rows(left, lambda lines: lines[1].update(flags=["trusted"]))


def without_interval(left: Path) -> None:
    measured_again(left, 99)
    in_rows(left, lambda lines: next(iter(lines[1]["metrics"].values()))["value"].pop("interval"))


@pytest.mark.parametrize(
    ("spoil", "says"), [(trusted, "in the harness's own process"), (without_interval, "it has no interval")]
)
def test_a_new_record_that_no_submission_might_hold_is_refused(
    spoil: Callable[[Path], None], says: str, places: Place
) -> None:
    source = places[0] / "defenses" / f"{NAME}.py"
    source.write_text(re.sub(r"\n    version = \d+", "\n    version = 99", source.read_text()))
    spoil(places[1])
    refused(places, says)


def extra_row(table: dict[str, Any]) -> None:
    component = {"label": "mine", "name": "mine", "version": 1, "config": {}}
    table["defenses"]["mine"] = {"component": component, "track": "image"}


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a row of its own": (extra_row, "defenses that the board has not: mine"),
    "a weaker attack": (lambda table: table["attacks"]["unet"]["component"]["config"].update(steps=1),
                        "unet has other parameters in the same version"),
    "an attack that sets nothing": (lambda table: table["attacks"]["unet"].update(sets=""), "described otherwise"),
    "a control": (lambda table: table["defenses"][NAME].update(control=True), "described otherwise"),
    "another metric": (lambda table: table["metrics"].update(lpips=99), "another version of metric lpips"),
    "another protocol": (lambda table: table["protocol"].update(replicates=20), "another protocol"),
    "other data": (lambda table: table.update(revision="other"), "another revision of the data"),
    "another seed": (lambda table: table.update(seed=7), "another seed"),
    "a cell without a record": (lambda table: table["cells"][0].update(key="0" * 64), "has another key"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_a_plan_that_the_repository_does_not_give_is_refused(how: str, places: Place) -> None:
    change, says = SPOILT[how]
    in_plan(places[1], change)
    refused(places, says)


def earlier(left: Path) -> None:
    path = left / "leaderboards/nights.jsonl"
    path.write_text(path.read_text().replace('"sampled": 3', '"sampled": 4', 1))


def two_lines(left: Path) -> None:
    path = left / "leaderboards/nights.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")


def another_type(left: Path) -> None:
    path = left / "leaderboards/nights.jsonl"
    path.write_text(
        path.read_text().splitlines()[0] + "\n" + path.read_text().splitlines()[1].replace(": 0", ': "0"') + "\n"
    )


def linked(left: Path) -> None:
    (left / ROWS).unlink()
    (left / ROWS).symlink_to("/etc/passwd")


def marked(left: Path) -> None:
    (left / ROWS).write_bytes(b"\xef\xbb\xbf" + (left / ROWS).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (earlier, "earlier nights are not as they were"), (two_lines, "it has 2 lines"),
        (another_type, "history and one night more"), (linked, "is a link"), (marked, "byte order mark"),
        (lambda left: (left / "leaderboards/nights.jsonl").unlink(), "no history at"),
    ],
    ids=["earlier nights", "two lines", "another type", "link", "mark", "no history"],
)  # fmt: skip
def test_files_that_are_not_as_a_night_leaves_them_are_refused(
    spoil: Callable[[Path], None], says: str, places: Place
) -> None:
    spoil(places[1])
    refused(places, says)


def test_a_version_is_read_and_the_file_not_run(tmp_path: Path) -> None:
    for text, version in (
        ("class A:\n    version = 3\nDEFENSE = A\n", 3), ("class A:\n    version = 1 + 2\nATTACK = A\n", None),
        ("class B:\n    version = 1\nclass A:\n    version = 2\nATTACK = A\n", 2), ("raise SystemExit(1)\n", None),
        ("class A:\n    version = True\nDEFENSE = A\n", None),
    ):  # fmt: skip
        (tmp_path / "a.py").write_text(text)
        assert declared_version(tmp_path / "a.py") == version
    (tmp_path / "a.py").write_text("class\n")
    with pytest.raises(UserError, match="is not Python"):
        declared_version(tmp_path / "a.py")
    for source in [*(ROOT / "defenses").glob("[a-z]*.py"), *(ROOT / "attacks").glob("[a-z]*.py")]:
        assert declared_version(source) is not None, f"{source.name} declares no version that a night could read"


def test_accepted_defenses_that_no_suite_lists_are_measured_too(tmp_path: Path) -> None:
    store, suite = ResultStore(tmp_path), load_suite("smoke")
    assert nightly.accepted(suite, store) == ()
    claim = Claim(defense="pixelate", source_sha256="a" * 64, keys=("a" * 64,), state="confirmed")
    gone = claim.model_copy(update={"defense": "no_longer_there"})
    listed = claim.model_copy(update={"defense": NAME})
    store.write_claims("smoke", {"synthetic/pixelate": claim, "synthetic/x": gone, f"synthetic/{NAME}": listed})
    assert nightly.accepted(suite, store) == ("pixelate",)
    labels = (*(entry.label for entry in suite.defense), *nightly.accepted(suite, store))
    plan = resolve("smoke", Asked(defenses=labels)).plan
    assert {one.name for one in plan.defenses} == {*(entry.name for entry in suite.defense), "pixelate"}


# The workflows --------------------------------------------------------------------------------------------------------


def test_the_job_that_measures_holds_nothing_and_the_one_that_writes_runs_no_plugin() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
    measure, take_it = workflow["jobs"]["measure"], workflow["jobs"]["take"]
    assert workflow["permissions"] == {} and measure["permissions"] == {"contents": "read"}
    assert "token" not in json.dumps(measure).lower() and "secrets." not in json.dumps(measure)
    assert take_it["permissions"] == {"contents": "write", "issues": "write"} and take_it["needs"] == "measure"
    commands = " ".join(step.get("run", "") for step in take_it["steps"])
    assert "nightly quick --take" in commands and "make nightly" not in commands
    given = [step for step in take_it["steps"] if "token" in json.dumps(step.get("env", {})).lower()]
    assert given and all("ppfr-bench" not in step["run"] and "make" not in step["run"] for step in given)
    saved = [step for step in measure["steps"] if step.get("uses", "").startswith("actions/cache@")]
    assert not saved, "what plug-ins could write is kept for no other job"


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_and_keep_no_credentials(path: Path) -> None:
    text = path.read_text()
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action, _ in uses)
    assert all(re.fullmatch(r"  # v\d+\.\d+\.\d+", comment) for _, comment in uses)
    jobs = yaml.safe_load(text)["jobs"]
    for step in (step for job in jobs.values() for step in job["steps"]):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_asdict_of_a_night_is_what_a_line_holds() -> None:
    """A line is read as strictly as it is written."""
    line = json.dumps(asdict(night_of("2026-11-29")))
    assert taking._NIGHT.validate_json(line, strict=True) == night_of("2026-11-29")
