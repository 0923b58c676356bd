"""Figures of docs/threat_model.md that are not those of a board: of ablations, of weak defenses, and of cards."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import threat_ladder
from ablation import ablation, students

from ppfr_bench.records.estimate import Estimate, Part
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

STUDIES = Path(__file__).parents[1]
WEAK = STUDIES / "weak_defenses"
INVERSION = STUDIES / "inversion" / "records"
CARDS = STUDIES.parent / "ppfr_bench" / "learning"
SUITES = {"validity": "defenses", "keys": "keyed", "fine": "fine"}  # Of weak defenses, by the folder of their files.


def ladder() -> str:
    """What the picture of the ladder shows, in words."""
    return threat_ladder.alt()


# What each part is worth --------------------------------------------------------------------------------------------


@cache
def _ablation(of: str) -> dict[str, Any]:
    file = {"inverters": ablation.MEASURED, "students": students.MEASURED}[of]
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def ablation_table() -> str:
    """Reconstruction attacks, a part switched off at a time."""
    return "\n".join(ablation.table(_ablation("inverters")))


def students_section() -> str:
    """Students, a part switched off at a time."""
    return students.section(_ablation("students"))


def measured_with(defense: str, attack: str, off: str, measure: str) -> str:
    """What a reconstruction attack reaches with a part switched off, and its interval."""
    value, low, high = _ablation("inverters")["defenses"][defense][attack][off][measure][:3]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def gained(of: str, defense: str, attack: str, off: str, measure: str) -> str:
    """By how much a measure is greater with a part switched off than with all parts."""
    return ablation.bracketed(_ablation(of)["defenses"][defense][attack][off][measure], "")


def lost(of: str, defense: str, attack: str, off: str, measure: str) -> str:
    """By how much a measure is smaller with a part switched off than with all parts: what the part is worth."""
    value, low, high = _ablation(of)["defenses"][defense][attack][off][measure][-3:]
    return f"{-value:.3f} [{-high:.3f}, {-low:.3f}]"


# Several trainings --------------------------------------------------------------------------------------------------


@cache
def _trainings() -> tuple[Record, ...]:
    return tuple(ResultStore(INVERSION).records("lfw_quick"))


def by_seed(attack: str, measure: str, recognizer: str = "") -> str:
    """A measure of each training, in the order of their seeds; the worst has its interval."""
    found = {
        one.seed: one.estimate(measure)
        for one in _trainings()
        if one.attack and one.attack.label == attack
        and (one.recognizer.label if one.recognizer else "") == recognizer
    }  # fmt: skip
    assert found, (attack, measure, recognizer)
    values = {seed: estimate.value for seed, estimate in found.items() if estimate.value is not None}
    worst = (max if measure == "lpips" else min)(values, key=lambda seed: values[seed])
    said = {seed: f"{value:.3f}".lstrip("0") for seed, value in values.items()}
    ends = found[worst].interval
    assert ends is not None
    said[worst] += " [" + ", ".join(f"{end:.3f}".lstrip("0") for end in ends) + "]"
    return ", ".join(said[seed] for seed in sorted(said))


# How the closed form chooses -----------------------------------------------------------------------------------------


@cache
def _attacked(suite: str) -> dict[tuple[str, str, int], Record]:
    """Records of attacks that need no recognizer, by defense, attack and seed."""
    found = ResultStore(STUDIES.parent / "results").records(suite)
    return {(one.defense.label, one.attack.label, one.seed): one for one in found if one.attack and not one.recognizer}


def _closed_forms(suite: str) -> dict[tuple[str, int], Record]:
    found = _attacked(suite).items()
    return {(defense, seed): record for (defense, attack, seed), record in found if attack == "ridge"}


def _choice(record: Record) -> tuple[str, dict[str, float]]:
    """The kernel that was chosen, and the squared error of each on held-out people."""
    assert record.training is not None
    noted = record.training.notes["closed_form"]
    return noted["kernel"], noted["errors"]


def under_seed(suite: str, defense: str, attack: str, seed: int, measure: str, part: Part = "leakage") -> str:
    """A measure of an attack under a seed: what it recovers, or another part."""
    return f"{_attacked(suite)[defense, attack, seed].estimate(measure, part).value:.2f}"


def closed_forms(*suites: str) -> int:
    """How often a kernel was chosen: pairs of a row and a seed."""
    return sum(len(_closed_forms(suite)) for suite in suites)


def by_spectrum(*suites: str) -> str:
    """Rows for which the spectrum was chosen, and by how much less error, per cent; the smallest margin last."""
    found = {}
    for suite in suites:
        for (defense, seed), record in _closed_forms(suite).items():
            kernel, errors = _choice(record)
            other = min(errors[name] for name in errors if name != "spectrum")
            if kernel == "spectrum":
                found[100 * (1 - errors["spectrum"] / other)] = f"`{defense}` on `{suite}`, seed {seed}"
    return "; ".join(f"{found[margin]} ({margin:.3g}%)" for margin in sorted(found, reverse=True))


# Weak defenses ------------------------------------------------------------------------------------------------------


def _most(suite: str, name: str) -> tuple[Estimate, str, str]:
    """The largest leakage of appearance, or of identity by rank 1, with the attack and the measure."""
    found = [
        (one.leakage, record.slot[1], measure)
        for record in ResultStore(WEAK / "records").records(suite)
        if record.defense.label == name and record.sets in ("appearance", "identity")
        for measure, one in record.metrics.items()
        if one.leakage is not None
        and one.leakage.value is not None
        and (record.sets == "appearance" or measure == "rank_1")
    ]
    return max(found, key=lambda one: one[0].value or 0.0)


def weak_leakage(suite: str, name: str) -> str:
    """The largest leakage of a weak defense, with its interval."""
    estimate, _, _ = _most(suite, name)
    assert estimate.interval is not None
    low, high = estimate.interval
    return f"{estimate.value:.2f} [{low:.2f}, {high:.2f}]"


def weak_defenses() -> str:
    """The table of all weak defenses."""
    names = [(suite, file.stem) for suite, folder in SUITES.items() for file in sorted((WEAK / folder).glob("*.py"))]
    lines = ["| defense | largest leakage | by |", "|---|---|---|"]
    for suite, name in names:
        _, attack, measure = _most(suite, name)
        lines.append(f"| `{name}` | {weak_leakage(suite, name)} | {attack}, {measure} |")
    return "\n".join(lines)


# Cards --------------------------------------------------------------------------------------------------------------


@cache
def card(model: str) -> dict[str, Any]:
    """That of a model that ships with the attacks."""
    found: dict[str, Any] = json.loads((CARDS / f"{model}.json").read_text(encoding="utf-8"))
    return found


LOOKUPS: tuple[Callable[..., object], ...] = (
    ladder, ablation_table, students_section, measured_with, gained, lost, by_seed, weak_leakage, weak_defenses, card,
    under_seed, closed_forms, by_spectrum,
)  # fmt: skip
