"""``deepface:MODEL``: every recognition model that the package ``deepface`` offers, on ONNX Runtime or dlib."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppfr_bench.api import RecognizerCard, to_bytes
from ppfr_bench.assets import asset_path
from ppfr_bench.errors import Unavailable, UserError, did_you_mean
from ppfr_bench.places import reason
from ppfr_bench.recognizers._external import ExternalModel, ExternalRecognizer, folder_of, label_of, sha256_of
from ppfr_bench.recognizers._runtime import Array, check_images, require, share_out, threads, unit_rows
from ppfr_bench.text import printable


class DeepFaceModel(ExternalModel):
    """The whole crop, resized as ``DeepFace.represent(detector_backend="skip")`` does; compared by cosine.

    As ``represent`` does by default, values are fed in [0, 1] without further normalisation. One image a call, and as
    many calls at once as torch may use threads.

    Args:
        shared: whether the model may be called by several threads: a session of ONNX Runtime may.
    """

    computes_on = "cpu"  # Only DEEPFACE_ONNX_PROVIDERS would change it.

    def __init__(self, card: RecognizerCard, model: Any, shared: bool) -> None:
        super().__init__(card)
        self._model, self._shared = model, shared
        self._preprocessing = require("deepface.modules.preprocessing", "deepface")

    def embed(self, images: Tensor) -> Tensor:
        crops = list(to_bytes(check_images(images).detach()).transpose(0, 2, 3, 1)[..., ::-1])  # BGR
        if not crops:
            return torch.empty((0, self.card.dimension))
        at_once = max(1, min(threads(), len(crops))) if self._shared else 1
        return torch.from_numpy(unit_rows(np.stack(share_out([self._one] * at_once, crops))))

    def _one(self, crop: Any) -> Array:
        width, height = self._model.input_shape
        fed = self._preprocessing.resize_image(img=np.ascontiguousarray(crop), target_size=(height, width))
        return np.asarray(self._model.forward(fed), np.float32).ravel()


def models() -> list[str]:
    """The names that deepface offers, in its order.

    Raises:
        Unavailable: deepface is missing.
    """
    _prepare()
    return list(require("deepface.modules.modeling", "deepface").AVAILABLE_MODELS["facial_recognition"])


def resolve(model: str) -> ExternalRecognizer:
    """A model by deepface's name for it; its weights are hashed, whoever put them there.

    deepface fetches them on first use from its own addresses, into ``deepface`` in this project's cache (DEEPFACE_HOME
    moves that; the user's home is never written to). Those of ``Dlib`` are an asset of ours.

    Raises:
        UserError: deepface has no such model.
        Unavailable: deepface, what the model needs, or its weights cannot be had on this machine.
    """
    if model not in models():
        raise UserError(f"deepface has no model '{model}'", did_you_mean(model, models()))
    if model == "Dlib":
        _provide_dlib()
    modeling = require("deepface.modules.modeling", "deepface")
    try:
        with _one_thread_a_session(), _weights() as used:
            built = modeling.build_model(task="facial_recognition", model_name=model)
    except Exception as error:  # deepface, gdown, the network and the runtime raise their own.
        raise Unavailable(
            f"deepface cannot load {model}: {type(error).__name__}: {' '.join(str(error).split())}",
            f"Put its weights where deepface looks for them, in {_home() / '.deepface' / 'weights'}",
        ) from error
    card = RecognizerCard(
        title=f"deepface {model}", reference="Serengil and Ozpinar: LightFace, ASYU 2020; and the model's own paper",
        licence="of the weights: see deepface's list of models", code_url="https://github.com/serengil/deepface",
        dimension=int(built.output_shape), metric="cosine", training_data="see deepface's list of models",
        deviations=("Crops are aligned already and resized whole: deepface's detectors do not run.",),
    )  # fmt: skip
    backend = require("deepface.commons.backend_utils", "deepface").get_backend_engine()
    identity = {
        "package": "deepface", "version": version("deepface"), "backend": backend, "model": model,
        "weights": {path.name: sha256_of(path) for path in sorted(used)},
    }  # fmt: skip
    shared = backend == "onnx" and model != "Dlib"
    return ExternalRecognizer(label_of("deepface", model), card, identity, lambda: DeepFaceModel(card, built, shared))


def _home() -> Path:
    return folder_of("DEEPFACE_HOME", "deepface")


def _prepare() -> None:
    """Settings that deepface reads from the environment as it is imported; a user's own stand."""
    folder = _home() / ".deepface" / "weights"
    os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "onnx")  # The backend loads graphs, no pickles.
    os.environ.setdefault("DEEPFACE_LOG_LEVEL", "40")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder of deepface's weights, {printable(folder)}: {reason(error)}",
            "Choose one that you may write to:  DEEPFACE_HOME=DIR or PPFR_BENCH_CACHE=DIR",
        ) from error


def _provide_dlib() -> None:
    source = asset_path("dlib_resnet")
    target = _home() / ".deepface" / "weights" / source.name
    if not target.is_file():
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


@contextmanager
def _weights() -> Iterator[set[Path]]:
    """The weight files that deepface opens meanwhile: it does not say, so its look-up is listened to."""
    utilities = require("deepface.commons.weight_utils", "deepface")
    look_up, used = utilities.download_weights_if_necessary, set()

    def listen(*arguments: Any, **named: Any) -> str:
        path: str = look_up(*arguments, **named)
        used.add(Path(path))
        return path

    utilities.download_weights_if_necessary = listen
    try:
        yield used
    finally:
        utilities.download_weights_if_necessary = look_up


@contextmanager
def _one_thread_a_session() -> Iterator[None]:
    """Sessions of ONNX Runtime that deepface opens meanwhile get one thread: it asks for no number, which means all."""
    try:
        runtime: Any = import_module("onnxruntime")
    except ImportError:  # The user chose a backend that is not there.
        yield
        return
    made = runtime.SessionOptions

    def options() -> Any:
        found = made()
        found.intra_op_num_threads = found.inter_op_num_threads = 1
        return found

    runtime.SessionOptions = options
    try:
        yield
    finally:
        runtime.SessionOptions = made
