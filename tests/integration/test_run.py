"""The main job end to end, as a user types it: real faces, real recognizers, a really trained attack."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import warm_python
from run_commands import Environment, few, ppfr_bench, records

from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.nightly import rotating
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, worker_environment: Environment) -> Path:
    results = tmp_path_factory.mktemp("smoke") / "results"
    ppfr_bench("run", "smoke", "--results", results, env=worker_environment)
    return results


def rewrite(results: Path, change: Callable[[Record], Record]) -> None:
    """Write every record of smoke anew, changed."""
    store = ResultStore(results)
    for record in list(store.records("smoke")):
        store.write(change(record))
    store.compact("smoke")


def pick(results: Path, **wanted: str) -> dict[str, Any]:
    def matches(record: dict[str, Any]) -> bool:
        labels = {k: (record[k] or {}).get("label") if k != "cell" else record[k] for k in wanted}
        return labels == wanted

    (found,) = [record for record in records(results) if matches(record)]
    return found


def content(results: Path) -> dict[str, bytes]:
    files = (path for path in sorted(results.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(results)): path.read_bytes() for path in files}


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
    utility = pick(smoke, defense="no_defense", cell="utility", recognizer="dlib_resnet")["metrics"]
    assert utility["retention"]["value"] == 1
    assert utility["accuracy"]["value"] > 0.9
    for attack in ("visual", "unet", "ridge"):
        metrics = pick(smoke, defense="no_defense", attack=attack)["metrics"]
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


def test_settings_stand_side_by_side_and_a_sweep_is_the_same_records(
    tmp_path: Path, command_environment: Environment
) -> None:
    for block in (14, 8):
        ppfr_bench(*few("--defense", "pixelate", "--set", f"defense.pixelate.block={block}", "--results",
                        tmp_path / "one"), env=command_environment)  # fmt: skip
    swept = few("--defense", "pixelate", "--sweep", "defense.pixelate.block=8,14", "--results", tmp_path / "two")
    ppfr_bench(*swept, env=command_environment)
    labels = {record["defense"]["label"] for record in records(tmp_path / "one") if record["cell"] != "canary"}
    assert labels == {"pixelate", "pixelate_block_8"}
    assert differences(tmp_path / "one" / "smoke", tmp_path / "two" / "smoke") == []
    done = ppfr_bench(*swept, "--dry-run", "--json", env=command_environment)
    assert json.loads(done.stdout)["to_run"] == 0
    ppfr_bench("leaderboard", "--results", tmp_path / "two", "--out", tmp_path / "pages", env=command_environment)
    page = (tmp_path / "pages/smoke/leaderboard.html").read_text()
    assert "pixelate with block = 8" in page and "pixelate: block: 8 retention" in page
    done = ppfr_bench("show", "pixelate_block_8", "--suite", "smoke", "--results", tmp_path / "two",
                      env=command_environment)  # fmt: skip
    assert "pixelate with block = 8" in done.stdout


def test_what_a_run_takes_the_place_of_is_told_of_and_comes_back(
    tmp_path: Path, command_environment: Environment
) -> None:
    results = tmp_path / "results"
    command = few("--defense", "block_permutation", "--results", results)
    assert "set aside" not in ppfr_bench(*command, env=command_environment).stderr
    before = content(results / "smoke")
    done = ppfr_bench(*command, "--set", "protocol.replicates=30", "--json", env=command_environment)
    assert json.loads(done.stdout)["set_aside"] == 3
    assert "protocol.replicates 50, now 30" in done.stderr and "none deleted" in done.stderr
    assert done.stderr.count("set aside in") == 1
    (key,) = [one.key for one in ResultStore(results).set_aside_records("smoke", "") if one.cell == "attack"]
    assert "visual" in ppfr_bench("show", key[:12], "--results", results, env=command_environment).stdout
    done = ppfr_bench(*command, "--json", env=command_environment)
    told = json.loads(done.stdout)
    assert (told["already_recorded"], told["brought_back"]) == (told["cells"], told["cells"])
    there = {name: x for name, x in content(results / "smoke").items() if not name.startswith("set-aside")}
    assert there == before, "the plan, the rows, the draws and the sample faces are those of before"
    ppfr_bench("leaderboard", "--results", results, "--out", tmp_path / "pages", env=command_environment)
    done = ppfr_bench("score", "block_permutation", "--suite", "smoke", "--results", results, "--json",
                      env=command_environment)  # fmt: skip
    assert json.loads(done.stdout)["outside"] == []


def test_killed_and_resumed_gives_the_same_bytes(smoke: Path, tmp_path: Path, worker_environment: Environment) -> None:
    command = [sys.executable, "-m", "ppfr_bench.cli", "run", "smoke", "--results", str(tmp_path / "r")]
    process = subprocess.Popen(command, env=worker_environment, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(tmp_path.rglob(".cells/*.json"))) < 3:
        pass
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(records(tmp_path / "r")) < len(records(smoke))
    ppfr_bench("run", "smoke", "--results", tmp_path / "r", "--workers", 2, env=worker_environment)
    assert differences(smoke, tmp_path / "r") == []


def test_the_pages_are_a_function_of_the_records(smoke: Path, tmp_path: Path, command_environment: Environment) -> None:
    for name in ("one", "two"):
        ppfr_bench("leaderboard", "--results", smoke, "--out", tmp_path / name, env=command_environment)
    assert differences(tmp_path / "one", tmp_path / "two") == []
    names = {path.name for path in (tmp_path / "one" / "smoke").iterdir()}
    assert {"leaderboard.html", "leaderboard.md", "leaderboard.csv", "pareto.png", "gallery", "faces.jpg"} <= names


def test_recorded_numbers_are_measured_again_to_the_last_digit(
    smoke: Path, tmp_path: Path, command_environment: Environment
) -> None:
    command = ("score", "block_permutation", "--suite", "smoke", "--results", smoke)
    found = json.loads(ppfr_bench(*command, "--anew", "--json", env=command_environment).stdout)
    mine = [record for record in records(smoke) if record["defense"]["label"] == "block_permutation"]
    assert found == {"same": len(mine), "within": 0, "outside": [], "not_recorded": 0}
    shutil.copytree(smoke, tmp_path / "edited")

    def flattered(record: Record) -> Record:
        if record.defense.label != "block_permutation" or record.slot[1] != "ridge":
            return record
        better = replace(record.metrics["lpips"], leakage=Estimate(0.1, (0.05, 0.15), 12))
        return record.model_copy(update={"metrics": record.metrics | {"lpips": better}})

    rewrite(tmp_path / "edited", flattered)
    done = ppfr_bench(*command[:-1], tmp_path / "edited", env=command_environment, code=1)
    assert "leakage_lpips" in done.stdout


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

    def moved(record: Record) -> Record:
        def far(one: Estimate) -> Estimate:
            low, high = one.interval or (0.0, 0.0)
            return (
                replace(one, value=one.value + 5, interval=(low + 5, high + 5)) if one.interval and one.value else one
            )

        changed = {name: replace(found, value=far(found.value)) for name, found in record.metrics.items()}
        return record.model_copy(update={"metrics": changed})

    rewrite(results, moved)  # every record, whichever of them the night takes
    loud = json.loads(ppfr_bench(*arguments, "--json", env=command_environment, code=1).stdout)
    assert {finding["kind"] for finding in loud["findings"]} == {"drift"}
    assert len({finding["what"] for finding in loud["findings"]}) == quiet["sampled"] == loud["sampled"]
    assert len((out / "nights.jsonl").read_text().splitlines()) == 1
    assert "drift" in (out / "nightly.md").read_text() and "drift" in (out / "nightly.html").read_text()


@pytest.mark.slow
def test_a_submission_is_taken_as_a_claim_and_measured_on_other_people(
    smoke: Path, command_environment: Environment, tmp_path: Path
) -> None:
    """The whole way: packed, taken, published, and really measured again on people drawn from a secret seed.

    Attacks of this suite train for four steps on a few people, so that an honest claim may come out otherwise: what is
    checked is that the page says what was found. ``test_confirmation`` has what agrees and what does not.
    """
    name, archive, root = "block_permutation", tmp_path / "one.zip", tmp_path / "checkout"
    results, pages = root / "results", tmp_path / "pages"
    changed = [one for one in ResultStore(smoke).records() if one.environment.dirty is not False]
    if changed:
        pytest.skip("the code has changes that no commit has: what it measures is not packed")
    ppfr_bench("submit", name, "--suite", "smoke", "--results", smoke, "--out", archive, env=command_environment)
    ppfr_bench("accept", archive, "--into", root, env=command_environment)
    ppfr_bench("leaderboard", "--results", results, "--out", pages, env=command_environment)
    assert "claimed by the authors" in (pages / "smoke/leaderboard.md").read_text()
    score = ("score", name, "--suite", "smoke", "--results", results, "--confirm")
    assert "PPFR_BENCH_SECRET_SEED is not set" in ppfr_bench(*score, env=command_environment, code=2).stderr
    key = hashlib.sha256(b"people of this test").hexdigest()
    secret = command_environment | {"PPFR_BENCH_SECRET_SEED": key}
    done = warm_python.run(["-m", "ppfr_bench.cli", *score], secret)
    confirmed = f"synthetic/{name}: confirmed" in done.stdout
    assert confirmed or f"synthetic/{name}: refuted" in done.stdout, done.stderr + done.stdout
    assert done.returncode == (0 if confirmed else 1) and key not in done.stdout + done.stderr
    ppfr_bench("leaderboard", "--results", results, "--out", pages, env=command_environment)
    page = (pages / "smoke/leaderboard.md").read_text()
    assert "claimed by the authors" not in page and ("claim refuted" in page) != confirmed
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


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


def test_answers_made_elsewhere_score_as_the_attack_that_made_them(
    smoke: Path, tmp_path: Path, command_environment: Environment
) -> None:
    """The release itself, handed in as a rebuilt face, is what ``visual`` answers."""
    results, work = tmp_path / "results", tmp_path / "as_it_is"
    shutil.copytree(smoke, results)
    command = ("run", "smoke", "--defense", "stochastic_local", "--answers", work, "--results", results)
    ppfr_bench("data", "releases", "smoke", "stochastic_local", work, env=command_environment)
    targets = np.load(work / "targets.npy", allow_pickle=False)
    np.save(work / "answers.npy", targets[0])
    ppfr_bench(*command, env=command_environment)
    here, there = (pick(results, defense="stochastic_local", attack=label) for label in ("visual", "as_it_is"))
    assert there["metrics"] == here["metrics"]
    done = json.loads(ppfr_bench(*command, "--json", env=command_environment).stdout)
    assert (done["cells"], done["already_recorded"]) == (5, 5)
    store = ResultStore(results)
    plan = store.plan("smoke")
    assert plan is not None
    rows = {row.defense: row for row in build(store.records("smoke"), plan)}
    assert all(row.complete for row in rows.values())
    assert {label for label, row in rows.items() if "as_it_is" in {cell.attack for cell in row.cells}} == {
        "stochastic_local"
    }
    ppfr_bench("leaderboard", "--results", results, "--out", tmp_path / "pages", env=command_environment)
    np.save(work / "targets.npy", targets[:, ::-1])
    np.save(work / "answers.npy", 255 - targets[0])
    refused = ppfr_bench(*command, env=command_environment, code=2)
    assert "is not what 'stochastic_local' releases here" in refused.stderr
    similarities = tmp_path / "guess"
    ppfr_bench("data", "releases", "smoke", "block_permutation", similarities, env=command_environment)
    np.save(similarities / "answers.npy", np.random.RandomState(0).uniform(size=(12, 12)))
    ppfr_bench("run", "smoke", "--defense", "block_permutation", "--answers", similarities, "--results", results,
               env=command_environment)  # fmt: skip
    found = pick(results, defense="block_permutation", attack="guess")
    assert (found["status"], found["sets"], found["knowledge"]) == ("ok", "identity", "aware")
    assert found["metrics"]["rank_1_ceiling"]["value"] > 0.9, "named by the surrogate where nothing is protected"


@pytest.mark.parametrize("kind", ["defense", "attack"])
def test_a_new_plugin_passes_its_check(kind: str, tmp_path: Path, command_environment: Environment) -> None:
    for arguments in (["new", kind, "my_own"], ["check", "my_own.py"]):
        done = warm_python.run(["-m", "ppfr_bench.cli", *arguments], command_environment, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "keeps the contract" in done.stdout
