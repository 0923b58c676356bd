"""Recognizers of other packages, through their real loading code.

deepface's Dlib runs on its real weights and on LFW. What only a hub serves (packs of insightface, the other models
of deepface, all of frbench) is stood in for by small networks in the same format, made here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_networks import by_hand, write_onnx
from PIL import Image

from ppfr_bench.api import ByteArray, to_float
from ppfr_bench.contracts.check import examine_recognizer
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.metrics.verification import auc
from ppfr_bench.recognizers import _external as external
from ppfr_bench.recognizers import load_recognizer, recognizer_component
from ppfr_bench.recognizers.dlib_resnet import chip
from ppfr_bench.testing import example_faces

SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data"))
# Both opencv wheels that they ask for, and what they do to warnings, are theirs to answer for.
pytestmark = pytest.mark.filterwarnings("ignore")


def needs(package: str) -> None:
    """Skip where a package is not installed; CI has none of them, as each is more than it is worth there."""
    if external.ADAPTERS[package].lacking:
        pytest.skip(f"needs the extra: pip install 'ppfr-bench[{package}]'")


def faces(count: int = 3) -> ByteArray:
    return example_faces().load(range(0, 5 * count, 5))


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("package", sorted(external.ADAPTERS))
def test_a_missing_package_is_answered_with_the_line_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external, "find_spec", lambda name: None)
    with pytest.raises(Unavailable) as caught:
        recognizer_component(f"{package}:anything")
    assert caught.value.hint == f"pip install 'ppfr-bench[{package}]'"


# insightface


def test_insightface_runs_one_onnx_file(tmp_path: Path) -> None:
    """As its own ``get_feat`` does: BGR in, swapped, (x - 127.5) / 127.5."""
    needs("insightface")
    component = recognizer_component(f"insightface:{write_onnx(tmp_path / 'w600k_r50.onnx', dimension=24)}")
    assert component.label == "insightface_w600k_r50"
    embedded = load_recognizer(component.name).embed(to_float(faces()))
    expected = unit(by_hand((faces().astype(np.float32) - 127.5) / 127.5, 24))
    np.testing.assert_allclose(embedded.numpy(), expected, rtol=0, atol=2e-5)


def test_insightface_finds_the_recognition_model_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("insightface")
    monkeypatch.setenv("INSIGHTFACE_HOME", str(tmp_path))
    pack = tmp_path / "models" / "buffalo_x"
    write_onnx(pack / "2d106det.onnx", side=192)
    write_onnx(pack / "genderage.onnx", side=96)
    with pytest.raises(UserError, match="none of 2 ONNX files is a recognition model"):
        recognizer_component("insightface:buffalo_x")
    write_onnx(pack / "w600k_mbf.onnx", seed=4)
    by_name, by_path = (recognizer_component(f"insightface:{what}") for what in ("buffalo_x", pack))
    assert by_name.name == by_path.name and by_name.label == "insightface_w600k_mbf"
    write_onnx(pack / "w600k_mbf.onnx", seed=5)
    assert recognizer_component("insightface:buffalo_x").name != by_name.name


def test_insightface_refuses_what_is_no_recognizer(tmp_path: Path) -> None:
    needs("insightface")
    with pytest.raises(UserError, match=r"of kind 'attribute.*', not recognition"):
        recognizer_component(f"insightface:{write_onnx(tmp_path / 'genderage.onnx', side=96)}")
    with pytest.raises(UserError, match="keeps weights in another file"):
        recognizer_component(f"insightface:{write_onnx(tmp_path / 'split.onnx', external=True)}")
    with pytest.raises(Unavailable, match="no insightface pack or file buffalo_l"):
        os.environ["INSIGHTFACE_HOME"] = str(tmp_path)
        try:
            recognizer_component("insightface:buffalo_l")
        finally:
            del os.environ["INSIGHTFACE_HOME"]


@pytest.mark.parametrize("made", [{"batch": 2}, {"precision": "float16"}])
def test_insightface_says_what_it_cannot_run_and_that_a_card_can(tmp_path: Path, made: dict[str, Any]) -> None:
    needs("insightface")
    with pytest.raises(UserError, match=r"insightface cannot run .*on one image") as caught:
        recognizer_component(f"insightface:{write_onnx(tmp_path / 'w600k_r50.onnx', **made)}")
    assert "card" in caught.value.hint


# deepface


@pytest.fixture
def deepface_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home of deepface, and none of its models built."""
    needs("deepface")
    from deepface.modules import modeling

    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setattr(modeling, "cached_models", {task: {} for task in modeling.AVAILABLE_MODELS}, raising=False)
    yield tmp_path / ".deepface" / "weights"


@pytest.mark.parametrize(
    ("model", "file", "side", "dimension"),
    [("ArcFace", "arcface_weights.onnx", 112, 512), ("Facenet512", "facenet512_weights.onnx", 160, 512)],
)
def test_deepface_runs_its_onnx_models(deepface_home: Path, model: str, file: str, side: int, dimension: int) -> None:
    """BGR in [0, 1], channels last, resized whole: what ``represent`` does by default."""
    write_onnx(deepface_home / file, side=side, layout="nhwc", dimension=dimension)
    component = recognizer_component(f"deepface:{model}")
    assert component.label == f"deepface_{model.lower()}"
    embedded = load_recognizer(component.name).embed(to_float(faces()))
    resized = [
        np.asarray(Image.fromarray(face.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BILINEAR))
        for face in faces()
    ]
    fed = np.stack(resized).transpose(0, 3, 1, 2)[:, ::-1].astype(np.float32) / 255
    np.testing.assert_allclose(embedded.numpy(), unit(by_hand(fed, dimension)), rtol=0, atol=1e-3)


def test_deepface_takes_no_more_threads_than_it_is_given(deepface_home: Path) -> None:
    """Its session has one, whatever the machine; images are shared out, and come out as from a session with many."""
    import onnxruntime

    before, path = onnxruntime.SessionOptions, deepface_home / "arcface_weights.onnx"
    write_onnx(path, layout="nhwc", dimension=512)
    recognizer: Any = load_recognizer(recognizer_component("deepface:ArcFace").name)
    session = recognizer._model.model
    assert session.get_session_options().intra_op_num_threads == 1 and onnxruntime.SessionOptions is before
    rows, kept = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            rows.append(recognizer.embed(to_float(faces())))
    finally:
        torch.set_num_threads(kept)
    options = before()
    options.intra_op_num_threads = 3
    recognizer._model.model = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], recognizer.embed(to_float(faces())))


def test_deepface_weights_are_part_of_the_name(deepface_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepface.modules import modeling

    found = []
    for seed in (0, 1):
        write_onnx(deepface_home / "arcface_weights.onnx", layout="nhwc", dimension=512, seed=seed)
        monkeypatch.setattr(modeling, "cached_models", {task: {} for task in modeling.AVAILABLE_MODELS})
        found.append(recognizer_component("deepface:ArcFace").name)
    assert found[0] != found[1]


def test_deepface_offers_the_names_it_has(deepface_home: Path) -> None:
    from ppfr_bench.recognizers._deepface import models

    howto = (Path(__file__).parents[2] / "docs" / "howto" / "bring_a_recognizer.md").read_text(encoding="utf-8")
    assert {"Dlib", "ArcFace", "Facenet512", "VGG-Face"} <= set(models())
    assert all(f"`{model}`" in howto for model in models())
    with pytest.raises(UserError, match="deepface has no model 'dlib'") as caught:
        recognizer_component("deepface:dlib")
    assert "Did you mean 'Dlib'" in caught.value.hint


@pytest.mark.assets
def test_deepface_dlib_is_the_network_of_dlib_resnet(deepface_home: Path) -> None:
    """Given dlib's own chip it embeds as ours does; its home is filled from our asset, nothing is downloaded."""
    pytest.importorskip("dlib")
    component = recognizer_component("deepface:Dlib")
    model: Any = load_recognizer(component.name)._model
    images = faces(2)
    theirs = [model.forward(chip(image)[None, ..., ::-1].astype(np.float32) / 255) for image in images]
    ours = load_recognizer("dlib_resnet").embed(to_float(images)).numpy()
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-2)  # their way to 8 bits rounds down
    assert [path.name for path in deepface_home.iterdir()] == ["dlib_face_recognition_resnet_model_v1.dat"]


@pytest.mark.assets
def test_deepface_dlib_on_lfw_differs_from_ours_by_its_chip() -> None:
    """Forty pairs: the same network behind the whole crop is worse, not lost, and mostly of one mind with ours."""
    needs("deepface")
    pytest.importorskip("dlib")
    root = SHARED / "lfw"
    if not root.is_dir():
        pytest.skip(f"needs the LFW images of {root}; set PPFR_BENCH_SHARED to the folder of shared data")
    rows = [line.split() for line in (root / "pairs.txt").read_text().splitlines()[1:]]
    rows = rows[:20] + rows[300:320]
    files = [((r[0], r[1]), (r[0], r[2])) if len(r) == 3 else ((r[0], r[1]), (r[2], r[3])) for r in rows]
    flat = [root / "images" / who / f"{who}_{int(number):04d}.jpg" for pair in files for who, number in pair]
    images = to_float(np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in flat]))
    same, scores = np.array([len(row) == 3 for row in rows]), []
    for source in ("dlib_resnet", "deepface:Dlib"):
        recognizer = load_recognizer(recognizer_component(source).name)
        embedded = recognizer.embed(images).double().numpy()
        scores.append(recognizer.similarity(embedded[::2], embedded[1::2]))
    ours, theirs = (auc(values, same) for values in scores)
    assert ours > 0.97 and 0.85 < theirs < ours
    assert np.corrcoef(*scores)[0, 1] > 0.7


# frbench


def frbench_asset(cache: Path, key: str, name: str, network: torch.nn.Module) -> None:
    """A folder and a manifest entry as frbench unpacks them."""
    import yaml

    folder = cache / key
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "model.pt")
    settings = {
        "backbone": {"name": name, "kwargs": {"num_features": 512}},
        "input": {"size": [112, 112], "mean": [0.5] * 3, "std": [0.5] * 3, "channel": "bgr"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    entry = {
        "asset_name": f"{key}.tar.gz", "target_name": key, "sha": hashlib.sha256(b"").hexdigest(),
        "contents": {"weight": "model.pt", "config": "config.yaml"},
    }  # fmt: skip
    detector = {"asset_name": "d.tar.gz", "target_name": "d", "contents": {}}
    (cache / "manifest.json").write_text(json.dumps({key: entry, "retinaface_mobilenetv1": detector}))


def test_frbench_runs_a_model_of_its_cache_with_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("frbench")
    from frbench.backbones import build_backbone

    monkeypatch.setenv("FRBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("FRBENCH_UPDATE_CHECK", "0")
    torch.manual_seed(5)
    backbone = build_backbone("mobilefacenet", {"num_features": 512}, torch.device("cpu")).eval()
    frbench_asset(tmp_path, "mobilefacenet_arcface_ms1m", "mobilefacenet", backbone)
    found = examine_recognizer("frbench:mobilefacenet_arcface_ms1m")
    assert found.findings == [] and found.facts["surrogate"] and found.facts["dimension"] == 512
    assert found.facts["label"] == "frbench_mobilefacenet_arcface_ms1m"
    fed = torch.from_numpy(faces(1)[:, ::-1].astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        mean = (backbone(fed) + backbone(fed.flip(-1))) / 2
    embedded = load_recognizer(found.facts["name"]).embed(to_float(faces(1)))
    torch.testing.assert_close(embedded, torch.nn.functional.normalize(mean, dim=1), rtol=0, atol=1e-4)


def test_frbench_refuses_a_name_that_is_no_key() -> None:
    needs("frbench")
    with pytest.raises(UserError, match="expected BACKBONE_LOSS_DATASET"):
        recognizer_component("frbench:irse-50")
