"""People that an attacker holds out of its own images, to validate on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import IntArray


def validation_mask(identities: IntArray, share: float, generator: torch.Generator) -> npt.NDArray[np.bool_]:
    """Choose the people to validate on; all images of a person fall on one side.

    Args:
        identities: int64 (n,), of the images.
        share: of the people, 0 to 1: at least one person is chosen, and never all.
        generator: draws the people, on the CPU.

    Returns:
        bool (n,), True for the images of the chosen people. With one person only, nobody is chosen.
    """
    people = np.unique(identities)
    order = torch.randperm(len(people), generator=generator).numpy()
    count = min(max(1, round(share * len(people))), len(people) - 1)
    return np.isin(identities, people[order[:count]])
