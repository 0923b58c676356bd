"""DP-Samp: a few pixels sampled from each cluster of colours, and the rest interpolated."""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard, FloatArray, IntArray, per_image_generators

_STEPS, _STRIDE = 10, 9  # k-means sees every ninth pixel, which meets all columns, as 9 and the width are coprime.


class DpSampConfig(Config):
    """``epsilon``: the paper's budget, which is no guarantee; ``clusters``: k; ``neighbours``: m, the pixels in which
    two images may differ; ``threshold``: L1, levels."""

    epsilon: float = Field(0.5, gt=0)
    clusters: int = Field(5, ge=1, le=64)
    neighbours: int = Field(16, ge=1)
    threshold: float = Field(60.0, gt=0, le=765)


class DpSamp(Defense):
    """Shows the attacker where a few dozen pixels of each typical colour lie, and that colour, not theirs.

    A cluster with f pixels within the threshold of its colour gets the share f / sum(f) of epsilon, epsilon_i, and
    releases the most x of them for which C(f, x) / C(f - m, x) <= exp(epsilon_i). This bounds how much the probability
    of a sample changes if it holds none of the m pixels in which two images differ. A sample that holds one of them can
    be impossible for the other image, so that no epsilon holds without a delta. Were the clusters' colours and all x
    fixed, (epsilon, 1 - exp(-epsilon))-privacy would hold for m pixels: a delta of 0.39 at epsilon 0.5. They are not
    fixed: they depend on the image and get no noise. So no guarantee is claimed of a release.
    """

    version = 1
    card = DefenseCard(
        title="DP-Samp",
        plain="Keeps a few pixels of each typical colour of the photo and fills in the rest between them. The "
        "paper's privacy budget is not a proven guarantee here.",
        family="differential privacy",
        reference="Reilly and Fan, A Comparative Evaluation of Differentially Private Image Obfuscation, TPS-ISA 2021",
        licence="MIT",
        randomness="per_call",
        deviations=(
            "Epsilon is the paper's budget and no guarantee, not even for the places of the samples: a pixel that only "
            "one of two neighbours can show tells them apart, which a delta of up to 1 - exp(-epsilon) would have to "
            "allow for.",
            "The colours of the clusters and their sizes depend on the image and get no noise, here as in the paper.",
            "k-means starts at the brightness quantiles and takes 10 steps on every ninth pixel, and draws nothing.",
            "The defaults of k and of the threshold are ours.",
            "Under 200 images a second on one core: each image is clustered, and its samples are triangulated.",
        ),
    )
    Config = DpSampConfig

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each image interpolated from its samples; flat grey if the budget allows none."""
        keys, given = per_image_generators(generator, len(images)), images.cpu()  # SciPy triangulates on the CPU only.
        released = torch.stack([self._release(image, key) for image, key in zip(given, keys, strict=True)])
        return released.clamp(0, 1).to(images.device)

    def samples(self, pixels: FloatArray, generator: torch.Generator) -> tuple[IntArray, FloatArray]:
        """(3, p) in levels -> indices (s,) of the pixels sampled and the colours (3, s) of their clusters."""
        c = self.config
        centres = _centres(pixels, c.clusters)
        labels = _labels(pixels, centres)
        near = np.abs(pixels - centres[:, labels]).sum(0) <= c.threshold
        order = torch.randperm(pixels.shape[1], generator=generator).numpy()
        members = [order[(near & (labels == i))[order]] for i in range(c.clusters)]
        total = max(1, sum(map(len, members)))
        counts = [sample_size(len(one), c.neighbours, c.epsilon * len(one) / total) for one in members]
        chosen = np.concatenate([one[:count] for one, count in zip(members, counts, strict=True)])
        return chosen, centres[:, labels[chosen]]

    def _release(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        _, height, width = image.shape
        pixels = image.double().flatten(1).numpy() * 255
        chosen, colours = self.samples(pixels, generator)
        if not len(chosen):
            return torch.full_like(image, 127 / 255)
        places = np.stack([chosen // width, chosen % width], axis=1)
        return torch.from_numpy(_interpolated(places, colours.T, height, width) / 255).permute(2, 0, 1).float()


def sample_size(frequency: int, neighbours: int, epsilon: float) -> int:
    """The largest x with C(f, x) / C(f - m, x) <= exp(epsilon); 0 if m pixels are all there are."""
    if frequency <= neighbours:
        return 0
    taken = np.arange(frequency - neighbours)
    ratios = np.cumsum(np.log((frequency - taken) / (frequency - neighbours - taken)))
    return int(np.searchsorted(ratios, epsilon + 1e-12, side="right"))


def _centres(pixels: FloatArray, clusters: int) -> FloatArray:
    """(3, p) -> (3, k): k-means; a cluster that loses all its pixels keeps its place."""
    seen = np.ascontiguousarray(pixels[:, ::_STRIDE])
    ranks = np.argsort(seen.sum(0), kind="stable")
    centres = seen[:, ranks[[math.floor((i + 0.5) / clusters * len(ranks)) for i in range(clusters)]]]
    for _ in range(_STEPS):
        labels = _labels(seen, centres)
        counts = np.bincount(labels, minlength=clusters)
        sums = np.stack([np.bincount(labels, weights=channel, minlength=clusters) for channel in seen])
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    return centres


def _labels(pixels: FloatArray, centres: FloatArray) -> IntArray:
    """(3, p) and (3, k) -> (p,): the nearest centre."""
    return np.asarray(((centres**2).sum(0)[:, None] - 2 * centres.T @ pixels).argmin(0))


def _interpolated(places: IntArray, colours: FloatArray, height: int, width: int) -> FloatArray:
    """(h, w, 3): linear between the samples; beyond their hull, the value of its nearest pixel."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.ndimage import distance_transform_edt  # type: ignore[attr-defined]  # SciPy has no types.
    from scipy.spatial import QhullError

    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    try:
        inside = LinearNDInterpolator(places, colours)(grid)
        outside = np.isnan(inside[..., 0])
        rows, columns = distance_transform_edt(outside, return_distances=False, return_indices=True)
        return np.asarray(inside[rows, columns])
    except (QhullError, ValueError):  # There are fewer than three samples, or all lie on one line.
        return np.asarray(colours[((grid[..., None, :] - places) ** 2).sum(-1).argmin(-1)])


DEFENSE = DpSamp
