"""The device on which this process computes: the CPU, one of CUDA's, or Apple's MPS.

Everything that is random is drawn on the CPU and then moved, so that the same bits go in on every device. What comes
out may differ by ``TOLERANCE``, as devices add up in different orders. Constant tensors are cached by device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast

import torch
from torch import Generator, Tensor, nn

from ppfr_bench.errors import UserError, did_you_mean

__all__ = [
    "CPU", "TOLERANCE", "DeviceClass", "PerDevice", "Tolerance", "autocast", "current", "device_class", "double",
    "draw", "names", "per_device", "select", "to", "use",
]  # fmt: skip

DeviceClass = Literal["cpu", "cuda", "mps"]
Movable = TypeVar("Movable", bound=Tensor | nn.Module)
Arguments = ParamSpec("Arguments")
Constant = TypeVar("Constant", bound=Tensor | tuple[Tensor, ...] | nn.Module)
CPU = torch.device("cpu")
_CLASSES: tuple[DeviceClass, ...] = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Tolerance:
    """How far a result may lie from the CPU's: ``absolute + relative * |the CPU's|``, for every value.

    Attributes:
        relative: as a share of the CPU's value.
        absolute: in the unit of the value: grey levels of [0, 1], coordinates of a unit embedding, metric values.
        level: of 255 for released bytes, as a value near a half may be rounded to either side.
    """

    relative: float = 1e-3
    absolute: float = 5e-4
    level: int = 1


# Single precision without TF32 keeps six digits; a network of fifty layers loses three of them.
TOLERANCE = Tolerance()

_current = CPU


def current() -> torch.device:
    """The device of this process; the CPU unless ``select`` or ``use`` said otherwise."""
    return _current


def names() -> list[DeviceClass]:
    """The classes of the devices that this machine and this build of torch have; the CPU first."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name in _CLASSES if present[name]]


def device_class(device: torch.device | str | None = None) -> DeviceClass:
    """What a key holds of a device: neither its number nor its model. Default: the current device.

    Raises:
        UserError: a device of another class.
    """
    kind = (_current if device is None else _parsed(device)).type
    for known in _CLASSES:
        if kind == known:
            return known
    raise _unknown(str(device))


def select(name: torch.device | str) -> torch.device:
    """Make a device this process's: ``cpu``, ``cuda``, ``mps``, or one of several such as ``cuda:1``.

    Raises:
        UserError: no such device, or this machine or this build of torch does not have it.
    """
    global _current
    _current = _found(name)
    return _current


@contextmanager
def use(name: torch.device | str) -> Iterator[torch.device]:
    """``select`` for the duration of a ``with``."""
    global _current
    before, _current = _current, _found(name)
    try:
        yield _current
    finally:
        _current = before


def to(movable: Movable, like: Tensor | None = None) -> Movable:
    """A tensor or a module on the current device, or on that of ``like``; itself where it is there already.

    A module is moved in place. One that is there is left alone, as it may be in training.
    """
    where = _current if like is None else like.device
    if isinstance(movable, Tensor):
        return cast(Movable, movable.to(where))
    if any(_place(part.device) != _place(where) for part in (*movable.parameters(), *movable.buffers())):
        with torch.inference_mode(False):  # Weights must serve gradients later, whoever moves them.
            movable.to(where)
    return movable


def double(values: Tensor) -> Tensor:
    """In float64; on the CPU where the values lie on MPS, which has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def autocast() -> AbstractContextManager[Any]:
    """bfloat16 autocast where the current device multiplies it, full precision elsewhere."""
    kind = device_class()
    if kind == "cpu":
        supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    elif kind == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=supported)


def draw(
    sampler: Callable[..., Tensor], generator: Generator, *arguments: Any, like: Tensor | None = None, **options: Any
) -> Tensor:
    """``sampler(*arguments, generator=generator, **options)``, drawn on the CPU: the same bits on every device.

    Args:
        sampler: such as ``torch.rand``, ``torch.randint`` or ``torch.randperm``.
        generator: of the CPU.
        arguments: what the sampler takes by position, such as the shape.
        like: a tensor on whose device the draw is wanted. Default: the current device.
        options: what else the sampler takes, such as ``dtype``.
    """
    drawn: Tensor = sampler(*arguments, generator=generator, **options)
    return drawn.to(_current if like is None else like.device)


class PerDevice(Generic[Arguments, Constant]):
    """A function of hashable arguments whose tensors or module are computed once for each device, and kept there.

    The function computes on the CPU, so that it asks another such function by ``on(device.CPU)``. A call gives what
    lies on the current device. It is a constant, so nobody may write to it.
    """

    def __init__(self, function: Callable[Arguments, Constant]) -> None:
        self._function = function
        self._kept: dict[Any, Constant] = {}
        update_wrapper(self, function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
        """On the current device."""
        return self.on(_current, *args, **kwargs)

    def on(self, device: torch.device, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Constant:
        """On a device, usually that of the tensors which the constant meets."""
        key = (_place(device), args, tuple(sorted(kwargs.items())))
        if key not in self._kept:
            # Cached tensors must serve gradients too, even if inference asks first.
            with torch.inference_mode(False), torch.no_grad():
                made: Any = self._function(*args, **kwargs)
                moved: Any = tuple(part.to(device) for part in made) if isinstance(made, tuple) else made.to(device)
            self._kept[key] = moved
        return self._kept[key]

    def cache_clear(self) -> None:
        """Forget what was computed, on all devices."""
        self._kept.clear()


def per_device(function: Callable[Arguments, Constant]) -> PerDevice[Arguments, Constant]:
    """Cache a function that returns a constant tensor, a tuple of them or a frozen module, by arguments and device."""
    return PerDevice(function)


def _place(device: torch.device) -> tuple[str, int]:
    """The same of ``cuda`` and ``cuda:0``."""
    return device.type, device.index or 0


def _parsed(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise _unknown(str(device)) from error


def _found(name: torch.device | str) -> torch.device:
    device, present = _parsed(name), names()
    kind = device_class(device)
    if kind not in present:
        raise UserError(f"device '{name}' is not on this machine, or this build of torch cannot use it", _hint(present))
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if (device.index or 0) >= count:
        raise UserError(
            f"device '{name}': this machine has {count} of that kind, counted from 0", f"For example:  --device {kind}"
        )
    if kind == "cuda":
        # TF32 keeps three digits, and the fastest algorithms give other bits at every run.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True
    return device


def _unknown(name: str) -> UserError:
    return UserError(f"there is no device '{name}'", f"{did_you_mean(name, _CLASSES)} {_hint(names())}")


def _hint(present: Sequence[str]) -> str:
    return f"Here: {', '.join(present)}. Type one of them:  --device {present[-1]}"
