"""Every kind can be added from a file outside the package: the examples of docs/howto/add_a_kind.md, as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import warm_python

from ppfr_bench.records.store import ResultStore

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "add_a_kind.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([a-z_]+\.py)"\n(.*?)```', PAGE, re.DOTALL))
COMMANDS = [shlex.split(line)[2:] for line in re.findall(r"^\$ ppfr-bench .*$", PAGE, re.MULTILINE)]
pytestmark = pytest.mark.assets
Environment = dict[str, str]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, command_environment: Environment) -> Path:
    """A folder with the files of the page, in which its commands were typed; what they said is in ``said``."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, code in FILES.items():
        (folder / name).write_text(code, encoding="utf-8")
    said = []
    for command in COMMANDS:
        done = warm_python.run(["-m", "ppfr_bench.cli", *command], command_environment, folder)
        assert done.returncode == 0, done.stderr + done.stdout
        said.append(done.stdout)
    (folder / "said").write_text("\n".join(said))
    return folder


def test_each_is_listed(work: Path, command_environment: Environment) -> None:
    for what, name in (("metrics", "edge_error"), ("scorers", "brightness"), ("attacks", "brightness"),
                       ("datasets", "drawn_faces"), ("tracks", "line_drawing"), ("defenses", "line_drawing"),
                       ("engines", "printing")):  # fmt: skip
        command = ["-m", "ppfr_bench.cli", "list", what]
        alone, beside = (
            warm_python.run([*command, *more], command_environment, work).stdout
            for more in ((), ("--plugin", f"{name}.py", "--trust"))
        )
        assert name not in alone.split() and name in beside.split(), what


def test_each_ran_in_smoke(work: Path) -> None:
    records = list(ResultStore(work / "mine").records("smoke"))
    assert {record.status for record in records} == {"ok"}, [record.reason for record in records]
    assert {record.dataset.label for record in records} == {"drawn_faces"}
    assert {record.track for record in records} == {"image", "line_drawing"}
    (mine,) = [one for one in records if one.slot[1] == "brightness" and one.defense.label == "line_drawing"]
    assert (mine.scorer, mine.sets) == ("brightness", "brightness")
    leaked = mine.estimate("brightness", "leakage")
    assert leaked.value is not None and leaked.draws
    (seen,) = [one for one in records if one.slot[1] == "visual" and one.defense.label == "no_defense"]
    assert seen.estimate("edge_error", "leakage").value == 1
    assert "task " in (work / "said").read_text(), "the engine of the page has run it"


def test_each_reaches_a_page(work: Path) -> None:
    page = (work / "pages/smoke/leaderboard.html").read_text(encoding="utf-8")
    assert "line drawing track" in page and "Brightness privacy" in page and "edge_error" in page
    assert "brightness" in (work / "pages/smoke/attacks/brightness.html").read_text(encoding="utf-8")


def test_a_plan_with_an_unknown_track_says_what_to_type(work: Path, command_environment: Environment) -> None:
    command = ["-m", "ppfr_bench.cli", "leaderboard", "--results", "mine", "--out", "other"]
    done = warm_python.run(command, command_environment, work)
    assert done.returncode == 2 and "line_drawing" in done.stderr and "--plugin" in done.stderr
