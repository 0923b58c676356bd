"""The commands of the documentation that measure, protect, pack and take, where their reader stands: in a checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import warm_python
from documented import ROOT, TRIED
from made_networks import write_card, write_onnx
from made_photographs import CLEAR, FACES, photograph
from PIL import Image

from ppfr_bench.records.store import ResultStore

pytestmark = pytest.mark.assets
Environment = dict[str, str]
PARTS = ("ppfr_bench", "attacks", "defenses")
# In the order in which a reader comes to them; what is listed, planned and checked is in test_documented_commands.
ORDER = ("assets", "check", "data", "protect", "run", "leaderboard", "show", "score", "submit", "accept")
ELSEWHERE = ("half_grey", "my_defense", "my_attack")
# Records that somebody can have measured, of all cells of a defense: to measure them takes minutes.
RECORD = """
from pathlib import Path
from made_submission import recorded
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.runner.scoring import environment
recorded(resolve("smoke", Asked(defenses=("my_defense",))), Path("results"), "my_defense", environment(2, "cpu").commit)
"""


def tried() -> list[tuple[str, ...]]:
    """The commands to run here, in the order of ORDER."""
    here = {
        words
        for words in TRIED
        if words[0] in ORDER and words[-1] != "--dry-run" and words[:2] != ("assets", "list")
        and not (words[0] == "check" and words[1] in ELSEWHERE)
    }  # fmt: skip
    return sorted(here, key=lambda words: (ORDER.index(words[0]), "--answers" in words, words))


def git(*words: object, cwd: Path) -> None:
    known = ["-c", "user.name=reader", "-c", "user.email=reader@example.org"]
    done = subprocess.run(["git", *known, *map(str, words)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the package as it is, with a defense and an attack of the reader's, and their other files."""
    folder = tmp_path_factory.mktemp("work") / "checkout"
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for page, name in (("README.md", "half_grey"), ("docs/howto/submit_a_defense.md", "my_defense")):
        code = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)
        assert code is not None
        (folder / "defenses" / f"{name}.py").write_text(code[1].replace("Paper, venue, year", "The reader, 2026"))
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/howto/write_an_attack.md").read_text(encoding="utf-8"), re.S)
    assert code is not None
    (folder / "attacks" / "my_attack.py").write_text(code[1], encoding="utf-8")
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-qm", "Defense my_defense", cwd=folder)
    for name in ("their_defense.py", "outside.py"):  # Given by --plugin, from outside of ``defenses/``.
        shutil.copy(folder / "defenses" / "my_defense.py", folder / name)
    write_card(folder, write_onnx(folder / "made.onnx"))
    photograph(CLEAR[0]).save(folder / "photo.jpg", quality=95)
    for person in range(2):
        for photo in range(2):
            path = folder / "photos" / f"person_{person}" / f"{photo}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(CLEAR[2 * person + photo]).save(path)
    (folder / "faces").mkdir()
    for at in range(3):
        Image.fromarray(FACES[at].transpose(1, 2, 0)).save(folder / "faces" / f"{at}.png")
    return folder


def prepare_for(words: tuple[str, ...], checkout: Path, env: Environment) -> tuple[Path, list[str], bytes]:
    """What the page has the reader do before a command: where it is typed, in which words, and what it reads."""
    given = b""
    if words[:3] == ("protect", "pixelate", "-"):
        given = (checkout / "photo.jpg").read_bytes()
    if words[:3] == ("protect", "pixelate", "in.mp4"):
        from made_videos import write_video

        write_video(checkout / "in.mp4", [np.asarray(photograph(CLEAR[0]))] * 3)
    if words[:2] == ("protect", "block_permutation"):
        shutil.rmtree(checkout / "protected", ignore_errors=True)
    if "--answers" in words:
        folder = checkout / words[words.index("--answers") + 1]
        np.save(folder / "answers.npy", np.load(folder / "targets.npy", allow_pickle=False)[0])
    if words[:2] == ("show", "KEY"):
        record = next(iter(ResultStore(checkout / "results").records("smoke")))
        words = ("show", record.key[:12], *words[2:])
    if words[0] == "submit":
        return measured_whole(checkout, env), list(words), given
    if words[0] == "accept":
        theirs = checkout.parent / "theirs"
        git("clone", "-q", checkout, theirs, cwd=checkout.parent)
        shutil.copy(checkout.parent / "whole" / words[1], theirs)
        return theirs, list(words), given
    return checkout, list(words), given


def measured_whole(checkout: Path, env: Environment) -> Path:
    """A clone of the checkout in which every cell of the reader's defense is recorded."""
    folder = checkout.parent / "whole"
    git("clone", "-q", checkout, folder, cwd=checkout.parent)
    script = checkout.parent / "record.py"
    script.write_text(RECORD, encoding="utf-8")
    paths = env | {"PYTHONPATH": f"{folder}:{ROOT / 'tests/support'}"}
    done = warm_python.run([script], paths, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def environment(command_environment: Environment) -> Environment:
    """That of a reader: the package is the one of the checkout in which a command is typed."""
    return {name: value for name, value in command_environment.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def done(checkout: Path, environment: Environment) -> dict[tuple[str, ...], warm_python.Done]:
    """What each command gave, typed one after the other as some need what those before them wrote."""
    found = {}
    for words in tried():
        folder, typed, given = prepare_for(words, checkout, environment)
        found[words] = warm_python.run(["-m", "ppfr_bench.cli", *typed], environment, folder, given)
    return found


@pytest.mark.parametrize("words", tried(), ids=" ".join)
def test_a_documented_command_runs(words: tuple[str, ...], done: dict[tuple[str, ...], warm_python.Done]) -> None:
    assert done[words].returncode == 0, f"{done[words].stdout}{done[words].stderr}"
    if words[0] == "run":
        assert "0 to run" not in done[words].stdout and "nothing to do" not in done[words].stderr


def test_what_was_accepted_is_shown_as_a_claim(
    checkout: Path, environment: Environment, done: dict[tuple[str, ...], warm_python.Done]
) -> None:
    """The last of the commands that a maintainer types, after those above."""
    theirs = checkout.parent / "theirs"
    shown = warm_python.run(["-m", "ppfr_bench.cli", "leaderboard"], environment, theirs)
    assert shown.returncode == 0, shown.stderr
    assert "claimed by the authors" in (theirs / "leaderboards/smoke/leaderboard.md").read_text(encoding="utf-8")
