"""Recognizers against their bare runtimes, recorded values and LFW."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_networks import write_card
from PIL import Image
from pretended_device import OTHERS, assert_alike, other_device
from scipy.ndimage import map_coordinates

from ppfr_bench import device
from ppfr_bench.api import ByteArray, Differentiable, to_float
from ppfr_bench.cli.recognizers import overview
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.recognizers import (
    faceplugin,
    load_recognizer,
    recognizer_card,
    recognizer_class,
    recognizer_component,
    recognizer_names,
)
from ppfr_bench.recognizers._runtime import providers, session_class
from ppfr_bench.recognizers.dlib_resnet import chip
from ppfr_bench.recognizers.faceplugin import Faceplugin
from ppfr_bench.recognizers.store import EmbeddingStore
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.suites import load_suite, suite_names
from ppfr_bench.testing.recognizer import TinyRecognizer

SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data"))
NAMES = ["dlib_resnet", "faceplugin", "faceres", "mobileface", "mobilefacenet"]
WEAK = ["mobileface"]
OF_TFJS = ["faceres", "mobileface"]
# What TensorFlow.js makes of ``patterns``: every eighth number of each embedding. The recipe lies beside it.
TFJS = Path(__file__).parents[1] / "fixtures" / "tfjs" / "known_embeddings.json"
RUNTIMES = {
    "faceplugin": ("onnx2torch", "onnx"),
    "mobilefacenet": ("ai_edge_litert.interpreter", "litert"),
}

# First components of the embeddings of patterns 0 and 2: unit vectors of the bare onnxruntime 1.32 and
# ai-edge-litert 2.3, and dlib 20.0.1 on chips made by scipy's map_coordinates instead of Pillow.
GOLDEN = {
    "mobilefacenet": [
        [-0.009394, 0.038897, 0.015051, -0.009354, -0.075307, 0.072227],
        [-0.009968, 0.038618, 0.013989, -0.008634, -0.073045, 0.082294],
    ],
    "faceplugin": [
        [0.001121, -0.040573, 0.007193, -0.024902, -0.015053, -0.017420],
        [0.003361, -0.045489, 0.008313, -0.025539, -0.014993, -0.018582],
    ],
    "dlib_resnet": [
        [-0.025766, 0.048239, 0.060116, 0.029915, -0.094618, -0.048600],
        [-0.025592, 0.042519, 0.053435, 0.030699, -0.096096, -0.053051],
    ],
}
# Pillow leaves the one row of the chip that straddles the crop's edge black, scipy fades it.
TOLERANCE = {"mobilefacenet": 2e-4, "faceplugin": 2e-4, "dlib_resnet": 6e-3}


def patterns() -> ByteArray:
    """Three smooth images with edges, uint8 (3, 3, 112, 112), from integers alone: the same everywhere."""
    n, c, y, x = np.meshgrid(np.arange(3), np.arange(3), np.arange(112), np.arange(112), indexing="ij")
    saddle, hill = (x - 56) * (y - 60) // (16 + 8 * n), ((x - 56) ** 2 + (y - 60) ** 2) // 40
    board = 40 * ((x // 8 + y // 8 + n) % 2)
    return np.clip(128 + saddle + 20 * c - hill + board, 0, 255).astype(np.uint8)


def bare(name: str, images: ByteArray) -> np.ndarray:
    """The runtime alone, image by image, as its own manual has it; of TensorFlow.js, what it made of ``patterns``."""
    from ppfr_bench.assets import asset_path

    if name in OF_TFJS:
        return np.array(json.loads(TFJS.read_text(encoding="utf-8"))["embeddings"][name])
    path = str(asset_path(name))
    if name == "dlib_resnet":
        dlib = pytest.importorskip("dlib")
        network = dlib.face_recognition_model_v1(path)
        return np.array([network.compute_face_descriptor(chip(image)) for image in images], np.float32)
    if name == "faceplugin":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        blue_first = ((images[:, ::-1].astype(np.float32) - 127) / 128)[:, None]
        raw = np.concatenate([session.run(None, {"input": one})[0] for one in blue_first])
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=2)
        interpreter.allocate_tensors()
        rows = []
        for image in images:
            twice = np.stack([image.transpose(1, 2, 0)] * 2).astype(np.float32)
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], (twice - 127.5) / 128)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
        raw = np.array(rows)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.assets) for name in NAMES])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Finding them


def test_names_are_the_file_stems_and_nothing_else() -> None:
    assert recognizer_names() == NAMES


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="'mobilefacenet'") as caught:
        load_recognizer("mobilfacenet")
    assert not isinstance(caught.value, Unavailable)
    with pytest.raises(UserError, match="Known: dlib_resnet, faceplugin, faceres, mobileface, mobilefacenet"):
        recognizer_card("store")


def test_cards_are_read_without_any_runtime() -> None:
    program = """
import sys
for module in ("dlib", "onnxruntime", "onnx2torch", "ai_edge_litert"):
    sys.modules[module] = None
from ppfr_bench.recognizers import recognizer_card, recognizer_names
for name in recognizer_names():
    card = recognizer_card(name)
    print(name, card.dimension, card.metric, *card.assets)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "dlib_resnet 128 euclidean dlib_resnet",
        "faceplugin 512 cosine faceplugin",
        "faceres 1024 cosine faceres faceres_weights",
        "mobileface 256 cosine mobileface mobileface_weights",
        "mobilefacenet 192 cosine mobilefacenet",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_names_assets_that_exist(name: str) -> None:
    from ppfr_bench.assets import MANIFEST

    card = recognizer_card(name)
    assert card.assets and set(card.assets) <= set(MANIFEST)
    low, high = (0.9, 0.97) if name in WEAK else (0.98, 1)
    assert low < card.expected_accuracy["lfw"] < high and card.weak == (name in WEAK)
    assert card.training_data and card.licence and card.reference


def test_no_shipped_suite_lists_a_weak_recognizer() -> None:
    for suite in map(load_suite, suite_names()):
        assert not {*suite.recognizers, suite.surrogate} & set(WEAK), suite.name
        for attack in suite.attack:
            assert not set(attack.recognizers) & set(WEAK), (suite.name, attack.label)


def test_a_weak_recognizer_is_said_to_be_weak(capsys: pytest.CaptureFixture[str]) -> None:
    found = {row["name"]: row["weak"] for row in overview() if row["kind"] == "built in"}
    assert found == {name: name in WEAK for name in NAMES}
    resolve("smoke", Asked(recognizers=("faceplugin", "mobileface"))).tell()
    said = capsys.readouterr().err
    assert "mobileface is weak: it judges 9" in said and "faceplugin is weak" not in said


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_missing_runtime_makes_it_unavailable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, extra = RUNTIMES[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable) as caught:
        recognizer_class(name)()
    assert caught.value.hint == f"pip install 'ppfr-bench[{extra}]'"


# Embedding


def test_embeddings_are_those_of_the_bare_runtime(name: str) -> None:
    images = patterns()
    embedded = load_recognizer(name).embed(to_float(images))
    assert embedded.dtype == torch.float32 and embedded.shape == (3, recognizer_card(name).dimension)
    expected = bare(name, images)
    kept = embedded.numpy()[:, :: 8 if name in OF_TFJS else 1]
    np.testing.assert_allclose(kept, expected, rtol=0, atol=1e-6)


@pytest.mark.assets
@pytest.mark.parametrize("name", GOLDEN)
def test_embeddings_are_those_recorded(name: str) -> None:
    embedded = load_recognizer(name).embed(to_float(patterns()))[[0, 2]].numpy()
    np.testing.assert_allclose(embedded[:, :6], GOLDEN[name], rtol=0, atol=TOLERANCE[name])


def test_an_embedding_depends_on_no_other_image_batch_size_or_thread_count(name: str) -> None:
    recognizer = load_recognizer(name)
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 112, 112), dtype=np.uint8)
    images = to_float(np.concatenate([patterns(), noise]))
    together = recognizer.embed(images)
    alone = torch.cat([recognizer.embed(images[index : index + 1]) for index in range(5)])
    backwards = recognizer.embed(images.flip(0)).flip(0)
    shifted = recognizer.embed(torch.cat([images[4:], images]))[1:]
    torch.set_num_threads(1)
    try:
        on_one_thread = recognizer.embed(images)
    finally:
        torch.set_num_threads(2)
    for other in (alone, backwards, shifted, on_one_thread):
        assert other.numpy().tobytes() == together.numpy().tobytes()


def test_cosine_embeddings_have_unit_length(name: str) -> None:
    lengths = load_recognizer(name).embed(to_float(patterns())).norm(dim=1)
    if recognizer_card(name).metric == "cosine":
        torch.testing.assert_close(lengths, torch.ones(3))
    else:
        assert not torch.allclose(lengths, torch.ones(3), atol=1e-4)


def test_no_images_give_no_embeddings(name: str) -> None:
    assert load_recognizer(name).embed(torch.empty(0, 3, 112, 112)).shape == (0, recognizer_card(name).dimension)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(1, 3, 112, 111), "expected float32 images"),
        (torch.zeros(3, 112, 112), "expected float32 images"),
        (torch.zeros(1, 1, 112, 112), "expected float32 images"),
        (torch.zeros(1, 3, 112, 112, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 112, 112), 255.0), "got 255 to 255"),
        (torch.full((1, 3, 112, 112), -0.01), "in \\[0, 1\\]"),
        (torch.full((1, 3, 112, 112), float("nan")), "nan"),
    ],
)
def test_other_images_are_refused(name: str, images: torch.Tensor, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_recognizer(name).embed(images)


def test_chip_is_the_similarity_of_the_data_readme() -> None:
    scale = 52.6 / 35.24
    y, x = np.meshgrid((np.arange(150) - 47.1) / scale + 51.6, (np.arange(150) - 74.0) / scale + 55.9, indexing="ij")
    for image in patterns():
        expected = np.stack([map_coordinates(c.astype(np.float64), [y, x], order=1, cval=0) for c in image], axis=-1)
        made = chip(image)
        inside = y[:, 0] <= 111
        assert np.abs(made[inside].astype(float) - expected[inside]).max() <= 1
        assert inside.sum() == 136 and (made[137:] == 0).all() and (expected[137:] == 0).all()


@pytest.mark.assets
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WEAK])
def test_lfw_pairs_come_out_as_measured(name: str) -> None:
    """Twenty pairs of one person, twenty of two, at the threshold of ten folds; three of four fail at 68 and 69."""
    root = SHARED / "lfw"
    if not root.is_dir():
        pytest.skip(f"needs the LFW images of {root}; set PPFR_BENCH_SHARED to the folder of shared data")
    threshold, scores = {
        "dlib_resnet": (-0.6177, [-0.7261, -0.7477, -0.4880, -0.8043, -0.7728]),
        "mobilefacenet": (0.3747, [0.1076, -0.0190, 0.6437, 0.0371, 0.0633]),
        "faceplugin": (0.3053, [0.0283, -0.0048, 0.6455, 0.0248, -0.0352]),
        "faceres": (0.5282, [0.6058, 0.6515, 0.6485, 0.3423, 0.3089]),
    }[name]
    rows = [line.split() for line in (root / "pairs.txt").read_text().splitlines()[1:]]
    rows = rows[60:80] + rows[300:320]
    files = [((r[0], r[1]), (r[0], r[2])) if len(r) == 3 else ((r[0], r[1]), (r[2], r[3])) for r in rows]
    flat = [root / "images" / who / f"{who}_{int(number):04d}.jpg" for pair in files for who, number in pair]
    images = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in flat])
    recognizer = load_recognizer(name)
    embedded = recognizer.embed(to_float(images)).numpy().astype(np.float64)
    similarity = recognizer.similarity(embedded[::2], embedded[1::2])
    right = (similarity >= threshold) == np.array([len(row) == 3 for row in rows])
    np.testing.assert_allclose(similarity[[8, 9, 10, 20, 21]], scores, atol=2e-3)
    assert np.flatnonzero(~right).tolist() == ([] if name == "faceres" else [8, 9])


# The networks in torch


@pytest.mark.assets
@pytest.mark.parametrize(("name", "tolerance"), [("faceplugin", 1e-5), ("dlib_resnet", 3e-4)])
def test_differentiable_gives_the_same_embeddings_whatever_the_batch(name: str, tolerance: float) -> None:
    recognizer = load_recognizer(name)
    assert isinstance(recognizer, Differentiable)
    surrogate, images = recognizer.differentiable(), to_float(patterns())
    expected = torch.nn.functional.normalize(recognizer.embed(images), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(surrogate(images), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(surrogate(images[:1]), expected[:1], rtol=0, atol=tolerance)


@pytest.mark.assets
def test_differentiable_passes_gradients_to_the_images_and_none_to_the_weights() -> None:
    recognizer = load_recognizer("faceplugin")
    assert isinstance(recognizer, Faceplugin)
    surrogate = recognizer.differentiable()
    images = to_float(patterns()).mul(0.8).add(0.1).requires_grad_()
    target = recognizer.embed(to_float(patterns()[[1, 2, 0]]))
    (gradient,) = torch.autograd.grad((surrogate(images) * target).sum(), images)
    assert gradient.isfinite().all() and not any(p.requires_grad for p in surrogate.parameters())
    lengths = gradient.flatten(1).norm(dim=1)
    step = 0.005 * gradient / lengths[:, None, None, None]
    ahead, behind = (recognizer.embed((images + sign * step).detach()) for sign in (1, -1))  # by the other runtime
    torch.testing.assert_close(((ahead - behind) * target).sum(dim=1), 0.01 * lengths, rtol=0.05, atol=1e-6)


@pytest.mark.assets
def test_weights_that_slow_processors_down_are_gone_and_no_answer_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has weights below the least normal number: without them, embeddings and gradients keep their bytes."""
    ours = Faceplugin().differentiable()
    monkeypatch.setattr(faceplugin, "without_subnormals", lambda network: network)
    as_published = Faceplugin().differentiable()
    tiny = torch.finfo(torch.float32).tiny

    def subnormal(network: torch.nn.Module) -> int:
        return sum(int(((one != 0) & (one.abs() < tiny)).sum()) for one in network.parameters())

    assert subnormal(as_published) > 0 == subnormal(ours)
    found = []
    for network in (ours, as_published):
        images = to_float(patterns()).contiguous(memory_format=torch.channels_last).requires_grad_()
        rows = network(images)
        (gradient,) = torch.autograd.grad(rows[:, ::2].sum(), images)
        found.append((rows.detach(), gradient))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


# Other devices


@pytest.mark.parametrize("kind", OTHERS)
def test_embeddings_are_the_same_on_every_device(name: str, kind: str) -> None:
    """Runtimes take what lies on the CPU: images are fetched, whatever the device, and embeddings lie there."""
    here = load_recognizer(name).embed(to_float(patterns()))
    with other_device(kind) as exact:
        recognizer = load_recognizer(name)
        assert recognizer is load_recognizer(name)
        embedded = recognizer.embed(to_float(patterns()))
        assert embedded.device == device.CPU
        assert_alike(embedded, here, exact)


@pytest.mark.assets
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["dlib_resnet", "faceplugin"])
def test_differentiable_and_its_gradients_are_the_same_on_every_device(name: str, kind: str) -> None:
    def answers() -> list[torch.Tensor]:
        recognizer = load_recognizer(name)
        assert isinstance(recognizer, Differentiable)
        images = to_float(patterns()).requires_grad_()
        embedded = recognizer.differentiable()(images)
        assert embedded.device.type == device.current().type
        (gradient,) = torch.autograd.grad(embedded[:, :8].sum(), images)
        return [embedded.detach().cpu(), gradient.cpu()]

    here = answers()
    with other_device(kind) as exact:
        for there, expected in zip(answers(), here, strict=True):
            assert_alike(there, expected, exact)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_tiny_recognizer_is_the_same_on_every_device(kind: str) -> None:
    here = TinyRecognizer().embed(to_float(patterns()))
    with other_device(kind) as exact:
        embedded = TinyRecognizer().embed(to_float(patterns()))
        assert embedded.device.type == kind
        assert_alike(embedded.cpu(), here, exact)


class _Runtime:
    """ONNX Runtime as it would be with a GPU, or without."""

    def __init__(self, *available: str) -> None:
        self.available = available

    def get_available_providers(self) -> list[str]:
        return list(self.available)

    def get_providers(self) -> list[str]:  # of a session
        return list(self.available)


def test_onnx_runtime_computes_on_cuda_only_if_both_it_and_the_process_do() -> None:
    both, alone = _Runtime("CUDAExecutionProvider", "CPUExecutionProvider"), _Runtime("CPUExecutionProvider")
    assert session_class(both) == "cuda" and session_class(alone) == "cpu"
    assert providers(both) == providers(alone) == ["CPUExecutionProvider"]
    for kind in OTHERS:
        with other_device(kind):
            device.to(torch.ones(1))
            assert providers(alone) == ["CPUExecutionProvider"]
            first = providers(both)[0]
            assert first[0] == "CUDAExecutionProvider" if kind == "cuda" else first == "CPUExecutionProvider"


def test_embeddings_of_a_gpu_are_kept_apart_from_those_of_the_cpu(tmp_path: Path) -> None:
    class Counted(TinyRecognizer):
        asked = 0

        def embed(self, images: torch.Tensor) -> torch.Tensor:
            self.asked += len(images)
            return super().embed(images)

    class OnCpu(Counted):
        computes_on = "cpu"

        def embed(self, images: torch.Tensor) -> torch.Tensor:
            return super().embed(images.cpu())

    store, follows, stays = EmbeddingStore(tmp_path / "e.sqlite"), Counted(), OnCpu()

    def embed_all() -> None:
        store.embed("follows", follows, patterns())
        store.embed("stays", stays, patterns())

    embed_all()
    for kind in OTHERS:
        with other_device(kind):
            embed_all()
            embed_all()
    embed_all()
    assert follows.asked == 9 and stays.asked == 3
    with closing(sqlite3.connect(store.path)) as connection:
        kept = {name for (name,) in connection.execute("SELECT DISTINCT recognizer FROM embedding")}
    assert kept == {"follows", "follows@cuda", "follows@mps", "stays"}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's of TorchScript
@pytest.mark.parametrize("kind", device.names())
def test_torchscript_runs_on_every_device_that_is_there(tmp_path: Path, kind: str) -> None:
    """A pretended one cannot be told from the CPU by TorchScript, which keeps its weights out of Python's reach."""
    torch.manual_seed(0)
    cells = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 16))
    torch.jit.save(torch.jit.trace(cells.eval(), torch.rand(1, 3, 112, 112)), tmp_path / "cells.pt")
    card = write_card(tmp_path, tmp_path / "cells.pt", format="torchscript", dimension=16)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(cells((to_float(patterns()) * 255 - 127.5) / 128), dim=1)
    with device.use(kind):
        recognizer: Any = load_recognizer(recognizer_component(str(card)).name)
        assert_alike(recognizer.embed(to_float(patterns())), expected, exact=False)
        surrogate = recognizer.differentiable()
        assert_alike(surrogate(to_float(patterns())).cpu(), expected, exact=False)
