"""dlib's face recognition network in torch, and a reader of the file that holds its weights.

The file is read as what it must be: one network, layer by layer, with every number that decides a shape. Anything else
is an error, and nothing in it can be executed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench.errors import UserError

CHIP = 150
DIMENSION = 128
_STEM = 32
# Filters and stride of the residual blocks, from the image to the embedding.
_BLOCKS = (
    *((32, 1),) * 3, (64, 2), *((64, 1),) * 3, (128, 2), *((128, 1),) * 2, (256, 2), *((256, 1),) * 2, (256, 2),
)  # fmt: skip
_LAST = _BLOCKS[-1][0]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """What the file holds, with every affine layer folded into the convolution below it.

    Attributes:
        mean: of red, green and blue in 0..255, subtracted from every pixel.
        convolutions: filters (out, in, side, side) and bias (out,) of each, from the image to the embedding.
        linear: (128, 256), of the last layer, which has no bias.
    """

    mean: Tensor
    convolutions: tuple[tuple[Tensor, Tensor], ...]
    linear: Tensor


class DlibNetwork(nn.Module):
    """dlib's ResNet of 29 convolutions, its weights frozen.

    It takes chips, float32 RGB (n, 3, 150, 150) in 0..255, and gives float32 (n, 128): what dlib's
    ``compute_face_descriptor`` gives to about 1e-6. They are compared by Euclidean distance and not of unit length.
    Source: King, High quality face recognition with deep metric learning, 2017; the network is the one of
    https://github.com/davisking/dlib/blob/master/examples/dnn_face_recognition_ex.cpp.
    """

    mean: Tensor

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        convolutions = iter(weights.convolutions)
        self.register_buffer("mean", weights.mean.reshape(1, 3, 1, 1))
        self.stem = _convolution(*next(convolutions), stride=2)
        self.blocks = nn.Sequential(
            *(
                _Block(_convolution(*next(convolutions), stride=stride), _convolution(*next(convolutions), stride=1))
                for _, stride in _BLOCKS
            )
        )
        self.linear = nn.Linear(_LAST, DIMENSION, bias=False)
        self.linear.weight.data = weights.linear
        self.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        centred = (chips - self.mean).contiguous(memory_format=torch.channels_last)
        features = functional.max_pool2d(self.stem(centred).relu_(), 3, stride=2)
        pooled = self.blocks(features).mean(dim=(2, 3))
        embedded: Tensor = self.linear(pooled)
        return embedded


class _Block(nn.Module):
    """Two convolutions and a way around them; where the first has a stride, the way around is averaged."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.second(self.first(features).relu_())
        if self.first.stride != (1, 1):
            around = functional.avg_pool2d(features, 2)
            size = [max(left, right) for left, right in zip(answer.shape[1:], around.shape[1:], strict=True)]
            return (_filled_up(answer, size) + _filled_up(around, size)).relu_()
        return answer.add_(features).relu_()


def _filled_up(features: Tensor, size: list[int]) -> Tensor:
    """Zeros after the last channel, row and column, up to ``size``: dlib adds tensors of different sizes so."""
    missing = [wanted - there for wanted, there in zip(size, features.shape[1:], strict=True)]
    if not any(missing):
        return features
    return functional.pad(features, (0, missing[2], 0, missing[1], 0, missing[0]))


def _convolution(filters: Tensor, bias: Tensor, stride: int) -> nn.Conv2d:
    padding = 0 if stride > 1 else filters.shape[2] // 2
    made = nn.Conv2d(filters.shape[1], filters.shape[0], filters.shape[2], stride, padding)
    made.weight.data, made.bias = filters, nn.Parameter(bias)
    return made


def read_weights(content: bytes) -> Weights:
    """The weights in the content of ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises:
        UserError: it is damaged, or holds another network.
    """
    reader, layers = _Reader(content), list(_layers())
    reader.expect("the version of the loss", 1)
    reader.expect_name("loss_metric_2")
    reader.numbers("margin and threshold of the loss", 2)
    for place, (kind, _) in reversed(list(enumerate(layers))):
        reader.expect(f"the version of {kind}", 1 if kind in ("tag", "skip") else 2 if place else 3)
    reader.expect_name("input_rgb_image_sized")
    mean = torch.tensor(reader.numbers("the mean colour", 3), dtype=torch.float32)
    reader.expect("the size of the input", CHIP, CHIP)
    convolutions: list[tuple[_Floats, _Floats]] = []
    linear = np.empty((0, 0))
    for place, (kind, shape) in enumerate(layers):
        if kind in ("tag", "skip"):
            continue
        if kind == "con":
            convolutions.append(reader.convolution(*shape))
        elif kind == "affine":
            scale, shift = reader.affine(*shape)
            filters, bias = convolutions[-1]
            convolutions[-1] = filters * scale[:, None, None, None], bias * scale + shift
        elif kind == "fc":
            linear = reader.linear(*shape)
        else:
            reader.expect_name({"max_pool": "max_pool_2", "avg_pool": "avg_pool_2"}.get(kind, f"{kind}_"))
            reader.expect(f"the geometry of {kind}", *shape)
        reader.state(kind)
        if not place:
            reader.expect("the expansion factor of the input", 1)
    reader.expect_end()
    filters, bias = convolutions[0]
    convolutions[0] = filters / 256, bias  # The input layer divides by 256, which loses no bit.
    return Weights(mean, tuple((_tensor(w), _tensor(b)) for w, b in convolutions), _tensor(linear.T))


def _tensor(values: _Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _layers() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Kind and numbers of every layer, from the image to the embedding.

    Tags and skips name what ``add_prev`` adds and hold no numbers; a pool has the height and width of its window, its
    strides and its padding, where a window of 0 is all there is.
    """
    yield "con", (3, _STEM, 7, 2)
    yield "affine", (_STEM,)
    yield "relu", ()
    yield "max_pool", (3, 3, 2, 2, 0, 0)
    before = _STEM
    for filters, stride in _BLOCKS:
        yield "tag", ()
        yield "con", (before, filters, 3, stride)
        yield "affine", (filters,)
        yield "relu", ()
        yield "con", (filters, filters, 3, 1)
        yield "affine", (filters,)
        if stride > 1:
            yield "tag", ()
            yield "skip", ()
            yield "avg_pool", (2, 2, 2, 2, 0, 0)
        yield "add_prev", ()
        yield "relu", ()
        before = filters
    yield "avg_pool", (0, 0, 1, 1, 0, 0)
    yield "fc", (_LAST, DIMENSION)


class _Reader:
    """What dlib writes, from the first byte on.

    An integer is a byte that holds its length and its sign, and its bytes, the least first; a float is two of them,
    m * 2**e; a text and a tensor follow their lengths, the values of a tensor as little-endian float32.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def expect(self, what: str, *wanted: int) -> None:
        """Raises:
        UserError: the next integers are others.
        """
        started = self._place
        found = tuple(self._integer() for _ in wanted)
        if found != wanted:
            raise self._wrong(started, f"{what} is {_listed(found)} instead of {_listed(wanted)}")

    def expect_name(self, wanted: str) -> None:
        """Raises:
        UserError: the next text is another.
        """
        started = self._place
        name = self._take(min(max(self._integer(), 0), 64))
        if name != wanted.encode():
            raise self._wrong(started, f"{repr(name)[1:]} instead of {wanted!r}")

    def expect_end(self) -> None:
        """Raises:
        UserError: there are more bytes.
        """
        if self._place < len(self._content):
            raise self._wrong(self._place, f"{len(self._content) - self._place} bytes too many")

    def numbers(self, what: str, count: int) -> list[float]:
        """The next floats.

        Raises:
            UserError: one of them is not finite.
        """
        started, found = self._place, []
        for _ in range(count):
            mantissa, exponent = self._integer(), self._integer()
            if abs(exponent) > 900:  # Dlib's codes of infinity and NaN are among them.
                raise self._wrong(started, f"{what} is not finite")
            found.append(math.ldexp(mantissa, exponent))
        return found

    def state(self, kind: str) -> None:
        """What a layer keeps while it trains: three flags, and three tensors that are empty in a file."""
        started = self._place
        flags = self._take(3)
        if not set(flags) <= set(b"01"):
            raise self._wrong(started, f"the flags of {kind} are {flags!r}")
        for _ in range(3):
            self._tensor(f"what {kind} keeps", 0, 0, 0, 0)

    def convolution(self, before: int, filters: int, side: int, stride: int) -> tuple[_Floats, _Floats]:
        """Filters (filters, before, side, side) and bias (filters,)."""
        padding, size = 0 if stride > 1 else side // 2, filters * before * side**2
        self.expect_name("con_4")
        values = self._tensor("the filters", size + filters, 1, 1, 1)
        self.expect("the geometry of con", filters, side, side, stride, stride, padding, padding)
        self._part("the filters", filters, before, side, side)
        self._part("the bias", 1, filters, 1, 1)
        self.numbers("a rate of con", 4)
        return values[:size].reshape(filters, before, side, side), values[size:]

    def affine(self, channels: int) -> tuple[_Floats, _Floats]:
        """Scale and shift of each channel, (channels,)."""
        self.expect_name("affine_")
        values = self._tensor("scale and shift", 2 * channels, 1, 1, 1)
        self._part("the scale", 1, channels, 1, 1)
        self._part("the shift", 1, channels, 1, 1)
        self.expect("the mode of affine", 0)  # It means a value a channel.
        return values[:channels], values[channels:]

    def linear(self, before: int, outputs: int) -> _Floats:
        """The matrix (before, outputs)."""
        self.expect_name("fc_2")
        self.expect("the size of fc", outputs, before)
        values = self._tensor("the matrix", before, outputs, 1, 1)
        self._part("the matrix", before, outputs, 1, 1)
        self._part("the bias", 0, 0, 0, 0)
        self.expect("the mode of fc", 1)  # It means no bias.
        self.numbers("a rate of fc", 4)
        return values.reshape(before, outputs)

    def _tensor(self, what: str, *shape: int) -> _Floats:
        self.expect(f"the version of {what}", 2)
        self.expect(f"the shape of {what}", *shape)
        started = self._place
        values = np.frombuffer(self._take(4 * math.prod(shape)), "<f4").astype(np.float64)
        if not np.isfinite(values).all():
            raise self._wrong(started, f"{what}: not all values are finite")
        return values

    def _part(self, what: str, *shape: int) -> None:
        """Where in a tensor something lies, which is known from its shape."""
        self.expect(f"the version of the shape of {what}", 1)
        self.expect(f"the shape of {what}", *shape)

    def _integer(self) -> int:
        started = self._place
        (head,) = self._take(1)
        length = head & 0x7F
        if not 1 <= length <= 8:
            raise self._wrong(started, f"no integer has {length} bytes")
        value = int.from_bytes(self._take(length), "little")
        return -value if head & 0x80 else value

    def _take(self, count: int) -> bytes:
        part = self._content[self._place : self._place + count]
        if len(part) < count:
            raise self._wrong(len(self._content), f"the file ends there, {count - len(part)} bytes too early")
        self._place += count
        return part

    def _wrong(self, place: int, what: str) -> UserError:
        return UserError(
            f"not the weights of dlib's face recognition network: at byte {place}, {what}",
            "Type:  ppfr-bench assets fetch dlib_resnet",
        )


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
