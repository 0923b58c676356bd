"""Verification pairs, galleries and targets over identities."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ppfr_bench.api import IntArray, Pairs


def generate_pairs(identities: IntArray, folds: int, seed: int, genuine_per_identity: int = 10) -> Pairs:
    """Folds of disjoint identities; in each, genuine pairs of different photos and as many impostor pairs.

    Args:
        identities: (n,) one an image.
        folds: number of folds; each needs two identities at least.
        genuine_per_identity: at most so many pairs of one person.
    """
    random = np.random.default_rng(seed)
    people = random.permutation(np.unique(identities))
    rows: list[tuple[int, int, bool, int]] = []
    for fold, members in enumerate(np.array_split(people, folds)):
        photos = {int(person): np.flatnonzero(identities == person) for person in members}
        genuine = []
        for person in photos.values():
            own = list(combinations(person.tolist(), 2))
            chosen = random.permutation(len(own))[:genuine_per_identity]
            genuine += [own[i] for i in np.sort(chosen)]
        everyone = np.concatenate(list(photos.values()))
        left, right = np.triu_indices(len(everyone), 1)
        left, right = everyone[left], everyone[right]
        different = np.flatnonzero(identities[left] != identities[right])
        chosen = np.sort(random.permutation(different)[: len(genuine)])
        rows += [(int(a), int(b), True, fold) for a, b in genuine]
        rows += [(int(left[i]), int(right[i]), False, fold) for i in chosen]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Pairs(columns[:, 0], columns[:, 1], columns[:, 2].astype(bool), columns[:, 3])


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
