"""Networks in files that are not made for one image in float32: they work, to the last bit, or it is said why not."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from made_networks import by_hand, write_card, write_onnx
from torch import Tensor, nn
from typer.testing import CliRunner

from ppfr_bench.api import to_float
from ppfr_bench.assets import asset_path
from ppfr_bench.cli import app
from ppfr_bench.contracts.check import examine_recognizer
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.recognizers import load_recognizer, recognizer_component
from ppfr_bench.recognizers._file import parts_of
from ppfr_bench.testing import example_faces

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'ppfr-bench[onnx]'")
IMAGES = to_float(example_faces().load(range(7)))
HALF = 1e-3  # of unit embeddings: what half precision may cost


def loaded(card: Path) -> Any:
    return load_recognizer(recognizer_component(str(card)).name)


def expected(dimension: int = 16) -> Any:
    """Unit embeddings of a card's defaults."""
    rows = by_hand((IMAGES.numpy() * 255 - 127.5) / 128, dimension)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def same_in_any_batch(recognizer: Any, images: Tensor = IMAGES) -> Tensor:
    """The embeddings, once seen to be the same bits alone, in parts and together."""
    together: Tensor = recognizer.embed(images)
    for size in (1, 3):
        assert torch.equal(together, torch.cat([recognizer.embed(part) for part in images.split(size)]))
    assert together.dtype == torch.float32 and recognizer.embed(images[:0]).shape == (0, together.shape[1])
    return together


def differentiable_as(recognizer: Any, embedded: Tensor, tolerance: float = 1e-5) -> None:
    """The surrogate answers alike, in batches of every size, and has gradients."""
    network, images = recognizer.differentiable(), IMAGES.clone().requires_grad_()
    for count in (1, 2, 7):
        torch.testing.assert_close(network(images[:count]).detach(), embedded[:count], rtol=0, atol=tolerance)
    (gradient,) = torch.autograd.grad(network(images)[1, 0], images)
    assert gradient[1].abs().sum() > 0 and gradient[0].abs().sum() == 0


# ONNX: batches and precision


@pytest.mark.parametrize("batch", [2, 3, 16])
@pytest.mark.parametrize("last", [{}, {"flat": (1, -1)}, {"inner": True}, {"layout": "nhwc"}])
def test_a_graph_of_a_fixed_batch(tmp_path: Path, batch: int, last: dict[str, Any]) -> None:
    """Also one that has its batch in the graph, so that torch cannot take another, and one that flattens it."""
    made = last | ({"inner": (batch, -1)} if "inner" in last else {})
    file = write_onnx(tmp_path / "net.onnx", batch=batch, **made)
    recognizer = loaded(write_card(tmp_path, file, layout=made.get("layout", "nchw")))
    embedded = same_in_any_batch(recognizer)
    np.testing.assert_allclose(embedded.numpy(), expected(), rtol=0, atol=2e-5)
    differentiable_as(recognizer, embedded)
    assert recognizer._batch == batch


def test_a_fixed_batch_whose_places_differ_is_filled_with_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", batch=4)))
    ask = recognizer._ask
    # The second place gives other last bits, as a matrix product may.
    monkeypatch.setattr(recognizer, "_ask", lambda fed: ask(fed) * np.array([[1], [1 + 1e-6], [1], [1]], np.float32))
    assert recognizer._batch_size() == 1
    recognizer._batch = 1
    np.testing.assert_allclose(same_in_any_batch(recognizer).numpy(), expected(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("made", [{}, {"batch": 1}, {"batch": 2, "inner": (2, -1)}, {"outputs": 2}])
def test_half_precision(tmp_path: Path, made: dict[str, Any]) -> None:
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx", precision="float16", **made),
                      output="embedding" if "outputs" in made else "")  # fmt: skip
    recognizer = loaded(card)
    embedded = same_in_any_batch(recognizer)
    np.testing.assert_allclose(embedded.numpy(), expected(), rtol=0, atol=HALF)
    differentiable_as(recognizer, embedded, HALF)
    assert examine_recognizer(str(card)).findings == []


def test_half_precision_keeps_its_length_as_float32(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "net.onnx", precision="float16")
    embedded = loaded(write_card(tmp_path, file, metric="euclidean", mean=0, std=255)).embed(IMAGES)
    assert embedded.dtype == torch.float32
    np.testing.assert_allclose(embedded.numpy(), by_hand(IMAGES.numpy(), 16), rtol=0, atol=5e-3)


@pytest.mark.assets
@pytest.mark.parametrize("batch", [2, 3])
def test_a_real_network_of_a_fixed_batch_is_the_built_in_one(tmp_path: Path, batch: int) -> None:
    graph = onnx.load(str(asset_path("faceplugin")))
    for end in (graph.graph.input[0], graph.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(graph, str(tmp_path / "net.onnx"))
    card = write_card(tmp_path, tmp_path / "net.onnx", colour="bgr", mean=127, std=128, dimension=512)
    embedded = same_in_any_batch(loaded(card))
    torch.testing.assert_close(embedded, load_recognizer("faceplugin").embed(IMAGES), rtol=0, atol=1e-6)


# ONNX: what is wrong is named


@pytest.mark.parametrize(
    ("made", "changes", "says", "hint"),
    [
        ({}, {"size": [64, 64]}, r"\(1, 3, 64, 64\), .* declares its input 'image' float32 \(n, 3, 112, 112\)",
         "size = [112, 112]"),
        ({}, {"layout": "nhwc"}, r"\(1, 112, 112, 3\), .* float32 \(n, 3, 112, 112\)", 'layout = "nchw"'),
        ({"layout": "nhwc", "side": 160, "batch": 2}, {}, r"\(1, 3, 112, 112\), .* float32 \(2, 160, 160, 3\)",
         'layout = "nhwc" and size = [160, 160]'),
        ({"shape": ["n", 3, "h", "w"]}, {"layout": "nhwc"}, r"float32 \(n, 3, h, w\)", 'layout = "nchw"'),
        ({"shape": ["n", "c", "h", "w"]}, {"size": [64, 64]}, r"cannot be run on float32 \(1, 3, 64, 64\): ",
         "It declares its input as (n, c, h, w). Compare size and layout"),
        ({"inner": (2, -1)}, {}, r"cannot be run on float32 \(1, 3, 112, 112\): ", "for a batch of any number"),
        ({"batch": 2}, {"dimension": 17}, r"expected embeddings \(2, 17\), got float32 \(2, 16\)", "dimension"),
        ({"precision": "uint8"}, {}, r"expected one float32 input, got 'image' uint8 \(n, 3, 112, 112\)",
         "float32 input, and any cast inside"),
        ({"precision": "int64"}, {}, "expected one float32 input, got 'image' int64", "whole number"),
        ({"outputs": 3}, {}, r"has embedding, row, cells: embedding float32 \(1, 16\), row float32 \(1, 48\)",
         'output = "embedding"'),
        ({"outputs": 2}, {"dimension": 48, "output": "rows"}, "no output 'rows'", 'output = "row"'),
        ({"outputs": 2, "batch": 2, "precision": "float16"}, {}, r"embedding float16 \(2, 16\)",
         'output = "embedding"'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_graph_or_its_card_is_named(
    tmp_path: Path, made: dict[str, Any], changes: dict[str, Any], says: str, hint: str
) -> None:
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx", **made), **changes)
    with pytest.raises(UserError, match=says) as caught:
        loaded(card)
    assert hint in caught.value.hint
    done = CliRunner().invoke(app, ["check", str(card)])
    assert isinstance(done.exception, UserError)


def graph_of(path: Path, inputs: list[Any], nodes: list[Any], outputs: list[Any]) -> Path:
    made = onnx.helper.make_graph(nodes, "made", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(onnx.helper.make_model(made, opset_imports=opsets, ir_version=9), str(path))
    return path


def test_graphs_of_other_kinds(tmp_path: Path) -> None:
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", real, ["n", 3, 112, 112])
    answer = helper.make_tensor_value_info("answer", real, None)
    mask = helper.make_tensor_value_info("mask", real, ["n", 1])
    flat = helper.make_node("Flatten", ["image"], ["row"])
    cases = [
        ([image, mask], [flat, helper.make_node("Mul", ["row", "mask"], ["answer"])], [answer],
         r"got 2: 'image' float32 \(n, 3, 112, 112\), 'mask' float32 \(n, 1\)"),
        ([helper.make_tensor_value_info("image", real, [3, 112, 112])],
         [helper.make_node("Flatten", ["image"], ["answer"])], [answer], r"its input 'image' float32 \(3, 112"),
        ([helper.make_tensor_value_info("image", real, ["n", 1, 112, 112])],
         [helper.make_node("Flatten", ["image"], ["answer"])], [answer], r"float32 \(n, 1, 112, 112\)"),
        ([image], [helper.make_node("ReduceSum", ["image"], ["answer"], keepdims=0)], [answer],
         r"expected one embedding \(1, 16\), got float32 \(\)"),
        ([image], [flat, helper.make_node("SequenceConstruct", ["row"], ["answer"])],
         [helper.make_tensor_sequence_value_info("answer", real, None)], r"'answer' is a seq\(tensor\(float\)\)"),
        ([helper.make_tensor_value_info("image", real, None)],
         [helper.make_node("Flatten", ["image"], ["answer"])], [answer], r"got float32 \(1, 37632\)"),
    ]  # fmt: skip
    for inputs, nodes, outputs, says in cases:
        with pytest.raises(UserError, match=says):
            loaded(write_card(tmp_path, graph_of(tmp_path / "net.onnx", inputs, nodes, outputs)))


def test_a_surrogate_that_answers_otherwise_says_by_how_much(tmp_path: Path) -> None:
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", operation="Log")))  # NaN
    with pytest.raises(Unavailable, match="as a network in torch it gives other embeddings there, by nan"):
        recognizer.differentiable()


# TorchScript


class Pair(NamedTuple):
    norm: Tensor
    embedding: Tensor


class Network(nn.Module):
    """The embedding alone; what others make of it is in ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=5), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class InATuple(Network):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers(x).sum(dim=1), self.layers(x)


class InAList(Network):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.layers(x)]


class InADictionary(Network):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"norm": self.layers(x).sum(dim=1), "embedding": self.layers(x)}


class Named(Network):
    def forward(self, x: Tensor) -> Pair:
        return Pair(self.layers(x).sum(dim=1), self.layers(x))


class Nested(Network):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return x, (self.layers(x), x)


class Squeezed(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze()


class OfOne(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).view(1, 16)


class OfTwo(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).view(2, 16)


class Whole(Network):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).long()


def script(folder: Path, network: nn.Module, **changes: Any) -> Path:
    file = folder / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(network.eval()), file)
    return write_card(folder, file, label="script", format="torchscript", **changes)


def reference() -> Tensor:
    with torch.no_grad():
        return nn.functional.normalize(Network().eval()((IMAGES * 255 - 127.5) / 128), dim=1)


@pytest.mark.parametrize(
    ("kind", "output"),
    [(InATuple, "1"), (InAList, ""), (InAList, "0"), (InADictionary, "embedding"), (Named, "embedding"),
     (Nested, "1.0"), (Squeezed, ""), (OfOne, "")],
)  # fmt: skip
def test_torchscript_whose_embedding_is_one_of_several(tmp_path: Path, kind: type[Network], output: str) -> None:
    card = script(tmp_path, kind(), output=output)
    recognizer = loaded(card)
    embedded = same_in_any_batch(recognizer)
    torch.testing.assert_close(embedded, reference(), rtol=0, atol=1e-5)
    differentiable_as(recognizer, embedded)
    assert examine_recognizer(str(card)).findings == []


@pytest.mark.parametrize(
    ("kind", "output", "says", "hint"),
    [
        (InATuple, "", r"gives a tuple of 2 outputs: 0: float32 \(1,\), 1: float32 \(1, 16\)", 'output = "1"'),
        (InATuple, "2", "a tuple of 2 outputs, none of them '2'", 'output = "1"'),
        (InADictionary, "", r"a dictionary of 2 outputs: norm: float32 \(1,\), embedding: ", 'output = "embedding"'),
        (Named, "", r"a Pair of 2 outputs: norm: ", 'output = "embedding"'),
        (Nested, "1", r"1\.0: float32 \(1, 16\), 1\.1: float32 \(1, 3, 112, 112\)", 'output = "1.0"'),
        (InATuple, "0", r"expected one embedding \(1, 16\), got float32 \(1,\)", "output"),
        (Network, "x", "has one output, which is not 'x'", "Leave output out"),
        (Whole, "", r"got int64 \(1, 16\)", "dimension"),
        (OfTwo, "", r"cannot be run on float32 \(1, 3, 112, 112\): RuntimeError: shape '\[2, 16\]'", "traced again"),
    ],
)
def test_what_is_wrong_with_a_module_is_named(
    tmp_path: Path, kind: type[Network], output: str, says: str, hint: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        loaded(script(tmp_path, kind(), output=output))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float16, HALF), (torch.float64, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_torchscript_in_another_precision(tmp_path: Path, precision: torch.dtype, tolerance: float) -> None:
    recognizer = loaded(script(tmp_path, InATuple().to(precision), output="1"))
    embedded = same_in_any_batch(recognizer)
    torch.testing.assert_close(embedded, reference(), rtol=0, atol=tolerance)
    differentiable_as(recognizer, embedded, tolerance)


def test_what_is_no_torchscript(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(Network().state_dict(), file)
    for content in (file.read_bytes(), b"", b"\x80x"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is no TorchScript"):
            loaded(write_card(tmp_path, file, label="script", format="torchscript"))


def test_outputs_are_named_as_they_lie() -> None:
    assert parts_of(1) is None and parts_of(torch.ones(2)) is None and parts_of(()) == {}
    assert parts_of((1, [2, {"a": 3}])) == {"0": 1, "1.0": 2, "1.1.a": 3}


# Where the file lies


def test_the_file_of_a_card_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = write_onnx(tmp_path / "home" / "models" / "net.onnx")
    card = write_card(tmp_path, file, file="~/models/net.onnx")
    np.testing.assert_allclose(loaded(card).embed(IMAGES).numpy(), expected(), rtol=0, atol=2e-5)
    card = write_card(tmp_path / "home", file, file="models/net.onnx")
    assert recognizer_component("~/made.toml") == recognizer_component(str(card))


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("~nobody_like_this/net.onnx", "no user is named 'nobody_like_this'"), (r"C:\\temp\new.onnx", "a line end"),
        (r"a\u0000b", "null character"), ("loop.onnx", "leads nowhere|cannot read"), (".", "is no file"),
        ("pipe.onnx", "is no file"), (r"C:\models\net.onnx", r"is not TOML.*\n.*\n  file = 'C:\\models\\net.onnx'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_is_said(tmp_path: Path, named: str, says: str) -> None:
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx"), file=named)
    with pytest.raises(UserError, match=says):
        recognizer_component(str(card))
