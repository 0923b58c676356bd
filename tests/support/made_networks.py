"""Small networks in real formats: mean colours of the cells of a grid, times a fixed matrix. For tests alone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CELLS = 4  # a side
Array = npt.NDArray[np.float32]


def matrix(dimension: int, seed: int = 0) -> Array:
    """float32 (48, d)."""
    values = np.random.default_rng(seed).standard_normal((3 * CELLS**2, dimension)) / 7
    return values.astype(np.float32)


def by_hand(fed: Array, dimension: int, seed: int = 0) -> Array:
    """What the networks answer to (n, 3, h, w), in numpy."""
    n, _, height, width = fed.shape
    cells = fed.astype(np.float64).reshape(n, 3, CELLS, height // CELLS, CELLS, width // CELLS).mean(axis=(3, 5))
    answer: Array = (cells.reshape(n, -1) @ matrix(dimension, seed)).astype(np.float32)
    return answer


def write_onnx(
    path: Path, *, dimension: int = 16, seed: int = 0, side: int = 112, layout: str = "nchw", batch: int | str = "n",
    flat: tuple[int, ...] | None = None, outputs: int = 1, operation: str = "", external: bool = False,
    inner: tuple[int, ...] | None = None, precision: str = "float32", shape: list[Any] | None = None,
) -> Path:  # fmt: skip
    """An ONNX graph.

    ``inner`` and ``flat`` are the shapes of a reshape before and after the matrix, ``operation`` is one more node
    between them; ``precision`` is that of input, weights and answer, of whole numbers that of the input alone;
    ``shape`` is declared for the input in place of the true one.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = shape or ([batch, 3, side, side] if layout == "nchw" else [batch, side, side, 3])
    of, whole = np.dtype(precision), np.dtype(precision).kind in "iu"
    nodes, last = [], "image"
    if whole:
        nodes.append(helper.make_node("Cast", [last], ["real"], to=TensorProto.FLOAT))
        last = "real"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [last], ["turned"], perm=[0, 3, 1, 2]))
        last = "turned"
    window = [side // CELLS] * 2
    nodes += [
        helper.make_node("AveragePool", [last], ["cells"], kernel_shape=window, strides=window),
        helper.make_node("Reshape", ["cells", "inner"], ["row"]) if inner
        else helper.make_node("Flatten", ["cells"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["embedding"]),
    ]  # fmt: skip
    weights = [numpy_helper.from_array(matrix(dimension, seed).astype(np.float32 if whole else of), "weights")]
    last = "embedding"
    if inner:
        weights.append(numpy_helper.from_array(np.array(inner, np.int64), "inner"))
    if operation:
        nodes.append(helper.make_node(operation, [last], ["more"]))
        last = "more"
    if flat:
        weights.append(numpy_helper.from_array(np.array(flat, np.int64), "flat"))
        nodes.append(helper.make_node("Reshape", [last, "flat"], ["flattened"]))
        last = "flattened"
    names = [last, "row", "cells", *(f"{last}{i}" for i in range(2, outputs))][:outputs]
    nodes += [helper.make_node("Identity", [last], [name]) for name in names[3:]]
    answer = TensorProto.FLOAT if whole else helper.np_dtype_to_tensor_dtype(of)
    graph = helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info("image", helper.np_dtype_to_tensor_dtype(of), shape)],
        [helper.make_tensor_value_info(name, answer, None) for name in names], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path), save_as_external_data=external, size_threshold=0)
    return path


def write_card(folder: Path, file: Path, /, **changes: Any) -> Path:
    """A card of a network of ``write_onnx``'s defaults, some keys changed, or left out where None."""
    keys: dict[str, Any] = {
        "label": "made", "title": "Made", "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "format": "onnx", "size": [112, 112], "colour": "rgb", "mean": 127.5, "std": 128, "layout": "nchw",
        "dimension": 16, "metric": "cosine", "licence": "MIT", "training_data": "none",
    } | changes  # fmt: skip
    lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    path = folder / f"{keys['label']}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
