"""``leaderboard.md``: the tables as Markdown, for a repository page."""

from __future__ import annotations

from ppfr_bench.leaderboard import text
from ppfr_bench.leaderboard.across import Across, Entry, across
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.faces import FaceStrip, suite_strips
from ppfr_bench.leaderboard.rendering import LeakEntry, leak_entry
from ppfr_bench.leaderboard.reported_figures import Comparison, ReportedFigure, comparisons
from ppfr_bench.leaderboard.rows import Estimate, Row, Scale
from ppfr_bench.leaderboard.text import bracketed, duration, markdown, percent, ranks, speed
from ppfr_bench.leaderboard.titles import measured
from ppfr_bench.tracks.base import Shown

Table = list[list[str]]
ONE_SEED = (
    "**Measured with one seed**: another training of the same attacks may give other numbers, and the intervals do not "
    "show by how much."
)
NO_LEAKAGE = "A measure that is no leakage stands under its own name: the largest over recognizers."
BUDGETS = (
    "Between the floors and ceilings of the tables above, which attacks share. By the measure that set the privacy or, "
    "where the attack tells nothing of that, by the one that leaks most. The leakage of the row stands beside it: it "
    "differs where another measure or another answer of the attack has set it. Where a part of the budget recovered as "
    "much as the attack does undefended, or more, that much is printed."
)
TARGETS = "What is kept at a privacy"
SUITES_DIFFER = (
    "Suites differ in people, in attacks and in how long these train: only the least of a defense's numbers can be "
    "claimed. Where it was not measured, nothing is known of it. Earlier attacks have changed since, and may recover "
    "more today."
)


class MarkdownPage(Publisher):
    """GitHub's tables, every text from a record escaped."""

    name = "leaderboard.md"
    order = 30

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 Markdown."""
        parts = [f"# {markdown(board.suite)}", "Made by `ppfr-bench leaderboard`; do not edit."]
        if not board.count:
            parts.append("There are no records of this suite yet.")
        if board.changes:
            parts.append(f"**{markdown(board.changes.line, 3000)}**")
        if board.note:
            parts.append(markdown(board.note))
        together = across(board.together.values(), {section.track for section in board.sections})
        for section, strip in zip(board.sections, suite_strips(board), strict=True):
            parts += _section(section, strip)
            for table in together:
                parts += _measured(table, section)
        parts.append("Brackets hold 95% intervals over identities. " + " ".join(_reading(board)))
        parts.append(
            "A control, and a row with a cell that gave no number, has no rank. More in `docs/metrics.md`."
        )  # fmt: skip
        return {self.name: ("\n\n".join(parts) + "\n").encode()}


def _reading(board: Board) -> list[str]:
    """What each column is, once."""
    return [markdown(f"{title}: {description}", 1000) for title, description in board.reading]


def _section(section: Section, strip: FaceStrip | None) -> list[str]:
    parts = [f"## {markdown(section.heading)}"]
    if strip is not None:
        columns = "; ".join(f"{number}. {title}" if number else title for number, title in strip.captions)
        parts.append(f"![{markdown(strip.alt, 900)}]({strip.file})")
        parts.append(markdown(f"From left to right: {columns}. {strip.said}", 900))
    for canary in section.moved:
        parts.append(
            f"**The canary moved:** {markdown(canary.recognizer)} measures {percent(canary.accuracy.value)} % on clear "
            f"images, {percent(canary.expected)} % is expected."
        )
    if section.rows:
        if not section.spread.defenses:
            parts.append(ONE_SEED)
        parts.append(_prices(section))
        parts.append(_table(_main(section)))
        parts += [f"### {TARGETS}", _table(_targets(section))]
        if section.attacks:
            others = [NO_LEAKAGE] if section.setting_none else []
            parts += ["### Leakage by attack", *others, _table(_leakage(section))]
        if found := comparisons(section.rows):
            parts += ["### Reported by authors, measured here, best attack known", _table(_reported_table(found))]
        if section.dials:
            parts += ["### Along one parameter", _table(_dials(section))]
        if section.shots:
            parts += ["### Privacy against the number of releases held", _table(_shots(section))]
        if section.budgets:
            parts += ["### Leakage after parts of the attacker's budget", BUDGETS, _table(_budgets(section))]
        if section.longest:
            parts += [f"### What training bought: {markdown(section.longest)}", _table(_training(section))]
        if section.baselines:
            names = ", ".join(text.measure(name) for name in section.likeness)
            parts += [f"### Baselines beside the best reconstruction ({names})", _table(_baselines(section))]
    gaps = [
        [markdown(row.defense), markdown(cell.title), cell.state, markdown(cell.reason)]
        for row in section.rows
        for cell in row.gaps
    ]
    if gaps:
        parts += ["### Not measured", _table([["defense", "cell", "state", "reason"], *gaps])]
    if section.canaries:
        parts += ["### Canaries (clear against clear)", _table(_canaries(section))]
    return parts


def _measured(table: Across, section: Section) -> list[str]:
    """Where the defenses of a section were measured: its lines of the table of all suites."""
    lines = [line for row in section.rows if (line := table.of(section, row))]
    if not lines:
        return []
    places = [markdown(" ".join([place.title, *(f"({note})" for note in place.notes)])) for place in table.places]
    rows = [["defense", *places, "least anywhere"]]
    for line in lines:
        least = f"≥ {text.at_least(line.least.hidden)}" if line.least else text.MISSING
        rows.append([markdown(line.label), *map(_hidden, line.entries), least])
    numbers = "; in parentheses: ".join(filter(None, (table.hidden[0], ", ".join(table.hidden[1:]).lower())))
    return [
        "### Where these defenses were measured",
        markdown(f"{numbers}: at least, the lower limit of a 95% interval, rounded down. {SUITES_DIFFER}", 1000),
        _table(rows),
    ]  # fmt: skip


def _hidden(entry: Entry) -> str:
    if entry.hidden is None:
        return markdown(entry.gap)
    others = ", ".join("not measured" if value is None else f"≥ {text.at_least(value)}" for value in entry.others)
    said = f"≥ {text.at_least(entry.hidden)}{f' ({others})' if others else ''}"
    return "; ".join([said, *map(markdown, entry.notes)])


def _prices(section: Section) -> str:
    """The price of utility, or that it was not measured."""
    found = [
        f"{markdown(text.words(price.privacy))} leakage {bracketed(price.estimate)}, by {markdown(price.set_by)}"
        for price in section.prices.values()
    ]
    return f"**Price of utility:** {'; '.join(found) or 'not measured'}."


def _main(section: Section) -> Table:
    used = [
        f"{markdown(label or 'without a recognizer')} %{f' ({mark})' if mark else ''}"
        for label, mark in section.recognizers
    ]
    numbers = [
        title
        for column in section.columns
        for title in (column.title.lower(), *([column.note.replace("_", " ")] if column.note else []))
    ]
    likeness = [f"{text.measure(name)} (floor, ceiling)" for name in section.likeness]
    head = ["rank", "defense", *map(markdown, numbers), *used, "best reconstruction", *likeness, "images/s",
            "compute time", "flags"]  # fmt: skip
    return [head, *(_row(section, row) for row in section.rows)]


def _row(section: Section, row: Row) -> list[str]:
    numbers = []
    for column in section.columns:
        shown = column.of(row)
        numbers += [_number(shown), *([markdown(shown.note)] if column.note else [])]
    headline = section.rules.headline if section.rules is not None else ""
    found = {utility.recognizer: utility.estimate(headline) for utility in row.utilities}
    rebuilt = row.reconstruction
    return [
        ranks(row.rank, row.rank_interval), _name(row), *numbers,
        *(percent(found[label].value) for label, _ in section.recognizers),
        markdown(rebuilt.attack) if rebuilt else text.MISSING,
        *(_scale(rebuilt.likeness[name] if rebuilt else None) for name in section.likeness),
        speed(row.images_per_second), duration(row.seconds), ", ".join(markdown(flag) for flag, _ in row.flags),
    ]  # fmt: skip


def _name(row: Row) -> str:
    known = (("control", row.control), ("front", row.front), ("refuted elsewhere", row.refuted))
    marks = [mark for mark, holds in known if holds]
    marks += [row.claim_title] if row.claim else []
    marks += [] if row.complete else [row.completeness]
    marks += [markdown(row.setting)] if row.setting else []
    marks += [row.promise] if row.promise else []
    marks += [markdown(row.optimised_against)] if row.seen else []
    name = markdown(row.defense)
    return f"{name} ({', '.join(marks)})" if marks else name


def _number(shown: Shown) -> str:
    if shown.at_least and shown.estimate.interval is not None:
        return f"at least {text.at_least(shown.estimate.interval[0])}: {bracketed(shown.estimate)}"
    return bracketed(shown.estimate) if shown.bound is None else f"at most {text.at_most(shown.bound)}"


def _scale(scale: Scale | None) -> str:
    if scale is None or scale.estimate.value is None:
        return text.MISSING
    floor, ceiling = text.number(scale.floor.value, 3), text.number(scale.ceiling.value, 3)
    return f"{text.number(scale.estimate.value, 3)} ({floor}, {ceiling})"


def _targets(section: Section) -> Table:
    rows = [["privacy, at least", "defenses by what they keep"]]
    for target, reaching in section.targets:
        kept = [f"{markdown(row.defense)} {bracketed(row.retention)}" for row in reaching]
        rows.append([text.number(target), ", ".join(kept) or "none"])
    return rows


def _leakage(section: Section) -> Table:
    rows = [["defense", *(f"{markdown(attack.label)} ({markdown(attack.scorer)})" for attack in section.attacks)]]
    for row in section.rows:
        entries = [leak_entry(row, attack.label) for attack in section.attacks]
        rows.append([markdown(row.defense)] + [_regained(entry) for entry in entries])
    return rows


def _regained(entry: LeakEntry) -> str:
    """A leakage, or what else is measured by its name, or why there is no number."""
    if entry.others:
        return ", ".join(f"{markdown(measured(name))} {bracketed(estimate)}" for name, estimate in entry.others)
    return bracketed(entry.estimate) if entry.estimate.value is not None else entry.state


def _reported_table(found: list[Comparison]) -> Table:
    rows = [["defense", "accuracy %, reported", "here", "SSIM, reported", "here", "largest leakage, here", "elsewhere"]]
    for one in found:
        rebuilt, worst = one.row.reconstruction, one.worst
        rows.append([
            markdown(one.row.defense), _reported(one.reported.accuracy), percent(one.accuracy.value),
            _reported(one.reported.ssim), _scale(rebuilt.likeness.get("ssim") if rebuilt else None),
            f"{bracketed(worst.worst)}, {markdown(worst.title)}" if worst else text.MISSING,
            _reported(one.reported.attack),
        ])  # fmt: skip
    return rows


def _reported(found: ReportedFigure | None) -> str:
    return markdown(f"{found.figure} ({found.of}; {found.source})") if found else text.MISSING


def _dials(section: Section) -> Table:
    privacies = [f"{markdown(text.words(name))} privacy" for name in section.privacies]
    rows = [["defense", "parameter", "value", "label", "retention", *privacies]]
    for dial in section.dials:
        for row in dial.rows:
            name, key, value = (markdown(words) for words in (dial.name, dial.key, dial.value(row)))
            key += f" ({markdown(dial.others)})" if dial.others else ""
            rows.append([
                name, key, value, markdown(row.defense), bracketed(row.retention),
                *(bracketed(row.privacies[privacy].estimate) for privacy in section.privacies),
            ])  # fmt: skip
    return rows


def _shots(section: Section) -> Table:
    head = [f"{markdown(name)}, {count}" for name in section.privacies for count in section.shots]
    rows = [["defense", *head]]
    for row in section.rows:
        found = [estimate for name in section.privacies for estimate in section.against(row, name)]
        rows.append([markdown(row.defense), *map(_against, found)])
    return rows


def _against(privacy: Estimate) -> str:
    """A privacy against some releases, or the most that it can be, which has a reason."""
    return f"{'at most ' if privacy.reason and privacy.value is not None else ''}{bracketed(privacy)}"


def _budgets(section: Section) -> Table:
    rows = [
        ["privacy", "defense", "set by", "measure", "budget", "leakage, by size", "last doubling", "leakage of the row"]
    ]
    for name, found in section.budgets.items():
        for row, curve in found:
            along = ", ".join(f"{size}: {text.number(end)}" for size, end in zip(curve.sizes, curve.ends, strict=True))
            gain, privacy = curve.last_doubling, row.privacies[name]
            of_row = None if privacy.estimate.value is None else 1 - privacy.estimate.value
            rows.append([
                markdown(text.words(name)), markdown(row.defense), markdown(privacy.set_by),
                markdown(measured(curve.measure)), curve.unit, along, "" if gain is None else f"{gain:+.3f}",
                text.number(of_row),
            ])  # fmt: skip
    return rows


def _training(section: Section) -> Table:
    rows = [["defense", "steps", "allowed", "error of the first answer", "of the best", "best over first"]]
    for row, training in section.trainings:
        errors = [error for _, error in training.curve]
        rows.append([
            markdown(row.defense), str(training.steps), str(training.allowed), text.number(errors[0], 4),
            text.number(min(errors), 4), text.number(training.error[-1][1], 3),
        ])  # fmt: skip
    return rows


def _baselines(section: Section) -> Table:
    rows = [["defense", "floor", *map(markdown, section.baselines), "best reconstruction"]]
    for row in section.rows:
        if row.reconstruction is None:
            continue
        by_name = {baseline.attack: baseline.likeness for baseline in row.baselines}
        scales = [row.reconstruction.likeness[name] for name in section.likeness]
        ends = [[scale.floor.value for scale in scales]]
        for label in section.baselines:
            found = by_name.get(label, {})
            ends.append([found[name].value if name in found else None for name in section.likeness])
        ends.append([scale.estimate.value for scale in scales])
        rows.append([markdown(row.defense), *(", ".join(text.number(one, 3) for one in values) for values in ends)])
    return rows


def _canaries(section: Section) -> Table:
    rows = [["recognizer", "accuracy %", "expected %", "state"]]
    for canary in section.canaries:
        state = "moved" if canary.moved else canary.status
        if canary.reason:
            state = f"{state}: {markdown(canary.reason)}"
        rows.append([markdown(canary.recognizer), percent(canary.accuracy.value), percent(canary.expected), state])
    return rows


def _table(rows: Table) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PUBLISHER = MarkdownPage
