"""Recognizers in a file: an ONNX graph, a TorchScript module; both may serve as a surrogate."""

from __future__ import annotations

import hashlib
import io
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench.api import SIZE
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.recognizers._brought import BroughtRecognizer
from ppfr_bench.recognizers._card import FileCard
from ppfr_bench.recognizers._runtime import Array, check_images, require, share_out, threads, unit_rows

_BATCH = 16  # images a call, where the graph takes any number
_AGREE = 1e-3  # of unit embeddings, between ONNX Runtime and the network in torch


class Prepare(nn.Module):
    """float32 RGB (n, 3, 112, 112) in [0, 1] -> what the card says the file wants; gradients pass."""

    mean: Tensor
    std: Tensor

    def __init__(self, card: FileCard) -> None:
        super().__init__()
        self.size, self.bgr, self.last = card.size, card.colour == "bgr", card.layout == "nhwc"
        for name in ("mean", "std"):
            value = torch.tensor(getattr(card, name), dtype=torch.float32)
            self.register_buffer(name, value.expand(3).reshape(1, 3, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        if self.size != (SIZE, SIZE):
            images = functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        if self.bgr:
            images = images.flip(1)
        fed = (images * 255 - self.mean) / self.std
        return (fed.permute(0, 2, 3, 1) if self.last else fed).contiguous()


class Surrogate(nn.Module):
    """A file's network in torch, its weights frozen: float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, d)."""

    def __init__(self, prepare: Prepare, network: nn.Module) -> None:
        super().__init__()
        self.prepare, self.network = prepare, network.eval()
        for parameter in network.parameters():  # a ScriptModule has no requires_grad_ of its own
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        # Some files end in a reshape to (1, -1) whatever the batch.
        return functional.normalize(self.network(self.prepare(images)).reshape(len(images), -1), dim=1)


class FileRecognizer(BroughtRecognizer):
    """What both formats share: input as the card wants it, an answer as the card says."""

    def __init__(self, given: FileCard) -> None:
        super().__init__(given.card)
        self._given, self._prepare = given, Prepare(given)

    def embed(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            fed = self._prepare(check_images(images).detach().cpu())
        raw = self._run(fed) if len(fed) else np.empty((0, self.card.dimension), np.float32)
        return torch.from_numpy(unit_rows(raw) if self.card.metric == "cosine" else raw)

    @abstractmethod
    def _run(self, fed: Tensor) -> Array:
        """What is fed, (n, ...) -> (n, d) as the file gives it."""

    def _probe(self, call: Any) -> Array:
        """``call``'s answer to one image, (1, d).

        Raises:
            UserError: it fails, or the answer is no (1, d) of numbers.
        """
        given = self._given
        try:
            answer = np.asarray(call(self._prepare(_patterns()[:1])))
        except Exception as error:  # the runtime's own words: whatever a file may be wrong about
            shape = tuple(self._prepare(_patterns()[:1]).shape)
            raise UserError(
                f"{given.file} cannot be run on float32 {shape}: {' '.join(str(error).split())[-300:]}",
                f"Compare size and layout in the card of '{given.label}' with what the file wants.",
            ) from error
        if answer.size != given.dimension or answer.shape[0] != 1 or answer.dtype.kind != "f":
            raise UserError(
                f"{given.file}: expected one embedding (1, {given.dimension}), got {answer.dtype} {answer.shape}",
                f"Compare dimension{' and output' if given.format == 'onnx' else ''} in the card of '{given.label}'.",
            )
        return answer.reshape(1, -1).astype(np.float32)


class OnnxFile(FileRecognizer):
    """An ONNX graph on the CPU: sixteen images a call where it takes any number with the same bits, else one.

    Raises:
        Unavailable: the extra ``onnx`` is missing.
        UserError: the file is no ONNX graph, keeps weights elsewhere, or does not do what its card says.
    """

    def __init__(self, given: FileCard, content: bytes) -> None:
        super().__init__(given)
        runtime, onnx = require("onnxruntime", "onnx"), require("onnx", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # the threads are over images, as for the built-in ones
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._graph = onnx.load_model_from_string(content)
            refuse_external_data(self._graph, given.file)
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except UserError:
            raise
        except Exception as error:  # protobuf's and the runtime's own
            words = " ".join(str(error).split())[-300:]
            raise UserError(f"{given.file} is no ONNX graph that can be run: {words}", "Export it again.") from error
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            came = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise UserError(f"{given.file}: expected one float32 input, got {came}", "Export it again.")
        if given.output not in outputs and (given.output or len(outputs) > 1):
            raise UserError(
                f"{given.file}: no output {given.output!r}, it has {', '.join(outputs)}",
                f"Name one in the card of '{given.label}':  output = \"{outputs[0]}\"",
            )
        self._input, self._output = inputs[0].name, given.output or outputs[0]
        self._probe(self._call)
        self._batch = self._batch_size(inputs[0].shape[0])

    def differentiable(self) -> nn.Module:
        """The same network in torch, for a white-box surrogate.

        Raises:
            Unavailable: onnx2torch is missing, cannot translate the graph, or gives other embeddings.
        """
        try:
            network = Surrogate(self._prepare, require("onnx2torch", "onnx").convert(self._graph))
            with torch.no_grad():
                there, here = network(_patterns()), functional.normalize(self.embed(_patterns()), dim=1)
        except Unavailable:
            raise
        except Exception as error:  # whatever an untranslatable graph raises
            raise Unavailable(
                f"onnx2torch cannot translate {self._given.file}: {type(error).__name__}: {error}",
                "Take another surrogate, or export the network as TorchScript.",
            ) from error
        off = float((there - here).abs().max())
        if not off <= _AGREE:
            raise Unavailable(
                f"{self._given.file} translated to torch gives other embeddings, by {off:.3g}",
                "Take another surrogate, or export the network as TorchScript.",
            )
        return network

    def _call(self, fed: Tensor) -> Array:
        answer: Array = self._session.run([self._output], {self._input: fed.numpy()})[0]
        return answer

    def _run(self, fed: Tensor) -> Array:
        parts = list(fed.split(self._batch))
        workers = max(1, min(threads(), len(parts)))
        answers = share_out([self._call] * workers, parts)
        return np.concatenate([answer.reshape(len(part), -1) for answer, part in zip(answers, parts, strict=True)])

    def _batch_size(self, declared: Any) -> int:
        """Sixteen, if the graph takes any number of images and what it says of one does not depend on the others."""
        if isinstance(declared, int):
            return 1
        fed = self._prepare(_patterns())
        try:
            together = self._call(fed)
            alone = np.concatenate([self._call(fed[:1]), self._call(fed[1:])])
        except Exception:  # a graph may declare any number and mean one
            return 1
        return _BATCH if together.shape == alone.shape and together.tobytes() == alone.tobytes() else 1


class TorchScriptFile(FileRecognizer):
    """A TorchScript module on the CPU, one image a call: in a batch, torch's sums come out differently.

    Raises:
        UserError: the file is no TorchScript, or does not do what its card says.
    """

    def __init__(self, given: FileCard, content: bytes) -> None:
        super().__init__(given)
        self._content = content
        self._network = self._load()
        with torch.no_grad():
            self._probe(self._network)

    def differentiable(self) -> nn.Module:
        """The same network, for a white-box surrogate: gradients reach the images, not the weights."""
        return Surrogate(self._prepare, self._load())

    def _run(self, fed: Tensor) -> Array:
        with torch.no_grad():
            answers = [self._network(fed[index : index + 1]).reshape(1, -1) for index in range(len(fed))]
        return torch.cat(answers).float().numpy()

    def _load(self) -> nn.Module:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch calls TorchScript deprecated since 2.14
                network: nn.Module = torch.jit.load(io.BytesIO(self._content), map_location="cpu")
        except RuntimeError as error:
            words = " ".join(str(error).split())[:300]
            raise UserError(
                f"{self._given.file} is no TorchScript: {words}", "Write it with torch.jit.save."
            ) from error
        return network.eval()


def load_file(given: FileCard, path: Path) -> FileRecognizer:
    """The recognizer in a file; what is loaded is what was hashed.

    Raises:
        UserError: the file has changed since, or does not do what its card says.
        Unavailable: its runtime is missing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", "Check the path.") from error
    if hashlib.sha256(content).hexdigest() != given.sha256:
        raise UserError(f"{path} has changed since its hash was checked", "Run it again.")
    return (OnnxFile if given.format == "onnx" else TorchScriptFile)(given, content)


def refuse_external_data(graph: Any, file: str) -> None:
    """Weights in another file would not be covered by the hash.

    Raises:
        UserError: a tensor of the graph lies elsewhere.
    """
    helper = require("onnx.external_data_helper", "onnx")
    for tensor in graph.graph.initializer:
        if helper.uses_external_data(tensor):
            raise UserError(
                f"{file} keeps weights in another file, which its hash does not cover ({tensor.name})",
                "Write it as one file:  onnx.save_model(onnx.load(FILE), NEW, save_as_external_data=False)",
            )


def _patterns() -> Tensor:
    """Two different images, float32 (2, 3, 112, 112) in [0, 1], the same everywhere."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    rows = [(x * 5 + y * 3) % 256, (x * y // 7) % 256, (x * 2 + y * 7) % 256]
    one = torch.stack(rows).float() / 255
    return torch.stack([one, one.flip(2, 0)])
