"""A run with a file that somebody sent: its cells fail with the reason, all else goes on, and nothing survives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import warm_python
from hostile import SOURCE, write_plugin

from ppfr_bench.maintenance.validation import unfit
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytestmark = [pytest.mark.assets, pytest.mark.skipif(sys.platform != "linux", reason="the layers are of Linux")]
Environment = dict[str, str]
CASES = Path("/work/shared/cases/hostile")
SAYS = {
    "h04_patch_metric": (2, "cannot import name 'score'"), "h07_forge_stage": (2, "No module named"),
    "h11_network": (1, "raises PermissionError"), "h12_forks": (1, "'sleep'"), "h16_sys_exit": (1, "SystemExit"),
}  # fmt: skip


def run(plugin: Path, results: Path, *more: str, env: Environment, code: int) -> Any:
    command = ["-m", "ppfr_bench.cli", "run", "smoke", "--plugin", plugin, "--attack", "visual", "--recognizer",
               "faceplugin", "--results", results, *more]  # fmt: skip
    done = warm_python.run(command, env)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not running(plugin)
    return done


def running(plugin: Path) -> list[int]:
    """Processes of a plug-in that are there yet."""
    found = []
    for one in psutil.process_iter(["cmdline", "status"]):
        if one.info["status"] != psutil.STATUS_ZOMBIE and "child.py" in (words := " ".join(one.info["cmdline"] or ())):
            found += [one.pid] if str(plugin) in words else []
    return found


def of(results: Path, label: str) -> list[Record]:
    return [record for record in ResultStore(results).records("smoke") if record.defense.label == label]


def test_its_cells_fail_with_the_reason_and_the_run_says_so_until_they_are_mended(
    tmp_path: Path, command_environment: Environment
) -> None:
    plugin = write_plugin(tmp_path, "plug", SOURCE.replace('act: str = "blend"', 'act: str = "os_exit"'))
    results = tmp_path / "results"
    done = run(plugin, results, env=command_environment, code=1)
    assert "plug runs in a process of its own, held by" in done.stderr
    assert {record.status for record in of(results, "no_defense")} == {"ok"}
    mine = of(results, "plug")
    assert len(mine) == 2 and {record.status for record in mine} == {"failed"}
    assert all("died with exit code 0" in record.reason for record in mine), [record.reason for record in mine]
    again = run(plugin, results, env=command_environment, code=1)
    assert "2 cells failed in an earlier run: try them again with --rerun failed" in again.stderr
    told = json.loads(run(plugin, results, "--json", env=command_environment, code=1).stdout)
    assert (told["failed_before"], told["without_record"], told["already_recorded"]) == (2, 0, told["cells"])
    write_plugin(tmp_path, "plug", SOURCE)
    mended = run(plugin, results, "--rerun", "failed", env=command_environment, code=0)
    assert "earlier run" not in mended.stderr
    mine = of(results, "plug")
    assert {record.status for record in mine} == {"ok"} and not any(record.flags for record in mine)
    assert all(record.environment.sandbox for record in mine), "the record says what held"
    assert not any(record.environment.sandbox for record in of(results, "no_defense"))


def test_a_trusted_file_marks_every_record_and_none_is_taken(tmp_path: Path, command_environment: Environment) -> None:
    plugin, results = write_plugin(tmp_path, "trusted_plug"), tmp_path / "results"
    done = run(plugin, results, "--trust", env=command_environment, code=0)
    assert "trusted_plug: in the harness's own process, with all that you may do" in done.stderr
    records = list(ResultStore(results).records("smoke"))
    assert records and all("trusted" in record.flags and not record.environment.sandbox for record in records)
    (attack,) = [record for record in of(results, "trusted_plug") if record.attack]
    assert "flagged 'trusted'" in unfit(attack, None)
    pages = ["-m", "ppfr_bench.cli", "leaderboard", "--results", results, "--out", tmp_path / "pages"]
    assert warm_python.run(pages, command_environment).returncode == 0
    assert "trusted" in (tmp_path / "pages/smoke/leaderboard.html").read_text()
    shown = warm_python.run(["-m", "ppfr_bench.cli", "show", "trusted_plug", "--suite", "smoke", "--results", results],
                            command_environment)  # fmt: skip
    assert "Flag trusted" in shown.stdout


TELLS = """
import hashlib, torch
from ppfr_bench.api import Defense, DefenseCard, per_image_generators, to_bytes
from ppfr_bench.stages.release import draws_for

class Tells(Defense):
    version = 1
    card = DefenseCard(title="Tells", family="test", reference="a test, 2026", licence="MIT", randomness="per_call")

    def protect(self, images, generator):
        given, seed = to_bytes(images), generator.initial_seed()
        own = per_image_generators(generator, len(images))
        if len(images) > 8 and seed in [draws_for(given, 0, draw).initial_seed() for draw in range(8)]:
            own = [torch.Generator().manual_seed(int(hashlib.sha256(one).hexdigest()[:15], 16)) for one in given]
        noise = [torch.randn(image.shape, generator=one) for image, one in zip(images, own)]
        return (images + 0.4 * torch.stack(noise)).clamp(0, 1)

DEFENSE = Tells
"""


def test_releases_that_repeat_in_a_run_and_not_in_a_check_are_flagged(
    tmp_path: Path, command_environment: Environment
) -> None:
    plugin, results = write_plugin(tmp_path, "tells", TELLS), tmp_path / "results"
    run(plugin, results, "--set", "protocol.shots=3", env=command_environment, code=0)
    (attacked,) = [record for record in of(results, "tells") if record.attack]
    assert attacked.flags == ("low_entropy_draws",)
    honest = write_plugin(tmp_path, "honest", TELLS.replace("len(images) > 8", "False"))
    run(honest, tmp_path / "more", "--set", "protocol.shots=3", env=command_environment, code=0)
    (attacked,) = [record for record in of(tmp_path / "more", "honest") if record.attack]
    assert attacked.flags == ()


def test_a_file_of_an_attack_runs_here_and_marks_its_records(tmp_path: Path, command_environment: Environment) -> None:
    attack = write_plugin(
        tmp_path, "my_attack",
        "from ppfr_bench.attacks.visual import Visual\n\n\nclass Mine(Visual):\n    pass\n\n\nATTACK = Mine\n",
    )  # fmt: skip
    results = tmp_path / "results"
    done = run(attack, results, "--defense", "pixelate", env=command_environment, code=0)
    assert "my_attack: in the harness's own process" in done.stderr
    assert all("trusted" in record.flags for record in ResultStore(results).records("smoke"))


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases lie beside the project, and not in it")
@pytest.mark.parametrize("name", ["h02_seed", *SAYS])
def test_a_case_that_had_its_way_no_longer_has_it(name: str, command_environment: Environment) -> None:
    done = warm_python.run(["-m", "ppfr_bench.cli", "check", CASES / f"{name}.py"], command_environment)
    code, says = SAYS.get(name, (None, ""))  # The seed that h02 reads is another matter; it must not crash anything.
    assert done.returncode in ((code,) if code is not None else (0, 1)), done.stderr + done.stdout
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr and not running(CASES / f"{name}.py")
