"""Simulations with a known truth of what the boards print: floors, ceilings, headlines, ranks and intervals.

    python studies/statistics/simulations.py

It writes ``measured.json`` beside this file, in about ten minutes on one core. The numbers are drawn as a board has
them: people, some targets each, 200 bootstrap draws of the people, and the functions of the package on top.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.leaderboard.privacy import hidden, regained
from ppfr_bench.metrics.intervals import identity_weights, percentile_interval, share_interval, weighted_mean
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.scorers.bootstrap import Bootstrap, compared, share_regained
from ppfr_bench.scorers.groups import compared_by_group
from ppfr_bench.tracks.ranking import contenders, smallest, standings

HERE = Path(__file__).parent
PEOPLE, EACH, DRAWS = 60, 2, 200
Array = npt.NDArray[np.float64]
Measured = dict[str, Any]


def weights(people: int = PEOPLE) -> Array:
    """(draws, people): how often each person is drawn, as a share."""
    return identity_weights(np.arange(people), DRAWS, 0) / people


def shares(values: Array, people: int = PEOPLE) -> list[Estimate]:
    """Estimates of columns, from a number a person, (people, m), clipped to [0, 1] as leakages are."""
    means, drawn = np.clip(values.mean(0), 0, 1), np.clip(weights(people) @ values, 0, 1)
    return [Estimate(float(means[j]), n=EACH * people, draws=tuple(drawn[:, j])) for j in range(values.shape[1])]


def correlated(random: np.random.Generator, truth: Array, error: Array | float, rho: float) -> Array:
    """(people, m) around the truth, with standard errors of their means and a correlation between columns."""
    common, own = random.standard_normal((PEOPLE, 1)), random.standard_normal((PEOPLE, len(truth)))
    found: Array = truth + np.asarray(error) * PEOPLE**0.5 * (rho**0.5 * common + (1 - rho) ** 0.5 * own)
    return found


def headline(repetitions: int, seed: int = 0) -> Iterator[Measured]:
    """The privacy of a row: 1 - the largest of many leakages; how often its interval holds the truth."""
    random = np.random.default_rng(seed)
    rows = [("20 equal attacks", np.full(20, 0.4)), ("20 useless attacks", np.zeros(20)),
            ("one strong of 20", np.r_[0.6, np.full(19, 0.2)]), ("a single attack", np.full(1, 0.4))]  # fmt: skip
    for name, truth in rows:
        for error in (0.01, 0.04, 0.1):
            for rho in (0.0, 0.5, 0.9):
                held = above = 0
                printed = []
                for _ in range(repetitions):
                    found = smallest(shares(1 - correlated(random, truth, error, rho)))
                    low, high = found.interval or (0.0, 0.0)
                    held += low <= 1 - truth.max() <= high
                    above += low > 1 - truth.max()
                    assert found.value is not None
                    printed.append(found.value)
                yield {"row": name, "standard_error": error, "correlation": rho, "truth": float(1 - truth.max()),
                       "mean_value": float(np.mean(printed)), "coverage": held / repetitions,
                       "claims_too_much": above / repetitions}  # fmt: skip


def near_one(repetitions: int, seed: int = 5) -> Iterator[Measured]:
    """A privacy near 1, of attacks that succeed on few of 30 people, all photos of a person alike."""
    random, people = np.random.default_rng(seed), 30
    who = np.repeat(np.arange(people), EACH)
    drawn = Bootstrap(DRAWS, 0, np.arange(people)).items(who)
    for attacks in (1, 20):
        for truth in (0.055, 0.065, 0.075):
            above = 0
            for _ in range(repetitions):
                found = []
                for _ in range(attacks):
                    hits = np.repeat(random.random(people) < truth, EACH).astype(np.float64)
                    blind, ceiling = np.zeros(len(who)), np.ones(len(who))
                    leaked = compared("attack_success", hits, blind, ceiling, drawn, people, hits=True).leakage
                    assert leaked is not None
                    found.append(hidden(leaked))
                low, _ = smallest(found).interval or (0.0, 0.0)
                above += low > 1 - truth + 1e-9
            yield {"attacks": attacks, "truth": 1 - truth, "claims_too_much": above / repetitions}


def ranks(repetitions: int, seed: int = 1) -> Iterator[Measured]:
    """How often rows of equal truth are told apart, and how often better ones are."""
    random = np.random.default_rng(seed)

    def told(rows: list[tuple[Array, float]]) -> list[tuple[int, int]]:
        truth = np.concatenate([leaked for leaked, _ in rows])
        errors = np.concatenate([np.full(len(leaked), error) for leaked, error in rows])
        found, start, scores = shares(1 - correlated(random, truth, errors, 0.5)), 0, []
        for leaked, _ in rows:
            scores.append(contenders(found[start : start + len(leaked)]))
            start += len(leaked)
        points = [(Estimate(0.5), smallest(of)) for of in scores]
        return [one.interval for one in standings(scores, points)]

    equal = {
        "9 equal rows of one attack": [(np.full(1, 0.4), 0.04)] * 9,
        "33 equal rows of one attack": [(np.full(1, 0.4), 0.04)] * 33,
        "33 equal rows of eight attacks": [(np.full(8, 0.4), 0.04)] * 33,
        "a tight row and one of eight noisy attacks": [(np.full(1, 0.4), 0.005), (np.full(8, 0.4), 0.05)],
        "a tight row and one of thirty noisy attacks": [(np.full(1, 0.4), 0.005), (np.full(30, 0.4), 0.05)],
    }
    for name, rows in equal.items():
        wrong = sum(any(one != (1, len(rows)) for one in told(rows)) for _ in range(repetitions))
        yield {"rows": name, "false_distinctions": wrong / repetitions}
    for gap in (0.04, 0.1, 0.2):
        # The second is worthless by as much, and noisy: a wide interval must not let it pass.
        better = noisy_above = 0
        for _ in range(repetitions):
            first, second = told([(np.full(1, 0.4), 0.01), (np.full(8, 0.4 + gap), 0.05)])
            better += first == (1, 1)
            noisy_above += second == (1, 1)
        yield {"rows": f"a row better by {gap:g} than a noisy one", "told_apart": better / repetitions,
               "noisy_above": noisy_above / repetitions}  # fmt: skip


def floors(repetitions: int, seed: int = 2) -> Iterator[Measured]:
    """An attack without skill: it answers faces that have nothing to do with the target. What leaks is printed."""
    random, people = np.random.default_rng(seed), np.arange(PEOPLE * EACH) % PEOPLE
    drawn = Bootstrap(DRAWS, 0, np.arange(PEOPLE))
    for name, another in (("the floor is a mean face", False), ("and the answers to other releases", True)):
        held, leaked = 0, []
        for _ in range(repetitions):
            # LPIPS, as measured: 0.51 of a mean face, 0.41 of any sharp face, 0.10 of the attack undefended.
            mean_face, mine, others, ceiling = (
                centre + 0.05 * (random.standard_normal(PEOPLE)[people] + random.standard_normal(len(people))) / 2**0.5
                for centre in (0.51, 0.41, 0.41, 0.10)
            )
            floor = min(mean_face, others, key=np.mean) if another else mean_face
            found = share_regained(mine, floor, ceiling, drawn.items(people), PEOPLE, lower_is_more_alike=True)
            assert found.value is not None and found.interval is not None
            held += found.interval[0] <= 0
            leaked.append(found.value)
        yield {"floor": name, "truth": 0.0, "mean_leakage": float(np.mean(leaked)), "holds_0": held / repetitions}


def ceilings(repetitions: int, seed: int = 3) -> Iterator[Measured]:
    """An attack that names nobody beyond chance, and hardly anybody undefended, beside one that names all."""
    random, people = np.random.default_rng(seed), np.arange(PEOPLE * EACH) % PEOPLE
    drawn, blind = Bootstrap(DRAWS, 0, np.arange(PEOPLE)).items(people), np.full(len(people), 1 / PEOPLE)
    before, now = [], []
    for _ in range(repetitions):
        student, linkage = (
            compared("rank_1", named(random, 1 / PEOPLE), blind, named(random, undefended), drawn, PEOPLE, hits=True)
            for undefended in (0.083, 1.0)
        )
        own = student.leakage.value if student.leakage is not None else None
        before.append(1.0 if own is None else own)
        found = regained(student, student.floor, linkage.ceiling).value
        now.append(0.0 if found is None else found)
    for name, leaked in (("its own", before), ("that of the best attack", now)):
        yield {"ceiling": name, "truth": 0.0, "mean_leakage": float(np.mean(leaked)),
               "half_or_more": float(np.mean(np.asarray(leaked) >= 0.5))}  # fmt: skip


def named(random: np.random.Generator, chance: float) -> Array:
    """Whether each target is named, with a chance."""
    return (random.random(PEOPLE * EACH) < chance).astype(np.float64)


def ends(repetitions: int, seed: int = 4) -> Iterator[Measured]:
    """Shares near their ends, such as an accuracy of 0.99: how often intervals hold them."""
    random = np.random.default_rng(seed)
    for people, each in ((PEOPLE, EACH), (200, 1), (PEOPLE, 10)):
        drawn = weights(people)
        for truth in (0.5, 0.9, 0.97, 0.99, 0.02):
            for alike in (0.0, 0.5):  # Correlation of one person's targets.
                of_draws = widened = 0
                for _ in range(repetitions):
                    strength = 1 / alike - 1 if alike else 0.0
                    rate = random.beta(truth * strength, (1 - truth) * strength, people) if alike else truth
                    values = random.binomial(each, rate, people) / each
                    replicates, mean = drawn @ values, float(values.mean())
                    of_draws += _holds(percentile_interval(replicates), truth)
                    widened += _holds(share_interval(replicates, mean, people, each * people), truth)
                yield {"people": people, "targets_each": each, "truth": truth, "alike": alike,
                       "coverage_of_the_draws": of_draws / repetitions, "coverage": widened / repetitions}  # fmt: skip


def gaps(repetitions: int, seed: int = 5) -> Iterator[Measured]:
    """The gap between the largest and the smallest of equal groups: how often its interval leaves out 0."""
    random = np.random.default_rng(seed)
    for sizes in ((20, 20), (100, 100), (20, 20, 20), (52, 108, 40)):  # The last are the skin tones of ``lfw_quick``.
        people = np.repeat(np.arange(sum(sizes)), EACH)
        groups = np.repeat([f"group {i}" for i in range(len(sizes))], np.multiply(sizes, EACH))
        drawn = Bootstrap(DRAWS, 0, np.arange(sum(sizes))).items(people)
        wrong = 0
        for _ in range(repetitions):
            hits = (random.random(len(people)) < 0.8).astype(np.float64)
            numbers = {"share": partial(_mean, hits, drawn)}
            _, low, _ = compared_by_group(groups, people, numbers)["numbers"]["share"]["gap"]
            wrong += low > 0
        yield {"groups": len(sizes), "people": list(sizes), "truth": 0.0, "leaves_out_0": wrong / repetitions}


def _mean(values: Array, drawn: Array, rows: npt.NDArray[np.bool_]) -> tuple[float, Array]:
    return float(values[rows].mean()), weighted_mean(values[rows], drawn[:, rows])


def _holds(interval: tuple[float, float] | None, truth: float) -> bool:
    return interval is not None and interval[0] - 1e-9 <= truth <= interval[1] + 1e-9


SIMULATIONS: dict[str, tuple[Callable[[int], Iterator[Measured]], int]] = {
    "headline": (headline, 400), "near_one": (near_one, 400), "ranks": (ranks, 400), "floors": (floors, 400),
    "ceilings": (ceilings, 400), "ends": (ends, 1000), "gaps": (gaps, 2000),
}  # fmt: skip


def main() -> None:
    """All of them, with so many repetitions."""
    found = {
        name: {"repetitions": repetitions, "measured": list(simulate(repetitions))}
        for name, (simulate, repetitions) in SIMULATIONS.items()
    }
    (HERE / "measured.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
