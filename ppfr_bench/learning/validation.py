"""People that an attacker holds out of its own images, to validate on: the same ones for all that it learns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import Arrays, AttackerView, IntArray, Material

HELD_OUT_SHARE = 0.1  # Of the people.


def held_out_people() -> Material:
    """The material ``held_out``, which ``read_held_out`` reads: one choice for all defenses, shots and sizes.

    If each thing that is learnt held out people of its own, those of one would be known to another.
    """
    return Material("held_out", {"version": 1}, _compute, queries=False, of_clear_images=True)


def read_held_out(view: AttackerView, rows: IntArray | None = None) -> npt.NDArray[np.bool_]:
    """True for the images of the people who are held out, bool (n,).

    Args:
        view: of an attacker that starts from ``held_out_people()``.
        rows: int64 (n,), of the auxiliary images that are left to learn from. Default: all of them.

    Returns:
        The mask. Nobody is held out where there is one person, and where nobody else would be left.

    Raises:
        UserError: the attack did not declare the material.
    """
    mask = np.asarray(view.material(held_out_people())["held_out"])
    mask = mask if rows is None else mask[rows]
    return np.zeros_like(mask) if mask.all() else mask


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


def evenly_spaced(rows: IntArray, most: int) -> IntArray:
    """At most ``most`` of rows, from the first to the last: images are sorted by person, so these are of more people.

    Args:
        rows: int64 (n,), sorted.
        most: 1 or more.

    Returns:
        int64 (at most ``most``,), sorted.
    """
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _compute(view: AttackerView, generator: torch.Generator) -> Arrays:
    return {"held_out": validation_mask(view.auxiliary.identities, HELD_OUT_SHARE, generator)}
