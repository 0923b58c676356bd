"""What the U-Net attack's training step costs over a bare loop of the same network, batch and loss."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import device, registry, testing
from ppfr_bench.api import AttackerView, materialised
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning import inverter
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.unet import UNet, train

pytestmark = pytest.mark.slow
STEPS, ROUNDS = 12, 5
LIMIT = 1.15


def test_training_step_against_a_bare_loop(benchmark: Any) -> None:
    """Steps of both, turn by turn in one run, so that a busy machine slows them alike; the medians are compared."""
    unet = registry.load("attack", "unet")
    config = unet.Config(steps=STEPS, apart=False)  # What is trained apart, for one measure, has another loss.
    channels = inverter.INPUT_CHANNELS
    network = UNet(channels, config.width).to(memory_format=torch.channels_last)
    inputs = torch.rand(config.batch, channels, config.size, config.size).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(config.batch, 3, config.size, config.size)
    estimates = torch.rand(config.batch, 3, config.size, config.size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, fused=True)

    def bare() -> None:
        with device.autocast():
            correction = network(inputs)
        optimizer.zero_grad(set_to_none=True)
        unlikeness(estimates + correction.float(), targets).backward()
        optimizer.step()

    faces = testing.example_faces()
    people = subset(faces, np.tile(np.arange(len(faces)), 16))
    view = AttackerView("aware", people, 255 - faces.load([0])[None], 255 - people.load(range(len(people))))
    bare_times: list[float] = []
    real_times: list[float] = []
    loop = train

    def alternating(
        network: Any, batches: Iterator[Any], steps: int, rate: float, loss: Any, validate: Any, reached: Any
    ) -> Any:
        """The attack's own loop, in one cycle; before it fetches a batch, a bare step is made and both are timed."""
        better = itertools.count()
        started: float | None = None

        def interrupted() -> Iterator[Any]:
            nonlocal started
            while True:
                now = time.perf_counter()
                if started is not None:
                    real_times.append(now - started)
                bare()
                started = time.perf_counter()
                bare_times.append(started - now)
                yield next(batches)

        # One step more than is asked for, as a step ends where the next begins; validation is no part of one.
        return loop(network, interrupted(), steps + 1, rate, loss, lambda: -float(next(better)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inverter, "train", alternating)
        benchmark.pedantic(lambda: materialised(unet(config), view), rounds=ROUNDS)
    # The first step of each round sets kernels up; the validations are part of the attack, not of a step.
    real = np.array(real_times).reshape(ROUNDS, STEPS)[:, 1:]
    plain = np.array(bare_times).reshape(ROUNDS, STEPS + 1)[:, 1:]
    ratio = float(np.median(real) / np.median(plain))
    benchmark.extra_info |= {"step_seconds": float(np.median(real)), "bare_seconds": float(np.median(plain))}
    benchmark.extra_info["ratio"] = ratio
    assert ratio <= LIMIT, f"a training step takes {ratio:.2f} times the bare one"
