"""Maps from released templates back to clear embeddings, learnt on an attacker's own people.

A ridge regression undoes what is linear, a network of one hidden layer what is not; where what is released has the
length of an embedding, the release itself is a candidate too. Held-out people choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Config, FloatArray
from ppfr_bench.learning.heads import unit_rows
from ppfr_bench.learning.unet import weights_from

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # The ridge penalty is this times the mean of the Gram diagonal.
_BATCH = 256
Map = Callable[[FloatArray], FloatArray]


class ReadingConfig(Config):
    """The network: ``steps`` of training, 0 for none, and its hidden ``width``."""

    steps: int = Field(300, ge=0)
    width: int = Field(768, ge=8)


@dataclass(frozen=True)
class Reading:
    """A map that held-out people have chosen.

    Attributes:
        map: released (n, k) -> unit rows (n, d).
        held_out: unit rows of the held-out images, by a map that was learnt without them.
        note: for the record: what was chosen, and the mean cosine with the truth that each candidate had.
    """

    map: Map
    held_out: FloatArray
    note: dict[str, Any]


def choose_reading(
    released: FloatArray, clear: FloatArray, held_out: npt.NDArray[np.bool_], config: ReadingConfig,
    generator: torch.Generator,
) -> Reading:  # fmt: skip
    """The candidate with the greatest mean cosine on the held-out people.

    Args:
        released: float64 (n, k).
        clear: unit rows float64 (n, d), embeddings of the same images.
        held_out: bool (n,), True for the images of the people who choose; they teach nobody.
        generator: of the network's weights and batches.
    """
    known = ~held_out
    center, scale = released[known].mean(0), np.maximum(released[known].std(0), 1e-9)

    def standard(rows: FloatArray) -> FloatArray:
        return np.asarray((rows - center) / scale)

    x, y = standard(released[known]), clear[known]
    candidates: dict[str, Map] = {
        f"ridge {strength:g}": _after(standard, one) for strength, one in _ridges(x, y).items()
    }
    if config.steps:
        candidates["network"] = _after(standard, _network(x, y, config, generator))
    if released.shape[1] == clear.shape[1]:
        candidates["as released"] = unit_rows
    answers = {name: one(released[held_out]) for name, one in candidates.items()}
    cosines = {name: float((one * clear[held_out]).sum(1).mean()) for name, one in answers.items()}
    best = max(cosines, key=lambda name: round(cosines[name], 6))
    note = {"map": best, "held_out_cosine": {name: round(value, 4) for name, value in cosines.items()}}
    return Reading(candidates[best], answers[best], note)


def _after(first: Map, then: Map) -> Map:
    return lambda rows: then(first(rows))


def _ridges(x: FloatArray, y: FloatArray) -> dict[float, Map]:
    mean = y.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    turned, scale = vectors.T @ (x.T @ (y - mean)), max(float(values.mean()), 1e-12)

    def of(strength: float) -> Map:
        matrix = vectors @ (turned / (np.maximum(values, 0) + strength * scale)[:, None])
        return lambda rows: unit_rows(mean + rows @ matrix)

    return {strength: of(strength) for strength in STRENGTHS}


def _network(x: FloatArray, y: FloatArray, config: ReadingConfig, generator: torch.Generator) -> Map:
    """Trained on 1 - cosine by AdamW under a one-cycle schedule."""
    with weights_from(generator):
        network = nn.Sequential(
            nn.Linear(x.shape[1], config.width), nn.GELU(), nn.Linear(config.width, y.shape[1])
        )  # fmt: skip
    network = device.to(network)
    inputs, targets = (device.to(torch.from_numpy(rows).float()) for rows in (x, y))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=config.steps)
    for _ in range(config.steps):
        rows = device.to(torch.randint(len(inputs), (min(_BATCH, len(inputs)),), generator=generator))
        loss = 1 - functional.cosine_similarity(network(inputs[rows]), targets[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()

    def read(rows: FloatArray) -> FloatArray:
        with torch.inference_mode():
            return unit_rows(network(device.to(torch.from_numpy(rows).float())).double().cpu().numpy())

    return read
