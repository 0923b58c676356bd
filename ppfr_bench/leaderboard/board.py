"""All that the pages of one suite are made from: its tables, canaries and environments, drawn from records and plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ppfr_bench.leaderboard.canaries import Canary, canaries_of
from ppfr_bench.leaderboard.changes import Changes, changes_of
from ppfr_bench.leaderboard.comparable import foreign_note, foreign_records, planned_records, tables
from ppfr_bench.leaderboard.dials import Dial, dials_of
from ppfr_bench.leaderboard.price import Price, avoidable_column, prices_of
from ppfr_bench.leaderboard.privacy import privacy_of
from ppfr_bench.leaderboard.rows import Estimate, Privacy, Row, Training
from ppfr_bench.leaderboard.seeds import Spread, published, spread_of
from ppfr_bench.leaderboard.table import build, rows_by_seed
from ppfr_bench.leaderboard.text import at_most, counted, measure
from ppfr_bench.leaderboard.titles import attack_titles, in_words
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Record
from ppfr_bench.suites import load_suite, suite_names
from ppfr_bench.tracks.base import Column, Track

if TYPE_CHECKING:
    from ppfr_bench.records.store import ResultStore

TARGETS = (0.25, 0.5, 0.75)  # Of the first privacy of a track: what defenses keep is compared among those above one.


class AttackColumn(NamedTuple):
    """An attack of a table: what scores its answer, and the privacy that it sets, if any."""

    label: str
    scorer: str
    sets: str


class SeedLine(NamedTuple):
    """The numbers of a row under one seed, by title: each, and whether it is the worst of all seeds."""

    seed: int
    numbers: Mapping[str, tuple[Estimate, bool]]
    row: Row


@dataclass(frozen=True)
class Section:
    """One table: a data set and a track, or a data set of which only canaries are planned.

    Attributes:
        rules: the track; None where there is none.
        privacies: names of those of its rows.
        spread: between seeds, folded into the intervals.
        other_seeds: the rows that were measured with further seeds, by label and seed.
        unmeasured: titles of the defenses that other suites of the same results measure in this track and on this data
            set, and this one does not.
        prices: of utility, by privacy, of those of which it was measured: in whichever table of the data set has the
            row where nothing is protected.
        attack_titles: by label, those of the board.
        changes: what has changed since the board was measured.
    """

    suite: str
    dataset: str
    track: str
    rules: Track | None
    rows: tuple[Row, ...]
    privacies: tuple[str, ...]
    canaries: tuple[Canary, ...]
    real_people: bool
    revision: str
    seeds: tuple[int, ...]
    spread: Spread = field(default_factory=Spread)
    other_seeds: Mapping[str, Mapping[int, Row]] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    unmeasured: tuple[str, ...] = ()
    attack_titles: Mapping[str, str] = field(default_factory=dict)
    changes: Changes = field(default_factory=lambda: Changes(""))

    @property
    def counted(self) -> str:
        """``9 defenses, 2 controls, 11 attacks (10 set a privacy), 3 recognizers``."""
        controls, setting = sum(row.control for row in self.rows), sum(bool(attack.sets) for attack in self.attacks)
        attacks = counted(len(self.attacks), "attack")
        parts = [
            counted(len(self.rows) - controls, "defense"), counted(controls, "control") if controls else "",
            attacks if setting == len(self.attacks) else f"{attacks} ({setting} of them set a privacy)",
            counted(len(self.recognizers), "recognizer"),
        ]  # fmt: skip
        return ", ".join(filter(None, parts))

    def number(self, row: Row) -> int:
        """Of a row, from 1, in reading order: what stands beside its point in the plots."""
        return self._numbers[row.defense]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {row.defense: at for at, row in enumerate(self.rows, 1)}

    @property
    def by_seed(self) -> list[tuple[Row, list[SeedLine]]]:
        """The rows that were measured with further seeds, and a line of numbers for each seed, the published first."""
        found = []
        for row in self.rows:
            if others := self.other_seeds.get(row.defense):
                rows = {self.spread.seeds[0]: row} | dict(others)
                numbers = {seed: self._numbers_of(one) for seed, one in rows.items()}
                worst = {
                    title: min((v for n in numbers.values() if (v := n[title].value) is not None), default=None)
                    for title in numbers[self.spread.seeds[0]]
                }
                lines = [
                    SeedLine(
                        seed,
                        {t: (one, one.value is not None and one.value == worst[t]) for t, one in n.items()},
                        rows[seed],
                    )
                    for seed, n in numbers.items()
                ]
                found.append((row, lines))
        return found

    def _numbers_of(self, row: Row) -> dict[str, Estimate]:
        """Retention and every privacy of a row, with what has set it."""
        found = {"retention": row.retention}
        for name in self.privacies:
            privacy, bounded = row.privacies[name], _bounded(row.privacies[name])
            set_by = f"set by {in_words(privacy.set_by, self.attack_titles)}" if privacy.attack else ""
            reason = "; ".join(filter(None, (bounded.reason, set_by)))
            found[f"{name.replace('_', ' ')} privacy"] = replace(bounded, reason=reason)
        return found

    @property
    def track_title(self) -> str:
        """``image track``; empty where there is none."""
        return self.rules.title if self.rules is not None else ""

    @property
    def heading(self) -> str:
        """``synthetic, image track``."""
        return ", ".join(part for part in (self.dataset, self.track_title) if part)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The numbers of each row that the track declares, and what leaks beyond the price of utility."""
        if self.rules is None:
            return ()
        price = self.prices.get(self.rules.privacies[0])
        return (*self.rules.columns(self.privacies), *([avoidable_column(price)] if price is not None else []))

    @property
    def recognizers(self) -> list[tuple[str, str]]:
        """Label, and whether it is the surrogate or was fine-tuned; unseen ones first."""
        found = {u.recognizer: u.kind for row in self.rows for u in row.utilities}
        return sorted(found.items(), key=lambda item: (item[1], item[0]))

    @cached_property
    def attacks(self) -> list[AttackColumn]:
        """In reading order; baselines that ignore the target have a table of their own."""
        return list(dict.fromkeys(
            AttackColumn(cell.attack, cell.scorer, cell.sets)
            for row in self.rows for cell in row.cells if cell.attack and cell.faces != "unrelated"
        ))  # fmt: skip

    @property
    def decoded(self) -> list[str]:
        """Labels of the attacks that rebuild faces from embeddings alone."""
        found = (c.attack for row in self.rows for c in row.cells if c.from_embedding and c.faces == "rebuilt")
        return list(dict.fromkeys(found))

    @property
    def setting_none(self) -> list[tuple[str, tuple[str, ...]]]:
        """Scorers whose attacks set no privacy, each with the measurements that are shown of them."""
        shown: dict[str, dict[str, None]] = {}
        for row in self.rows:
            for cell in row.cells:
                if cell.attack and not cell.sets and cell.faces != "unrelated":
                    shown.setdefault(cell.scorer, {}).update(dict.fromkeys(name for name, _ in cell.shown))
        return [(scorer, tuple(names)) for scorer, names in sorted(shown.items())]

    @cached_property
    def shots(self) -> list[int]:
        """How many releases of each target attackers made use of, if any defense was attacked with more than one."""
        found = sorted({cell.shots for row in self.rows for cell in row.cells if cell.state == "ok"})
        return found if len(found) > 1 else []

    def against(self, row: Row, privacy: str) -> list[Estimate]:
        """A privacy of a row against attackers who hold at most so many releases, for each of ``shots``."""
        asked = row.defense, privacy
        if asked not in self._along:
            self._along[asked] = [_bounded(privacy_of(privacy, row.cells_against(shots))) for shots in self.shots]
        return self._along[asked]

    @cached_property
    def _along(self) -> dict[tuple[str, str], list[Estimate]]:
        """Those of ``against`` that were asked for: tables and plots ask for the same."""
        return {}

    @cached_property
    def dials(self) -> list[Dial]:
        """Each parameter of which the rows hold two or more settings that can be drawn."""
        return dials_of(self.rows)

    @cached_property
    def longest(self) -> str:
        """The attack that trains longest of those that keep a curve on what is no control; empty if none does."""
        found = {
            cell.attack: cell.training.allowed
            for row in self.rows for cell in row.cells
            if not row.control and cell.training is not None and cell.training.error
        }  # fmt: skip
        return min(found, key=lambda attack: (-found[attack], attack), default="")

    @cached_property
    def trainings(self) -> list[tuple[Row, Training]]:
        """How ``longest`` learned against each defense but the controls: what they release needs no learning."""
        return [
            (row, cell.training)
            for row in self.rows
            for cell in row.cells
            if not row.control and cell.attack == self.longest and cell.training is not None and cell.training.error
        ]

    @cached_property
    def budgets(self) -> dict[str, list[tuple[Row, BudgetCurve]]]:
        """By privacy, what leaks after parts of the budget of the attack that sets it, for each row but the controls.

        Each curve is of one measure: that which sets the privacy, or of those of which the attack tells the one that
        leaks most. A row is left out where that attack does not tell; so is a privacy of which none does.
        """
        found: dict[str, list[tuple[Row, BudgetCurve]]] = {}
        for row in (one for one in self.rows if not one.control):
            for name, privacy in row.privacies.items():
                set_by = (privacy.attack, privacy.recognizer)
                told = (one.budget for one in row.cells if one.budget and (one.attack, one.recognizer) == set_by)
                if curves := [curve for one in told if (curve := one.of_measure(privacy.measure))]:
                    found.setdefault(name, []).append((row, curves[0]))
        return found

    @cached_property
    def curves(self) -> dict[str, list[tuple[Row, Curves]]]:
        """By recognizer that nobody trained on, the error trade-offs of the rows whose records hold one.

        Where each was trained on, as those that were fine-tuned are, all of them. A curve of one point is left out:
        where each pair has the same score, all are accepted or none.
        """
        labels = [label for label, mark in self.recognizers if not mark] or [label for label, _ in self.recognizers]
        found: dict[str, list[tuple[Row, Curves]]] = {}
        for label in labels:
            for row in self.rows:
                for use in row.utilities:
                    if use.recognizer == label and use.curves is not None and len(set(use.curves.det)) > 1:
                        found.setdefault(label, []).append((row, use.curves))
        return found

    @property
    def grouped(self) -> dict[str, list[Row]]:
        """The rows that have numbers of groups of people, by what the groups differ in."""
        kinds = sorted({of for row in self.rows for of in row.by_group}, reverse=True)
        return {of: [row for row in self.rows if of in row.by_group] for of in kinds}

    @property
    def baselines(self) -> list[str]:
        """Labels of the answers that ignore the target."""
        return sorted({baseline.attack for row in self.rows for baseline in row.baselines})

    @property
    def likeness(self) -> tuple[str, ...]:
        """Measurements that are shown of the best reconstruction."""
        return self.rules.likeness if self.rules is not None else ()

    def likeness_title(self, name: str) -> str:
        """``LPIPS, low is alike``."""
        scales = (row.reconstruction.likeness[name] for row in self.rows if row.reconstruction is not None)
        low_is_alike = any(scale.low_is_alike for scale in scales)
        return f"{measure(name)}, {'low' if low_is_alike else 'high'} is alike"

    @property
    def targets(self) -> list[tuple[float, list[Row]]]:
        """For each privacy of some, the ranked rows whose first privacy is at least that, by what they keep."""
        if self.rules is None:
            return []
        first = self.rules.privacies[0]
        ranked = [row for row in self.rows if row.rank is not None and row.privacies[first].estimate.interval]
        found = []
        for target in TARGETS:
            reaching = [row for row in ranked if (row.privacies[first].estimate.interval or (0.0,))[0] >= target]
            found.append((target, sorted(reaching, key=lambda row: (-(row.retention.value or 0.0), row.defense))))
        return found

    @property
    def unranking(self) -> str:
        """What the cells without a number mean for the ranks of their rows."""
        if any(not row.complete for row in self.rows):
            return "A row that is incomplete has no rank: what was not measured is not privacy."
        return "Each is of an attack that recovers nothing even without a defense; no row loses its rank by it."

    @property
    def moved(self) -> list[Canary]:
        """The canaries that left what is expected."""
        return [canary for canary in self.canaries if canary.moved]


@dataclass(frozen=True)
class Board:
    """One suite.

    Attributes:
        records: of the suite, foreign ones among them.
        plan: which of them make its tables.
        store: where the sample faces of the records lie; without it none are shown.
        claims: which rows are claimed by their authors, by data set and label.
        record_files: by the key of a record, what leads from the folder of the pages to its file; empty where none lies
            beside them.
        loaded: boards of the same results that are at hand already, by suite.
    """

    suite: str
    records: tuple[Record, ...]
    plan: PlanFile
    store: ResultStore | None = None
    claims: Mapping[str, Claim] = field(default_factory=dict)
    record_files: Mapping[str, str] = field(default_factory=dict, repr=False)
    loaded: Mapping[str, Board] = field(default_factory=dict, repr=False, compare=False)

    def strip(self, record: Record) -> bytes | None:
        """JPEG of the sample faces of a record, side by side, 112 pixels high; None where there are none."""
        if self.store is None:
            return None
        if record.key not in self._strips:
            self._strips[record.key] = self.store.strip(record)
        return self._strips[record.key]

    @cached_property
    def _strips(self) -> dict[str, bytes | None]:
        """Those that were asked for: three publishers show the same."""
        return {}

    @cached_property
    def rows(self) -> list[Row]:
        """Of all tables, in reading order."""
        return build(self.records, self.plan, self.claims)

    @cached_property
    def foreign(self) -> list[Record]:
        """The records that are of no cell of the plan."""
        return foreign_records(self.records, self.plan)

    @cached_property
    def attack_titles(self) -> dict[str, str]:
        """The title of each attack, by label."""
        return attack_titles(self.plan)

    @cached_property
    def attack_plugins(self) -> dict[str, str]:
        """The plug-in of each attack, by label."""
        tables = self.plan.tables.values()
        return {label: planned.component.name for table in tables for label, planned in table.attacks.items()}

    @cached_property
    def changes(self) -> Changes:
        """What has changed since it was measured."""
        return changes_of(self.plan)

    @cached_property
    def warning(self) -> str:
        """What stands above the numbers of a suite that is there for tests; empty of any other."""
        if self.suite not in suite_names() or not load_suite(self.suite).for_tests:
            return ""
        return f"{self.suite} is a suite for tests, on a handful of faces: its numbers and ranks mean nothing."

    @property
    def before_numbers(self) -> str:
        """What is to be read before the numbers: ``warning``, and what has changed since they were measured."""
        return " ".join(filter(None, (self.warning, self.changes.line)))

    @property
    def note(self) -> str:
        """What is said of the foreign records; empty if there is none."""
        return foreign_note(self.foreign, self.suite)

    @cached_property
    def planned(self) -> dict[str, list[Record]]:
        """The records of each data set's cells, under the labels of the plan."""
        return {label: planned_records(self.records, self.plan.tables[label]) for label in sorted(self.plan.tables)}

    @property
    def count(self) -> int:
        """How many records the pages are made from."""
        return sum(map(len, self.planned.values()))

    @cached_property
    def sections(self) -> list[Section]:
        """One for each table, in order; one without rows for a data set of which only canaries are planned."""
        found = [
            self._section(
                table.dataset, table.track, table.rules, table.privacies,
                spread_of(
                    [
                        record for record in self.planned[table.dataset]
                        if record.cell != "canary" and record.defense.label in table.defenses
                    ],
                    table.planned.seed,
                ),
                rows_by_seed(self.records, table),
            )
            for table in tables(self.plan)
        ]  # fmt: skip
        there = {section.dataset for section in found}
        alone = [label for label, records in self.planned.items() if records and label not in there]
        return found + [self._section(label, "", None, (), Spread()) for label in alone]

    def _section(
        self, dataset: str, track: str, rules: Track | None, privacies: tuple[str, ...], spread: Spread,
        other_seeds: Mapping[str, Mapping[int, Row]] | None = None,
    ) -> Section:  # fmt: skip
        planned, records = self.plan.tables[dataset], self.planned[dataset]
        return Section(
            self.suite, dataset, track, rules,
            tuple(row for row in self.rows if (row.dataset, row.track) == (dataset, track)), privacies,
            tuple(canaries_of(records, planned.seed)),
            planned.real_people or any(record.real_people for record in records), planned.revision,
            tuple(sorted({record.seed for record in published(records, planned.seed)})), spread,
            other_seeds or {}, prices_of([row for row in self.rows if row.dataset == dataset], privacies),
            self._elsewhere(dataset, track), self.attack_titles, self.changes,
        )  # fmt: skip

    def _elsewhere(self, dataset: str, track: str) -> tuple[str, ...]:
        """``LABEL (in SUITE)`` of the defenses that only other suites measure, as far as their plans are at hand."""
        here = self.plan.tables[dataset].defenses
        found: dict[str, str] = {}
        for suite, plan in self.siblings.items():
            there = plan.tables.get(dataset)
            for label, planned in (there.defenses if there is not None else {}).items():
                if planned.track == track and not planned.control and label not in here:
                    found.setdefault(label, suite)
        return tuple(f"{label} (in {found[label]})" for label in sorted(found))

    @cached_property
    def siblings(self) -> dict[str, PlanFile]:
        """The plans of the other suites of the same results, by name."""
        if self.store is None:
            return {}
        plans = {suite: self.store.plan(suite) for suite in self.store.suites() if suite != self.suite}
        return {suite: plan for suite, plan in sorted(plans.items()) if plan is not None}

    @cached_property
    def together(self) -> dict[str, Board]:
        """This board and those of the other suites of the same results, by name."""
        found = {self.suite: self}
        for suite, plan in self.siblings.items():
            if suite in self.loaded:
                found[suite] = self.loaded[suite]
            elif self.store is not None:
                records = tuple(self.store.records(suite))
                found[suite] = Board(suite, records, plan, self.store, self.store.claims(suite))
        return found

    @property
    def reading(self) -> list[tuple[str, str]]:
        """What each number of the tables is, by its title; with the track's name where tracks differ."""
        said: dict[str, dict[str, list[str]]] = {}
        for section in self.sections:
            for column in section.columns:
                said.setdefault(column.title, {}).setdefault(column.description, []).append(section.track_title)
        return [
            (title if len(found) == 1 else f"{title}, {tracks[0]}", description)
            for title, found in said.items() for description, tracks in found.items()
        ]  # fmt: skip

    @cached_property
    def environments(self) -> list[tuple[dict[str, str], int]]:
        """Where the records were made, and how many in each place."""
        counts: dict[str, int] = {}
        fields: dict[str, dict[str, str]] = {}
        for record in (record for records in self.planned.values() for record in records):
            found = asdict(record.environment)
            key = canonical_json(found)
            counts[key] = counts.get(key, 0) + 1
            fields[key] = {name: "unknown" if value is None else str(value) for name, value in found.items()}
        return [(fields[key], counts[key]) for key in sorted(counts)]


def _bounded(found: Privacy) -> Estimate:
    """A privacy, or the most that it can be where some attacks gave no number."""
    if found.bound is None:
        return found.estimate
    bound = float(at_most(found.bound))  # Pages print two digits of it, which are rounded to the nearest.
    return Estimate(bound, None, found.estimate.n, "at most: some attacks gave no number", key=found.estimate.key)
