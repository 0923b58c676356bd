"""``ppfr_bench.evaluate`` as a user calls it: from a script, in worker processes, on what the machine remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import warm_python

pytestmark = pytest.mark.assets

HEAD = """
import json, sys
import torch
import ppfr_bench as pb

def show(found):
    print(json.dumps({"mine": found.row.retention.value, "by": found.row.appearance.set_by, "note": found.note,
                      "complete": found.row.complete, "seconds": found.row.seconds,
                      "keys": sorted(found.records["key"].unique()),
                      "labels": sorted(found.table["defense"]), "gaps": [gap.reason for gap in found.row.gaps]}))

few = {"suite": "smoke", "attacks": ["visual"], "recognizers": ["faceplugin"], "progress": False,
       "results": sys.argv[1]}
"""


def script(folder: Path, results: Path, code: str, env: dict[str, str]) -> list[dict[str, object]]:
    """What a script with no ``if __name__ == "__main__"`` shows, a line an evaluation."""
    path = folder / "script.py"
    path.write_text(HEAD + code)
    done = warm_python.run([path, results], env, folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_callable_scores_as_the_plugin_that_does_the_same(
    tmp_path: Path, command_environment: dict[str, str]
) -> None:
    (tmp_path / "beside.py").write_text("SIDE = 14\n")
    code = """
from beside import SIDE
def mosaic(images):
    small = torch.nn.functional.avg_pool2d(images, SIDE)
    return torch.nn.functional.interpolate(small, scale_factor=SIDE, mode="nearest")
show(pb.evaluate(mosaic, **few))
"""
    plugin = 'show(pb.evaluate("pixelate", **few))\n'
    mine, theirs = script(tmp_path, tmp_path / "r", code + plugin, command_environment)
    assert mine["labels"] == ["blackout", "mosaic", "no_defense"] and mine["complete"] and not mine["note"]
    assert mine["mine"] == theirs["mine"] and mine["by"] == theirs["by"]
    shared = set(mine["keys"]) & set(theirs["keys"])  # type: ignore[call-overload]
    assert shared and set(mine["keys"]) - shared, "the controls are the same cells, the two defenses are not"  # type: ignore[call-overload]
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.json")}
    (again,) = script(tmp_path, tmp_path / "r", code, command_environment)
    assert again == mine
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*.json")} == before, "nothing is measured twice"
    (tmp_path / "beside.py").write_text("SIDE = 28\n")
    (changed,) = script(tmp_path, tmp_path / "r", code, command_environment)
    assert changed["mine"] != mine["mine"], "what it reads has changed, so it is another defense"


def test_classes_of_a_script_networks_and_what_nobody_can_see(
    tmp_path: Path, worker_environment: dict[str, str]
) -> None:
    code = """
from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators

class Noisy(Defense):
    version = 1
    card = DefenseCard(title="Noisy", family="test", reference="test", licence="MIT", randomness="per_call")
    class Config(Config):
        strength: float = 0.5
    def protect(self, images, generator):
        drawn = [torch.rand(images.shape[1:], generator=one) for one in per_image_generators(generator, len(images))]
        return (1 - self.config.strength) * images / 2 + self.config.strength * torch.stack(drawn)

show(pb.evaluate(Noisy(Noisy.Config(strength=0.25)), **few))

class Box:
    __slots__ = ("layer",)
    def __init__(self):
        self.layer = torch.nn.AvgPool2d(7, 1, 3)
    def __call__(self, images, generator):
        return 1 - self.layer(images)

show(pb.evaluate(Box(), name="boxed", **few))
"""
    noisy, boxed = script(tmp_path, tmp_path / "r", code, worker_environment)
    assert noisy["labels"] == ["blackout", "no_defense", "noisy"] and noisy["complete"] and not noisy["note"]
    assert boxed["complete"] and "Box" in str(boxed["note"])
    (anew,) = script(tmp_path, tmp_path / "r", "class Box" + code.partition("class Box")[2], worker_environment)
    new = set(anew["keys"]) - set(boxed["keys"])  # type: ignore[call-overload]
    assert len(new) == 2, "one utility cell and one attack, under a key of their own"


def test_a_callable_that_fails_later_is_recorded_with_the_reason(
    tmp_path: Path, command_environment: dict[str, str]
) -> None:
    code = """
def fragile(images):
    if len(images) > 16:
        raise RuntimeError("too many faces for me")
    return 1 - images
show(pb.evaluate(fragile, **few))
"""
    (found,) = script(tmp_path, tmp_path / "r", code, command_environment)
    assert not found["complete"] and any("too many faces" in reason for reason in found["gaps"])  # type: ignore[attr-defined]


def test_data_can_be_an_object(tmp_path: Path, worker_environment: dict[str, str]) -> None:
    """A data set that the registry opens is the one of the command; one that nothing opens travels to the workers."""
    code = """
from ppfr_bench.api import FaceDataset
from ppfr_bench.datasets.synthetic import Synthetic, SyntheticConfig
from ppfr_bench.suites import load_suite

known = Synthetic(SyntheticConfig(**load_suite("smoke").dataset.params))

class Own(FaceDataset):
    card, version, name, revision = known.card, 1, "own", "own-1"
    def __init__(self):
        for part in ("attacker", "evaluation", "pairs", "gallery", "targets", "canary"):
            setattr(self, part, getattr(known, part))
    @property
    def defender(self):
        raise AssertionError("nothing here learns")

def halves(images):
    return 1 - images / 2
show(pb.evaluate(halves, data=known, **few))
show(pb.evaluate(halves, **few))
show(pb.evaluate(halves, data=Own(), **few))
"""
    named, suite, own = script(tmp_path, tmp_path / "r", code, worker_environment)
    assert named == suite
    assert own["mine"] == named["mine"] and own["complete"] and set(own["keys"]).isdisjoint(named["keys"])  # type: ignore[call-overload, arg-type]
    assert {path.parent.name for path in (tmp_path / "r/smoke").glob("*/halves.jsonl")} == {"synthetic", "own"}


def test_one_set_of_photographs_measures_alike_however_it_comes_in(
    tmp_path: Path, command_environment: dict[str, str]
) -> None:
    """As files of many formats and modes, and as arrays in a table whose index was shuffled: the same numbers."""
    code = """
from pathlib import Path
import numpy as np, pandas as pd
from made_pictures import Picture
from ppfr_bench.datasets import from_sequence
from ppfr_bench.images import decode

def negative(images):
    return 1 - images

rows, kinds = [], [("PNG", "RGB"), ("TIFF", "CMYK"), ("PNG", "I;16"), ("JPEG", "L"), ("GIF", "P"), ("BMP", "P")]
for person in range(12):
    for photo in range(3):
        kind, mode = kinds[(3 * person + photo) % 6]
        picture = Picture(kind, mode, orientation=1 + photo, seed=3 * person + photo)
        path = Path("people") / f"p{person:02d}" / f"{photo}{picture.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.encoded())
        rows.append({"image": decode(picture.encoded()).pixels, "label": f"p{person:02d}"})
frame = pd.DataFrame(rows, index=np.random.default_rng(0).permutation(36))
few |= {"name": "negative"}
files = pb.evaluate(negative, data="folder", settings={"dataset.root": "people", "dataset.folds": 2}, **few)
table = pb.evaluate(negative, data=from_sequence(frame, folds=2), **few)
for found in (files, table):
    numbers = found.records[found.records["cell"] == "utility"]
    print(json.dumps({"numbers": numbers[["defense", "recognizer", "metric", "value", "low", "high"]].values.tolist(),
                      "keys": sorted(found.records["key"])}))
"""
    environment = command_environment | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    files, table = script(tmp_path, tmp_path / "r", code, environment)
    assert files["numbers"] == table["numbers"] and len(files["numbers"]) > 20  # type: ignore[arg-type]
    assert not set(files["keys"]) & set(table["keys"]), "two measurements, not one read twice"  # type: ignore[call-overload]


def test_settings_stand_side_by_side_and_copies_are_left_out(
    tmp_path: Path, command_environment: dict[str, str]
) -> None:
    code = """
from ppfr_bench.api import FaceDataset
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.datasets.synthetic import Synthetic, SyntheticConfig
from ppfr_bench.suites import load_suite

from ppfr_bench.api import UserError

for block in (8, 16):
    found = pb.evaluate("pixelate", **few, settings={"defense.pixelate.block": block})
show(pb.evaluate("pixelate", **few))
print(json.dumps(sorted(set(pb.load_results(few["results"])["defense"]))))

known = Synthetic(SyntheticConfig(**load_suite("smoke").dataset.params))
attacker = known.attacker.load(range(len(known.attacker)))
attacker[3] = known.evaluation.load([0])[0]

class Doubled(FaceDataset):
    card, version, name, revision = known.card, 1, "doubled", "doubled-1"
    def __init__(self):
        for part in ("evaluation", "pairs", "gallery", "targets", "canary"):
            setattr(self, part, getattr(known, part))
        self.attacker = ArrayFaces(attacker, known.attacker.identities, known.attacker.names)
    @property
    def defender(self):
        raise AssertionError("nothing here learns")

try:
    pb.evaluate("pixelate", data=Doubled(), **few)
except UserError as error:
    print(json.dumps(str(error)))
found = pb.evaluate("pixelate", data=Doubled(), **few, settings={"drop_duplicates": True})
print(json.dumps([[r.status, r.dataset.config, r.dataset_revision] for r in found.measured]))
"""
    shown, labels, refused, measured = script(tmp_path, tmp_path / "r", code, command_environment)
    assert shown["complete"]
    assert labels == ["blackout", "no_defense", "pixelate", "pixelate_block_16", "pixelate_block_8"]
    assert "1 photographs are both measured" in str(refused) and 'settings={"drop_duplicates": True}' in str(refused)
    assert len(measured) > 4
    for status, config, revision in measured:
        assert (status, config) == ("ok", {"drop_duplicates": {"attacker": ["attacker/00001/1"]}})
        assert revision.startswith("doubled-") and revision != "doubled-1"
