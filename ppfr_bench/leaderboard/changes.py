"""What has changed since a board was measured: its plan, held against the plug-ins and the suite of today.

Versions are compared, and the parameters that a suite writes out. That needs no data set and runs no plug-in. Not seen
are a scorer's own version, which no plan holds, a default that was changed under the same version, and other settings
of the protocol or the data set. All of these are in the keys of records. ``ppfr-bench run SUITE --dry-run`` makes the
keys of today, for which it opens the data set and loads the plug-ins, and says which records are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ppfr_bench import registry
from ppfr_bench.card_reader import described
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard.text import counted
from ppfr_bench.leaderboard.titles import entry_titles
from ppfr_bench.metrics import metric_info
from ppfr_bench.records.plan_file import PlanFile, PlannedTable
from ppfr_bench.records.record import Component
from ppfr_bench.suites import load_suite, suite_names

__all__ = ["Changes", "changes_of"]


@dataclass(frozen=True)
class Changes:
    """What differs between a board and the code of today; false where nothing does.

    Attributes:
        suite: of the board; ``real_people``: whether its photos lie in a folder of the reader.
        measured: how many attacks the board has, without the answers that ignore the target.
        attacks: labels of those whose plug-in has another version today.
        others: the same of all else, with its kind: ``defense dp_snow``, ``measure d_sys``.
        set_otherwise: labels of attacks that the suite of today sets other parameters for.
        planned: how many attacks the suite has today; ``not_run``: labels of those that the board lacks. Of a suite
            that does not ship neither is known. ``titles``: of those, by label.
        gone: what is not here, with its kind, and so cannot be compared.
    """

    suite: str
    real_people: bool = False
    measured: int = 0
    attacks: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    set_otherwise: tuple[str, ...] = ()
    planned: int = 0
    not_run: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.attacks, self.others, self.set_otherwise, self.not_run, self.gone))

    @property
    def command(self) -> str:
        """What measures the board anew; empty where nothing has changed that is here."""
        if not (self.attacks or self.others or self.set_otherwise):
            return ""
        return f"ppfr-bench run {self.suite}{' --dataset-root FOLDER' if self.real_people else ''}"

    @property
    def head(self) -> str:
        """``Measured with earlier attacks: 7 of 10 attacks have changed since``; empty where none has."""
        if not self.attacks:
            return ""
        count = f"{len(self.attacks)} of {counted(self.measured, 'attack')}"
        return f"Measured with earlier attacks: {count} {'has' if len(self.attacks) == 1 else 'have'} changed since"

    def said(self, most: int = 0) -> str:
        """The same with names, and all else that has changed, in sentences; empty where nothing has.

        Args:
            most: so many names of a kind are listed, where there are more; 0: all.
        """
        head = [f"{self.head} ({_names(self.attacks, most)})."] if self.attacks else []
        parts = (
            ("Changed as well" if self.attacks else "Changed since it was measured", self.others),
            ("With other parameters in the suite of today", self.set_otherwise),
            (f"Of the {counted(self.planned, 'attack')} of the suite, not run", self.not_run),
            ("Not here, and so not compared", self.gone),
        )  # fmt: skip
        return " ".join([*head, *(f"{what}: {_names(found, most)}." for what, found in parts if found)])

    @property
    def line(self) -> str:
        """All of it for a terminal: names, and what to type."""
        return " ".join(filter(None, (self.said(), f"Measure anew: {self.command}" if self.command else "")))


def changes_of(plan: PlanFile) -> Changes:
    """What has changed since the cells of a plan were measured."""
    tables = list(plan.tables.values())
    of_today = load_suite(plan.suite).attack if plan.suite in suite_names() else ()
    entries = {entry.label: entry.params for entry in of_today}
    attacks = {label: one for table in tables for label, one in table.attacks.items()}
    baselines = {label for label, one in attacks.items() if one.faces == "unrelated"}
    changed = {label for label, one in attacks.items() if _has_changed("attack", one.component)}
    not_run = entries.keys() - attacks.keys()
    differing = {
        label for label, one in attacks.items()
        if any(one.component.config.get(key, value) != value for key, value in entries.get(label, {}).items())
    }  # fmt: skip
    return Changes(
        suite=plan.suite,
        real_people=any(table.real_people for table in tables),
        measured=len(attacks.keys() - baselines),
        attacks=_sorted(changed - baselines),
        others=_sorted({*(f"baseline {label}" for label in changed & baselines), *_others(tables)}),
        set_otherwise=_sorted(differing - changed),
        planned=len(entries),
        not_run=_sorted(not_run),
        gone=_sorted(_gone(tables)),
        titles={label: title for label, title in entry_titles(of_today).items() if label in not_run},
    )


def _others(tables: Iterable[PlannedTable]) -> Iterator[str]:
    """What has changed of all but the attacks."""
    for table in tables:
        if _has_changed("dataset", table.dataset):
            yield f"data set {table.dataset.label}"
        for label, defense in table.defenses.items():
            if _has_changed("defense", defense.component):
                yield f"defense {label}"
        for label, recognizer in table.recognizers.items():
            if _has_changed("recognizer", recognizer.component):
                yield f"recognizer {label}"
        for name, version in table.metrics.items():
            if (today := _metric_version(name)) is not None and today != version:
                yield f"measure {name}"


def _gone(tables: Iterable[PlannedTable]) -> Iterator[str]:
    """What the board was measured with, and is not here. A recognizer that was brought along never is."""
    for table in tables:
        for label, attack in table.attacks.items():
            if not _is_here("attack", attack.component):
                yield f"attack {label}"
        for label, defense in table.defenses.items():
            if not _is_here("defense", defense.component):
                yield f"defense {label}"
        for name in table.metrics:
            if _metric_version(name) is None:
                yield f"measure {name}"


def _is_here(kind: registry.Kind, component: Component) -> bool:
    return registry.current_name(kind, component.name) in registry.names(kind)


def _has_changed(kind: registry.Kind, component: Component) -> bool:
    """Whether its plug-in has another version today; not of one that is not here, or does not write it out."""
    today = described(kind, component.name).get("version")
    return today is not None and today != component.version


def _metric_version(name: str) -> int | None:
    """The version of a metric today; None of one that is not here."""
    try:
        return metric_info(name).version
    except UserError:
        return None


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _names(found: tuple[str, ...], most: int) -> str:
    """``a; b``, or ``a; b; and 3 others``."""
    if not most or len(found) <= most + 1:
        return "; ".join(found)
    return f"{'; '.join(found[:most])}; and {len(found) - most} others"
