"""Reads a network that was saved for TensorFlow.js as a torch module: a JSON file of operators and a file of weights.

It admits the operators that feed-forward image networks are made of and nothing else; nothing in a file is executed.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench.errors import UserError

__all__ = ["TfjsGraph", "read_tfjs_graph"]

_TYPES = {"float32": "<f4", "int32": "<i4"}
_SKIPPED = ("Const", "Placeholder")


@dataclass(frozen=True)
class _Node:
    """One operator: its name, what it computes, of which others, and its settings."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    settings: Mapping[str, Any]

    def numbers(self, key: str) -> list[int]:
        """A setting that is a list of integers, for batch, height, width and channels."""
        found = [int(one) for one in self.settings.get(key, {}).get("list", {}).get("i", (1, 1, 1, 1))]
        if len(found) != 4 or found[0] != 1 or found[3] != 1 or min(found) < 1:
            raise _wrong(self.name, f"{key} {found} is not of height and width")
        return found[1:3]

    def words(self, key: str) -> list[str]:
        """A setting that is one text, or several."""
        found = self.settings.get(key, {})
        return [_text(self.name, one) for one in found.get("list", {}).get("s", [found["s"]] if "s" in found else [])]


class TfjsGraph(nn.Module):
    """A network as TensorFlow.js has it, its weights frozen.

    Args:
        nodes: the operators, each after those that it needs.
        weights: by name of the constant, in the layouts of TensorFlow: filters are (height, width, in, out).
        size: height, width and channels of the images that it takes.
        outputs: the nodes that it answers with.
    """

    def __init__(
        self, nodes: Sequence[_Node], weights: Mapping[str, Tensor], size: tuple[int, int, int], outputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.size = size
        self._nodes, self._outputs = tuple(nodes), tuple(outputs)
        self._places = {name: f"weight_{place}" for place, name in enumerate(weights)}
        for name, place in self._places.items():
            self.register_buffer(place, weights[name])
        self._last = {name: place for place, node in enumerate(nodes) for name in node.inputs}
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the nodes of ``outputs`` give, (n, ...) each.

        Args:
            images: float32 (n, channels, height, width) of the network's ``size``, in the range that it was made for.

        Raises:
            UserError: another shape, or a graph whose shapes do not fit together.
        """
        height, width, channels = self.size
        if images.ndim != 4 or tuple(images.shape[1:]) != (channels, height, width):
            raise UserError(
                f"expected images (n, {channels}, {height}, {width}), got {tuple(images.shape)}", "Resize them first."
            )
        # Tensors are (n, height, width, channels) as in TensorFlow; torch sees them as ``channels_last``.
        values = {name: getattr(self, place) for name, place in self._places.items()}
        for place, node in enumerate(self._nodes):
            if node.operator == "Placeholder":
                values[node.name] = images.permute(0, 2, 3, 1)
            elif node.operator != "Const":
                try:
                    values[node.name] = _OPERATORS[node.operator](node, *(values[name] for name in node.inputs))
                except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
                    raise _wrong(node.name, f"{node.operator} cannot be computed: {error!s:.300}") from error
                for name in node.inputs:  # What nobody reads any more makes room.
                    if self._last[name] == place and name not in self._outputs:
                        values.pop(name, None)
        return tuple(values[name] for name in self._outputs)


def read_tfjs_graph(graph: Path, weights: Path, outputs: Sequence[str]) -> TfjsGraph:
    """The network of a TensorFlow.js graph model, whose weights lie in one file.

    Args:
        outputs: names of the nodes that it shall answer with.

    Raises:
        UserError: a damaged file, an operator or a type of weights that is not known here, or no such output.
    """
    try:
        model = json.loads(graph.read_text(encoding="utf-8"))
        raw_nodes = model["modelTopology"]["node"]
        entries = [entry for group in model["weightsManifest"] for entry in group["weights"]]
        nodes = [
            _Node(raw["name"], raw["op"], tuple(raw.get("input", ())), raw.get("attr", {})) for raw in raw_nodes
        ]  # fmt: skip
        read = _weights(entries, weights.read_bytes())
        sizes = [[int(one["size"]) for one in node.settings["shape"]["shape"]["dim"]] for node in nodes
                 if node.operator == "Placeholder"]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _wrong(graph.name, f"not a graph model of TensorFlow.js: {error!r:.200}") from error
    if len(sizes) != 1 or len(sizes[0]) != 4 or min(sizes[0][1:]) < 1:
        raise _wrong(graph.name, f"expected one input of images, got {sizes}")
    _check(nodes, read, outputs)
    _, height, width, channels = sizes[0]
    return TfjsGraph(nodes, read, (height, width, channels), outputs)


def _weights(entries: Sequence[Mapping[str, Any]], content: bytes) -> dict[str, Tensor]:
    """The constants, one after the other in the file; float16 on disk is float32 here."""
    found, at = {}, 0
    for entry in entries:
        name, shape, packed = entry["name"], [int(side) for side in entry["shape"]], entry.get("quantization")
        if entry["dtype"] not in _TYPES or (packed and packed.get("dtype") != "float16"):
            raise _wrong(name, f"weights of type {entry['dtype']}, kept as {packed}, are not known here")
        kept = np.dtype("<f2" if packed else _TYPES[entry["dtype"]])
        end = at + math.prod(shape) * kept.itemsize
        if min(shape, default=1) < 0 or end > len(content):
            raise _wrong(name, f"the weights end at byte {len(content)}, {shape} would end at {end}")
        values = np.frombuffer(content[at:end], kept).reshape(shape).astype(_TYPES[entry["dtype"]])
        if not np.isfinite(values).all():
            raise _wrong(name, "not all weights are finite")
        found[name], at = torch.from_numpy(values), end
    if at != len(content):
        raise _wrong("the weights", f"{len(content) - at} bytes too many")
    return found


def _check(nodes: Sequence[_Node], weights: Mapping[str, Tensor], outputs: Sequence[str]) -> None:
    """Raises:
    UserError: an unknown operator, or a node that needs what has not been computed before it.
    """
    known: set[str] = set()
    for node in nodes:
        if node.operator not in (*_SKIPPED, *_OPERATORS):
            raise _wrong(node.name, f"operator {node.operator} is not known here: {', '.join(sorted(_OPERATORS))} are")
        if node.operator == "Const" and node.name not in weights:
            raise _wrong(node.name, "it has no weights")
        if missing := [name for name in node.inputs if name not in known]:
            raise _wrong(node.name, f"it needs {missing[0]}, which does not come before it")
        known.add(node.name)
    if missing := [name for name in outputs if name not in known]:
        raise _wrong(missing[0], f"no such output; the last nodes are {[node.name for node in nodes[-4:]]}")


def _convolution(node: _Node, images: Tensor, filters: Tensor, *more: Tensor) -> Tensor:
    return _finished(node, _slid(node, images, filters.permute(3, 2, 0, 1), 1), more)


def _depthwise(node: _Node, images: Tensor, filters: Tensor, *more: Tensor) -> Tensor:
    height, width, channels, times = filters.shape
    flat = filters.permute(2, 3, 0, 1).reshape(channels * times, 1, height, width)
    return _finished(node, _slid(node, images, flat, channels), more)


def _slid(node: _Node, images: Tensor, filters: Tensor, groups: int) -> Tensor:
    strides, dilations = node.numbers("strides"), node.numbers("dilations")
    padded = _padded(node, images.permute(0, 3, 1, 2), list(filters.shape[2:]), strides, dilations, 0.0)
    return functional.conv2d(padded, filters, None, strides, 0, dilations, groups).permute(0, 2, 3, 1)


def _max_pool(node: _Node, images: Tensor) -> Tensor:
    window, strides = node.numbers("ksize"), node.numbers("strides")
    padded = _padded(node, images.permute(0, 3, 1, 2), window, strides, [1, 1], -math.inf)
    return functional.max_pool2d(padded, window, strides).permute(0, 2, 3, 1)


def _padded(
    node: _Node, images: Tensor, window: list[int], strides: list[int], dilations: list[int], value: float
) -> Tensor:
    """As TensorFlow pads under SAME: so much that every place counts, the odd one below and at the right."""
    (padding,) = node.words("padding") or [""]
    layout = node.words("data_format") or ["NHWC"]
    if padding not in ("SAME", "VALID") or layout != ["NHWC"]:
        raise _wrong(node.name, f"padding {padding!r} in layout {layout} is not known here")
    if padding == "VALID":
        return images
    missing = [
        max((-(-side // step) - 1) * step + (length - 1) * dilation + 1 - side, 0)
        for side, length, step, dilation in zip(images.shape[2:], window, strides, dilations, strict=True)
    ]
    if not any(missing):
        return images
    (top, left), (bottom, right) = [one // 2 for one in missing], [one - one // 2 for one in missing]
    return functional.pad(images, (left, right, top, bottom), value=value)


def _matrix(node: _Node, rows: Tensor, matrix: Tensor, *more: Tensor) -> Tensor:
    if any(node.settings.get(key, {}).get("b") for key in ("transpose_a", "transpose_b")):
        raise _wrong(node.name, "transposed matrices are not known here")
    return _finished(node, rows @ matrix, more)


def _finished(node: _Node, found: Tensor, more: Sequence[Tensor]) -> Tensor:
    """With what is fused into an operator: a bias, a rectifier."""
    fused, left = node.words("fused_ops"), list(more)
    for one in fused:
        if one == "BiasAdd" and left:
            found = found + left.pop(0)
        elif one == "Relu":
            found = found.relu()
        else:
            raise _wrong(node.name, f"fused {one} is not known here")
    if left:
        raise _wrong(node.name, f"{len(left)} inputs are left over")
    return found


def _reduced(over: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[_Node, Tensor, Tensor], Tensor]:
    def compute(node: _Node, values: Tensor, axes: Tensor) -> Tensor:
        return over(values, axes.flatten().tolist(), bool(node.settings.get("keep_dims", {}).get("b", False)))

    return compute


def _pad(node: _Node, values: Tensor, paddings: Tensor) -> Tensor:
    return functional.pad(values, paddings.flip(0).flatten().tolist())


def _reshape(node: _Node, values: Tensor, shape: Tensor) -> Tensor:
    """The first side is the images', although a graph may have been saved for one image."""
    return values.reshape(len(values), *shape.tolist()[1:])


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv2D": _convolution, "_FusedConv2D": _convolution, "DepthwiseConv2dNative": _depthwise,
    "MaxPool": _max_pool, "MatMul": _matrix, "_FusedMatMul": _matrix,
    "Add": lambda node, one, other: one + other, "AddV2": lambda node, one, other: one + other,
    "Sub": lambda node, one, other: one - other, "Mul": lambda node, one, other: one * other,
    "Maximum": lambda node, one, other: torch.maximum(one, other),
    "Minimum": lambda node, one, other: torch.minimum(one, other),
    "Mean": _reduced(lambda values, axes, keep: values.mean(axes, keepdim=keep)),
    "Max": _reduced(lambda values, axes, keep: values.amax(axes, keepdim=keep)),
    "Relu": lambda node, values: values.relu(), "Sigmoid": lambda node, values: values.sigmoid(),
    "Softmax": lambda node, values: values.softmax(-1), "Identity": lambda node, values: values,
    "Pad": _pad, "Reshape": _reshape,
}  # fmt: skip


def _text(name: str, encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, TypeError) as error:
        raise _wrong(name, f"{encoded!r:.40} is not a setting") from error


def _wrong(name: str, what: str) -> UserError:
    return UserError(f"{name}: {what}", "See whether the file is damaged:  ppfr-bench assets verify")
