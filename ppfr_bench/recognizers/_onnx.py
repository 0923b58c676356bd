"""Recognizers in an ONNX file, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.recognizers._card import FileCard
from ppfr_bench.recognizers._file import FileRecognizer, filled_up, kind_of, patterns
from ppfr_bench.recognizers._runtime import Array, providers, require, session_class, share_out, threads

_BATCH = 16  # Images a call, where the graph takes any number.
_PRECISIONS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
_NAMES = {"tensor(float)": "float32", "tensor(double)": "float64"}


class OnnxFile(FileRecognizer):
    """An ONNX graph: sixteen images a call where it takes any number with the same bits, else one.

    A graph that is made for a batch of n is fed n images: n of those that are asked for if what it says of one depends
    neither on its place nor on the others, to the last bit; else one, and zeros. Half precision is fed as such.

    Raises:
        Unavailable: the extra ``onnx`` is missing.
        UserError: the file is no ONNX graph, keeps weights elsewhere, or does not do what its card says.
    """

    def __init__(self, given: FileCard, content: bytes) -> None:
        super().__init__(given)
        self._open(content)
        self.computes_on = session_class(self._session)
        declared = self._check_input()
        self._fixed = batch if declared and isinstance(batch := declared[0], int) and batch > 0 else 0
        self._output = self._chosen()
        hint = (
            f"It declares its input as {shape_of(declared)}. Compare size and layout in the card of '{given.label}' "
            "with what it was made for, and export it for a batch of any number, or of one that it declares."
        )
        fed = filled_up(self._prepare(patterns()[:1]).to(self._precision), self._fixed)
        self._check_answer(self._probe(self._ask, fed, hint), len(fed))
        self._batch = self._batch_size()

    def differentiable(self) -> nn.Module:
        """The same network in torch, for a white-box surrogate.

        Raises:
            Unavailable: onnx2torch is missing, cannot translate the graph, or gives other embeddings.
        """
        convert = require("onnx2torch", "onnx").convert
        try:
            convert(self._graph)
        except Exception as error:  # An untranslatable graph may raise anything.
            raise Unavailable(
                f"onnx2torch cannot translate {self._given.file}: {type(error).__name__}: {error}",
                "Take another surrogate, or export the network as TorchScript.",
            ) from error
        place = [output.name for output in self._session.get_outputs()].index(self._output)
        return self._surrogate(lambda: convert(self._graph), self._precision, str(place), self._fixed or 1)

    def _open(self, content: bytes) -> None:
        runtime, onnx, file = require("onnxruntime", "onnx"), require("onnx", "onnx"), self._given.file
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # Images are spread over the threads, as for the built-in ones.
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # Faults are raised, so they need not be printed as well.
        try:
            self._graph = onnx.load_model_from_string(content)
            refuse_external_data(self._graph, file)
            self._session = runtime.InferenceSession(content, options, providers=providers(runtime))
        except UserError:
            raise
        except Exception as error:  # protobuf and the runtime raise their own.
            words = " ".join(str(error).split())[-300:]
            raise UserError(f"{file} is no ONNX graph that can be run: {words}", "Export it again.") from error

    def _check_input(self) -> list[int | str | None]:
        """The shape that the graph declares; its type decides what is fed.

        Raises:
            UserError: several inputs, one of whole numbers, or a shape that the card does not fit.
        """
        given, inputs = self._given, self._session.get_inputs()
        came = ", ".join(f"'{one.name}' {name_of(one.type)} {shape_of(one.shape)}" for one in inputs)
        if len(inputs) != 1:
            raise UserError(
                f"{given.file}: expected one float32 input, got {len(inputs)}: {came or 'none'}",
                "Export it again, with the image as its only input.",
            )
        if inputs[0].type not in _PRECISIONS:
            raise UserError(
                f"{given.file}: expected one float32 input, got {came}",
                "A card feeds (x - mean) / std, which is no whole number: export the graph with a float32 input, and "
                "any cast inside it.",
            )
        self._input, self._precision = inputs[0].name, _PRECISIONS[inputs[0].type]
        declared: list[int | str | None] = list(inputs[0].shape)
        fed = self._prepare(patterns()[:1]).to(self._precision)
        sides = zip(declared[1:], fed.shape[1:], strict=False)
        if declared and (len(declared) != 4 or any(is_fixed(one) and one != side for one, side in sides)):
            raise UserError(
                f"{given.file} cannot be run on {kind_of(fed)}, which size and layout in its card ask for: it declares "
                f"its input {came}",
                self._what_fits(declared),
            )
        return declared

    def _what_fits(self, declared: list[int | str | None]) -> str:
        """What to write into the card, or that no card helps."""
        given = self._given
        lines: list[str] = []
        for layout, channels, first in (("nchw", 1, 2), ("nhwc", 3, 1)):
            if len(declared) == 4 and declared[channels] == 3 and not lines:
                size = declared[first : first + 2]
                lines += [f'layout = "{layout}"'] if layout != given.layout else []
                lines += [f"size = {size}"] if all(map(is_fixed, size)) and size != list(given.size) else []
        if lines:
            return f"Write in the card of '{given.label}':  {' and '.join(lines)}"
        return "Export it again, with an input of (batch, 3, height, width)."

    def _chosen(self) -> str:
        """The output that is the embedding.

        Raises:
            UserError: several, and the card names none of them; all are listed. Or it is no tensor.
        """
        given, outputs = self._given, {output.name: output for output in self._session.get_outputs()}
        if given.output not in outputs and (given.output or len(outputs) > 1):
            shapes = self._shapes(list(outputs))
            fits = [name for name, shape in shapes.items() if shape.endswith(f", {given.dimension})")]
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise UserError(
                f"{given.file}: no output {given.output!r}, it has {', '.join(outputs)}: {listed}",
                f"Name one in the card of '{given.label}':  output = \"{(fits or list(outputs))[0]}\"",
            )
        chosen: str = given.output or next(iter(outputs))
        if not outputs[chosen].type.startswith("tensor("):
            raise UserError(
                f"{given.file}: expected a tensor, its output {chosen!r} is a {outputs[chosen].type}",
                "Export it again, without the last node.",
            )
        return chosen

    def _shapes(self, names: list[str]) -> dict[str, str]:
        """What each output is, found by asking for all of them; as declared, where that fails."""
        fed = filled_up(self._prepare(patterns()[:1]).to(self._precision), self._fixed)
        try:
            return dict(zip(names, map(kind_of, self._session.run(names, {self._input: fed.numpy()})), strict=True))
        except Exception:  # The runtime raises its own again when the chosen output is asked for.
            declared = self._session.get_outputs()
            return {one.name: f"{name_of(one.type)} {shape_of(one.shape)}" for one in declared}

    def _ask(self, fed: Tensor) -> Any:
        return self._session.run([self._output], {self._input: fed.numpy()})[0]

    def _call(self, fed: Tensor) -> Array:
        """float32 (k, ...) as the card wants it, k at most the batch -> float32 (k, d)."""
        filled = filled_up(fed.to(self._precision), self._fixed)
        rows: Array = self._ask(filled).reshape(len(filled), -1)[: len(fed)].astype(np.float32)
        return rows

    def _run(self, fed: Tensor) -> Array:
        parts = list(fed.split(self._batch))
        workers = max(1, min(threads(), len(parts)))
        return np.concatenate(share_out([self._call] * workers, parts))

    def _batch_size(self) -> int:
        """Images a call: as many as the graph takes, if what it says of one depends neither on its place nor on others.

        Looked at with two images that take turns in a batch of two and in the largest one, and each alone.
        """
        most, fed = self._fixed or _BATCH, self._prepare(patterns())
        if most == 1:
            return 1
        try:
            alone = [self._call(fed[:1]).tobytes(), self._call(fed[1:]).tobytes()]
            for count in (2, most):
                turns = fed[[place % 2 for place in range(count)]]
                if not self._fixed and len(self._ask(turns.to(self._precision))) != count:
                    return 1  # A graph may declare any number and mean one.
                rows = self._call(turns)
                if any(row.tobytes() != alone[place % 2] for place, row in enumerate(rows)):
                    return 1
        except Exception:  # The runtime raises its own where the graph takes other shapes than it declares.
            return 1
        return most


def refuse_external_data(graph: Any, file: str) -> None:
    """Weights in another file would not be covered by the hash.

    Raises:
        UserError: a tensor of the graph lies elsewhere.
    """
    helper = require("onnx.external_data_helper", "onnx")
    for tensor in _tensors(graph):
        if helper.uses_external_data(tensor):
            raise UserError(
                f"{file} keeps weights in another file, which its hash does not cover ({tensor.name})",
                "Write it as one file:  onnx.save_model(onnx.load(FILE), NEW, save_as_external_data=False)",
            )


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a graph: also of constants, of graphs in its nodes and of its functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in [value] if hasattr(value, "ListFields") else value:
            if one.DESCRIPTOR.full_name == "onnx.TensorProto":
                yield one
            else:
                yield from _tensors(one)


def name_of(kind: str) -> str:
    """ONNX Runtime's name of a type -> numpy's: ``tensor(float)`` -> ``float32``."""
    return _NAMES.get(kind, kind.removeprefix("tensor(").removesuffix(")"))


def shape_of(declared: list[int | str | None]) -> str:
    """``(n, 3, 112, 112)``, for a message."""
    sides = ["?" if one is None else str(one) for one in declared]
    return f"({', '.join(sides)}{',' * (len(sides) == 1)})" if sides else "any shape"


def is_fixed(side: int | str | None) -> bool:
    """Whether a graph takes one length alone there."""
    return isinstance(side, int) and side > 0
