"""Write the pages of docs/ that hold measured figures.

    python studies/measured_pages.py

A page is made from its template, ``studies/PAGE/PAGE.md.j2``. Every figure of ours is looked up in the published
records, or in those of the study of the reference defense. Figures of papers come from ``published.toml``, or stand in
the template, with their source.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, StrictUndefined
from threat_model import figures

from ppfr_bench.leaderboard.reported_figures import reported_figures
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.seeds import split
from ppfr_bench.leaderboard.table import build
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.estimate import Part
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

STUDIES = Path(__file__).parent
ROOT = STUDIES.parent
RECORDS = STUDIES / "reference_defense" / "records"
OTHERS = {name: STUDIES / name / "records" for name in ("linkage", "price")}  # Suites whose records lie with a study.
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("reproduction", "reference_defense", "threat_model"))


def store_of(suite: str) -> ResultStore:
    """The published records; those of suites that are not published lie with a study."""
    if suite in OTHERS:
        return ResultStore(OTHERS[suite])
    return ResultStore(ROOT / "results" if (ROOT / "results" / suite).is_dir() else RECORDS)


@cache
def records(where: str) -> list[Record]:
    """All of a suite; of one data set, if it is named as in ``anonymizer/lfw``."""
    suite, _, dataset = where.partition("/")
    return [one for one in store_of(suite).records(suite) if dataset in ("", one.dataset.label)]


@cache
def rows(where: str) -> dict[str, Row]:
    """By label of the defense."""
    suite, _, dataset = where.partition("/")
    plan = store_of(suite).plan(suite)
    assert plan is not None, f"no plan of {suite}"
    return {row.defense: row for row in build(records(where), plan) if dataset in ("", row.dataset)}


@cache
def published_records(where: str) -> list[Record]:
    """Those of the published seed, their intervals widened by what the other seeds say, as boards show them."""
    plan = store_of(where.partition("/")[0]).plan(where.partition("/")[0])
    assert plan is not None, f"no plan of {where}"
    (seed,) = {table.seed for table in plan.tables.values()}
    return split(records(where), seed)[0]


def seeds_of(suite: str, defense: str) -> str:
    """How often the attacks on a row were trained: ``one seed`` or ``2 seeds``."""
    found = {one.seed for one in records(suite) if one.defense.label == defense and one.attack}
    assert found, f"{suite} has no attack on {defense}"
    return "one seed" if len(found) == 1 else f"{len(found)} seeds"


def said(value: float | None, interval: tuple[float, float] | list[float] | None, scale: float, digits: int) -> str:
    assert value is not None and interval is not None
    low, high = interval
    return f"{scale * value:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def metric(
    suite: str, defense: str, attack: str, name: str, recognizer: str = "", *, interval: bool = True,
    part: Part = "value",
) -> str:  # fmt: skip
    """One number of one attack, three digits; a dash where the suite has no such defense, or did not measure it."""
    if defense not in rows(suite):
        return "–"
    found = [
        record.estimate(name, part)
        for record in published_records(suite)
        if record.defense.label == defense
        and record.attack is not None
        and record.attack.label == attack
        and (record.recognizer.label if record.recognizer else "") in ("", recognizer)
    ]
    if not found:
        return "–"
    (only,) = found
    if not interval:
        assert only.value is not None
        return f"{only.value:.3f}"
    return said(only.value, only.interval, 1, 3)


def by_steps(suite: str, defense: str, attack: str, measure: str) -> str:
    """What leaks after each part of an attack's budget: ``0.55 (125), 0.65 (250)``."""
    found = [
        one
        for one in published_records(suite)
        if one.defense.label == defense and one.attack and one.attack.label == attack
    ]
    (curve,) = [BudgetCurve.of_log(one.log) for one in found]
    assert curve is not None
    return ", ".join(
        f"{'–' if value is None else f'{value:.2f}'} ({size})"
        for size, value in zip(curve.sizes, curve.leakage[measure], strict=True)
    )


def accuracy(suite: str, defense: str, recognizer: str) -> str:
    """Verification accuracy on protected pairs, per cent."""
    uses = [use for use in rows(suite)[defense].utilities if use.recognizer == recognizer]
    (found,) = [use.estimate("accuracy") for use in uses]
    return said(found.value, found.interval, 100, 1)


def unseen(suite: str, defense: str) -> str:
    """The same, mean of the recognizers that nobody trained on, without an interval."""
    values = [use.estimate("accuracy").value for use in rows(suite)[defense].utilities if not use.mark]
    assert values and None not in values
    return f"{100 * fmean(value for value in values if value is not None):.1f}"


def retention(suite: str, defense: str) -> str:
    found = rows(suite)[defense].retention
    return said(found.value, found.interval, 1, 2)


def black_box(suite: str, defense: str) -> str:
    found = rows(suite)[defense].beside
    assert found is not None
    return said(found.value, found.interval, 1, 2)


def best(suite: str, defense: str, measure: str) -> str:
    """The best reconstruction: ``0.488 of 0.444 to 0.949`` is its SSIM, that of the floor and of the ceiling."""
    if defense not in rows(suite):
        return "–"
    found = rows(suite)[defense].reconstruction
    assert found is not None
    scale = found.likeness[measure]
    return f"{scale.estimate.value:.3f} of {scale.floor.value:.3f} to {scale.ceiling.value:.3f}"


def privacy(suite: str, defense: str, measures: str) -> str:
    found = rows(suite)[defense].privacies[measures].estimate
    return said(found.value, found.interval, 1, 2)


def used(suite: str, defense: str, name: str, recognizer: str = "", *, scale: float = 1, digits: int = 2) -> str:
    """One number of a utility cell, with its interval if it has one; a dash where the record has no value."""
    (found,) = [use.estimate(name) for use in rows(suite)[defense].utilities if use.recognizer == recognizer]
    if found.value is None:
        return "–"
    return said(found.value, found.interval, scale, digits) if found.interval else f"{scale * found.value:.{digits}f}"


def transferred(suite: str, defense: str, recognizer: str) -> float:
    """Bytes that a client sends and receives to search 1,000 templates, in millions."""
    (use,) = [one for one in rows(suite)[defense].utilities if one.recognizer == recognizer]
    up, down = (use.estimate(name).value for name in ("bytes_up", "bytes_down"))
    assert up is not None and down is not None
    return (up + down) / 1e6


def megabytes(suite: str, defense: str, recognizer: str) -> str:
    return f"{transferred(suite, defense, recognizer):.1f}"


def times_less(suite: str, defense: str, than: str, recognizer: str) -> str:
    """How many times less is sent than by another defense."""
    return f"{transferred(suite, than, recognizer) / transferred(suite, defense, recognizer):.1f}"


def speed(suite: str, defense: str) -> str:
    """Images a second that the defense protects, where its records were made."""
    found = rows(suite)[defense].images_per_second
    assert found is not None
    return f"{found:.0f}"


def theirs(defense: str) -> str:
    """The accuracy that is published."""
    found = reported_figures()[defense].accuracy
    assert found is not None
    return found.figure


def promise(suite: str, defense: str) -> str:
    return rows(suite)[defense].promise


def leakage(suite: str, defense: str, attack: str, measure: str) -> str:
    return metric(suite, defense, attack, measure, interval=False, part="leakage")


@cache
def protected_photographs(task: str) -> dict[str, dict[str, Any]]:
    """Of ``studies/reference_defense/unseen.py``: by strength, or ``face_renderer``, and by recognizer."""
    file = STUDIES / "reference_defense" / "unseen.json"
    measured: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))[task]
    return measured


def protected_line(task: str, design: str) -> str:
    """Accuracy of each recognizer on protected photographs, per cent."""
    found = protected_photographs(task)[design]
    return " | ".join(said(found[name]["value"], found[name]["interval"], 100, 1) for name in sorted(found))


def protected_mean(task: str, design: str, *names: str) -> str:
    """As the paper gives it, the mean of some recognizers, of all by default."""
    found = protected_photographs(task)[design]
    return f"{100 * fmean(found[name]['value'] for name in names or found):.2f}"


def most_leaked(suite: str, defense: str, measure: str) -> str:
    """What the best attack by one measure recovers."""
    found = [one.estimate(measure, "leakage") for one in published_records(suite) if one.defense.label == defense]
    most = max(found, key=lambda estimate: -1.0 if estimate.value is None else estimate.value)
    return said(most.value, most.interval, 1, 3)


def protected_pairs(task: str) -> str:
    (count,) = {one["pairs"] for found in protected_photographs(task).values() for one in found.values()}
    return f"{count:,}"


def renderer_log(name: str) -> str:
    """Of the training of ``defenses/face_renderer.py``."""
    log = json.loads((STUDIES.parent / "defenses" / "face_renderer.json").read_text(encoding="utf-8"))
    return f"{log[name]:,}"


LOOKUPS: tuple[Callable[..., object], ...] = (
    metric, by_steps, accuracy, unseen, retention, black_box, best, privacy, speed, theirs, promise, leakage,
    used, megabytes, times_less, protected_photographs, protected_line,
    protected_mean, protected_pairs, most_leaked, renderer_log, seeds_of, *figures.LOOKUPS,
)  # fmt: skip


def rendered(page: Path) -> str:
    """The text that a page must have."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False)
    environment.globals.update({function.__name__: function for function in LOOKUPS})
    return environment.from_string((STUDIES / page.stem / f"{page.stem}.md.j2").read_text(encoding="utf-8")).render()


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page), encoding="utf-8", newline="\n")
