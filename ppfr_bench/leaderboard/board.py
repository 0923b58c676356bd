"""All that the pages of one suite are made from: its tables, canaries and environments, drawn from the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ppfr_bench.leaderboard.rows import Figure, Row, Training
from ppfr_bench.leaderboard.seeds import Spread, published, split, spread_of
from ppfr_bench.leaderboard.table import SETS, build, figure_of
from ppfr_bench.results import Record, canonical_json
from ppfr_bench.variants import described

CANARY_METRICS = ("auc", "eer", "tar_at_far_1e-2", "tar_at_far_1e-3")
NO_DIALS = ("images", "fingerprint")  # parameters that are digests: of images made elsewhere, of a callable's code


@dataclass(frozen=True)
class Canary:
    """Clear against clear, one recognizer: if it moved from what is expected, the environment moved."""

    dataset: str
    recognizer: str
    surrogate: bool
    status: str
    reason: str
    accuracy: Figure
    expected: float | None
    moved: bool
    others: tuple[tuple[str, Figure], ...]


@dataclass(frozen=True)
class Dial:
    """One plug-in at several values of one parameter, its others alike; ``rows`` in the order of the values.

    ``others``: the parameters in which this dial differs from another of the same plug-in and parameter.
    """

    name: str
    key: str
    rows: tuple[Row, ...]
    others: str = ""

    @property
    def title(self) -> str:
        """``pixelate: block``."""
        return f"{self.name}: {self.key}" + (f" ({self.others})" if self.others else "")

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that there is something between two of them."""
        return all(_is_number(row.config[self.key]) for row in self.rows)

    def value(self, row: Row) -> str:
        """``0.35``, ``8``, ``image``."""
        value = row.config[self.key]
        return f"{value:g}" if _is_number(value) else value if isinstance(value, str) else canonical_json(value)


@dataclass(frozen=True)
class Section:
    """One table: a data set and a track."""

    dataset: str
    track: str
    rows: tuple[Row, ...]
    canaries: tuple[Canary, ...]
    real_people: bool
    revision: str
    seeds: tuple[int, ...]
    spread: Spread  # between seeds, folded into the intervals

    @property
    def recognizers(self) -> list[tuple[str, str]]:
        """Label, and whether it is the surrogate or was fine-tuned; unseen ones first."""
        found = {u.recognizer: u.mark for row in self.rows for u in row.utilities}
        return sorted(found.items(), key=lambda item: (item[1], item[0]))

    @property
    def attacks(self) -> list[tuple[str, str]]:
        """Label and what it measures, appearance first; controls stay in the records."""
        found = {
            (cell.attack, cell.measures)
            for row in self.rows for cell in row.cells if cell.attack and cell.measures != "control"
        }  # fmt: skip
        return sorted(found, key=lambda item: (item[1], item[0]))

    @property
    def shots(self) -> list[int]:
        """How many releases of each target attackers made use of, if any defense was attacked with more than one."""
        found = sorted({cell.shots for row in self.rows for cell in row.cells if cell.state == "ok"})
        return found if len(found) > 1 else []

    def against(self, row: Row, measures: str) -> list[Figure]:
        """Privacy of a row against attackers who hold at most so many releases, for each of ``shots``."""
        return [row.privacy_against(shots, SETS[measures]) for shots in self.shots]

    @cached_property
    def dials(self) -> list[Dial]:
        """Each parameter of which the rows hold two or more settings that gave both retention and a privacy."""
        by_name: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.retention.value is not None and row.appearance.figure.value is not None:
                by_name[row.name].append(row)
        return [dial for name in sorted(by_name) for dial in _dials(name, by_name[name])]

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

    @property
    def controls(self) -> list[str]:
        """Labels of the answers that rebuild nothing."""
        return sorted({control.attack for row in self.rows for control in row.controls})

    @property
    def moved(self) -> list[Canary]:
        return [canary for canary in self.canaries if canary.moved]


@dataclass(frozen=True)
class Board:
    """One suite. ``root`` is the results folder: sample pictures lie beside their records."""

    suite: str
    records: tuple[Record, ...]
    root: Path

    @cached_property
    def rows(self) -> list[Row]:
        return build(self.records)

    @cached_property
    def sections(self) -> list[Section]:
        """One for each table, in order; one without rows for a data set of which only canaries are recorded."""
        canaries = _canaries(self.records)
        found: list[Section] = []
        tables = dict.fromkeys((row.dataset, row.track) for row in self.rows)
        alone = {canary.dataset for canary in canaries} - {dataset for dataset, _ in tables}
        for dataset, track in [*tables, *((dataset, "recognition") for dataset in sorted(alone))]:
            records = [record for record in self.records if record.dataset.label == dataset]
            found.append(
                Section(
                    dataset,
                    track,
                    tuple(row for row in self.rows if (row.dataset, row.track) == (dataset, track)),
                    tuple(canary for canary in canaries if canary.dataset == dataset),
                    any(record.real_people for record in records),
                    min((record.dataset_revision for record in records), default=""),
                    tuple(sorted({record.seed for record in published(records)})),
                    spread_of(_of_track(records, track)),
                )
            )
        return found

    @cached_property
    def environments(self) -> list[tuple[dict[str, str], int]]:
        """Where the records were made, and how many in each place."""
        counts: dict[str, int] = {}
        fields: dict[str, dict[str, str]] = {}
        for record in self.records:
            found = asdict(record.environment)
            key = canonical_json(found)
            counts[key] = counts.get(key, 0) + 1
            fields[key] = {name: "unknown" if value is None else str(value) for name, value in found.items()}
        return [(fields[key], counts[key]) for key in sorted(counts)]


def _dials(name: str, rows: Sequence[Row]) -> list[Dial]:
    found = []
    for key in sorted({key for row in rows for key in row.config} - set(NO_DIALS)):
        groups: dict[str, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            if key in row.config:
                rest = {other: value for other, value in row.config.items() if other != key}
                groups[canonical_json(rest)].setdefault(canonical_json(row.config[key]), row)
        several = [[*group.values()] for _, group in sorted(groups.items()) if len(group) > 1]
        for group in several:
            ordered = tuple(sorted(group, key=lambda row: _in_order(row.config[key])))
            found.append(Dial(name, key, ordered, _apart(group, several, key)))
    return found


def _apart(group: Sequence[Row], groups: Sequence[Sequence[Row]], key: str) -> str:
    """What is special about the other parameters of a group among those of the same plug-in; nothing if it is alone."""
    config = group[0].config
    differing = {
        name: value
        for name, value in config.items()
        if name != key and any(other[0].config.get(name) != value for other in groups)
    }
    return described(differing)


def _in_order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then all else by its text."""
    return (0, float(value), "") if _is_number(value) else (1, 0.0, canonical_json(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_track(records: Iterable[Record], track: str) -> list[Record]:
    return [r for r in records if r.cell != "canary" and r.defense_card.get("track", "recognition") == track]


def _canaries(records: Sequence[Record]) -> list[Canary]:
    found = []
    for record in split([record for record in records if record.cell == "canary"])[0]:
        if record.cell != "canary" or record.recognizer is None:
            continue
        expected = record.log.get("expected_accuracy")
        found.append(
            Canary(
                record.dataset.label, record.recognizer.label, record.surrogate, record.status, record.reason,
                figure_of(record, "accuracy"),
                float(expected) if isinstance(expected, int | float) and not isinstance(expected, bool) else None,
                "canary_moved" in record.flags,
                tuple((name, figure_of(record, name)) for name in CANARY_METRICS),
            )
        )  # fmt: skip
    return sorted(found, key=lambda canary: (canary.dataset, canary.surrogate, canary.recognizer))
