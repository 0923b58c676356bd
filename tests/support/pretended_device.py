"""A device that is not there: tensors that claim to lie on it, computed by the CPU and kept from meeting the CPU's.

Whatever would fail on a real device for want of a move fails here too: an operation on tensors of both places, a draw
from a generator of the CPU straight onto the device, ``numpy()`` without ``cpu()``, and float64 on MPS. As the CPU's
own kernels do the arithmetic, what comes out must equal what the CPU gives, to the last bit.

A real device does more that this cannot show: sums in another order, and operations that it lacks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from ppfr_bench import device

OTHERS = ("cuda", "mps")  # devices that every test of results goes through, whether they are there or not
_aten = torch.ops.aten
_INDEXING = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}  # by indices of either place
_UNDERNEATH = torch.device("meta")  # what torch's own code takes the tensors to lie on: it starts no driver for it
_DOUBLES = {torch.float64, torch.complex128}


class OnDevice(torch.Tensor):
    """A tensor of the pretended device; ``inner`` holds its values on the CPU."""

    inner: torch.Tensor
    where: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False  # Else torch warns that it loads no weights into a network that lies here.

    @staticmethod
    def __new__(cls, inner: torch.Tensor, where: torch.device) -> OnDevice:
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=_UNDERNEATH, requires_grad=False,
        )  # fmt: skip
        made.inner, made.where = inner, where
        return made

    def __init__(self, inner: torch.Tensor, where: torch.device) -> None:
        pass

    def new_tensor(self, data: Any, **options: Any) -> torch.Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": self.where} | options)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        """Without the pretence a tensor can only go back to the CPU."""
        if function.overloadpacket is _aten._to_copy and torch.device(named["device"]) == device.CPU:
            return function(arguments[0].inner, **named)
        raise AssertionError(f"{function}: a tensor of the pretended device outlived it")


class _Pretended(TorchDispatchMode):
    def __init__(self, where: torch.device) -> None:
        super().__init__()
        self.where, self.operations = where, 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # Else torch imports its compiler.

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        flat, _ = tree_flatten((arguments, named))
        theirs = any(isinstance(one, OnDevice) for one in flat)
        ours = [one for one in flat if isinstance(one, torch.Tensor) and not isinstance(one, OnDevice)]
        packet = function.overloadpacket
        first = next((one for one in flat if isinstance(one, torch.Tensor)), None)
        if packet in _INDEXING:
            ours = [one for one in ours if one is first]
        if theirs and packet is not _aten.copy_ and any(one.dim() > 0 for one in ours):
            raise RuntimeError(f"{function}: expected all tensors on {self.where}, found one on the CPU")
        asked = named.get("device")
        if asked is not None:
            lands = torch.device(asked).type in (self.where.type, _UNDERNEATH.type)
        else:
            lands = isinstance(first, OnDevice) if packet is _aten.copy_ else theirs
        if lands and any(isinstance(one, torch.Generator) and one.device.type == "cpu" for one in flat):
            raise RuntimeError(f"{function}: expected a generator of {self.where}, found one of the CPU")
        if asked is not None:
            named["device"] = device.CPU
        self.operations += theirs or lands
        bare_arguments, bare_named = tree_map(_bare, (arguments, named))
        with torch._C._DisableTorchDispatch():
            results = function(*bare_arguments, **bare_named)
        if not lands:
            return results
        wrapped = tree_map(self._wrap, results)
        return return_and_correct_aliasing(function, arguments, named, wrapped) if theirs else wrapped

    def _wrap(self, one: Any) -> Any:
        if not isinstance(one, torch.Tensor) or isinstance(one, OnDevice):
            return one
        if self.where.type == "mps" and one.dtype in _DOUBLES:
            raise TypeError("MPS has no float64")
        with torch.inference_mode(False):  # Else torch refuses a view, in inference mode, of a tensor from before it.
            return OnDevice(one, self.where)


def _bare(one: Any) -> Any:
    return one.inner if isinstance(one, OnDevice) else one


@contextmanager
def other_device(name: str) -> Iterator[bool]:
    """``device.use(name)`` of the real device where it is there, else of a pretended one.

    Yields:
        Whether results must equal the CPU's to the last bit; those of a real device may differ by ``TOLERANCE``.
    """
    if name in device.names():
        with device.use(name):
            yield False
    else:
        with pretended(name) as mode:
            yield True
        assert mode.operations, "nothing was computed on the device"


def assert_alike(there: Any, here: Any, exact: bool) -> None:
    """That results of another device, as arrays or tensors of the CPU, are the CPU's."""
    there, here = np.asarray(there), np.asarray(here)
    assert there.shape == here.shape and there.dtype == here.dtype
    if exact:
        np.testing.assert_array_equal(there, here)
    elif here.dtype == np.uint8:
        assert np.abs(there.astype(np.int16) - here).max() <= device.TOLERANCE.level
    else:
        np.testing.assert_allclose(there, here, rtol=device.TOLERANCE.relative, atol=device.TOLERANCE.absolute)


@contextmanager
def pretended(name: str) -> Iterator[_Pretended]:
    """``device.use(name)`` for a class of devices that this machine has not, for the duration of a ``with``.

    Yields:
        What counts the ``operations`` that ran on it, so that a test can tell that any did.
    """
    assert name not in device.names(), f"{name} is there: use the real one"
    where = torch.device(name, 0)
    with (
        patch.object(device, "names", lambda: ["cpu", name]),
        patch.object(torch.cuda, "device_count", lambda: 1),
        patch.object(torch.cuda, "_lazy_init", lambda: None),
        patch.object(device, "autocast", nullcontext),
        device.use(where),
        _Pretended(where) as mode,
    ):
        torch.__future__.set_swap_module_params_on_conversion(True)  # Else a module would keep plain parameters.
        torch._C._set_only_lift_cpu_tensors(True)  # Else torch.tensor would ask for the driver.
        try:
            yield mode
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
            torch._C._set_only_lift_cpu_tensors(False)
            for constant in _constants():
                constant.cache_clear()


def _constants() -> list[Any]:
    """All that is kept for each device, by whatever module has been imported: it must not outlive the pretence."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("ppfr_bench")]
    return [value for module in modules for value in vars(module).values() if isinstance(value, device.PerDevice)]
