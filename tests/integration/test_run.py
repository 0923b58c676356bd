"""The main job end to end, as a user types it: real faces, real recognizers, a really trained attack."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppfr_bench.nightly import rotating

pytestmark = pytest.mark.assets
Environment = dict[str, str]

SAYS = {
    "nan": "not_finite|NaN",
    "shape": "shape",
    "range": "range|\\[0, 1\\]",
    "raises": "no face found",
    "dies": "worker died",
    "hangs": "timeout: more than 20 s", "leaks": "lets clear images out|clear_image",
}  # fmt: skip
BROKEN = {
    "nan": "return images / 0 * 0",
    "shape": "return images[:, :, :100]",
    "range": "return images + 2",
    "raises": "raise RuntimeError('no face found')",
    "dies": "import os; os.kill(os.getpid(), 9)",
    "hangs": "import time; time.sleep(1000)",
    "leaks": "out = 1 - images; out[:, :, :60] = images[:, :, :60]; return out",
}


def ppfr_bench(*arguments: object, env: Environment, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ppfr_bench.cli", *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, command_environment: Environment) -> Path:
    results = tmp_path_factory.mktemp("smoke") / "results"
    ppfr_bench("run", "smoke", "--results", results, env=command_environment)
    return results


def records(results: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(results.rglob("*.json"))]


def pick(results: Path, **wanted: str) -> dict[str, Any]:
    def matches(record: dict[str, Any]) -> bool:
        labels = {k: (record[k] or {}).get("label") if k != "cell" else record[k] for k in wanted}
        return labels == wanted

    (found,) = [record for record in records(results) if matches(record)]
    return found


def content(results: Path) -> dict[str, bytes]:
    return {str(p.relative_to(results)): p.read_bytes() for p in sorted(results.rglob("*")) if p.is_file()}


def differences(one: Path, two: Path) -> list[str]:
    """What differs between two result folders, named by file and field; empty when every byte is the same."""
    mine, yours = content(one), content(two)
    found = sorted(f"{name}: only in one" for name in mine.keys() ^ yours.keys())
    for name in sorted(mine.keys() & yours.keys()):
        if mine[name] != yours[name]:
            fields = zip(mine[name].split(b"\n"), yours[name].split(b"\n"), strict=False)
            found += [f"{name}: {a[:80]!r} != {b[:80]!r}" for a, b in fields if a != b][:3]
    return found


def test_every_cell_is_recorded_and_measured(smoke: Path) -> None:
    found = records(smoke)
    assert {record["status"] for record in found} == {"ok"}, [r["reason"] for r in found]
    assert {r["cell"] for r in found} == {"canary", "utility", "attack"}


def test_no_defense_keeps_everything_and_hides_nothing(smoke: Path) -> None:
    utility = pick(smoke, defense="identity", cell="utility", recognizer="dlib_resnet")["metrics"]
    assert utility["retention"]["value"] == 1
    assert utility["accuracy"]["value"] > 0.9
    for attack in ("visual", "unet", "ridge"):
        metrics = pick(smoke, defense="identity", attack=attack)["metrics"]
        assert metrics["leakage_ssim"]["value"] == 1, attack


def test_blackout_hides_everything_and_keeps_nothing(smoke: Path) -> None:
    utility = pick(smoke, defense="blackout", cell="utility", recognizer="dlib_resnet")["metrics"]
    assert utility["accuracy"]["interval"][0] <= 0.5 <= utility["accuracy"]["interval"][1]
    linkage = pick(smoke, defense="blackout", attack="linkage", recognizer="dlib_resnet")["metrics"]
    assert linkage["rank_1"]["value"] == pytest.approx(linkage["rank_1_blind"]["value"])
    assert linkage["leakage_rank_1"]["value"] == 0


def test_a_fixed_permutation_is_undone(smoke: Path) -> None:
    metrics = pick(smoke, defense="block_permutation", attack="ridge")["metrics"]
    assert metrics["leakage_lpips"]["value"] > 0.9


def test_the_same_command_again_does_nothing(smoke: Path, command_environment: Environment) -> None:
    before = content(smoke)
    done = ppfr_bench("run", "smoke", "--results", smoke, "--json", env=command_environment)
    assert json.loads(done.stdout)["already_recorded"] == len(records(smoke))
    assert content(smoke) == before


def test_killed_and_resumed_gives_the_same_bytes(smoke: Path, tmp_path: Path, command_environment: Environment) -> None:
    command = [sys.executable, "-m", "ppfr_bench.cli", "run", "smoke", "--results", str(tmp_path / "r")]
    process = subprocess.Popen(command, env=command_environment, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(tmp_path.rglob("*.json"))) < 3:
        pass
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(list(tmp_path.rglob("*.json"))) < len(records(smoke))
    ppfr_bench("run", "smoke", "--results", tmp_path / "r", "--workers", 2, env=command_environment)
    assert differences(smoke, tmp_path / "r") == []


def test_the_pages_are_a_function_of_the_records(smoke: Path, tmp_path: Path, command_environment: Environment) -> None:
    for name in ("one", "two"):
        ppfr_bench("leaderboard", "--results", smoke, "--out", tmp_path / name, env=command_environment)
    assert differences(tmp_path / "one", tmp_path / "two") == []
    names = {path.name for path in (tmp_path / "one" / "smoke").iterdir()}
    assert {"leaderboard.html", "leaderboard.md", "leaderboard.csv", "pareto.png", "samples.png"} <= names


def test_recorded_numbers_are_measured_again_to_the_last_digit(
    smoke: Path, tmp_path: Path, command_environment: Environment
) -> None:
    command = ("score", "block_permutation", "--suite", "smoke", "--results", smoke)
    found = json.loads(ppfr_bench(*command, "--anew", "--json", env=command_environment).stdout)
    mine = [record for record in records(smoke) if record["defense"]["label"] == "block_permutation"]
    assert found == {"same": len(mine), "within": 0, "outside": [], "not_recorded": 0}
    shutil.copytree(smoke, tmp_path / "edited")
    (path,) = (tmp_path / "edited/smoke/synthetic/block_permutation/ridge").glob("*.json")
    record = json.loads(path.read_text())
    flattered = {"value": 0.1, "interval": [0.05, 0.15]}
    record["metrics"]["leakage_lpips"] |= flattered
    path.write_text(json.dumps(record))
    done = ppfr_bench(*command[:-1], tmp_path / "edited", env=command_environment, code=1)
    assert "leakage_lpips" in done.stdout


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_defense_fails_alone(how: str, tmp_path: Path, command_environment: Environment) -> None:
    plugin = tmp_path / f"broken_{how}.py"
    plugin.write_text(
        "from ppfr_bench.api import Config, Defense, DefenseCard\n"
        "class Broken(Defense):\n"
        "    version = 1\n"
        "    card = DefenseCard(title='Broken', family='test', reference='none', licence='MIT')\n"
        "    def protect(self, images, generator):\n"
        f"        {BROKEN[how]}\n"
        "DEFENSE = Broken\n"
    )
    results = tmp_path / "results"
    ppfr_bench("run", "smoke", "--plugin", plugin, "--attack", "visual", "--recognizer", "dlib_resnet",
               "--set", f"protocol.timeout={20 if how == 'hangs' else 300}", "--results", results,
               env=command_environment, code=1)  # fmt: skip
    mine = [record for record in records(results) if record["defense"]["label"] == f"broken_{how}"]
    assert mine and {record["status"] for record in mine} == {"failed"}
    assert all(re.search(SAYS[how], record["reason"]) and not record["metrics"] for record in mine), mine
    canary = [record for record in records(results) if record["cell"] == "canary"]
    assert {record["status"] for record in canary} == {"ok"}
    ppfr_bench("leaderboard", "--results", results, "--out", tmp_path / "pages", env=command_environment)


def test_a_mask_passes_once_its_card_says_what_it_leaves_clear(
    tmp_path: Path, command_environment: Environment
) -> None:
    plugin = tmp_path / "lower_half.py"
    command = ("run", "smoke", "--plugin", plugin, "--attack", "visual", "--recognizer", "dlib_resnet",
               "--rerun", "failed", "--results", tmp_path / "results")  # fmt: skip
    for share, code in ((0.0, 1), (0.7, 0)):
        plugin.write_text(
            "from ppfr_bench.api import Defense, DefenseCard\n"
            "class LowerHalf(Defense):\n"
            "    version = 1\n"
            "    card = DefenseCard(title='Lower half', family='test', reference='none', licence='MIT', "
            f"clear_share={share})\n"
            "    def protect(self, images, generator):\n"
            "        return images * (images.new_ones(112, 1).cumsum(0) > 45)\n"
            "DEFENSE = LowerHalf\n"
        )
        ppfr_bench(*command, env=command_environment, code=code)
        mine = [record for record in records(tmp_path / "results") if record["defense"]["label"] == "lower_half"]
        assert mine and {record["status"] for record in mine} == {"failed" if code else "ok"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "quik"), "Did you mean 'quick'"),
        (("run", "smoke", "--defense", "pixelat"), "Did you mean 'pixelate'"),
        (("run", "smoke", "--recognizer", "dlib"), "Did you mean 'dlib_resnet'"),
        (("run", "smoke", "--set", "defense.blackout.sigma=1"), "sigma"),
        (("run", "smoke", "--set", "dataset.identities=4"), "unknown key 'identities'"),
        (("run", "smoke", "--set", "dataset.targets=many"), "targets"),
        (("run", "smoke", "--results", "/proc/nowhere"), "cannot write"),
        (("run", "lfw_quick"), "PPFR_BENCH_LFW"),
        (("leaderboard", "--results", "/nonexistent"), "no results at"),
        (("show", "nothing", "--results", "/nonexistent"), "no results at"),
        (("check", "pixelat"), "Did you mean 'pixelate'"),
        (("protect", "pixelate", "/nonexistent", "/tmp/out"), "expected a folder"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: tuple[str, ...], says: str, command_environment: Environment, tmp_path: Path
) -> None:
    environment = {k: v for k, v in command_environment.items() if k != "PPFR_BENCH_LFW"}
    if arguments[0] == "run" and "--results" not in arguments:
        arguments += ("--results", str(tmp_path))
    assert says in ppfr_bench(*arguments, env=environment, code=2).stderr


def test_protect_a_folder(tmp_path: Path, command_environment: Environment) -> None:
    from PIL import Image

    source = tmp_path / "in"
    source.mkdir()
    for i in range(3):
        Image.effect_noise((112, 112), 40 + i).convert("RGB").save(source / f"{i}.png")
    for name in ("a", "b"):
        ppfr_bench("protect", "stochastic_local", source, tmp_path / name, "--seed", 1, env=command_environment)
    assert content(tmp_path / "a") == content(tmp_path / "b") and len(content(tmp_path / "a")) == 3
    ppfr_bench("protect", "stochastic_local", source, tmp_path / "c", env=command_environment)
    assert content(tmp_path / "c") != content(tmp_path / "a")
    Image.new("RGB", (80, 112)).save(source / "small.png")
    done = ppfr_bench("protect", "pixelate", source, tmp_path / "d", env=command_environment, code=2)
    assert "small.png" in done.stderr and "112" in done.stderr


def test_a_night_names_what_moved_and_nothing_else(
    smoke: Path, tmp_path: Path, command_environment: Environment
) -> None:
    """One part of all cells is measured anew on an empty cache; a record that says otherwise is found out."""
    results, out = tmp_path / "results", tmp_path / "out"
    shutil.copytree(smoke, results)
    cells = [SimpleNamespace(key=record["key"]) for record in records(results)]
    nights = (date(2026, 11, 1) + timedelta(days=i) for i in range(25))
    night = next(night for night in nights if 1 <= len(rotating(cells, night, 0.04)) <= 3)
    arguments = ("nightly", "smoke", "--results", results, "--out", out, "--night", night, "--share", 0.04)
    quiet = json.loads(ppfr_bench(*arguments, "--json", env=command_environment).stdout)
    assert quiet["changed"] == 0 and quiet["sampled"] > 0 and quiet["findings"] == []
    assert differences(smoke, results) == [], "what did not change stays as it is"
    for path in results.rglob("*.json"):  # every canary and utility record, whichever of them the night takes
        record = json.loads(path.read_text())
        for metric in record["metrics"].values():
            if metric["interval"]:
                metric |= {"value": metric["value"] + 5, "interval": [x + 5 for x in metric["interval"]]}
        path.write_text(json.dumps(record))
    loud = json.loads(ppfr_bench(*arguments, "--json", env=command_environment, code=1).stdout)
    assert {finding["kind"] for finding in loud["findings"]} == {"drift"}
    assert len({finding["what"] for finding in loud["findings"]}) == quiet["sampled"] == loud["sampled"]
    assert len((out / "nights.jsonl").read_text().splitlines()) == 1
    assert "drift" in (out / "nightly.md").read_text() and "drift" in (out / "nightly.html").read_text()


def test_images_protected_elsewhere_score_as_if_protected_here(
    smoke: Path, tmp_path: Path, command_environment: Environment
) -> None:
    work = tmp_path / "their_tool"
    ppfr_bench("data", "export", "smoke", work, env=command_environment)
    ppfr_bench("protect", "block_permutation", work / "clear", work / "protected", env=command_environment)
    ppfr_bench("run", "smoke", "--precomputed", work, "--attack", "visual", "--results", tmp_path / "results",
               env=command_environment)  # fmt: skip
    for wanted in ({"attack": "visual"}, {"cell": "utility", "recognizer": "dlib_resnet"}):
        here, there = pick(smoke, defense="block_permutation", **wanted), pick(tmp_path / "results", **wanted)
        assert there["defense"]["label"] == "their_tool"
        assert there["metrics"] == here["metrics"], wanted
    assert "not_live" in pick(tmp_path / "results", attack="visual")["flags"]


@pytest.mark.parametrize("kind", ["defense", "attack"])
def test_a_new_plugin_passes_its_check(kind: str, tmp_path: Path, command_environment: Environment) -> None:
    command = [sys.executable, "-m", "ppfr_bench.cli"]
    for arguments in (["new", kind, "my_own"], ["check", "my_own.py"]):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=command_environment, capture_output=True,
                              text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert "keeps the contract" in done.stdout
