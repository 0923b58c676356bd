"""Audit the guarantees of differential privacy, and print the table of docs/threat_model.md.

    python studies/guarantees.py

A case is a defense, two images, and an epsilon that is claimed between them. Cases with a false claim show what the
audit can find. All are audited in about three minutes, on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppfr_bench import registry
from ppfr_bench.api import ByteArray, Defense, Guarantee, per_image_generators
from ppfr_bench.contracts.dp_audit import Audit, Pair, audit, neighbours
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.testing import example_faces

SEED = 0
DRAWS = 40_000
SIDE = 56  # PEEP's grey values are 56x56, so that one pixel is one of them.
BEYOND = ("dctdp",)  # No audit reaches its epsilon, over a million for an image.


def built(name: str, **params: Any) -> Defense:
    """Fitted on the example faces, if it learns."""
    defense: Defense = registry.build("defense", name, params)
    defense.fit(example_faces(), torch.Generator().manual_seed(1))
    return defense


def peep_of_many(**params: Any) -> Defense:
    """With 128 eigenfaces, as by default; of 300 random images, as the example faces give 15 only."""
    images = np.random.RandomState(0).randint(118, 138, (300, 1, SIDE, SIDE)).astype(np.uint8).repeat(3, 1)
    defense: Defense = registry.build("defense", "peep", params)
    defense.fit(ArrayFaces(images, np.arange(300), [str(i) for i in range(300)]), torch.Generator().manual_seed(1))
    return defense


def pixels(count: int) -> Callable[[Any], Pair]:
    """Neighbours in so many pixels."""
    return lambda _: neighbours(Guarantee(epsilon=0, per="pixels", pixels=count), SIDE)


def one_channel(_: Any) -> Pair:
    """Neighbours in the red of 16 pixels."""
    black, white = pixels(16)(_)
    white[1:] = black[1:]
    return black, white


def whole_images(_: Any) -> Pair:
    """Black and white."""
    return neighbours(Guarantee(epsilon=0, per="image"), SIDE)


def nine_pixels(_: Any) -> Pair:
    """Neighbours in one pixel of nine."""
    return neighbours(Guarantee(epsilon=0, per="pixel"), 3)


def first_coefficient(peep: Any) -> Pair:
    """Neighbours in the largest coefficient, at both ends of its range."""
    low, high = (
        ((peep.mean + end * peep.basis[0]) * 255).round().clamp(0, 255).byte().reshape(1, SIDE, SIDE)
        .expand(3, -1, -1).numpy()
        for end in (peep.low[0], peep.low[0] + peep.span[0])
    )  # fmt: skip
    return low, high


def two_colours(_: Any) -> Pair:
    """DP-Samp's: a patch of 16 pixels has a typical colour in one image and one too far from any in the other."""
    first = np.full((3, 32, 32), 60, dtype=np.uint8)
    first[:, :, 16:] = 140
    second: ByteArray = first.copy()
    first[:, 14:18, 22:26], second[:, 14:18, 22:26] = 60, 255
    return first, second


def half_the_noise() -> Defense:
    """DP-Pix with noise of half the scale, which doubles epsilon."""
    kind: Any = registry.load("defense", "dp_pix")

    class Half(kind):  # type: ignore[misc]
        def scale(self, area: Any) -> Any:
            return super().scale(area) / 2

    made: Defense = Half()
    return made


def rounded_to_nearest() -> Defense:
    """DP-Snow with a count rounded to the nearest: of 9 pixels, a delta of 0.2 shows 2."""
    kind: Any = registry.load("defense", "dp_snow")

    class Nearest(kind):  # type: ignore[misc]
        def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            n, _, height, width = images.shape
            snowed = round((1 - self.config.delta) * height * width)
            orders = [torch.randperm(height * width, generator=one) for one in per_image_generators(generator, n)]
            return torch.where((torch.stack(orders) < snowed).reshape(n, 1, height, width), 127 / 255, images)

    made: Defense = Nearest(kind.Config(delta=0.2))
    return made


@dataclass(frozen=True)
class Case:
    """A claim to audit, on releases of two images.

    Attributes:
        name: the defense.
        what: its parameters, and in what the images differ.
        defense: builds it.
        pair: the two images, of the defense.
        claim: what is audited.
        true: the least epsilon that holds between the images before anything is clipped; None if unknown.
        holds: whether the claim is true.
        draws: releases of each image, for the table.
    """

    name: str
    what: str
    defense: Callable[[], Defense]
    pair: Callable[[Any], Pair]
    claim: Guarantee
    true: float | None
    holds: bool = True
    draws: int = DRAWS

    def audit(self, draws: int, seed: int = SEED) -> Audit:
        defense = self.defense()
        return audit(defense, self.pair(defense), draws=draws, seed=seed, guarantee=self.claim)


def per(unit: Any, epsilon: float, delta: float = 0.0, count: int = 1) -> Guarantee:
    return Guarantee(epsilon=epsilon, delta=delta, per=unit, pixels=count)


CASES = (
    Case("dp_pix", "16 pixels", lambda: built("dp_pix"), pixels(16), per("pixels", 1.5, count=16), 1.5),
    Case("dp_pix", "16 pixels, in red alone", lambda: built("dp_pix"), one_channel, per("pixels", 0.5, count=16), 0.5),
    Case(
        "dp_pix", "32 pixels under a claim for 16", lambda: built("dp_pix"), pixels(32),
        per("pixels", 1.5, count=16), 3.0, holds=False,
    ),
    Case(
        "dp_pix", "16 pixels, half the noise", half_the_noise, pixels(16), per("pixels", 1.5, count=16), 3.0,
        holds=False,
    ),
    Case(
        "dp_snow", "one pixel of nine, of which four are shown", lambda: built("dp_snow"), nine_pixels,
        per("pixel", 0, 0.5), 0.0,
    ),
    Case(
        "dp_snow", "one pixel of nine, of which one is shown", lambda: built("dp_snow", delta=0.2), nine_pixels,
        per("pixel", 0, 0.2), 0.0,
    ),
    Case(
        "dp_snow", "one pixel of nine, of which two are shown", rounded_to_nearest, nine_pixels,
        per("pixel", 0, 0.2), math.inf, holds=False,
    ),
    Case("peep", "one grey value", lambda: peep_of_many(epsilon=8), pixels(1), per("pixel", 8), None),
    Case("peep", "one grey value", lambda: peep_of_many(epsilon=1), pixels(1), per("pixel", 1), None),
    Case(
        "peep", "one grey value, an eighth of the noise", lambda: peep_of_many(epsilon=8), pixels(1), per("pixel", 1),
        None, holds=False,
    ),
    Case(
        "peep", "one coefficient", lambda: built("peep", per="coefficient", epsilon=1), first_coefficient,
        per("coefficient", 1), 1.0,
    ),
    Case(
        "peep", "one coefficient, half the noise", lambda: built("peep", per="coefficient", epsilon=2),
        first_coefficient, per("coefficient", 1), 2.0, holds=False,
    ),
    Case(
        "peep", "black and white images", lambda: built("peep", per="image", epsilon=1), whole_images,
        per("image", 1), None,
    ),
    Case(
        "peep", "black and white images, an eighth of the noise", lambda: built("peep", per="image", epsilon=8),
        whole_images, per("image", 1), None, holds=False,
    ),
    Case(
        "dp_samp", "16 pixels, its budget taken for a guarantee", lambda: built("dp_samp"), two_colours,
        per("pixels", 0.5, count=16), math.inf, holds=False, draws=3000,
    ),
)  # fmt: skip


def row(case: Case, found: Audit) -> str:
    """Of the table, in Markdown."""
    delta = f", delta {case.claim.delta:g}" if case.claim.delta else ""
    true = "unknown" if case.true is None else "none" if math.isinf(case.true) else f"{case.true:g}"
    refuted = "**yes**" if found.refuted else "no"
    return (
        f"| `{case.name}` | {case.what} | {case.claim.epsilon:g}{delta} | {true} | {found.limit:.2f} | {refuted} | "
        f"{found.hits:,} and {found.false_hits:,} of {found.draws - found.draws // 2:,} |"
    )


if __name__ == "__main__":
    for one in CASES:
        print(row(one, one.audit(one.draws)), flush=True)
