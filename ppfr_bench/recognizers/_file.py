"""Recognizers in a file: what ONNX graphs and TorchScript modules share, and the latter. Both may be a surrogate."""

from __future__ import annotations

import hashlib
import io
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.places import reason
from ppfr_bench.recognizers._card import FileCard
from ppfr_bench.recognizers._external import ExternalModel
from ppfr_bench.recognizers._runtime import Array, check_images, unit_rows
from ppfr_bench.text import printable

_AGREE = 1e-3  # Unit embeddings of the file and of the network with gradients may differ by this.


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
    """A file's network in torch, its weights frozen: float32 RGB (n, 3, 112, 112) in [0, 1] -> unit (n, d).

    Args:
        precision: of what the network is fed.
        output: which of several it is asked for, as ``pick`` has it.
        group: images a call, the last call filled up with zeros; 0 is all at once.
    """

    def __init__(self, prepare: Prepare, network: nn.Module, precision: torch.dtype, output: str, group: int) -> None:
        super().__init__()
        self.prepare, self.network = prepare, network.eval()
        self.precision, self.output, self.group = precision, output, group
        for parameter in network.parameters():  # A ScriptModule has no requires_grad_ of its own.
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        fed = self.prepare(images).to(self.precision)
        rows = [self._rows(part) for part in fed.split(self.group or max(1, len(fed)))]
        return functional.normalize(torch.cat(rows).float(), dim=1)

    def _rows(self, fed: Tensor) -> Tensor:
        filled = filled_up(fed, self.group)
        answer: Tensor = pick(self.network(filled), self.output)
        # Some files end in a reshape to (1, -1) whatever the batch.
        return answer.reshape(len(filled), -1)[: len(fed)]


class FileRecognizer(ExternalModel):
    """What both formats share: input as the card wants it, made on the CPU, and an answer as the card says."""

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
        """What is fed, (n, ...) -> float32 (n, d) as the file gives it."""

    def _probe(self, call: Callable[[Tensor], Any], fed: Tensor, hint: str) -> Any:
        """The file's answer to a first input.

        Raises:
            UserError: it fails; ``hint`` says what to do.
        """
        try:
            return call(fed)
        except UserError:
            raise
        except Exception as error:  # The runtime raises its own, whatever is wrong in a file.
            text = str(error)
            last = text[max(0, text.rfind("RuntimeError:")) :]  # TorchScript puts its own lines before the message.
            words = " ".join(last.split())[-300:]
            raise UserError(f"{self._given.file} cannot be run on {kind_of(fed)}: {words}", hint) from error

    def _check_answer(self, answer: Any, count: int) -> None:
        """Raises:
        UserError: it is not ``count`` embeddings of the card's dimension.
        """
        given = self._given
        right = isinstance(answer, np.ndarray) and answer.dtype.kind == "f" and answer.ndim > 0
        if not right or answer.size != count * given.dimension or answer.shape[0] not in (1, count, answer.size):
            expected = f"one embedding (1, {given.dimension})"
            raise UserError(
                f"{given.file}: expected {expected if count == 1 else f'embeddings ({count}, {given.dimension})'}, "
                f"got {kind_of(answer)}",
                f"Compare dimension and output in the card of '{given.label}'.",
            )

    def _surrogate(self, load: Callable[[], nn.Module], precision: torch.dtype, output: str, group: int) -> nn.Module:
        """The network with gradients, once seen to answer as the file does: in float32 and in batches, where it can.

        Args:
            load: a new copy of the network.
            precision, group: of the file, as it is run.

        Raises:
            Unavailable: it does not run, or gives other embeddings.
        """
        images = device.to(patterns()[[0, 1, 0]])
        wanted = device.to(functional.normalize(self.embed(images), dim=1))
        wrong = ""
        for of in dict.fromkeys((torch.float32, precision)):
            for size in dict.fromkeys((0, group)):
                try:
                    loaded = load() if of == precision else load().to(of)
                    network = device.to(Surrogate(Prepare(self._given), loaded, of, output, size))
                    with torch.no_grad():  # Two sizes are tried, as one may be the size that it is made for.
                        answers = torch.cat([network(images), network(images[:2])])
                    off = float((answers - torch.cat([wanted, wanted[:2]])).abs().max())
                except Exception as error:  # The network may be made for one batch or one precision.
                    wrong = wrong or f"does not run there: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                    continue
                if off <= _AGREE:
                    return network
                wrong = f"gives other embeddings there, by {off:.3g}"
        raise Unavailable(
            f"{self._given.file} cannot be a surrogate: as a network in torch it {wrong}",
            "Take another surrogate, or export the network as TorchScript in float32.",
        )


class TorchScriptFile(FileRecognizer):
    """A TorchScript module, one image a call: in a batch, torch's sums come out differently.

    Raises:
        UserError: the file is no TorchScript, or does not do what its card says.
    """

    def __init__(self, given: FileCard, content: bytes) -> None:
        super().__init__(given)
        self._content = content
        self._network = self._load()
        first = self._prepare(patterns()[:1])
        self._precision = self._fitting(first)
        hint = (
            f"Compare size and layout in the card of '{given.label}' with what the module wants. One that was traced "
            "for a batch of another size is traced again, for one image."
        )
        answer = self._probe(self._asked, first.to(self._precision), hint)
        self._output = self._chosen(answer)
        self._check_answer(self._array(answer), 1)

    def differentiable(self) -> nn.Module:
        """The same network, for a white-box surrogate: gradients reach the images, not the weights.

        Raises:
            Unavailable: in batches it gives other embeddings.
        """
        return self._surrogate(self._load, self._precision, self._output, 1)

    def _run(self, fed: Tensor) -> Array:
        parts = fed.to(self._precision).split(1)
        return np.concatenate([self._array(self._asked(part)).reshape(1, -1) for part in parts])

    def _asked(self, fed: Tensor) -> Any:
        with torch.no_grad():
            return device.to(self._network)(device.to(fed))

    def _array(self, answer: Any) -> Any:
        found = pick(answer, self._output)
        if not isinstance(found, Tensor):
            return found
        return (found.float() if found.is_floating_point() else found).cpu().numpy()

    def _fitting(self, fed: Tensor) -> torch.dtype:
        """float32, if the module takes it; else the type of its weights."""
        weights = next((one.dtype for one in self._network.parameters() if one.is_floating_point()), torch.float32)
        if weights == torch.float32:
            return weights
        try:
            self._asked(fed)
        except Exception:  # torch raises its own, as it mixes no two types.
            return weights
        return torch.float32

    def _chosen(self, answer: Any) -> str:
        """Which output is the embedding.

        Raises:
            UserError: there are several and the card names none of them; all are listed.
        """
        given, found = self._given, parts_of(answer)
        asked = given.output
        if found is None or (len(found) == 1 and not asked):
            if asked:
                raise UserError(f"{given.file} has one output, which is not {asked!r}", "Leave output out of the card.")
            return next(iter(found)) if found else ""
        if asked in found:
            return asked
        listed = ", ".join(f"{key}: {kind_of(value)}" for key, value in found.items())
        what = "dictionary" if isinstance(answer, Mapping) else type(answer).__name__
        fits = [key for key, value in found.items() if isinstance(value, Tensor) and value.numel() == given.dimension]
        raise UserError(
            f"{given.file} gives a {what} of {len(found)} outputs{f', none of them {asked!r}' * bool(asked)}: {listed}",
            f"Name one in the card of '{given.label}', or export the module with that output alone:  "
            f'output = "{(fits or [*found, "0"])[0]}"',
        )

    def _load(self) -> nn.Module:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch calls TorchScript deprecated since 2.14.
                network: nn.Module = torch.jit.load(io.BytesIO(self._content), map_location="cpu")
        except Exception as error:  # torch raises its own for a file of another kind.
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
    from ppfr_bench.recognizers._onnx import OnnxFile

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {printable(path)}: {reason(error)}", "Check the path.") from error
    if hashlib.sha256(content).hexdigest() != given.sha256:
        raise UserError(f"{printable(path)} has changed since its hash was checked", "Run it again.")
    return (OnnxFile if given.format == "onnx" else TorchScriptFile)(given, content)


def filled_up(fed: Tensor, count: int) -> Tensor:
    """``fed`` with images of zeros behind it, up to ``count``."""
    more = count - len(fed)
    return torch.cat([fed, fed.new_zeros(more, *fed.shape[1:])]) if more > 0 else fed


def parts_of(answer: Any) -> dict[str, Any] | None:
    """The outputs of a network by name or number, ``1.0`` for the first of the second; None of one that is no group."""
    if isinstance(answer, Mapping):
        members = {str(key): value for key, value in answer.items()}
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        members = dict(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, list | tuple):
        members = {str(place): value for place, value in enumerate(answer)}
    else:
        return None
    found: dict[str, Any] = {}
    for key, value in members.items():
        inner = parts_of(value)
        found |= {key: value} if inner is None else {f"{key}.{name}": one for name, one in inner.items()}
    return found


def pick(answer: Any, output: str) -> Any:
    """One of several outputs, by its key in ``parts_of``; the answer itself where it is the only one."""
    found = parts_of(answer)
    return answer if found is None else found[output]


def kind_of(value: Any) -> str:
    """``float32 (1, 512)``, for a message."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def patterns() -> Tensor:
    """Two different images, float32 (2, 3, 112, 112) in [0, 1], the same everywhere."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    rows = [(x * 5 + y * 3) % 256, (x * y // 7) % 256, (x * 2 + y * 7) % 256]
    one = torch.stack(rows).float() / 255
    return torch.stack([one, one.flip(2, 0)])
