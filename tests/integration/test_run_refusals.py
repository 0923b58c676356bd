"""What a run refuses, and what it records as failed: broken defenses, copies of photographs and wrong usage."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_commands import Environment, few, ppfr_bench, records

pytestmark = pytest.mark.assets

SAYS = {
    "nan": "not_finite|NaN",
    "shape": "shape",
    "range": "range|\\[0, 1\\]",
    "raises": "no face found",
    "dies": "process died",
    "hangs": "timeout: more than 20 s",
    "eats": "memory: more than 4 GiB",
    "leaks": "lets clear images out|clear_image",
}  # fmt: skip
BROKEN = {
    "nan": "return images / 0 * 0",
    "shape": "return images[:, :, :100]",
    "range": "return images + 2",
    "raises": "raise RuntimeError('no face found')",
    "dies": "import os; os.kill(os.getpid(), 9)",
    "hangs": "import time; time.sleep(1000)",
    "eats": "import time, torch; [(torch.ones(1 << 25), time.sleep(0.05)) for _ in range(1000)]",
    "leaks": "out = 1 - images; out[:, :, :60] = images[:, :, :60]; return out",
}


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory, command_environment: Environment) -> Path:
    """A folder of people in which a photograph that is measured is one of the attacker's too, stored anew."""
    from PIL import Image

    from ppfr_bench.datasets import load_dataset
    from ppfr_bench.suites import load_suite

    root = tmp_path_factory.mktemp("doubled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPFR_BENCH_CACHE", command_environment["PPFR_BENCH_CACHE"])
        made = load_dataset("synthetic", load_suite("smoke").dataset.params)
        for faces in (made.evaluation, made.attacker):
            for name, image in zip(faces.names, faces.load(range(len(faces))), strict=True):
                split, person, photo = name.split("/")
                (root / f"{split}_{person}").mkdir(exist_ok=True)
                Image.fromarray(image.transpose(1, 2, 0)).save(root / f"{split}_{person}" / f"{photo}.png")
        split = load_dataset("folder", {"root": str(root), "folds": 2})
        there, here = (faces.names[0].split("/")[0] for faces in (split.attacker, split.evaluation))
        Image.open(root / here / "0.png").save(root / there / "copy.jpg", quality=80)
    return root


FOLDER = ("dataset.folds=2", "dataset.targets=12", "dataset.gallery=12")


def test_copies_of_measured_photographs_are_refused_or_left_out(
    doubled: Path, tmp_path: Path, command_environment: Environment, worker_environment: Environment
) -> None:
    results = tmp_path / "results"
    command = few("--defense", "pixelate", "--dataset", "folder", "--dataset-root", doubled, "--results", results,
                  *(word for setting in FOLDER for word in ("--set", setting)))  # fmt: skip
    refused = ppfr_bench(*command, env=command_environment, code=2)
    assert "1 photographs are both measured" in refused.stderr and "--drop-duplicates" in refused.stderr
    assert records(results) == []
    done = ppfr_bench(*command, "--drop-duplicates", "--workers", 2, env=worker_environment)
    assert "1 of the attacker's images are copies" in done.stderr and "/copy.jpg" in done.stderr
    found = records(results)
    assert {record["status"] for record in found} == {"ok"}
    for record in found:
        (name,) = record["dataset"]["config"]["drop_duplicates"]["attacker"]
        assert name.endswith("/copy.jpg")
    done = ppfr_bench(*command, "--drop-duplicates", "--json", env=command_environment)
    assert json.loads(done.stdout)["already_recorded"] == len(found)
    shutil.copytree(doubled, tmp_path / "by_hand")
    next((tmp_path / "by_hand").glob("*/copy.jpg")).unlink()
    by_hand = few("--defense", "pixelate", "--dataset", "folder", "--dataset-root", tmp_path / "by_hand", "--results",
                  tmp_path / "r", *(word for setting in FOLDER for word in ("--set", setting)))  # fmt: skip
    ppfr_bench(*by_hand, env=command_environment)
    mine, theirs = ({r["cell"]: r["metrics"] for r in records(one) if r["cell"] != "attack"} for one in
                    (results, tmp_path / "r"))  # fmt: skip
    assert mine == theirs, "what is measured is what is measured without them"


def test_a_suite_that_leaves_copies_out_does_so_in_every_command(
    doubled: Path, tmp_path: Path, command_environment: Environment
) -> None:
    suite, results = tmp_path / "without.toml", tmp_path / "results"
    params = json.dumps(str(doubled))
    suite.write_text(
        "title = 'Without copies'\ndrop_duplicates = true\nrecognizers = ['faceplugin']\n"
        f"[dataset]\nname = 'folder'\nparams = {{ root = {params}, folds = 2, targets = 12, gallery = 12 }}\n"
        "[[defense]]\nname = 'pixelate'\n[[attack]]\nname = 'visual'\n"
    )
    command = [sys.executable, "-m", "ppfr_bench.cli", "run", str(suite), "--results", str(results)]
    process = subprocess.Popen(command, env=command_environment, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not list(results.rglob(".cells/*.json")):
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ppfr_bench("run", suite, "--results", results, env=command_environment)
    revisions = {record["dataset_revision"] for record in records(results)}
    assert len(records(results)) == 3 and len(revisions) == 1
    done = ppfr_bench("score", "pixelate", "--suite", suite, "--results", results, "--json", env=command_environment)
    assert json.loads(done.stdout)["same"] == 2
    done = ppfr_bench("nightly", suite, "--results", results, "--out", tmp_path / "nights", "--share", 1, "--json",
                      env=command_environment)  # fmt: skip
    night = json.loads(done.stdout)
    assert (night["changed"], night["sampled"], night["findings"]) == (0, 3, [])
    ppfr_bench("data", "export", suite, tmp_path / "work", env=command_environment)
    assert {json.loads((tmp_path / "work/manifest.json").read_text())["revision"]} == revisions
    shutil.copytree(tmp_path / "work/clear", tmp_path / "work/protected")
    photos = len([path for path in doubled.rglob("*") if path.is_file()])
    assert len(list((tmp_path / "work/clear").glob("*.png"))) == photos - 1


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_defense_fails_alone(how: str, tmp_path: Path, worker_environment: Environment) -> None:
    plugin = tmp_path / f"broken_{how}.py"
    limits = {"hangs": "protocol.timeout=20", "eats": "protocol.memory=4"}
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
               "--set", limits.get(how, "protocol.timeout=300"), "--results", results,
               env=worker_environment, code=1)  # fmt: skip
    mine = [record for record in records(results) if record["defense"]["label"] == f"broken_{how}"]
    assert mine and {record["status"] for record in mine} == {"failed"}
    assert all(re.search(SAYS[how], record["reason"]) and not record["metrics"] for record in mine), mine
    canary = [record for record in records(results) if record["cell"] == "canary"]
    assert {record["status"] for record in canary} == {"ok"}
    ppfr_bench("leaderboard", "--results", results, "--out", tmp_path / "pages", env=worker_environment)


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
        (("protect", "pixelate", "/nonexistent", "/tmp/out"), "a folder of images is expected"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: tuple[str, ...], says: str, command_environment: Environment, tmp_path: Path
) -> None:
    environment = {k: v for k, v in command_environment.items() if k != "PPFR_BENCH_LFW"}
    if arguments[0] == "run" and "--results" not in arguments:
        arguments += ("--results", str(tmp_path))
    assert says in ppfr_bench(*arguments, env=environment, code=2).stderr
