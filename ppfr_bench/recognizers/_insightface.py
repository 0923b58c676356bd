"""``insightface:WHAT``: the recognition model of a pack, or one ONNX file, as the package ``insightface`` runs it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppfr_bench.api import RecognizerCard, to_bytes
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.places import from_environment, home_folder, is_file, is_folder, user_path
from ppfr_bench.recognizers._external import ExternalModel, ExternalRecognizer, label_of, sha256_of
from ppfr_bench.recognizers._onnx import refuse_external_data
from ppfr_bench.recognizers._runtime import (
    Array,
    check_images,
    providers,
    require,
    session_class,
    share_out,
    threads,
    unit_rows,
)
from ppfr_bench.text import printable


class InsightFaceModel(ExternalModel):
    """BGR crops of 8 bits, scaled and normalised by ``ArcFaceONNX.get_feat``, one a call; compared by cosine.

    Crops are aligned already: neither the pack's detector nor ``norm_crop`` runs.
    """

    def __init__(self, card: RecognizerCard, model: Any) -> None:
        super().__init__(card)
        self._model, self.computes_on = model, session_class(model.session)

    def embed(self, images: Tensor) -> Tensor:
        crops = list(to_bytes(check_images(images).detach()).transpose(0, 2, 3, 1)[..., ::-1])
        if not crops:
            return torch.empty((0, self.card.dimension))
        parts = share_out([self._one] * max(1, min(threads(), len(crops))), crops)
        return torch.from_numpy(unit_rows(np.concatenate(parts)))

    def _one(self, crop: Any) -> Array:
        return np.asarray(self._model.get_feat(np.ascontiguousarray(crop)), np.float32).reshape(1, -1)


def resolve(model: str) -> ExternalRecognizer:
    """The model of a pack in ``~/.insightface/models`` (or INSIGHTFACE_HOME), of a pack's folder, or of an ONNX file.

    Raises:
        Unavailable: no such pack here.
        UserError: no recognition model in it, or one that does not take one image.
    """
    file, found = _find(model)
    try:
        dimension = int(np.asarray(found.get_feat(np.zeros((112, 112, 3), np.uint8))).size)
    except Exception as error:  # The runtime and the package raise their own, such as for a batch of two.
        words = " ".join(str(error).split())[-300:]
        raise UserError(
            f"insightface cannot run {printable(file)} on one image: {words}",
            "A card says how a file is fed, in batches of its own size too: docs/howto/bring_a_recognizer.md",
        ) from error
    card = RecognizerCard(
        title=f"insightface {file.stem}", reference="Guo, Deng et al.: InsightFace, insightface.ai",
        licence="of the pack: most of insightface's are for non-commercial research only",
        code_url="https://github.com/deepinsight/insightface", dimension=dimension, metric="cosine",
        training_data="see the pack's description",
    )  # fmt: skip
    identity = {
        "package": "insightface", "version": version("insightface"), "sha256": sha256_of(file),
        "mean": found.input_mean, "std": found.input_std, "size": list(found.input_size),
    }  # fmt: skip
    return ExternalRecognizer(label_of("insightface", file.stem), card, identity, lambda: InsightFaceModel(card, found))


def _find(model: str) -> tuple[Path, Any]:
    path, home = user_path(model, "the insightface model"), from_environment("INSIGHTFACE_HOME")
    if home is None and (account := home_folder()):
        home = account / ".insightface"
    places = [path] if home is None else [path, home / "models" / model]
    pack = next((place for place in places if is_folder(place)), None)
    if pack is None:
        if not is_file(path):
            looked = " and ".join(printable(place) for place in places)
            raise Unavailable(
                f"no insightface pack or file {printable(model)}: looked at {looked}",
                f"Let insightface fetch it:  python -c \"import insightface; insightface.app.FaceAnalysis('{model}')\"",
            )
        return path, _recognition(path)
    zoo = require("insightface.model_zoo", "insightface")
    if zoo.has_model_package_manifest(str(pack)):  # Such a pack says which file does what, and pins it.
        try:
            file = Path(zoo.load_model_package(str(pack)).task("recognition").path)
        except Exception as error:  # The package raises its own about its manifest.
            raise UserError(f"{pack}: {error}", "Fetch the pack again.") from error
        return file, _load(file, pack)
    files = sorted(pack.glob("*.onnx"))
    for file in files:
        found = _load(file)
        if getattr(found, "taskname", "") == "recognition":
            return file, found
    raise UserError(f"{pack}: none of {len(files)} ONNX files is a recognition model", "Name the file itself.")


def _recognition(path: Path) -> Any:
    found = _load(path)
    if getattr(found, "taskname", "") != "recognition":
        what = getattr(found, "taskname", "unknown")
        raise UserError(f"{path}: insightface takes it for a model of kind '{what}', not recognition",
                        "A network of its own kind comes with a card: docs/howto/bring_a_recognizer.md")  # fmt: skip
    return found


def _load(file: Path, pack: Path | None = None) -> Any:
    runtime, onnx = require("onnxruntime", "insightface"), require("onnx", "insightface")
    zoo = require("insightface.model_zoo", "insightface")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # Images are spread over the threads.
    options.log_severity_level = 3
    settings = {"providers": providers(runtime), "sess_options": options}
    try:
        refuse_external_data(onnx.load(str(file), load_external_data=False), str(file))
        if pack is not None:
            return zoo.get_model(str(pack), model_task="recognition", **settings)
        return zoo.get_model(str(file), **settings)
    except UserError:
        raise
    except Exception as error:  # protobuf, the runtime and the package raise their own.
        words = " ".join(str(error).split())[-300:]
        raise UserError(
            f"insightface cannot load {file}: {type(error).__name__}: {words}", "Fetch it again."
        ) from error
