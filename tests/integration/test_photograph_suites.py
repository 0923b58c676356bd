"""The suites of photographs: planned in full, and run at their smallest, on made-up people in the true format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import warm_python
from made_networks import write_card, write_onnx
from PIL import Image

from ppfr_bench.errors import Unavailable
from ppfr_bench.recognizers import _external as external
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.request import Asked, resolve

FOLDS = 10
CUT = ("--set", "budget=smoke", "--set", "dataset.targets=4", "--set", "dataset.gallery=4",
       "--defense", "pixelate", "--attack", "visual", "--attack", "ridge", "--attack", "linkage")  # fmt: skip


def photographs(folder: Path, names: list[str], person: int) -> None:
    """Smooth colours of the person, and noise of each photograph."""
    generator = np.random.default_rng(person)
    colours = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((112, 112))
    folder.mkdir(parents=True)
    for name in names:
        pixels = np.asarray(colours) + generator.integers(-20, 21, (112, 112, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name, quality=95)


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people of three photographs, four in each fold, with four pairs."""
    root, lines = tmp_path_factory.mktemp("data") / "lfw", [f"{FOLDS}\t2"]
    for person in range(4 * FOLDS):
        name = f"Person_{person:02d}"
        photographs(root / "images" / name, [f"{name}_{photo:04d}.jpg" for photo in (1, 2, 3)], person)
    for fold in range(FOLDS):
        a, b, c, d = (f"Person_{4 * fold + of:02d}" for of in range(4))
        lines += [f"{a}\t1\t2", f"{b}\t1\t2", f"{a}\t3\t{b}\t3", f"{c}\t1\t{d}\t1"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def cfp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people of two frontal photographs and two profiles, four in each fold, with four pairs, in one protocol."""
    root = tmp_path_factory.mktemp("data") / "cfp"
    lists: dict[str, list[str]] = {"F": [], "P": []}
    for person in range(1, 4 * FOLDS + 1):
        names = [f"{view}_{photo:02d}.jpg" for view in ("frontal", "profile") for photo in (1, 2)]
        photographs(root / "images" / f"{person:03d}", names, person)
        for kind, view in (("F", "frontal"), ("P", "profile")):
            lists[kind] += [f"../Data/Images/{person:03d}/{view}/{photo:02d}.jpg" for photo in (1, 2)]
    for kind, rows in lists.items():
        text = "".join(f"{number} {row}\n" for number, row in enumerate(rows, start=1))
        (root / f"Pair_list_{kind}.txt").write_text(text, encoding="utf-8")
    for fold in range(FOLDS):
        first = [1 + 2 * (4 * fold + of) for of in range(4)]  # The row of each person's first photograph.
        folder = root / "Split" / "FP" / f"{fold + 1:02d}"
        folder.mkdir(parents=True)
        same = [(row + of, row + 1) for row in first[:2] for of in (0, 1)]
        different = [(first[0], first[1]), (first[1] + 1, first[0] + 1), (first[2], first[3]), (first[3], first[2])]
        for name, pairs in (("same", same), ("diff", different)):
            (folder / f"{name}.txt").write_text("".join(f"{a},{b}\n" for a, b in pairs), encoding="utf-8")
    return root


def measured(environment: dict[str, str], results: Path, *words: object) -> list[Record]:
    done = warm_python.run(["-m", "ppfr_bench.cli", "run", *words, *CUT, "--results", results], environment)
    assert done.returncode == 0, done.stderr + done.stdout
    found = list(ResultStore(results).records(str(words[0])))
    assert {record.status for record in found} == {"ok"}, [record.reason for record in found]
    assert {record.cell for record in found} == {"canary", "utility", "attack"}
    assert {record.defense.label for record in found} == {"no_defense", "pixelate"}
    assert {record.attack.label for record in found if record.attack} == {"visual", "ridge", "linkage"}
    return found


def test_lfw_standard_asks_for_every_attack_of_all_measured_pairs(lfw: Path) -> None:
    request = resolve("lfw_standard", Asked(dataset_root=lfw))
    assert len(request.dataset.pairs) == 4 * FOLDS / 2
    params = request.suite.dataset.params
    assert (params["targets"], params["gallery"]) == (1000, 1000) and "pairs_per_fold" not in params
    assert request.suite.budget == "standard"
    everything = {one.label for one in resolve("standard").suite.attack}
    assert {one.label for one in request.suite.attack} == everything
    rows = {one.label for one in request.suite.defense}
    assert rows == {one.label for one in resolve("lfw_quick", Asked(dataset_root=lfw)).suite.defense}


def test_cfp_fp_compares_frontal_photos_with_profiles(cfp: Path) -> None:
    request = resolve("cfp_fp", Asked(dataset_root=cfp))
    names, pairs = request.dataset.evaluation.names, request.dataset.pairs
    assert all("frontal" in names[left] and "profile" in names[right]
               for left, right in zip(pairs.left, pairs.right, strict=True))  # fmt: skip
    assert len(request.suite.defense) == 2 + 11, "two controls and eleven rows"


@pytest.mark.assets
@pytest.mark.parametrize("suite", ["lfw_standard", "cfp_fp"])
def test_the_smallest_cut_runs(
    suite: str, lfw: Path, cfp: Path, command_environment: dict[str, str], tmp_path: Path
) -> None:
    root = cfp if suite == "cfp_fp" else lfw
    found = measured(command_environment, tmp_path, suite, "--dataset-root", root, "--recognizer", "faceplugin")
    (canary,) = [record for record in found if record.cell == "canary"]
    assert canary.metrics["accuracy"].value.n == len(resolve(suite, Asked(dataset_root=root)).dataset.canary[1])


# lfw_large: the recognizer that it asks for cannot be fetched here, so a stand-in of the same format takes its place.


@pytest.mark.assets
def test_lfw_large_runs_with_a_stand_in_of_the_format_of_its_recognizer(
    lfw: Path, command_environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra: pip install 'ppfr-bench[onnx]'")
    card = write_card(tmp_path, write_onnx(tmp_path / "glintr100.onnx", dimension=512), label="stand_in", dimension=512)
    found = measured(
        command_environment, tmp_path / "results", "lfw_large", "--dataset-root", lfw, "--recognizer", card,
        "--recognizer", "faceplugin",
    )  # fmt: skip
    assert {record.recognizer.label for record in found if record.recognizer} == {"stand_in", "faceplugin"}


@pytest.mark.filterwarnings("ignore")  # What insightface does to warnings is its own to answer for.
def test_lfw_large_takes_a_pack_of_insightface(lfw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(dataset_root=lfw)
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path))
    if external.ADAPTERS["insightface"].lacking:
        with pytest.raises(Unavailable) as caught:
            resolve("lfw_large", asked)
        assert caught.value.hint == "pip install 'ppfr-bench[insightface]'"
        return
    with pytest.raises(Unavailable, match="no insightface pack or file antelopev2"):
        resolve("lfw_large", asked)
    pack = tmp_path / "models" / "antelopev2"
    pack.mkdir(parents=True)
    write_onnx(pack / "glintr100.onnx", dimension=512)
    plan = resolve("lfw_large", asked).plan
    assert {cell.recognizer.label for cell in plan.cells if cell.recognizer and cell.kind == "canary"} == {
        "insightface_glintr100", "dlib_resnet", "faceplugin", "faceres", "mobilefacenet",
    }  # fmt: skip
