"""Every command that a page prints runs as it stands, where the results of the page lie."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import warm_python

from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.maintenance import nightly

pytestmark = pytest.mark.assets
Environment = dict[str, str]
CODE = re.compile(r"<code[^>]*>(.*?)</code>", re.DOTALL)
KINDS = ("smoke/leaderboard.html", "smoke/coverage.html", "smoke/defenses/pixelate_block_8.html",
         "smoke/defenses/blackout.html", "smoke/attacks/visual.html", "index.html")  # fmt: skip
FEW = """title = 'A few faces'
recognizers = ['faceplugin']
[protocol]
replicates = 20
[dataset]
name = 'synthetic'
[dataset.params]
attacker_identities = 12
attacker_images = 2
evaluation_identities = 12
evaluation_images = 2
targets = 12
gallery = 12
folds = 2
[[defense]]
name = 'pixelate'
[[attack]]
name = 'visual'
"""


def ppfr_bench(*arguments: object, env: Environment, cwd: Path) -> warm_python.Done:
    return warm_python.run(["-m", "ppfr_bench.cli", *arguments], env, cwd)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, command_environment: Environment) -> Path:
    """A folder with ``results`` of a part of smoke, a setting of a defense among them, and their pages."""
    folder = tmp_path_factory.mktemp("work")
    few = ("--attack", "visual", "--recognizer", "faceplugin")
    chosen = ("--defense", "blackout", "--defense", "pixelate", "--set", "defense.pixelate.block=8")
    done = ppfr_bench("run", "smoke", *chosen, *few, env=command_environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    done = ppfr_bench("leaderboard", env=command_environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "smoke is a suite for tests" in done.stdout and "numbers and ranks mean nothing" in " ".join(
        done.stdout.split()
    )
    return folder


def printed(page: Path) -> Iterator[str]:
    """The commands of a page, each once; of those that show a record the first."""
    shown = False
    for code in dict.fromkeys(CODE.findall(page.read_text(encoding="utf-8"))):
        line = unescape(re.sub(r"<[^>]+>", "", code)).strip()
        if not line.startswith("ppfr-bench "):
            continue
        if re.fullmatch(r"ppfr-bench show [0-9a-f]{12}", line):
            if shown:
                continue
            shown = True
        yield line


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_on_a_page_runs(kind: str, work: Path, command_environment: Environment) -> None:
    page = work / "leaderboards" / kind
    assert "mean nothing" in page.read_text(encoding="utf-8"), "a suite for tests says so on every page"
    lines = list(printed(page))
    assert lines or kind in ("smoke/coverage.html", "index.html"), "the page prints a command"
    for line in lines:
        if line == "ppfr-bench show DIGITS":  # It stands for those beside the numbers.
            continue
        words = shlex.split(line)[1:]
        if "--attack" in words:  # Of all defenses of the suite one is enough, and takes a quarter of the time.
            words += ["--defense", "blackout"]
        done = ppfr_bench(*words, env=command_environment, cwd=work)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if " score " in line or " run " in line:
            assert "0 to run" not in done.stdout and "nothing to do" not in done.stderr, f"{line}: it measures nothing"


def test_every_command_runs_of_pages_on_which_nothing_is_yet(tmp_path: Path, command_environment: Environment) -> None:
    """Those of an index without suites and of nights before the first; a suite of one defense stands for ``quick``."""
    (tmp_path / "few.toml").write_text(FEW, encoding="utf-8")
    pages = [tmp_path / "index.html", tmp_path / "nightly.html"]
    pages[0].write_bytes(render("index.html", root="", suites=[], tables=[]))
    pages[1].write_bytes(nightly.trend([]))
    lines = [line for page in pages for line in printed(page)]
    assert lines == ["ppfr-bench run quick", "ppfr-bench leaderboard", "ppfr-bench nightly quick"]
    for line in lines:
        words = ["few.toml" if word == "quick" else word for word in shlex.split(line)[1:]]
        done = ppfr_bench(*words, env=command_environment, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "leaderboards/few/leaderboard.html").is_file()
    assert "<h2>few</h2>" in (tmp_path / "leaderboards/nightly.html").read_text(encoding="utf-8")


def test_a_defense_page_prints_what_measures_it_again(work: Path) -> None:
    blackout, setting = ((work / "leaderboards" / kind).read_text() for kind in (KINDS[3], KINDS[2]))
    assert "ppfr-bench score blackout --suite smoke --anew" in blackout
    assert "ppfr-bench run smoke --defense pixelate --set defense.pixelate.block=8 --rerun all" in setting
    assert "ppfr-bench show blackout --suite smoke" in blackout
