"""Write the pages of docs/ that explain boards by what is on them.

    python studies/reader_pages.py

Each is made from its template, ``studies/pages/NAME.md.j2``, and so is the finding on the first pages. Every figure is
looked up in the published records.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from line_up import alt, named, recorded
from measured_pages import LOOKUPS, ROOT, STUDIES, published_records, records, rows, said, store_of
from reference_pages import safe

from ppfr_bench.cards import WEAK
from ppfr_bench.datasets.synthetic import SyntheticConfig
from ppfr_bench.leaderboard.changes import changes_of
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import MISSING, bracketed, number, ranks, words
from ppfr_bench.leaderboard.text import at_least as rounded_down
from ppfr_bench.leaderboard.titles import attack_titles, in_words
from ppfr_bench.recognizers import recognizer_class, recognizer_names
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.store import ResultStore
from ppfr_bench.suites import load_suite

FIRST_PAGES = (ROOT / "README.md", ROOT / "docs" / "index.md")  # They hold the finding between two comments.
OPENS, CLOSES = "<!-- finding: python studies/reader_pages.py -->", "<!-- end of the finding -->"
PAGES = (*FIRST_PAGES, *(
    ROOT / "docs" / f"{name}.md"
    for name in (
        "reading_a_row", "which_defense", "gdpr", "synthetic_faces", "reference_defense_card", "howto/rotate_keys",
        "reference/recognizers", "howto/measure_all_boards", "faq", "leaderboards",
    )
))  # fmt: skip


def row(suite: str, defense: str) -> Row:
    return rows(suite)[defense]


def rank(suite: str, defense: str) -> str:
    """``2 (tied 1 to 3)``."""
    return ranks(row(suite, defense).rank, row(suite, defense).rank_interval)


def ranked(suite: str, track: str) -> int:
    """How many rows of a table have a rank."""
    return sum(one.rank is not None for one in rows(suite).values() if one.track == track)


def score(suite: str, defense: str) -> str:
    return bracketed(row(suite, defense).score)


def at_least(suite: str, defense: str, privacy: str) -> str:
    """The lower limit of a privacy, rounded down as on boards."""
    found = row(suite, defense).privacies[privacy].estimate
    assert found.interval is not None
    return rounded_down(found.interval[0])


def set_by(suite: str, defense: str, privacy: str) -> str:
    """What set a privacy, in the words of the board's page."""
    plan = store_of(suite).plan(suite)
    assert plan is not None, f"no plan of {suite}"
    return in_words(row(suite, defense).privacies[privacy].set_by, attack_titles(plan))


def warnings(suite: str, defense: str) -> str:
    """``attack_stopped_early (averaging_4 at 21 of 60)``, with links to what a flag means."""
    found = [f"[`{name}`](flags.md#{name}) ({', '.join(where)})" for name, where in row(suite, defense).flags]
    return ", ".join(found) or "none"


def cells(suite: str, defense: str) -> str:
    """``18 of 18``."""
    return f"{row(suite, defense).measured} of {row(suite, defense).expected}"


def targets(suite: str) -> str:
    """How many faces are attacked."""
    (only,) = {cell.worst.n for one in rows(suite).values() for cell in one.cells if cell.scorer == "reconstruction"}
    return str(only)


def leaks(suite: str, defense: str, attack: str) -> str:
    """The largest leakage of an attack, over its measures."""
    (cell,) = [cell for cell in row(suite, defense).cells if cell.attack == attack]
    return bracketed(cell.worst)


def gallery(suite: str) -> str:
    """How many people an attacker chooses among."""
    (only,) = {record.dataset.config["gallery"] for record in records(suite)}
    return str(only)


def chance(suite: str) -> str:
    """Of 100 targets, so many are named by guessing."""
    return f"{100 / int(gallery(suite)):.1f}"


def of_100(suite: str, defense: str, attack: str, recognizer: str = "") -> str:
    """Of 100 targets, so many are named first among the people of the gallery, with the 95% interval.

    By that recognizer; if none is named, by the one that names most.
    """
    found = [
        record.estimate("rank_1")
        for record in published_records(suite)
        if record.defense.label == defense
        and record.attack is not None
        and record.attack.label == attack
        and record.recognizer is not None
        and recognizer in ("", record.recognizer.label)
    ]
    most = max(found, key=lambda one: one.value or 0.0)
    assert most.value is not None and most.interval is not None
    low, high = most.interval
    return f"{100 * most.value:.0f} of 100 [{100 * low:.0f}, {100 * high:.0f}]"


def _competing(suite: str, track: str) -> list[Row]:
    """Complete rows of a table that are no controls, in the order of their retention."""
    found = [one for one in rows(suite).values() if one.track == track and one.complete and not one.control]
    return sorted(found, key=lambda one: -(one.retention.value or 0.0))


def _lower(estimate: Estimate) -> float:
    return estimate.interval[0] if estimate.interval is not None else 0.0


def reaching(suite: str, track: str, privacy: str, least: float, most: int = 4) -> str:
    """The rows whose privacy is at least so much, by what they keep, at least a quarter; lower limits counted."""
    found = [
        one for one in _competing(suite, track)
        if _lower(one.privacies[privacy].estimate) >= least and _lower(one.retention) >= 0.25
    ]  # fmt: skip
    names = [f"[{one.defense}]({_page(one)}) {bracketed(one.retention)}" for one in found[:most]]
    more = f", and {len(found) - most} more" if len(found) > most else ""
    return (", ".join(names) + more) if found else "none"


def hiding(suite: str, track: str, privacy: str, hidden: float, kept: float) -> int:
    """How many rows hide and keep at least so much, lower limits counted."""
    return sum(
        _lower(one.privacies[privacy].estimate) >= hidden and _lower(one.retention) >= kept
        for one in _competing(suite, track)
    )


def competing(suite: str, track: str) -> int:
    return len(_competing(suite, track))


def naming(suite: str, most: float) -> str:
    """``10 of 10``: rows of all tracks whose identity privacy is at most so much, of all that have one."""
    found = [
        value for one in rows(suite).values()
        if not one.control and "identity" in one.privacies
        and (value := one.privacies["identity"].estimate.value) is not None
    ]  # fmt: skip
    return f"{sum(value <= most for value in found)} of {len(found)}"


def kept_at_most(suite: str, privacy: str, above: float) -> str:
    """The most that a row keeps whose privacy is above so much, rounded up to a tenth."""
    kept = [
        one.retention.value or 0.0 for one in rows(suite).values()
        if not one.control and privacy in one.privacies and (one.privacies[privacy].estimate.value or 0.0) > above
    ]  # fmt: skip
    return f"{ceil(10 * max(kept)) / 10:.2f}"


def rebuilt(suite: str, defense: str, measure: str) -> str:
    """The best that an attack rebuilds of a row, by one measure, three digits."""
    found = row(suite, defense).reconstruction
    assert found is not None, f"nothing of {defense} was rebuilt on {suite}"
    return f"{found.likeness[measure].estimate.value:.3f}"


def took(suite: str) -> str:
    """``6 to 10 minutes``, ``21 minutes to 8 hours``: from the fastest to the slowest row, without the controls."""
    times = [round(one.seconds / 60) for one in rows(suite).values() if not one.control]
    low, high = min(times), max(times)
    return f"{low} to {high} minutes" if high < 90 else f"{low} minutes to {high / 60:.0f} hours"


def outdated() -> str:
    """``A, B and C were``: the published boards of attacks that have another version today; empty if there is none."""
    store = ResultStore(ROOT / "results")
    plans = [plan for suite in store.suites() if (plan := store.plan(suite)) is not None]
    names = [f"`{plan.suite}`" for plan in plans if changes_of(plan).attacks]
    if len(names) < 2:
        return f"{names[0]} was" if names else ""
    return f"{', '.join(names[:-1])} and {names[-1]} were"


def has_row(suite: str, defense: str) -> bool:
    return defense in rows(suite)


def best_rows(suite: str, track: str, most: int = 3) -> str:
    """The first rows of a table, as lines of one: rank, what is kept, each privacy."""
    found = sorted((one for one in _competing(suite, track) if one.rank is not None), key=lambda one: one.rank or 0)
    names = list(found[0].privacies)
    head = " | ".join(["defense", "rank", "kept", *map(words, names)])
    lines = [f"| {head} |", "|---" * (3 + len(names)) + "|"]
    for one in found[:most]:
        numbers = [one.retention, *(one.privacies[name].estimate for name in names)]
        place = ranks(one.rank, one.rank_interval)
        lines.append(f"| [{one.defense}]({_page(one)}) | {place} | {' | '.join(map(bracketed, numbers))} |")
    return "\n".join(lines)


def _page(one: Row) -> str:
    return f"../leaderboards/{one.suite}/defenses/{one.defense}.html"


def line_up() -> str:
    """What the picture of ``line_up.py`` shows, for who does not see it."""
    return alt(recorded())


def line_up_named() -> str:
    """``3 of 3 (blur) and 2 of 3 (pixelation)``."""
    return named(recorded())


# Three risks of a released face ------------------------------------------------------------------------------------


def _d_sys(one: Row) -> str:
    """The largest D_sys over recognizers; in bold where its lower limit is above what chance gives."""
    found = [
        (record.estimate("d_sys"), record.estimate("d_sys_bias").value or 0.0)
        for record in published_records(one.suite)
        if record.defense.label == one.defense and record.attack is not None and record.attack.name == "unlinkability"
    ]
    if not found:
        return MISSING
    estimate, bias = max(found, key=lambda pair: pair[0].value or 0.0)
    assert estimate.value is not None and estimate.interval is not None
    low, high = estimate.interval
    text = f"{number(estimate.value)} [{number(low)}, {number(high)}], chance {number(bias)}"
    return _shown(text, low - bias)


def _leak(one: Row, privacy: str) -> str:
    """1 - a privacy with its limits: the largest leakage, in bold where it is surely above nothing."""
    estimate = one.privacies[privacy].estimate
    if estimate.value is None or estimate.interval is None:
        return MISSING
    low, high = 1 - estimate.interval[1], 1 - estimate.interval[0]
    return _shown(f"{number(1 - estimate.value)} [{number(low)}, {number(high)}]", low)


def _shown(text: str, low: float) -> str:
    return f"**{text}**" if low >= 0.005 else text  # It would be printed as 0.00 otherwise.


def risks(suite: str, track: str) -> str:
    """A line a defense: what tells people apart, what links, what is inferred."""
    lines = [
        "| defense | singling out: retention | linking: to a named photo | linking: two releases, D_sys | "
        "inference: the face | inference: an attribute |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in _competing(suite, track):
        parts = (
            f"[{one.defense}]({_page(one)})", _shown(bracketed(one.retention), _lower(one.retention)),
            _leak(one, "identity"), _d_sys(one), _leak(one, "appearance"), _leak(one, "attribute"),
        )  # fmt: skip
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def template_risks(suite: str) -> str:
    """The same of templates."""
    lines = ["| defense | singling out: retention | linking: two systems | inference: the face or its owner |",
             "|---|---|---|---|"]  # fmt: skip
    for one in _competing(suite, "template"):
        parts = (f"[{one.defense}]({_page(one)})", _shown(bracketed(one.retention), _lower(one.retention)),
                 _leak(one, "unlinkability"), _leak(one, "irreversibility"))  # fmt: skip
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def cloak_risks(suite: str) -> str:
    """The same of cloaks."""
    lines = ["| defense | likeness to the photo | linking: to a named photo |", "|---|---|---|"]
    for one in _competing(suite, "cloak"):
        lines.append(f"| [{one.defense}]({_page(one)}) | {bracketed(one.retention)} | {_leak(one, 'recognition')} |")
    return "\n".join(lines)


# Cards -------------------------------------------------------------------------------------------------------------


def default(name: str) -> str:
    """A default of the synthetic data set."""
    return f"{getattr(SyntheticConfig(), name):,}"


def of_suite(suite: str, name: str) -> str:
    """What a suite asks of its data set, or its default."""
    return f"{load_suite(suite).dataset.params.get(name, getattr(SyntheticConfig(), name)):,}"


def tones(suite: str) -> str:
    """``43 dark, 10 intermediate``: people by the tone of their cheeks, of groups that are large enough."""
    (found, *_) = row(suite, "no_defense").by_group["skin tone"]
    return ", ".join(f"{found.estimates[group].n} {group}" for group in found.groups)


def by_tone(suite: str, defense: str) -> str:
    """Lines of a table: each number of groups by skin tone, and the gap."""
    found = row(suite, defense).by_group["skin tone"]
    groups = found[0].groups
    lines = [f"| | {' | '.join(groups)} | gap |", "|---" * (2 + len(groups)) + "|"]
    for one in found:
        numbers = [bracketed(one.estimates[group]) for group in (*groups, one.gap)]
        lines.append(f"| {one.title.replace('_', ' ')} | {' | '.join(numbers)} |")
    return "\n".join(lines)


# Recognizers -------------------------------------------------------------------------------------------------------


def _of_recognizers(file: str) -> Any:
    return json.loads((STUDIES / "recognizers" / file).read_text(encoding="utf-8"))


def pairs(protocol: str) -> str:
    """How many pairs of a protocol the recognizers were measured on."""
    (only,) = {one[protocol]["pairs"] for one in _of_recognizers("accuracy.json").values()}
    return f"{only:,}"


def weak() -> str:
    return f"{100 * WEAK:.0f}"


def accuracies() -> str:
    """A line a recognizer: what it reaches on clear pairs, per cent, and how it is fed."""
    measured = _of_recognizers("accuracy.json")
    protocols = list(next(iter(measured.values())))
    lines = [f"| recognizer | {' | '.join(protocols)} | embedding | takes |", "|---" * (3 + len(protocols)) + "|"]
    for name in recognizer_names():
        kind = recognizer_class(name)
        found = [measured.get(name, {}).get(protocol) for protocol in protocols]
        numbers = [said(one["value"], one["interval"], 100, 1) if one else "not measured" for one in found]
        title = f"`{name}`, **weak**" if kind.card.weak else f"`{name}`"
        takes = safe(str(kind.__doc__).partition(" -> ")[0])
        lines.append(f"| {title} | {' | '.join(numbers)} | {kind.card.dimension}, {kind.card.metric} | {takes} |")
    return "\n".join(lines)


def sources() -> str:
    """A line a recognizer: reference, licence, what it was trained on, and where it differs from its authors'."""
    lines = ["| recognizer | source | licence | trained on | differs |", "|---|---|---|---|---|"]
    for name in recognizer_names():
        card = recognizer_class(name).card
        parts = (f"{safe(card.reference)} ([code]({card.code_url}))", safe(card.licence), safe(card.training_data),
                 safe(" ".join(card.deviations)))  # fmt: skip
        lines.append(f"| `{name}` | {' | '.join(parts)} |")
    return "\n".join(lines)


def tried_pairs() -> str:
    (only,) = {one["pairs"] for one in _of_recognizers("crops.json")}
    return f"{only:,}"


def crops() -> str:
    """A line a network, a way to feed it and a crop."""
    lines = ["| network | fed | crop | accuracy, per cent |", "|---|---|---|---|"]
    for one in _of_recognizers("crops.json"):
        lines.append(f"| `{one['network']}` | {one['fed']} | {one['crop']} | {100 * one['accuracy']:.1f} |")
    return "\n".join(lines)


# What boards cost ----------------------------------------------------------------------------------------------------


def costs() -> str:
    """A line a board: rows, cells, seeds, hours of its stages, of the median row under one seed, and on what."""
    store = ResultStore(ROOT / "results")
    head = ("board", "rows", "cells", "seeds", "compute, hours", "a row, minutes (median)", "threads", "machines")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for suite in store.suites():
        found = list(store.records(suite))
        of_row: dict[tuple[str, int], float] = {}
        for one in found:
            at = one.defense.label, one.seed
            of_row[at] = of_row.get(at, 0.0) + one.cost.own
        rows_of, seeds = {row for row, _ in of_row}, sorted({seed for _, seed in of_row})
        threads = sorted({one.environment.threads for one in found})
        machines = sorted({f"{one.environment.processor}, {one.environment.device}" for one in found})
        parts = (
            f"`{suite}`", str(len(rows_of)), str(len(found)), ", ".join(map(str, seeds)),
            f"{sum(of_row.values()) / 3600:.1f}", f"{median(of_row.values()) / 60:.0f}", ", ".join(map(str, threads)),
            "; ".join(machines),
        )  # fmt: skip
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


OWN: tuple[Callable[..., object], ...] = (
    rank, ranked, score, at_least, set_by, warnings, cells, targets, leaks, gallery, chance, of_100, reaching,
    hiding, competing, naming, kept_at_most, rebuilt, took, outdated, has_row, best_rows, line_up, line_up_named,
    risks, template_risks, cloak_risks, default, of_suite, tones, by_tone,
    pairs, weak, accuracies, sources, tried_pairs, crops, costs,
)  # fmt: skip


def made(template: str) -> str:
    """What a template says."""
    environment = Environment(
        loader=FileSystemLoader(STUDIES / "pages"), undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, autoescape=False,
    )  # fmt: skip
    environment.globals.update({function.__name__: function for function in (*LOOKUPS, *OWN)})
    return environment.get_template(f"{template}.md.j2").render()


def rendered(page: Path) -> str:
    """The text that a page must have."""
    if page not in FIRST_PAGES:
        return made(page.stem)
    before, _, rest = page.read_text(encoding="utf-8").partition(OPENS)
    _, _, after = rest.partition(CLOSES)
    assert after, f"{page.name} has no place for the finding"
    found = made("finding")
    if page.parent != ROOT:  # The site has boards as pages, beside the documentation.
        found = re.sub(r"\]\((leaderboards/[^)]+)\.md\)", r"](../\1.html)", found).replace("](docs/", "](")
    return f"{before}{OPENS}\n{found}{CLOSES}{after}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(rendered(page), encoding="utf-8", newline="\n")
