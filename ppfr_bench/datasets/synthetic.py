"""Synthetic identities, no real person: a GAN trained on rendered faces, filtered to clean and consistent ones."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import sys
import time
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from ppfr_bench import device, integrity
from ppfr_bench.api import SIZE, ByteArray, Config, DatasetCard, FaceDataset, Faces, Pairs, to_bytes, to_float
from ppfr_bench.assets import MANIFEST, asset_path, cache_dir
from ppfr_bench.datasets.alignment import EYES, align
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.datasets.pairs import gallery_and_targets, generate_pairs
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.places import is_file
from ppfr_bench.recognizers._runtime import one_thread_each, threads
from ppfr_bench.records.hashing import canonical_json

log = logging.getLogger(__name__)
Split = Literal["defender", "attacker", "evaluation"]
SAME_PERSON = 0.6  # dlib publishes this threshold on the distance of two photos of one person.
_HOPELESS = 512  # One in a hundred must have passed after so many candidates.
_CHUNK = 32  # Candidates drawn together; the recipe fixes it, as a network's sums depend on the batch.


class SyntheticConfig(Config):
    """Sizes of the splits; ``variation`` is the share s of an image's latent that is not its identity's."""

    seed: int = Field(0, ge=0)
    variation: float = Field(0.15, ge=0, lt=1)
    defender_identities: int = Field(500, ge=2)
    defender_images: int = Field(4, ge=2)
    attacker_identities: int = Field(500, ge=2)
    attacker_images: int = Field(4, ge=2)
    evaluation_identities: int = Field(60, ge=2)
    evaluation_images: int = Field(4, ge=2)
    folds: int = Field(10, ge=2)
    gallery: int = Field(1000, ge=2)
    targets: int = Field(1000, ge=1)

    @model_validator(mode="after")
    def _folds_hold_two_people(self) -> SyntheticConfig:
        if self.evaluation_identities < 2 * self.folds:
            raise ValueError(f"{self.folds} folds need {2 * self.folds} evaluation_identities or more")
        return self


class Synthetic(FaceDataset):
    """identity = latent z, image = sqrt(1 - s^2) z + s n, through the DigiFace GAN; eyes onto the ArcFace template.

    A candidate becomes an identity if a face with landmarks is found on all its images and dlib's network finds the
    same person on them (the first two images of a training identity, all of an evaluation identity). Only assets
    from PyPI take part, so that it needs no npm. Candidates come from generators of their own: identity i stays what
    it is when the number of identities changes. Threads change no byte; a processor without AVX-512 moves 8 pixels
    in a million by one level (measured).

    Raises, when a split is first asked for:
        Unavailable: dlib or an asset is missing.
        UserError: hardly any candidate passes, or the cache cannot be written.
    """

    version = 1
    card = DatasetCard(
        title="Synthetic identities (DigiFace GAN)",
        reference="gan-face-generate 1.1.1 (PyPI), DCGAN trained on DigiFace-1M (Bae et al., WACV 2023)",
        licence="MIT (weights)",
        real_people=False,
    )
    Config = SyntheticConfig

    def __init__(self, config: SyntheticConfig) -> None:
        self.name, self.config = "synthetic", config
        weights = [MANIFEST[name].sha256 for name in ("digiface_gan", "dlib_landmarks5", "dlib_resnet")]
        recipe = canonical_json({"version": self.version, "config": config.model_dump(), "weights": weights})
        self.revision = f"synthetic-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"

    @cached_property
    def defender(self) -> Faces:  # type: ignore[override]  # mypy holds a property for read-only.
        return self._split("defender", self.config.defender_identities, self.config.defender_images)

    @cached_property
    def attacker(self) -> Faces:  # type: ignore[override]
        return self._split("attacker", self.config.attacker_identities, self.config.attacker_images)

    @cached_property
    def evaluation(self) -> Faces:  # type: ignore[override]
        return self._split("evaluation", self.config.evaluation_identities, self.config.evaluation_images)

    @cached_property
    def pairs(self) -> Pairs:  # type: ignore[override]
        return generate_pairs(self.evaluation.identities, self.config.folds, self.config.seed)

    @cached_property
    def _chosen(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return gallery_and_targets(self.evaluation.identities, self.config.gallery, self.config.targets)

    @property
    def gallery(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        return self._chosen[0]

    @property
    def targets(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        return self._chosen[1]

    @property
    def canary(self) -> tuple[Faces, Pairs]:  # type: ignore[override]
        return self.evaluation, self.pairs

    def _split(self, split: Split, identities: int, images: int) -> Faces:
        checked = images if split == "evaluation" else 2
        recipe = canonical_json([self.version, split, self.config.seed, self.config.variation, identities, images])
        folder = cache_dir() / "datasets" / "synthetic"
        path = folder / f"{split}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.npy"
        if not _is_sound(path):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(f"{path}.lock"):
                    if not _is_sound(path):
                        if os.path.lexists(path):
                            log.warning("%s is damaged, or has no hash beside it; it is made anew", path)
                        with device.use(device.CPU):  # A face at the threshold must be chosen alike on every device.
                            made = _make(split, self.config.seed, self.config.variation, identities, images, checked)
                        _save(made, path)
            except OSError as error:
                raise UserError(
                    f"cannot keep the synthetic data set under {folder}: {error.strerror or error}",
                    "Free some space, or choose another folder:  PPFR_BENCH_CACHE=DIR",
                ) from error
        faces = np.load(path, mmap_mode="r")
        # Identities of different splits never share a number, nor do they with those of photographs, counted from 0.
        start = (1 + ("defender", "attacker", "evaluation").index(split)) * 1_000_000_000
        numbers = start + np.repeat(np.arange(identities), images)
        return ArrayFaces(faces, numbers, [f"{split}/{i // images:05d}/{i % images}" for i in range(len(faces))])


def _is_sound(path: Path) -> bool:
    """Whether the file is there and its content is what was saved; read once a process."""
    try:
        return path.with_suffix(".sha256").read_text(encoding="ascii") == integrity.file_sha256_once(path)
    except (OSError, ValueError):
        return False


def _save(images: ByteArray, path: Path) -> None:
    """Whole or not at all, with its hash beside it."""
    temporary, hashed = path.with_suffix(".tmp"), path.with_suffix(".sha256")
    try:
        for place in (temporary, path, hashed):
            if not is_file(place):
                integrity.remove(place)
        with temporary.open("wb") as file:
            np.save(file, images, allow_pickle=False)
        integrity.sync(temporary)
        write_atomic(hashed, integrity.file_sha256(temporary).encode())
        temporary.replace(path)
        integrity.sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


class OnSyntheticDefender(FaceDataset):
    """A data set that leaves all its people to attacker and measurement: defenses learn from synthetic identities."""

    @cached_property
    def defender(self) -> Faces:  # type: ignore[override]  # mypy holds a property for read-only.
        return Synthetic(SyntheticConfig()).defender


class _Generator(nn.Module):
    """The DCGAN generator: (n, 100, 1, 1) -> (n, 3, 64, 64) in [-1, 1]; Radford et al., 2016."""

    def __init__(self) -> None:
        super().__init__()
        widths = [100, 512, 256, 128, 64, 3]
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(itertools.pairwise(widths)):
            stride, padding = (1, 0) if level == 0 else (2, 1)
            layers.append(nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False))
            layers += [nn.Tanh()] if b == 3 else [nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.main = nn.Sequential(*layers)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.main(latents)
        return images


def _make(split: Split, seed: int, variation: float, identities: int, images: int, checked: int) -> ByteArray:
    """The accepted identities in the order of their candidates, uint8 (identities * images, 3, 112, 112)."""
    makers = [_Maker(split, seed, variation, images, checked) for _ in range(threads())]
    accepted: list[ByteArray] = []
    start = said = time.monotonic()
    candidate = 0
    while len(accepted) < identities:
        ahead = [candidate + turn * _CHUNK for turn in range(len(makers))]
        for first, clean in zip(ahead, one_thread_each(makers, ahead), strict=True):
            candidate = first + _CHUNK
            accepted += clean
            if candidate >= _HOPELESS and len(accepted) < min(identities, candidate / 100):
                raise UserError(
                    f"synthetic {split}: only {len(accepted)} of {candidate} candidates show one person throughout",
                    f"Lower the variation (now {variation:g}), or ask for fewer images an identity.",
                )
        if time.monotonic() - said > 10:
            said = time.monotonic()
            done = min(len(accepted), identities)
            left = (said - start) / max(done, 1) * (identities - done)
            print(
                f"synthetic {split}: {done} of {identities} identities, {left:.0f} s left", file=sys.stderr, flush=True
            )
    log.info("synthetic %s: %d of %d candidates accepted", split, len(accepted), candidate)
    return np.concatenate(accepted[:identities])


class _Maker:
    """Draws candidates and keeps those that show one person throughout; one a thread, as dlib's detector has a state.

    Raises:
        Unavailable: dlib or the weights are missing.
    """

    def __init__(self, split: Split, seed: int, variation: float, images: int, checked: int) -> None:
        from ppfr_bench.recognizers import load_recognizer

        try:
            dlib: Any = import_module("dlib")
        except ImportError as error:
            raise Unavailable(
                "the synthetic data set needs dlib to find faces", "pip install 'ppfr-bench[dlib]'"
            ) from error
        self._draw = partial(_latents, split, seed, variation=variation, images=images)
        self._images, self._checked = images, checked
        self._detector: Any = dlib.get_frontal_face_detector()
        self._landmarks: Any = dlib.shape_predictor(str(asset_path("dlib_landmarks5")))
        self._recognizer = load_recognizer("dlib_resnet")
        self._network = _Generator()
        self._network.load_state_dict(
            torch.load(asset_path("digiface_gan"), weights_only=True, map_location="cpu")["netG_state_dict"]
        )
        self._network.eval()

    def __call__(self, first: int) -> list[ByteArray]:
        """Those of ``_CHUNK`` candidates from ``first`` on that pass, uint8 (images, 3, 112, 112) each."""
        images, checked = self._images, self._checked
        latents = torch.cat([self._draw(first + i) for i in range(_CHUNK)])
        with torch.inference_mode():
            small = (self._network(latents) + 1) / 2
            raw = to_bytes(functional.interpolate(small, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1))
        found = [_aligned(raw[i : i + images], self._detector, self._landmarks) for i in range(0, len(raw), images)]
        clean = [faces for faces in found if faces is not None]
        if not clean:
            return []
        probes = np.concatenate([faces[:checked] for faces in clean])
        embedded = self._recognizer.embed(to_float(probes)).numpy().reshape(len(clean), checked, -1)
        spread = np.linalg.norm(embedded[:, :, None] - embedded[:, None], axis=-1).max(axis=(1, 2))
        return [faces for faces, distance in zip(clean, spread, strict=True) if distance < SAME_PERSON]


def _latents(split: Split, seed: int, candidate: int, *, variation: float, images: int) -> torch.Tensor:
    """(images, 100, 1, 1) of one candidate identity, from a generator of its own."""
    text = f"{split} {seed} {candidate}".encode()
    generator = torch.Generator().manual_seed(int(hashlib.sha256(text).hexdigest()[:15], 16))
    identity = torch.randn(1, 100, generator=generator)
    noise = torch.cat([torch.randn(1, 100, generator=generator) for _ in range(images)])
    latents: torch.Tensor = (1 - variation**2) ** 0.5 * identity + variation * noise
    return latents.view(images, 100, 1, 1)


def _aligned(images: ByteArray, detector: Any, landmarks: Any) -> ByteArray | None:
    """The images with the eyes on the template, or None if a face is not found on each."""
    out = []
    for image in images:
        picture = np.ascontiguousarray(image.transpose(1, 2, 0))
        faces = detector(picture, 0)
        if not len(faces):
            return None
        shape = landmarks(picture, max(faces, key=lambda face: face.area()))
        # dlib's five points are the corners of the picture's right-hand eye, of its left-hand one, and the nose's base.
        points = np.array([[shape.part(i).x, shape.part(i).y] for i in range(4)], dtype=np.float64)
        eyes = np.stack([points[2:].mean(0), points[:2].mean(0)])
        if eyes[1, 0] - eyes[0, 0] < 20:  # The eyes of a face seen from the front are farther apart.
            return None
        out.append(align(image, eyes, EYES))
    return np.stack(out)


DATASET = Synthetic
