"""What every recognizer needs: its optional runtime, checked input, unit length, and all threads kept busy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import device
from ppfr_bench.api import SIZE
from ppfr_bench.errors import Unavailable, UserError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


def require(module: str, extra: str) -> Any:
    """Import an optional module.

    Raises:
        Unavailable: it cannot be imported; the hint is the line that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise Unavailable(
            f"the module '{module}' is needed and cannot be imported: {error}", f"pip install 'ppfr-bench[{extra}]'"
        ) from error


def providers(runtime: Any) -> list[Any]:
    """What a session of ONNX Runtime computes on: CUDA if that is the current device and the runtime can, else the CPU.

    The package ``onnxruntime`` has the CPU only, ``onnxruntime-gpu`` has both; neither knows MPS as torch does.
    """
    where = device.current()
    if where.type == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        # ONNX Runtime uses no TF32, and no algorithm that a race chooses, as device.select sets torch.
        exact = {"device_id": where.index or 0, "use_tf32": 0, "cudnn_conv_algo_search": "DEFAULT"}
        return [("CUDAExecutionProvider", exact), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def session_class(session: Any) -> device.DeviceClass:
    """The class of the device on which a session of ONNX Runtime computes, which it tells once it is made."""
    return "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"


def check_images(images: Tensor) -> Tensor:
    """The images as they came, once seen to be float32 (n, 3, 112, 112), finite, in [0, 1].

    Raises:
        UserError: another type, shape or range.
    """
    if images.dtype != torch.float32 or images.ndim != 4 or tuple(images.shape[1:]) != (3, SIZE, SIZE):
        raise UserError(
            f"expected float32 images (n, 3, {SIZE}, {SIZE}), got {images.dtype} {tuple(images.shape)}",
            "Convert uint8 images with ppfr_bench.api.to_float.",
        )
    if images.numel() and not bool((images.amin() >= 0) & (images.amax() <= 1)):  # The comparison is false for NaN too.
        raise UserError(
            f"expected images in [0, 1], got {float(images.amin()):g} to {float(images.amax()):g}",
            "Convert uint8 images with ppfr_bench.api.to_float.",
        )
    return images


def unit_rows(vectors: Array) -> Array:
    """Each row of (n, d) at length 1; a row of zeros stays what it is."""
    double = vectors.astype(np.float64)
    length = np.sqrt((double**2).sum(axis=1, keepdims=True))
    unit: Array = (double / np.where(length > 0, length, 1)).astype(np.float32)
    return unit


def threads() -> int:
    """How many threads a recognizer may use: torch's own setting, so that one knob governs both."""
    return torch.get_num_threads()


def share_out(workers: Sequence[Callable[[Item], Result]], items: Sequence[Item]) -> list[Result]:
    """Results of all items, in order, each computed by whichever worker is free; one thread a worker.

    Threads are started anew in every call, as they would not survive a fork. The first error stops all and is raised.
    """
    results: list[Any] = [None] * len(items)
    turn, stop = count(), Event()

    def serve(work: Callable[[Item], Result]) -> None:
        while not stop.is_set() and (index := next(turn)) < len(items):
            try:
                results[index] = work(items[index])
            except BaseException:  # The other workers stop, whatever ended this one.
                stop.set()
                raise

    if len(workers) == 1 or len(items) <= 1:
        for index, item in enumerate(items):
            results[index] = workers[0](item)
        return results
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            for done in [pool.submit(serve, work) for work in workers]:
                done.result()
        finally:
            stop.set()  # Ctrl-C reaches this thread alone; the others end with the item at hand.
    return results


def one_thread_each(workers: Sequence[Callable[[Item], Result]], items: Sequence[Item]) -> list[Result]:
    """As ``share_out``, each worker on one of torch's threads.

    So sums come out the same whatever the number of threads, and no layer waits for the last of them.
    """
    count = threads()

    def alone(work: Callable[[Item], Result], item: Item) -> Result:
        torch.set_num_threads(1)  # It holds for the calling thread, but MKL's holds for all, so it is put back below.
        return work(item)

    try:
        return share_out([partial(alone, work) for work in workers], items)
    finally:
        torch.set_num_threads(count)


def embedded_in_parts(network: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts, in order, from as many calls at once as torch may use threads on the CPU; else one."""
    at_once = min(threads(), len(parts)) if device.device_class() == "cpu" else 1
    return torch.cat(one_thread_each([network] * at_once, parts))
