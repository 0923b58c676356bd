"""Groups of what is measured, by skin tone and by pose, and a number of each group beside those of the others.

Skin tones follow from the pixels: no label says what a person is. ISO/IEC 19795-10 allows such phenotypic measures. The
pose of a photo is known where the data set tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ppfr_bench.api import FaceDataset
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes
from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.records.groups import in_order
from ppfr_bench.scorers.bootstrap import Array, digits

if TYPE_CHECKING:
    from ppfr_bench.scorers.base import Truth

LEAST = 10  # A group of fewer people has no number of its own.
TONES = (
    ("light", 41.0, np.inf),
    ("intermediate", 10.0, 41.0),
    ("dark", -np.inf, 10.0),
)  # Degrees, Chardon et al. 1991.
SKIN_TONE, POSE = "skin tone", "pose"
_KNOWN: WeakKeyDictionary[FaceDataset, dict[int, str]] = WeakKeyDictionary()

Number = tuple[float, Array]  # The value, and its draws.
Compute = Callable[[Array], Number | None]


def skin_tones(truth: Truth) -> Mapping[int, str]:
    """The group of each person who is measured, by the median angle of the cheeks over the person's clear images."""
    dataset = truth.dataset
    if dataset not in _KNOWN:
        faces, column = dataset.evaluation, ATTRIBUTES.index("skin_tone")
        angles = np.concatenate([read_attributes(batch)[:, column] for batch in faces.batches(truth.batch)])
        who = faces.identities
        order = np.argsort(who, kind="stable")
        people, starts = np.unique(who[order], return_index=True)
        medians = [float(np.median(part)) for part in np.split(angles[order], starts[1:])]
        _KNOWN[dataset] = {int(one): _tone(angle) for one, angle in zip(people, medians, strict=True)}
    return _KNOWN[dataset]


def _tone(angle: float) -> str:
    return next(name for name, low, high in TONES if low < angle <= high or (low == -np.inf and angle <= high))


def groupings(truth: Truth) -> dict[str, Array]:
    """The group of each image that is measured, str (n,), by what the groups differ in."""
    tones, poses = skin_tones(truth), truth.dataset.poses
    found = {SKIN_TONE: np.asarray([tones[int(one)] for one in truth.dataset.evaluation.identities])}
    return found if poses is None else found | {POSE: np.asarray(poses)}


def compared_in_groups(truth: Truth, images: Array, numbers: Mapping[str, Compute]) -> dict[str, Any]:
    """``compared_by_group`` of each grouping that has two groups to compare.

    Args:
        images: rows of the measured images that the numbers are computed from, (n,); or (n, 2) of pairs, which are in
            a group where both of their images are.
    """
    found, who = {}, truth.dataset.evaluation.identities
    for of, labels in groupings(truth).items():
        mine = labels[images]
        if mine.ndim == 2:
            mine = np.where(mine[:, 0] == mine[:, 1], mine[:, 0], "")
        found[of] = compared_by_group(mine, who[images if images.ndim == 1 else images[:, 0]], numbers)
    return {of: one for of, one in found.items() if one}


def compared_by_group(groups: Array, who: Array, numbers: Mapping[str, Compute]) -> dict[str, Any]:
    """For a record's log: of each number its value in each group, and the gap between the largest and the smallest.

    Args:
        groups: of each row of what the numbers are computed from, str (n,); empty for rows that are in none.
        who: (n,) on each row.
        numbers: each by the rows that it is computed from, bool (n,); None where they give none.
    """
    people = {name: len(set(who[groups == name].tolist())) for name in in_order(set(groups.tolist()) - {""})}
    enough = [name for name in people if people[name] >= LEAST]
    found: dict[str, Any] = {}
    if len(enough) < 2:
        return found
    for number, compute in numbers.items():
        computed = {name: compute(groups == name) for name in enough}
        known = {name: one for name, one in computed.items() if one is not None and np.isfinite(one[0])}
        if len(known) < 2:
            continue
        most, least = (choose(known, key=lambda name: known[name][0]) for choose in (max, min))
        gap = known[most][0] - known[least][0], known[most][1] - known[least][1]
        found[number] = {name: _limits(one) for name, one in (*known.items(), ("gap", gap))}
    return {"people": {name: people[name] for name in enough}, "numbers": found} if found else {}


def _limits(number: Number) -> list[float]:
    """Value, and the middle 95% of its draws."""
    value, draws = number
    low, high = percentile_interval(draws) or (value, value)
    return [digits(one) for one in (value, min(low, value), max(high, value))]
