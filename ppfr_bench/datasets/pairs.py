"""Verification pairs, galleries and targets over identities."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from ppfr_bench.api import IntArray, Pairs

_ENUMERATED = 4_000_000  # pairs of photos listed at a time; beyond, they are drawn


def measured_people(identities: IntArray, share: float, seed: int) -> IntArray:
    """The identities that are measured, at least two of them; all others are the attacker's."""
    everyone = np.random.default_rng(seed).permutation(np.unique(identities))
    chosen: IntArray = everyone[: max(2, round(share * len(everyone)))]
    return chosen


def generate_pairs(identities: IntArray, folds: int, seed: int, genuine_per_identity: int = 10) -> Pairs:
    """Folds of disjoint identities; in each, genuine pairs of different photos and as many impostor pairs.

    Args:
        identities: (n,) one an image.
        folds: number of folds; each needs two identities at least.
        genuine_per_identity: at most so many pairs of one person.
    """
    random = np.random.default_rng(seed)
    people = random.permutation(np.unique(identities))
    order = np.argsort(identities, kind="stable")
    grouped = identities[order]
    parts: list[IntArray] = []
    for fold, members in enumerate(np.array_split(people, folds)):
        starts, stops = (np.searchsorted(grouped, members, side=side) for side in ("left", "right"))
        photos = [order[start:stop] for start, stop in zip(starts, stops, strict=True)]
        genuine = []
        for person in photos:
            own = list(combinations(person.tolist(), 2))
            chosen = random.permutation(len(own))[:genuine_per_identity]
            genuine += [own[i] for i in np.sort(chosen)]
        everyone = np.concatenate(photos) if photos else np.empty(0, np.int64)
        impostors = _impostors(everyone, identities, len(genuine), random)
        for pairs, same in ((genuine, 1), (impostors, 0)):
            made = np.array(pairs, dtype=np.int64).reshape(-1, 2)
            parts.append(np.column_stack([made, np.full((len(made), 2), (same, fold))]))
    columns = np.concatenate(parts)
    return Pairs(columns[:, 0], columns[:, 1], columns[:, 2].astype(bool), columns[:, 3])


def _impostors(
    photos: IntArray, identities: IntArray, count: int, random: np.random.Generator
) -> list[tuple[int, int]]:
    """``count`` distinct pairs of different people among ``photos``, or all there are if they are fewer."""
    if comb(len(photos), 2) <= _ENUMERATED:
        left, right = np.triu_indices(len(photos), 1)
        left, right = photos[left], photos[right]
        different = np.flatnonzero(identities[left] != identities[right])
        chosen = np.sort(random.permutation(different)[:count])
        return [(int(left[i]), int(right[i])) for i in chosen]
    # That many photos: drawn until there are enough, unless one person has nearly all of them.
    found: dict[tuple[int, int], None] = {}
    for _ in range(100):
        for a, b in np.sort(random.integers(len(photos), size=(2 * count, 2)), axis=1).tolist():
            if identities[photos[a]] != identities[photos[b]] and len(found) < count:
                found[int(photos[a]), int(photos[b])] = None
        if len(found) == count:
            break
    return list(found)


def gallery_and_targets(identities: IntArray, gallery: int, targets: int) -> tuple[IntArray, IntArray]:
    """One gallery photo an identity, and other photos of the same people as targets, taken in turn.

    Identities with a second photo come first, so that every target's person is in the gallery; the others fill the
    gallery up as distractors.

    Args:
        gallery, targets: at most so many.
    """
    _, first, inverse, counts = np.unique(identities, return_index=True, return_inverse=True, return_counts=True)
    order = np.concatenate([np.flatnonzero(counts > 1), np.flatnonzero(counts == 1)])[:gallery]
    others = [np.flatnonzero(inverse == person) for person in order if counts[person] > 1]
    turns = max((len(photos) for photos in others), default=1)
    chosen = [photos[turn] for turn in range(1, turns) for photos in others if turn < len(photos)][:targets]
    return first[order].astype(np.int64), np.array(sorted(chosen), dtype=np.int64)
