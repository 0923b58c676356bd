"""HTML from templates: a page needs nothing from anywhere else, and every text from a record is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import inline_plots, text, verdict
from ppfr_bench.leaderboard.board import TARGETS, Board, Section
from ppfr_bench.leaderboard.definitions import mark
from ppfr_bench.leaderboard.dials import setting_label, settings_beside
from ppfr_bench.leaderboard.losses import gaining, losing, rising
from ppfr_bench.leaderboard.reported_figures import comparisons
from ppfr_bench.leaderboard.rows import Cell, Estimate, Grouped, Privacy, Row, Utility
from ppfr_bench.leaderboard.titles import in_words, measured, with_titles
from ppfr_bench.leaderboard.trace import citation, sources
from ppfr_bench.metrics import metric_info
from ppfr_bench.records.groups import in_order
from ppfr_bench.tracks.base import Shown

TEMPLATES = Path(__file__).with_name("templates")
CARD_LINES = (
    ("family", "Family"), ("randomness", "Randomness"), ("learned", "Learned"), ("training_data", "Training data"),
    ("clear_share", "Clear by design"), ("reference", "Reference"), ("licence", "Licence"),
)  # fmt: skip
GAP_NOTE = (
    "This interval is of the two groups that were found to differ most: of three groups that do not differ it leaves "
    "out 0 by chance in about 15 of 100 samples, of two groups in about 6."
)  # Simulated in studies/statistics.
TITLES = {
    "auc": "AUC, %", "eer": "EER, %", "tar_at_far_1e-2": "TAR at FAR 1e-2, %", "tar_at_far_1e-3": "TAR at FAR 1e-3, %",
}  # fmt: skip


@dataclass(frozen=True)
class LeakEntry:
    """An attack in a row of the matrix: its largest leakage over recognizers and measures, or why there is none.

    Attributes:
        others: where nothing leaks by the attack, its other numbers by measure, each the largest over recognizers.
        key: of the record that has it.
        tip: all its numbers.
        partial: how many of its cells gave a number, where not all did.
    """

    estimate: Estimate
    state: str
    others: tuple[tuple[str, Estimate], ...] = ()
    key: str = ""
    tip: str = ""
    partial: str = ""

    @property
    def tenth(self) -> int:
        """0 to 10, for the shade."""
        return round(10 * min(max(self.estimate.value or 0.0, 0.0), 1.0))


def render(template: str, **values: Any) -> bytes:
    """A template with everything escaped but our own style and script, which its security policy allows by hash."""
    environment, style, script = _templates()
    page = environment.get_template(template).render(
        style=style, script=script, style_source=_source(style), script_source=_source(script), **values
    )
    return page.encode()


@cache
def _templates() -> tuple[Environment, Markup, Markup]:
    """The templates, compiled once a process, and what stands in each page: our style and our script."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals.update(HIDDEN=verdict.HIDDEN, PARTLY=verdict.PARTLY, GAP_NOTE=GAP_NOTE)
    environment.filters.update(
        widest_gap=_widest_gap, grouping_note=_grouping_note, group_names=_group_names,
        histograms=inline_plots.histograms,
        det=inline_plots.det,
        table_verdict=verdict.table_verdict, row_verdict=verdict.row_verdict, warnings=verdict.warnings,
        shown_privacies=verdict.shown_privacies, full_title=verdict.full_title, worth_a_badge=_worth_a_badge,
        setting_label=setting_label, sources=sources, as_shown=_as_shown, citation=citation, show=text.show,
        tied=lambda row: text.tied(row.rank, row.rank_interval), in_words=in_words, with_titles=with_titles,
        row_flags=verdict.flags, cell_flags=verdict.cell_flags,
        plain=text.plain, number=text.number, at_least=text.at_least, at_most=text.at_most, percent=text.percent,
        interval=text.interval, speed=text.speed, duration=text.duration, link=text.link, measure=_measure,
        titled=measured, short=text.short_key, tip=_tip, scale=inline_plots.scale,
        heading=_heading, words=text.words, of_recognizer=_of_recognizer, leak_entry=leak_entry, breakable=_breakable,
        anchor=anchor, json=_json, card_lines=_card_lines,
        metric_title=_metric_title, metric_note=_metric_note, trend=inline_plots.trend, shown_as=_shown_as,
        defined=mark,
        comparisons=comparisons, settings_beside=settings_beside, losing=losing, gaining=gaining, rising=rising,
    )  # fmt: skip
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8").strip() + "\n" for name in ("style.css", "page.js"))
    return environment, Markup(style), Markup(script)


def leak_entry(row: Row, attack: str) -> LeakEntry:
    """What an attack regains of a row: the worst of its cells; a gap only where none gave a number.

    What is no leakage, such as a PSNR, is among ``others`` and never the worst.
    """
    cells = [cell for cell in row.cells if cell.attack == attack]
    if not cells:
        return LeakEntry(Estimate(None, reason="its answers are to another defense's releases"), text.MISSING)
    good = [cell for cell in cells if cell.state == "ok" and any(one.value is not None for _, one in cell.shown)]
    if not good:
        gap = next((cell for cell in cells if cell.state == "failed"), cells[0])
        return LeakEntry(Estimate(None, reason=gap.worst.reason, key=gap.key), gap.state, key=gap.key)
    cell = min(good, key=lambda cell: cell.order)
    others = () if cell.leakage else _largest(good)
    parts = []
    for of in good:
        measured = (f"{name} {text.bracketed(estimate)}" for name, estimate in of.shown if estimate.value is not None)
        parts.append(f"{of.recognizer}: {', '.join(measured)}" if of.recognizer else ", ".join(measured))
    partial = f"({len(good)} of {len(cells)})" if len(good) < len(cells) else ""
    return LeakEntry(cell.worst, "ok", others, cell.key, f"{'; '.join(parts)}.", partial)


def _largest(cells: Sequence[Cell]) -> tuple[tuple[str, Estimate], ...]:
    """The largest number of each measure that is no leakage."""
    found: dict[str, Estimate] = {}
    for name, estimate in (one for cell in cells for one in cell.others):
        if estimate.value is not None and (name not in found or estimate.value > (found[name].value or 0.0)):
            found[name] = estimate
    return tuple(found.items())


def anchor(board: Board, section: Section, row: Row, attack: str) -> str:
    """Where the page of a defense tells of an attack: ``t1-unet``."""
    before = board.sections[: board.sections.index(section)]
    return f"t{1 + sum(row.defense == other.defense for one in before for other in one.rows)}-{attack}"


def _widest_gap(row: Row, of: str, what: str) -> Grouped | None:
    """Of the numbers of groups whose title begins so, the one whose groups differ most."""
    found = [one for one in row.by_group.get(of, []) if one.title.startswith(what) and one.gap in one.estimates]
    return max(found, key=lambda one: one.estimates[one.gap].value or 0.0, default=None)


def _group_names(grouped: Sequence[Grouped]) -> list[str]:
    """Of all groups that some number is of."""
    return in_order({name for one in grouped for name in one.groups})


def _grouping_note(of: str) -> str:
    """How people or photos come into groups, where it follows from the pixels."""
    by_cheeks = "People by the median angle of their cheeks (ITA): light above 41 degrees, dark up to 10. "
    return by_cheeks if of == "skin tone" else ""


def _source(content: str) -> Markup:
    return Markup("'sha256-{}'").format(base64.b64encode(hashlib.sha256(content.encode()).digest()).decode())


def _tip(estimate: Estimate) -> str:
    """All there is to say of a number in one line."""
    parts = [text.number(estimate.value, 4)]
    if estimate.interval:
        parts.append(f"95% interval {text.interval(estimate.interval, 4)}")
    if estimate.n:
        parts.append(f"n {estimate.n}")
    return ", ".join(parts)


def _as_shown(number: Estimate | Privacy) -> Shown:
    """A number as it stands in a table; of a privacy what is claimed is the lower limit of its interval."""
    if isinstance(number, Estimate):
        return Shown(number)
    return Shown(number.estimate, number.set_by, number.bound, at_least=number.estimate.interval is not None)


def _worth_a_badge(row: Row, section: Section) -> bool:
    """Whether to be on the front says something: its first privacy is at least the least that pages ask for."""
    if section.rules is None or row.control:
        return False
    least = verdict.lower(row.privacies[section.rules.privacies[0]].estimate)
    return least is not None and least >= TARGETS[0]


def _breakable(value: object) -> Markup:
    """Escaped text that a narrow column may break after an underscore or a comma."""
    return Markup("<wbr>").join(re.split(r"(?<=[_,])(?=\S)", text.plain(value)))


def _heading(title: str) -> Markup:
    """A title over a narrow column, in two lines if it is long, and what leads to its definition."""
    words = text.plain(title, 80).split(" ")
    if len(title) < 10 or len(words) == 1:
        return Markup("{}{}").format(title, mark(title))
    halves = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    first, second = min(halves, key=lambda lines: max(len(lines[0]), len(lines[1])))
    return Markup("{}<br>{}{}").format(first, second, mark(title))


def _measure(name: str) -> Markup:
    """A measurement as a heading, and what leads to its definition."""
    return Markup("{}{}").format(_breakable(measured(name)), mark(name))


def _of_recognizer(utilities: Iterable[Utility], label: str) -> Utility:
    return next(utility for utility in utilities if utility.recognizer == label)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else "none"


def _card_lines(card: dict[str, Any]) -> list[tuple[str, str]]:
    """What a card says, without what it leaves empty."""
    lines = []
    for key, title in CARD_LINES:
        value = card.get(key)
        if value in (None, "", 0.0, False):
            continue
        lines.append((title, "yes" if value is True else str(value)))
    deviations = card.get("deviations")
    if isinstance(deviations, list | tuple) and deviations:
        lines.append(("Differs", " ".join(str(one) for one in deviations)))
    return lines


def _shown_as(cell: Cell, name: str) -> Estimate:
    """A number of a cell by its measure, or why there is none."""
    return dict(cell.shown).get(name) or Estimate(None, reason=cell.reason or "not a measure of this attack")


def _metric_title(name: str) -> str:
    return TITLES.get(name, name)


def _metric_note(name: str) -> str:
    """What a metric means, as ``ppfr-bench list metrics`` says; empty of one that is not here."""
    try:
        return metric_info(name).description
    except UserError:
        return ""
