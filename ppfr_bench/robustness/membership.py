"""What membership inference shares: how sure a recognizer is of a photo, and services that have or have not seen it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator

from ppfr_bench.api import FloatArray, IntArray, to_float
from ppfr_bench.robustness.api import RobustnessView
from ppfr_bench.robustness.service import IdentificationNetwork, fit_head

__all__ = ["confidences", "likelihood_ratios", "shadow_confidences"]

_LEAST = 1e-9  # A probability is taken to be no nearer to 0 or 1.
_AT_ONCE = 16


def confidences(view: RobustnessView, draws: int, generator: Generator) -> FloatArray:
    """The logit of the probability that each candidate's person has, float64 (m,), over so many draws of noise."""
    found = []
    for start in range(0, len(view.candidates), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        with torch.no_grad():
            shares = view.hardened.probabilities(
                to_float(view.candidates[part]), draws if view.hardened.random else 1, generator
            )
        found.append(_logit(shares.double().cpu().numpy(), view.candidate_labels[part]))
    return np.concatenate(found)


def shadow_confidences(
    embeddings: FloatArray, labels: IntArray, shadows: int, classes: int, generator: Generator
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Confidences of services trained on a random half of each person's photos, and which photos each has seen.

    Returns:
        float64 (shadows, m) and bool (shadows, m).
    """
    rows = torch.from_numpy(embeddings).float()
    found, seen = [], []
    for _ in range(shadows):
        order = torch.rand(len(labels), generator=generator).numpy()
        ranks = np.zeros(len(labels))
        for person in range(classes):
            mine = np.flatnonzero(labels == person)
            ranks[mine] = np.argsort(np.argsort(order[mine])) / len(mine)
        chosen = ranks < 0.5
        weight, bias = fit_head(rows[chosen], torch.from_numpy(labels[chosen]), classes)
        network = IdentificationNetwork(torch.nn.Identity(), weight, bias)
        with torch.no_grad():
            shares = network.of_embeddings(rows).softmax(1).double().numpy()
        found.append(_logit(shares, labels))
        seen.append(chosen)
    return np.stack(found), np.stack(seen)


def likelihood_ratios(
    found: FloatArray, shadows: FloatArray, seen: npt.NDArray[np.bool_]
) -> FloatArray:  # fmt: skip
    """log p(confidence | seen) - log p(confidence | not seen) of each photo, two normal distributions of one variance.

    Args:
        found: (m,), brought to the mean and spread of the shadows' here.
    """
    if float(found.std()) < 1e-9:  # All alike: nothing is told.
        return np.zeros(len(found))
    spread = shadows.std() / float(found.std())
    scaled = (found - found.mean()) * spread + shadows.mean()
    inside, outside = (
        np.ma.masked_array(shadows, mask=mask).mean(axis=0).filled(shadows.mean()) for mask in (~seen, seen)
    )
    centred = np.where(seen, shadows - inside, shadows - outside)
    variance = float(centred.var()) + 1e-12
    ratios: FloatArray = ((scaled - outside) ** 2 - (scaled - inside) ** 2) / (2 * variance)
    return ratios


def _logit(shares: npt.NDArray[Any], labels: IntArray) -> FloatArray:
    mine = np.clip(np.take_along_axis(shares, labels[:, None], axis=1)[:, 0], _LEAST, 1 - _LEAST)
    return np.asarray(np.log(mine) - np.log1p(-mine), dtype=np.float64)
