"""The price of utility: what an embedding alone gives away of a face, and what a defense lets leak beyond it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ppfr_bench.leaderboard.privacy import hidden, privacy_of
from ppfr_bench.leaderboard.rows import Estimate, Privacy, Row
from ppfr_bench.tracks.base import Column, Ranked, Shown
from ppfr_bench.tracks.ranking import drawn, smallest


@dataclass(frozen=True)
class Price:
    """What leaks by the embedding of the clear image: whoever leaves recognizers that much gives this away.

    Attributes:
        privacy: the name of what leaks, such as ``appearance``.
        estimate: the leakage, 0 to 1.
        set_by: attack, measure and, if any, recognizer by which most leaks.
    """

    privacy: str
    estimate: Estimate
    set_by: str


def prices_of(rows: Iterable[Row], privacies: Sequence[str]) -> dict[str, Price]:
    """The price of utility by privacy, from the row where nothing is protected; empty where it was not measured."""
    found = {}
    for row in rows:
        if row.unprotected:
            cells = [cell for cell in row.cells if cell.from_embedding and cell.state == "ok"]
            for name in privacies:
                kept = privacy_of(name, cells)
                if kept.estimate.value is not None:
                    found[name] = Price(name, hidden(kept.estimate), kept.set_by)
    return found


def avoidable(privacy: Privacy, price: Estimate) -> Estimate:
    """What leaks beyond the price, in [0, 1], with limits that hold for the largest leakages of the row together."""
    if privacy.estimate.value is None or price.value is None:
        return Estimate(None, reason=privacy.estimate.reason or price.reason or "the privacy was not measured")
    above = smallest([_sum(one, price) for one in privacy.contenders or (privacy.estimate,)])
    assert above.value is not None, "a sum of values is one"
    found = hidden(replace(above, value=min(above.value, 1.0), draws=tuple(min(one, 1.0) for one in above.draws)))
    assert found.value is not None, "as above"
    if found.interval is None:
        return found
    return replace(found, interval=(min(found.interval[0], found.value), max(found.interval[1], found.value)))


def avoidable_column(price: Price) -> Column:
    """The leakage of a row beyond the price."""
    title = f"Avoidable {price.privacy.replace('_', ' ')} leakage"
    said = (
        f"1 − {price.privacy.replace('_', ' ')} privacy, less the price of utility: what leaks beyond what a face "
        "that is rebuilt from the embedding of the clear image gives away. 0 is no more than that; never below 0."
    )
    return Column(f"avoidable_{price.privacy}_leakage", title, said, partial(_shown, price))


def _shown(price: Price, row: Ranked) -> Shown:
    return Shown(avoidable(row.privacies[price.privacy], price.estimate))


def _sum(kept: Estimate, price: Estimate) -> Estimate:
    """A privacy and a price, draw by draw where both have as many."""
    assert kept.value is not None and price.value is not None, "only of what has a value"
    value, n = kept.value + price.value, min(kept.n, price.n)
    if kept.draws and len(kept.draws) == len(price.draws):
        return drawn(value, np.asarray(kept.draws) + np.asarray(price.draws), n)
    if kept.interval is None or price.interval is None:
        return Estimate(value, None, n)
    return Estimate(value, (kept.interval[0] + price.interval[0], kept.interval[1] + price.interval[1]), n)
