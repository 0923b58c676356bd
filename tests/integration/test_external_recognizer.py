"""A recognizer with a card, from the command line through a worker process into records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import warm_python
from made_networks import write_card, write_onnx
from PIL import Image

from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

pytest.importorskip("onnx", reason="needs the extra: pip install 'ppfr-bench[onnx]'")

SUITE = """
title = "External"
recognizers = ["made.toml"]
[dataset]
name = "folder"
params = { root = "people", folds = 2, gallery = 4, targets = 4 }
[[defense]]
name = "no_defense"
[[defense]]
name = "pixelate"
[[attack]]
name = "linkage"
"""


def people(root: Path) -> None:
    """Ten people of three photographs each: smooth colours of their own, and a little noise."""
    generator = np.random.default_rng(0)
    for person in range(10):
        colours = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((112, 112))
        (root / f"p{person}").mkdir(parents=True)
        for photo in range(3):
            noise = generator.integers(-20, 21, (112, 112, 3))
            pixels = np.clip(np.asarray(colours) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"p{person}" / f"{photo}.png")


def test_a_card_gives_records_of_its_own(tmp_path: Path, command_environment: dict[str, str]) -> None:
    people(tmp_path / "people")
    (tmp_path / "brought.toml").write_text(SUITE)
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx"))
    command = ["-m", "ppfr_bench.cli", "run", "brought.toml"]

    def run() -> list[Record]:
        done = warm_python.run(command, command_environment, tmp_path)
        assert done.returncode == 0, done.stderr + done.stdout
        found = list(ResultStore(tmp_path / "results").records("brought"))
        assert {record.status for record in found} == {"ok"}, [record.reason for record in found]
        assert {record.recognizer.label for record in found if record.recognizer} == {"made"}
        assert len(found) == 5  # the canary, and for each defense its utility and the attack
        return found

    def canary(records: list[Record]) -> Record:
        return next(record for record in records if record.cell == "canary")

    first = run()
    assert canary(first).metrics["accuracy"].value.value == 1 and str(tmp_path) not in canary(first).model_dump_json()
    assert canary(first).log["recognizer"]["identity"]["mean"] == 127.5
    card.write_text(card.read_text().replace("mean = 127.5", "mean = 100"))
    second = run()
    assert canary(second).log["recognizer"]["identity"]["mean"] == 100
    assert {record.key for record in first}.isdisjoint(record.key for record in second)
