"""The reader of TensorFlow.js graphs, against TensorFlow.js itself, arithmetic by hand and damaged files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ppfr_bench.assets import asset_path, is_cached
from ppfr_bench.errors import UserError
from ppfr_bench.metrics.tfjs_graph import TfjsGraph, read_tfjs_graph

KNOWN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "tfjs" / "known_answers.json").read_text(encoding="utf-8")
)["answers"]


# Against the runtime that the files were made for


def waves(size: tuple[int, int, int], image: int) -> torch.Tensor:
    """The input of known_answers.cjs, float32 (1, channels, height, width) in [-1, 1]."""
    row, column, channel = np.ogrid[: size[0], : size[1], : size[2]]
    wave = np.abs((3 * row + 2 * column + 40 * channel + 31 * image) % 256 - 128)
    return torch.from_numpy(((2 * wave - 128) / 128).astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.assets
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_network_answers_what_tensorflow_js_answers(name: str) -> None:
    """To six digits; measured 4e-7 of a probability, and 3e-7 of the largest score of the detector."""
    if not is_cached(name) or not is_cached(f"{name}_weights"):
        pytest.skip(f"not fetched: ppfr-bench assets fetch {name} {name}_weights")
    outputs = list(KNOWN[name][0])
    network = read_tfjs_graph(asset_path(name), asset_path(f"{name}_weights"), outputs)
    scale = 128 if name == "faceres" else 1
    images = torch.cat([scale * waves(network.size, image) for image in range(2)])
    given = images.clone()
    with torch.inference_mode():
        answers = network(images)
        alone = network(images[1:])
    assert torch.equal(images, given), "what is given is not written to"
    for output, answer, single in zip(outputs, answers, alone, strict=True):
        torch.testing.assert_close(single, answer[1:], rtol=1e-4, atol=1e-5)
        for image in range(2):
            values = answer[image].flatten().numpy()
            expected = np.array(KNOWN[name][image][output])
            found = values[:: 97 if len(values) > 100 else 1]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(values).max()))


# By hand


def setting(text: str) -> dict[str, str]:
    return {"s": base64.b64encode(text.encode()).decode()}


def integers(*numbers: int) -> dict[str, Any]:
    return {"list": {"i": [str(one) for one in numbers]}}


def sliding(padding: str, strides: tuple[int, int] = (1, 1), **more: Any) -> dict[str, Any]:
    return {"padding": setting(padding), "strides": integers(1, *strides, 1), "data_format": setting("NHWC"), **more}


Array = npt.NDArray[Any]
Operator = tuple[str, str, list[str], dict[str, Any]]


def saved(folder: Path, size: tuple[int, int, int], constants: dict[str, Array], operators: list[Operator]) -> None:
    """A graph as TensorFlow.js saves it, its constants as they come."""
    dims = [{"size": str(side)} for side in (-1, *size)]
    nodes: list[dict[str, Any]] = [{"name": "image", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": dims}}}}]
    nodes += [{"name": name, "op": "Const"} for name in constants]
    nodes += [{"name": n, "op": op, "input": inputs, "attr": attr} for n, op, inputs, attr in operators]
    entries = [{"name": name, "shape": list(array.shape), "dtype": "int32" if array.dtype == np.int32 else "float32",
                **({"quantization": {"dtype": "float16"}} if array.dtype == np.float16 else {})}
               for name, array in constants.items()]  # fmt: skip
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["g.bin"], "weights": entries}]}
    (folder / "g.json").write_text(json.dumps(model), encoding="utf-8")
    (folder / "g.bin").write_bytes(b"".join(array.tobytes() for array in constants.values()))


def read(folder: Path, *outputs: str) -> TfjsGraph:
    return read_tfjs_graph(folder / "g.json", folder / "g.bin", outputs)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype(np.float32)


def slid_by_hand(image: Array, filters: Array, stride: int, before: int, after: int) -> Array:
    """A convolution in four loops: (h, w, in) and (k, k, in, out), with zeros before and after."""
    padded = np.pad(image, ((before, after), (before, after), (0, 0)))
    side = len(filters)
    places = range(0, len(padded) - side + 1, stride)
    return np.array([[np.einsum("hwi,hwio->o", padded[row : row + side, column : column + side], filters)
                      for column in places] for row in places])  # fmt: skip


@pytest.mark.parametrize(
    ("size", "stride", "before", "after"), [(6, 2, 0, 1), (7, 2, 1, 1), (6, 1, 1, 1), (9, 4, 1, 1), (8, 4, 0, 0)]
)
def test_same_pads_as_much_as_tensorflow_does(tmp_path: Path, size: int, stride: int, before: int, after: int) -> None:
    """Where the missing rows are odd in number, the one more is below and at the right."""
    filters = floats(3, 3, 2, 4)
    saved(tmp_path, (size, size, 2), {"filters": filters},
          [("answer", "Conv2D", ["image", "filters"], sliding("SAME", (stride, stride)))])  # fmt: skip
    images = torch.from_numpy(floats(2, 2, size, size, seed=1))
    (answer,) = read(tmp_path, "answer")(images)
    for image, found in zip(images.permute(0, 2, 3, 1).numpy(), answer.numpy(), strict=True):
        np.testing.assert_allclose(found, slid_by_hand(image, filters, stride, before, after), atol=1e-5)


def test_a_maximum_is_never_of_what_was_padded(tmp_path: Path) -> None:
    attributes = sliding("SAME", (2, 2), ksize=integers(1, 3, 3, 1))
    saved(tmp_path, (4, 4, 1), {}, [("answer", "MaxPool", ["image"], attributes)])
    (answer,) = read(tmp_path, "answer")(-torch.arange(1.0, 17).reshape(1, 1, 4, 4))
    assert answer.flatten().tolist() == [-1, -3, -9, -11]


def test_a_small_network_by_hand(tmp_path: Path) -> None:
    """Fused and plain operators; constants of sixteen bits; a value that two operators read."""
    each, bias, matrix = floats(1, 1, 3, 2).astype(np.float16), floats(6, seed=1), floats(6, 2, seed=2)
    plain = sliding("VALID", dilations=integers(1, 1, 1, 1))
    fused = {"fused_ops": {"list": {"s": [setting("BiasAdd")["s"], setting("Relu")["s"]]}}}
    constants = {"each": each, "bias": bias, "matrix": matrix, "two": np.array([0.5, -0.5], np.float32),
                 "axes": np.array([1, 2], np.int32), "zero": np.zeros((), np.float32),
                 "around": np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32),
                 "flat": np.array([1, -1], np.int32)}  # fmt: skip
    saved(tmp_path, (4, 5, 3), constants, [
        ("conv", "DepthwiseConv2dNative", ["image", "each"], plain), ("sum", "AddV2", ["conv", "bias"], {}),
        ("relu", "Relu", ["sum"], {}), ("twice", "Mul", ["relu", "relu"], {}), ("less", "Sub", ["twice", "relu"], {}),
        ("low", "Minimum", ["less", "zero"], {}), ("wide", "Pad", ["low", "around"], {}),
        ("mean", "Mean", ["wide", "axes"], {}), ("max", "Max", ["relu", "axes"], {}),
        ("both", "Add", ["mean", "max"], {}), ("flattened", "Reshape", ["both", "flat"], {}),
        ("matmul", "_FusedMatMul", ["flattened", "matrix", "two"], fused), ("answer", "Softmax", ["matmul"], {}),
        ("same", "Identity", ["matmul"], {}),
    ])  # fmt: skip
    images = floats(3, 3, 4, 5, seed=3)
    answer, same, relu = read(tmp_path, "answer", "same", "relu")(torch.from_numpy(images))
    seen = images.transpose(0, 2, 3, 1)
    rectified = np.maximum((seen[..., None] * each[0, 0].astype(np.float32)).reshape(3, 4, 5, 6) + bias, 0)
    less = np.minimum(rectified**2 - rectified, 0)
    scores = np.maximum((less.sum((1, 2)) / (5 * 7) + rectified.max((1, 2))) @ matrix + constants["two"], 0)
    np.testing.assert_allclose(relu.numpy(), rectified, atol=1e-6)
    np.testing.assert_allclose(same.numpy(), scores, atol=1e-5)
    raised = np.exp(scores)
    np.testing.assert_allclose(answer.numpy(), raised / raised.sum(1, keepdims=True), atol=1e-6)


# Damaged and unknown files


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    model = json.loads((folder / "g.json").read_text(encoding="utf-8"))
    change(model)
    (folder / "g.json").write_text(json.dumps(model), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path, (4, 4, 1), {"filters": floats(3, 3, 1, 1)},
          [("answer", "Conv2D", ["image", "filters"], sliding("SAME"))])  # fmt: skip
    return tmp_path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model.clear(), "not a graph model of TensorFlow.js"),
        (lambda model: model["modelTopology"].update(node=3), "not a graph model of TensorFlow.js"),
        (lambda model: model["modelTopology"]["node"][2].update(op="PyFunc"), "answer: operator PyFunc is not known"),
        (lambda model: model["modelTopology"]["node"][2].update(input=["image", "other"]), "it needs other, which"),
        (lambda model: model["modelTopology"]["node"].reverse(), "answer: it needs image, which does not come before"),
        (lambda model: model["modelTopology"]["node"].pop(0), "expected one input of images, got []"),
        (lambda model: model["modelTopology"]["node"][1].update(name="it"), "it: it has no weights"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[3, 3, 1, 2]), "end at byte 36"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[3, 3, 1]), "cannot be computed"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[3, 2, 1, 1]), "12 bytes too many"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(shape=[-3, 3, 1, -1]), "the weights end"),
        (lambda model: model["weightsManifest"][0]["weights"][0].update(dtype="string"), "type string"),
        (
            lambda model: model["weightsManifest"][0]["weights"][0].update(quantization={"dtype": "uint8"}),
            "type float32, kept as {'dtype': 'uint8'}, are not known here",
        ),
        (lambda model: model["modelTopology"]["node"][2]["attr"].update(padding={"s": "%"}), "is not a setting"),
        (lambda model: model["modelTopology"]["node"][2]["attr"].update(padding=setting("EXPLICIT")), "EXPLICIT"),
        (lambda model: model["modelTopology"]["node"][2]["attr"].update(strides=integers(2, 1, 1, 1)), "strides"),
        (
            lambda model: model["modelTopology"]["node"][2]["attr"].update(
                fused_ops={"list": {"s": [setting("Elu")["s"]]}}
            ),
            "fused Elu is not known here",
        ),
    ],
)
def test_what_is_damaged_or_unknown_is_named(
    change: Callable[[dict[str, Any]], object], said: str, folder: Path
) -> None:
    changed(folder, change)
    with pytest.raises(UserError) as caught:
        read(folder, "answer")(torch.zeros(1, 1, 4, 4))
    assert said in str(caught.value) and caught.value.hint


def test_weights_that_are_cut_short_or_not_numbers_are_refused(folder: Path) -> None:
    content = (folder / "g.bin").read_bytes()
    (folder / "g.bin").write_bytes(content[:-1])
    with pytest.raises(UserError, match="the weights end at byte 35"):
        read(folder, "answer")
    (folder / "g.bin").write_bytes(content[:-4] + np.float32("nan").tobytes())
    with pytest.raises(UserError, match="not all weights are finite"):
        read(folder, "answer")


def test_other_outputs_and_other_images_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="no such output; the last nodes are"):
        read(folder, "another")
    with pytest.raises(UserError, match=r"expected images \(n, 1, 4, 4\), got \(2, 3, 4, 4\)"):
        read(folder, "answer")(torch.zeros(2, 3, 4, 4))
