"""A decoder from face embeddings back to faces, learnt on an attacker's own clear images alone.

It knows nothing of any defense, so one serves for all of them: attack ``template`` gives it embeddings that were mapped
from those of protected images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Arrays, AttackerView, ByteArray, Config, IntArray, Material, to_float
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.resizing import resize, shrink_faces
from ppfr_bench.learning.unet import Batch, Inputs, train, weights_from
from ppfr_bench.learning.validation import validation_mask

FACE_SIZE = 64  # Side in pixels of the closed-form faces.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # The ridge penalty is this times the mean of the Gram diagonal.
_VALIDATION_SHARE = 0.1
_VALIDATED = 32  # At most so many of the images that are held out are validated on.
_START = 7  # Side of the coarsest level of the network.
_LEVELS = 4  # 7, 14, 28, 56 pixels; the last is unshuffled to 112.
_BATCH = 32
_NETWORK = "network."  # Before the names of weights; before those after a part of training also its steps and ":".
_LOADED = 256  # Images in memory at a time.


class FaceDecoderConfig(Config):
    """Parameters of the decoder.

    Attributes:
        steps: of training, under L1, SSIM, LPIPS and the identity on the surrogate.
        batch: images a step.
        width: channels of the network's finest level.
        identity: weight of 1 - cosine of the surrogate's embeddings.
        learning_rate: the greatest of the one-cycle schedule.
    """

    steps: int = Field(600, ge=1)
    batch: int = Field(8, ge=1)
    width: int = Field(32, ge=8, multiple_of=8)
    identity: float = Field(0.3, ge=0)
    learning_rate: float = Field(2e-3, gt=0)


@dataclass(frozen=True)
class LinearFaces:
    """Ridge regression from embeddings to faces of 64 pixels.

    Source: ridge regression, Hoerl and Kennard 1970.

    Attributes:
        center: float32 (d,), the mean embedding.
        weights: float32 (d, 3 * 64 * 64).
        mean: float32 (3 * 64 * 64,), the mean face.
    """

    center: torch.Tensor
    weights: torch.Tensor
    mean: torch.Tensor

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings float32 (n, d) -> faces float32 (n, 3, 64, 64) in [0, 1]."""
        return _as_faces((embeddings - self.center) @ self.weights + self.mean)


def fit_linear_faces(
    embeddings: torch.Tensor, faces: torch.Tensor, identities: IntArray, validation: npt.NDArray[np.bool_]
) -> tuple[LinearFaces, torch.Tensor, float]:
    """Fit with the strength that does best on the held-out people, who have no other part in it.

    Args:
        embeddings: float32 (n, d), of clear images.
        faces: uint8 (n, 3, 64, 64), the same images.
        identities: int64 (n,).
        validation: bool (n,), True for the images of the people who choose.

    Returns:
        The regression; float32 (n, 3, 64, 64), its answer on each image, that person being left out of the fit; and the
        strength.
    """
    known, held_out = torch.from_numpy(~validation), torch.from_numpy(validation)
    y = faces.flatten(1).float() / 255
    center, mean = embeddings[known].mean(0), y[known].mean(0)
    x, y = embeddings - center, y - mean
    product, errors = x[known].T @ y[known], {}
    for strength in STRENGTHS if bool(held_out.any()) else STRENGTHS[-1:]:
        weights = _ridge(x[known], strength) @ product
        errors[strength] = float((x[held_out] @ weights - y[held_out]).square().mean())
    best = min(errors, key=lambda strength: errors[strength])
    inverse = _ridge(x[known], best)
    weights = inverse @ product
    answer, influence = x @ weights, x @ inverse
    for person in np.unique(identities[~validation]):  # Leaving rows out of a ridge regression has a closed form.
        rows = torch.from_numpy(np.flatnonzero(identities == person))
        own = torch.eye(len(rows), device=x.device) - influence[rows] @ x[rows].T
        answer[rows] = y[rows] - torch.linalg.solve(own, y[rows] - answer[rows])
    return LinearFaces(center, weights, mean), _as_faces(answer + mean), best


def _ridge(x: torch.Tensor, strength: float) -> torch.Tensor:
    """The inverse (d, d) of the penalised Gram matrix of centred rows."""
    gram = x.T @ x
    scale = gram.diagonal().mean().clamp_min(1e-9)
    inverse: torch.Tensor = torch.linalg.inv(gram + (strength * scale).expand(len(gram)).diag())
    return inverse


def _as_faces(rows: torch.Tensor) -> torch.Tensor:
    return rows.clamp(0, 1).reshape(-1, 3, FACE_SIZE, FACE_SIZE)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.SiLU(),
    )  # fmt: skip


class FaceCorrection(nn.Module):
    """Answers with a correction to the closed-form face of an embedding; the correction is 0 before training.

    Args:
        dimension: of embeddings.
        width: channels of the finest level; each coarser one has twice as many, at most eight times. A multiple of 8.
    """

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        widths = [width * 2 ** min(level, 3) for level in range(_LEVELS)][::-1]
        self.enter = nn.Linear(dimension, widths[0] * _START**2)
        self.up = nn.ModuleList(_block(a, b) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True))
        self.read = nn.Conv2d(3 * 2**2, width, 3, padding=1)
        self.join = _block(width, width)
        self.out = nn.Conv2d(width, 3 * 2**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings (n, d) with their closed-form faces (n, 3, 112, 112) in [0, 1] -> (n, 3, 112, 112)."""
        assert isinstance(inputs, tuple), "embeddings and faces"
        embeddings, faces = inputs
        features = self.enter(embeddings * embeddings.shape[1] ** 0.5).unflatten(1, (-1, _START, _START))
        features = features.contiguous(memory_format=torch.channels_last)
        for level, block in enumerate(self.up):
            features = block(functional.interpolate(features, scale_factor=2.0) if level else features)
        squares = functional.pixel_unshuffle(faces * 2 - 1, 2).contiguous(memory_format=torch.channels_last)
        correction: torch.Tensor = functional.pixel_shuffle(self.out(self.join(features + self.read(squares))), 2)
        return correction


@dataclass(frozen=True)
class FaceDecoder:
    """Rebuilds faces from embeddings; what it was learnt from is kept with it, for whoever maps embeddings to it.

    Attributes:
        linear: the closed-form answer.
        network: corrects it.
        embeddings: float32 (n, d), on the CPU, of the attacker's own clear images, in their order.
        validation: bool (n,), True for the images of the people whom it was not trained on.
        log: for the record.
        at: the corrections after parts of the training, by their size in steps.
    """

    linear: LinearFaces
    network: FaceCorrection
    embeddings: torch.Tensor
    validation: npt.NDArray[np.bool_]
    log: dict[str, Any]
    at: dict[int, FaceCorrection] = field(default_factory=dict)

    def after(self, steps: int) -> FaceDecoder:
        """What it was after a part of the training, of those in ``at``."""
        return replace(self, network=self.at[steps])

    def __call__(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings float32 (n, d) on any device -> faces float32 (n, 3, 112, 112) in [0, 1] on the current one."""
        with torch.inference_mode():
            parts = [
                _corrected(self.network, part, resize(self.linear(part), SIZE))
                for part in device.to(embeddings).split(_BATCH)
            ]
        return torch.cat(parts)


def embed_faces(surrogate: nn.Module, images: ByteArray) -> torch.Tensor:
    """Images uint8 (n, 3, h, w) -> embeddings float32 (n, d), on the CPU."""
    network, parts = device.to(surrogate), []
    with torch.inference_mode(), device.autocast():
        for start in range(0, len(images), _BATCH):
            part = resize(to_float(np.asarray(images[start : start + _BATCH])), SIZE)
            # Embeddings stay on the CPU: heads are fitted there in float64, which not every device has.
            parts.append(network(part.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)


def face_decoder(config: FaceDecoderConfig) -> Material:
    """The material ``face_decoder``, of clear images alone; ``read_face_decoder`` reads it under the same config."""
    spec = config.model_dump() | {"version": 2}
    return Material(
        "face_decoder", spec, partial(_compute, config), queries=False, needs_surrogate=True, of_clear_images=True
    )


def read_face_decoder(view: AttackerView, config: FaceDecoderConfig) -> FaceDecoder:
    """The decoder of the material ``face_decoder(config)``, on the current device.

    Raises:
        UserError: the attack did not declare that material.
    """
    arrays = view.material(face_decoder(config))
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items() if name != "log"}
    linear = LinearFaces(*(device.to(tensors[name].float()) for name in ("center", "weights", "mean")))
    weights: dict[str, dict[str, torch.Tensor]] = {}
    for name, one in tensors.items():
        if name.startswith(_NETWORK):
            size, _, rest = name.removeprefix(_NETWORK).rpartition(":")
            weights.setdefault(size, {})[rest] = one

    def network(size: str) -> FaceCorrection:
        made = _new_network(len(linear.center), config.width, torch.Generator().manual_seed(0))
        made.load_state_dict(weights[size])
        return made

    log, at = json.loads(str(arrays["log"])), {int(size): network(size) for size in weights if size}
    return FaceDecoder(linear, network(""), tensors["embeddings"], np.asarray(arrays["held"]), log, at)


def _compute(config: FaceDecoderConfig, view: AttackerView, generator: torch.Generator) -> Arrays:
    """Embed the clear images, fit the closed form, and train its correction on nine tenths of the people."""
    assert view.surrogate is not None, "the material asks for it"
    faces, surrogate = view.auxiliary, device.to(view.surrogate)
    embeddings = torch.cat([embed_faces(surrogate, batch) for batch in faces.batches(_LOADED)])
    validation = validation_mask(faces.identities, _VALIDATION_SHARE, generator)
    small = device.to(shrink_faces(faces, FACE_SIZE))
    linear, left_out, strength = fit_linear_faces(device.to(embeddings), small, faces.identities, validation)
    network = _new_network(embeddings.shape[1], config.width, generator)
    held_out = np.flatnonzero(validation if validation.any() else ~validation)[:_VALIDATED]

    def example(rows: npt.NDArray[np.int64]) -> Batch:
        estimates = resize(left_out[torch.from_numpy(rows)], SIZE)
        clear = resize(to_float(faces.load(rows)), SIZE)
        return (device.to(embeddings[torch.from_numpy(rows)]), estimates), estimates, clear

    def batches() -> Iterator[Batch]:
        known = torch.from_numpy(np.flatnonzero(~validation))
        while True:
            order = known[torch.randperm(len(known), generator=generator)].numpy()
            for start in range(0, max(1, len(order) - config.batch + 1), config.batch):
                yield example(order[start : start + config.batch])

    (shown, estimates), _, wanted = example(held_out)

    def validate() -> float:
        answer = _corrected(network, shown, estimates)
        with torch.no_grad():
            return float(unlikeness(answer, wanted))

    # Materials are NumPy arrays, as they are kept in files and serve every device. Half precision halves the largest.
    arrays: dict[str, npt.NDArray[Any]] = {}

    def keep(size: int | None = None) -> None:
        part = "" if size is None else f"{size}:"
        # Copies, as training goes on in the tensors.
        arrays.update(
            {f"{_NETWORK}{part}{name}": one.cpu().numpy().copy() for name, one in network.state_dict().items()}
        )

    loss = partial(_loss, config, surrogate)
    log = train(network, batches(), config.steps, config.learning_rate, loss, validate, keep)
    keep()
    log |= {"strength": strength, "training_images": int((~validation).sum())}
    arrays |= {"center": linear.center.cpu().numpy(), "weights": linear.weights.half().cpu().numpy(),
               "mean": linear.mean.cpu().numpy(), "embeddings": embeddings.numpy()}  # fmt: skip
    return arrays | {"held": validation, "log": np.array(json.dumps(log))}


def _new_network(dimension: int, width: int, generator: torch.Generator) -> FaceCorrection:
    """A network that corrects nothing yet, its first weights from ``generator``, on the current device."""
    with weights_from(generator):
        network = FaceCorrection(dimension, width)
    return device.to(network.to(memory_format=torch.channels_last))


def _loss(config: FaceDecoderConfig, surrogate: nn.Module, answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """``unlikeness`` + identity * (1 - cosine of the surrogate's embeddings, of every other image)."""
    total = unlikeness(answer, clear)
    if not config.identity:
        return total
    with device.autocast():
        with torch.no_grad():
            truth = surrogate(clear[::2]).float()
        found = surrogate(answer[::2].clamp(0, 1)).float()
    identity: torch.Tensor = 1 - (found * truth).sum(1).mean()
    return total + config.identity * identity


def _corrected(network: FaceCorrection, embeddings: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Closed-form faces (n, 3, 112, 112) of embeddings (n, d), corrected and clamped to [0, 1]."""
    network.eval()
    with torch.inference_mode(), device.autocast():
        corrected: torch.Tensor = faces + network((embeddings, faces)).float()
    return corrected.clamp(0, 1)
