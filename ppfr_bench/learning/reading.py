"""A representation read place by place: what the channels around a place say of the pixels there, in closed form.

Where each release is under one of a few draws, such as a choice and an order of channels, draws are told apart by how
strong the channels are, and each is read in a way of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.hierarchy import fcluster, ward
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Arrays, AttackerView, ByteArray, Faces, FloatArray, IntArray, Material, to_float
from ppfr_bench.learning.mixed_channels import MixedChannels, fit_mixed_channels
from ppfr_bench.learning.validation import evenly_spaced, held_out_people, read_held_out

_IMAGES, _PLACES = 1000, 784  # At most so many of its own images, and places of each, does an attacker learn from.
_CHECKED = 100  # At most so many images of held-out people decide whether draws are told apart.
_DRAWS = 64  # At most so many.
_FEWEST = 16  # Of fewer images no draws are told apart.
_PAYS = 0.01  # Draws are told apart where that explains so much more of the variance of clear images.
_MANY = 48  # More channels than this are first turned into pixels alone, and only these seen of the neighbours.
_PENALTY = 1e-5  # Of the regression, as a share of the mean square of what is read.
_ROUNDS = 3
_BATCH = 25
_AROUND = 9  # Detail is the pixels less the mean of so many a side.
_TELLS = 0.05  # Less than this share of the detail of faces is as good as nothing.
_SMALLEST = 7  # Sides of grids that are read: coarser ones have too many pixels a place.
_MIXED = 28  # Channels on a finer grid are not taken to be mixed, as its covariance would be large.


@dataclass(frozen=True)
class Reading:
    """Reads releases (n, c, h, h) as images; b is the side in pixels of a place, 112 / h.

    Attributes:
        centres: (k, c), the strengths of the channels under each of k draws, multiplied by ``whiten``.
        whiten: (c, c), after it strengths under one draw differ alike in all directions.
        alone: (k, c + 1, m), from the channels of a place alone to m pixels; m is 0 where there are few channels.
        weights: (k, f + 1, 3 * b * b), from a place and its neighbours to its pixels.
        errors: mean squared error on held-out people, with one draw and, where more were tried, with all.
    """

    centres: torch.Tensor
    whiten: torch.Tensor
    alone: torch.Tensor
    weights: torch.Tensor
    errors: tuple[float, ...] = ()

    @property
    def draws(self) -> int:
        """How many are told apart."""
        return len(self.centres)

    def drawn(self, released: ByteArray) -> torch.Tensor:
        """int64 (n,): the number of the draw that each image was released under."""
        return torch.cdist(_strengths(released) @ self.whiten, self.centres).argmin(1)

    def inputs(self, released: ByteArray, drawn: torch.Tensor) -> torch.Tensor:
        """(n, h * h, f + 1): what the pixels of each place are read from, and a one."""
        channels = to_float(released) * 2 - 1
        if self.alone.shape[2]:
            pixels = _with_one(channels.flatten(2).transpose(1, 2)) @ self.alone[drawn]
            channels = pixels.transpose(1, 2).unflatten(2, channels.shape[-2:])
        return _with_one(functional.unfold(channels, 3, padding=1).transpose(1, 2))

    def __call__(self, released: ByteArray) -> torch.Tensor:
        """uint8 (n, c, h, h) as released -> float32 (n, 3, 112, 112) in [0, 1], on the current device."""
        side, parts = released.shape[-1], []
        for start in range(0, len(released), _BATCH):
            some = np.asarray(released[start : start + _BATCH])
            drawn = self.drawn(some)
            pixels = (self.inputs(some, drawn) @ self.weights[drawn]).transpose(1, 2)
            parts.append(functional.pixel_shuffle(pixels.unflatten(2, (side, side)), SIZE // side).clamp(0, 1))
        return torch.cat(parts)

    def arrays(self) -> Arrays:
        """For a material, read by ``of``."""
        tensors = {name: getattr(self, name) for name in ("centres", "whiten", "alone", "weights")}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()} | {"errors": np.array(self.errors)}

    @staticmethod
    def of(arrays: Arrays) -> Reading:
        """The reading whose ``arrays`` these are, on the current device."""
        names = ("centres", "whiten", "alone", "weights")
        centres, whiten, alone, weights = (device.to(torch.from_numpy(np.array(arrays[name]))) for name in names)
        return Reading(centres, whiten, alone, weights, tuple(arrays["errors"].tolist()))


Reader = Reading | MixedChannels  # Makes images of releases uint8 (n, c, h, h): float32 (n, 3, 112, 112) in [0, 1].


def reading() -> Material:
    """The material ``reading``, of a representation, which ``read_reading`` reads."""
    return Material("reading", {"version": 2}, _compute, (held_out_people(),), queries=False)


def read_reading(view: AttackerView) -> Reader | None:
    """How the view's releases are read; None where they are images, or rendering them tells more.

    Raises:
        UserError: the attack did not declare the material.
    """
    return None if view.releases_image else reader_of(view.material(reading()))


def reader_of(arrays: Arrays) -> Reader | None:
    """The reader whose ``arrays`` are among these; None where there is none."""
    if "weights" in arrays:
        return Reading.of(arrays)
    return MixedChannels.of(arrays) if "precision" in arrays else None


def _compute(view: AttackerView, generator: torch.Generator) -> Arrays:
    """Fit a reading, and keep it if it tells more of the detail of held-out people's faces than rendering does.

    Where neither tells anything, channels are taken to be mixed.
    """
    released, faces = view.auxiliary_protected, view.auxiliary
    assert released is not None, "an aware attacker is given its protected images"
    if not readable(released.shape):
        return {"told": np.zeros(2)}
    validation = read_held_out(view)
    found = fit_reading(released, faces, validation, generator)
    rows = evenly_spaced(np.flatnonzero(validation if validation.any() else ~validation), _CHECKED)
    some, clear = np.asarray(released[rows]), to_float(faces.load(rows))
    told = np.array(
        [_detail_told(images, clear) for images in (found(some), to_float(view.render(some))[..., :SIZE, :SIZE])]
    )
    kept: Arrays = {}
    if told[0] >= max(told[1], _TELLS):
        kept = found.arrays()
    elif told[1] < _TELLS and released.shape[-1] <= _MIXED:
        known = np.flatnonzero(~validation)[:_IMAGES]
        kept = fit_mixed_channels((faces.load(part) for part in _parts(known)), released.shape[-1]).arrays()
    return {**kept, "told": told}


def _detail_told(images: torch.Tensor, clear: torch.Tensor) -> float:
    """The squared correlation of the detail of images (n, 3, s, s), less what all have, with that of the clear ones."""
    pooled = (functional.avg_pool2d(x, _AROUND, 1, _AROUND // 2, count_include_pad=False) for x in (images, clear))
    a, b = (x - around for x, around in zip((images, clear), pooled, strict=True))
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum().square() / (a.square().sum() * b.square().sum()).clamp_min(1e-12))


def readable(shape: tuple[int, ...]) -> bool:
    """Whether releases (..., c, h, w) lie on a square grid, each place of which is a small square of whole pixels."""
    return shape[-1] == shape[-2] and _SMALLEST <= shape[-1] <= SIZE and SIZE % shape[-1] == 0


def fit_reading(
    released: ByteArray, faces: Faces, validation: npt.NDArray[np.bool_], generator: torch.Generator
) -> Reading:
    """Learn to read, from an attacker's own images.

    Args:
        released: uint8 (n, c, h, h), ``readable``; may be memory-mapped.
        faces: the same images, clear.
        validation: bool (n,), the images of the people who choose between one draw and several.
        generator: draws the images and the places that are learnt from, on the CPU.
    """
    order = torch.randperm(len(faces), generator=generator).numpy()
    known = np.sort(order[~validation[order]][:_IMAGES])
    held_out = np.sort(order[validation[order]][:_CHECKED]) if validation.any() else known
    places = torch.randperm(released.shape[-1] ** 2, generator=generator)[:_PLACES].sort().values
    strengths = torch.cat([_strengths(released[rows]) for rows in _parts(known)])
    as_one = strengths.mean(0, keepdim=True), torch.eye(strengths.shape[1], device=strengths.device)
    best = _fitted(released, faces, known, *as_one, places)
    errors, variance = [_error(best, released, faces, held_out)], float(to_float(faces.load(held_out)).var())
    apart = _told_apart(strengths) if len(strengths) >= _FEWEST else as_one
    if len(apart[0]) > 1:
        found = _fitted(released, faces, known, *apart, places)
        errors.append(_error(found, released, faces, held_out))
        best = found if errors[0] - errors[1] >= _PAYS * variance else best
    return replace(best, errors=tuple(errors))


def _fitted(
    released: ByteArray, faces: Faces, known: IntArray, centres: torch.Tensor, whiten: torch.Tensor,
    places: torch.Tensor,
) -> Reading:  # fmt: skip
    """With draws that are told apart in this way."""
    channels, block = released.shape[1], SIZE // released.shape[-1]
    none = centres.new_empty(len(centres), channels + 1, 0)
    reading = Reading(centres, whiten, none, none)

    def regressed(wider: int, alone: bool) -> torch.Tensor:
        """From what is read of a place to its pixels and so many around them."""
        size = block + 2 * wider
        sums: list[torch.Tensor] = []
        for rows in _parts(known):
            some = np.asarray(released[rows])
            drawn = reading.drawn(some)
            x = _with_one((to_float(some) * 2 - 1).flatten(2).transpose(1, 2)) if alone else reading.inputs(some, drawn)
            y = functional.unfold(to_float(faces.load(rows)), size, padding=wider, stride=block).transpose(1, 2)
            if not sums:
                sums = [x.new_zeros(len(centres), x.shape[2], part.shape[2]) for part in (x, y)]
            for k in drawn.unique():
                one, other = (part[drawn == k][:, places].flatten(0, 1) for part in (x, y))
                sums[0][k] += one.T @ one
                sums[1][k] += one.T @ other
        return torch.stack([_solved(gram, across) for gram, across in zip(*sums, strict=True)])

    if channels > _MANY:
        reading = replace(reading, alone=regressed(1 if block == 1 else 0, alone=True))
    return replace(reading, weights=regressed(0, alone=False))


def _solved(gram: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """The weights of a ridge regression; of a draw that no image was under, none."""
    gram, across = device.double(gram), device.double(across)
    penalty = (_PENALTY * gram.diagonal().mean()).clamp_min(1e-9) * torch.eye(len(gram), dtype=gram.dtype).to(gram)
    found: torch.Tensor = torch.linalg.solve(gram + penalty, across)
    return device.to(found.float())


def _error(reading: Reading, released: ByteArray, faces: Faces, rows: IntArray) -> float:
    """The mean squared error on these images."""
    errors = [(reading(released[part]) - to_float(faces.load(part))).square().mean((1, 2, 3)) for part in _parts(rows)]
    return float(torch.cat(errors).mean())


def _told_apart(strengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``centres`` and ``whiten``: Ward's clusters of releases (n, c), as many as stand apart most clearly.

    Source: Ward, Journal of the American Statistical Association 1963. Clusters are sought again after the spread
    within them was made round, as channels differ in how much they tell.
    """
    rows = strengths.double().cpu().numpy()
    whiten: FloatArray = np.eye(rows.shape[1])
    for _ in range(_ROUNDS):
        seen = rows @ whiten
        tree = ward(seen)
        heights = tree[::-1, 2][:_DRAWS]
        count = 1 + int((heights[:-1] / np.maximum(heights[1:], 1e-12)).argmax()) + 1
        clusters = fcluster(tree, count, "maxclust") - 1
        means = np.stack([rows[clusters == k].mean(0) for k in range(clusters.max() + 1)])
        within = np.cov((rows - means[clusters]).T)
        within += 1e-2 * np.trace(within) / len(within) * np.eye(len(within)) + 1e-12
        whiten = np.asarray(np.linalg.cholesky(np.linalg.inv(within)), dtype=np.float64)
    centres, turned = (device.to(torch.from_numpy(part).float()) for part in (means @ whiten, whiten))
    return centres, turned


def _strengths(released: ByteArray) -> torch.Tensor:
    """(n, c): logarithm of the deviation of each channel within an image, less their mean over the channels."""
    found = (to_float(released) * 2 - 1).std((2, 3)).clamp_min(1e-3).log()
    return found - found.mean(1, keepdim=True)


def _with_one(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)


def _parts(rows: IntArray) -> Iterator[IntArray]:
    yield from (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
