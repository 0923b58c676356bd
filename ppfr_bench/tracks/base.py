"""What a track is: which defenses it accepts, what measures their utility, how they rank, and its columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ppfr_bench import registry
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.records.groups import Groups
from ppfr_bench.records.record import Component
from ppfr_bench.text import printable
from ppfr_bench.tracks.ranking import Standing, harmonic_score, mean_estimate, standings

if TYPE_CHECKING:
    from ppfr_bench.api import Method

__all__ = [
    "Column", "Privacy", "Ranked", "Retention", "Shown", "Standing", "Track", "Utility", "UtilityColumn", "load_track",
]  # fmt: skip


@dataclass(frozen=True)
class Utility:
    """What one recognizer makes of what a defense releases.

    Attributes:
        surrogate: learned defenses may have trained on it.
        seen: this defense reads it or was trained on it.
        adapted: it was itself fine-tuned on what is released.
        weak: it misjudges too many clear pairs, so that what it fails to recognize says little of a defense.
        state: ``ok`` where it gave a number, as of any cell of a row.
        reason: why there are no measurements.
        key: of the record.
        metrics: measurements by name.
        curves, groups: its scores, and numbers of groups of people by what they differ in, where the record notes them.
    """

    recognizer: str
    surrogate: bool = False
    adapted: bool = False
    state: str = "ok"
    reason: str = ""
    key: str = ""
    metrics: Mapping[str, Measurement] = field(default_factory=dict)
    curves: Curves | None = field(default=None, repr=False)
    groups: Mapping[str, Groups] = field(default_factory=dict, repr=False)
    weak: bool = False
    seen: bool = False

    @property
    def kind(self) -> str:
        """``fine-tuned``, ``surrogate``, ``weak`` or nothing: why it is in no row one of those whose mean is kept."""
        role = "fine-tuned" if self.adapted else "surrogate" if self.surrogate else ""
        return ", ".join(filter(None, (role, "weak" if self.weak else "")))

    @property
    def mark(self) -> str:
        """``kind``, or else ``seen``: why it is not in this row."""
        return self.kind or ("seen" if self.seen else "")

    def estimate(self, name: str) -> Estimate:
        """A measured number with its draws; without a value and with the reason where there is none."""
        if (measured := self.metrics.get(name)) is None:
            return Estimate(None, reason=self.reason or f"the record has no {name}", key=self.key)
        found = measured.value
        return Estimate(found.value, found.interval, found.n, found.reason, found.draws, self.key)

    @property
    def retention(self) -> Estimate:
        """Share of the clear accuracy above chance that is left."""
        return self.estimate("retention")


@dataclass(frozen=True)
class Retention:
    """What is kept: the number that the score takes, and another that stands beside it, if any does."""

    estimate: Estimate
    beside: Estimate | None = None


@dataclass(frozen=True)
class Privacy:
    """1 - the largest leakage, in [0, 1], and what set it: the attack, its measure and, if any, its recognizer.

    Where an attack gave no number the estimate has no value, and ``bound`` is the most that the privacy can be.
    ``contenders`` are 1 - each of the largest leakages: any of them may set the privacy in another sample.
    """

    estimate: Estimate
    attack: str = ""
    measure: str = ""
    recognizer: str = ""
    bound: float | None = None
    contenders: tuple[Estimate, ...] = field(default=(), repr=False)

    @property
    def set_by(self) -> str:
        """``unet, lpips`` or ``linkage, rank_1, dlib_resnet``; empty if nothing was measured."""
        return ", ".join(part for part in (self.attack, self.measure, self.recognizer) if part)

    @property
    def figure(self) -> Estimate:
        """For scripts of version 0.1: ``estimate``."""
        return self.estimate


class Ranked(Protocol):
    """What a track is told of a row of its table."""

    @property
    def defense(self) -> str: ...
    @property
    def retention(self) -> Estimate: ...
    @property
    def beside(self) -> Estimate | None: ...
    @property
    def score(self) -> Estimate: ...
    @property
    def scores(self) -> Sequence[Estimate]: ...
    @property
    def privacies(self) -> Mapping[str, Privacy]: ...


@dataclass(frozen=True)
class Shown:
    """A number as it stands in a table.

    Attributes:
        note: small print below it, such as what set it.
        bound: the most that it can be, where it has no value.
        at_least: what is claimed is the lower limit of its interval.
    """

    estimate: Estimate
    note: str = ""
    bound: float | None = None
    at_least: bool = False


@dataclass(frozen=True)
class Column:
    """A number of every row, under a heading.

    Attributes:
        name: in files, such as ``appearance_privacy``.
        title: over the column.
        description: what the number is, in sentences.
        of: the number of a row.
        note: in files, the name of the column of the note is this after the column's own; empty where there is no note.
    """

    name: str
    title: str
    description: str
    of: Callable[[Ranked], Shown]
    note: str = ""


@dataclass(frozen=True)
class UtilityColumn:
    """A number of every recognizer.

    Attributes:
        name: of the measurement.
        title: over the column.
        percent: whether it is shown in per cent.
        file: what of it is in files: nothing, its ``value``, or its ``interval`` too.
    """

    name: str
    title: str
    percent: bool = True
    file: str = ""


def score_column(description: str) -> Column:
    """The score."""
    return Column("score", "Score", description, lambda row: Shown(row.score))


def retention_column(description: str, title: str = "Retention") -> Column:
    """What the score takes of what is kept."""
    return Column("retention", title, description, lambda row: Shown(row.retention))


def beside_column(name: str, title: str, description: str) -> Column:
    """What stands beside it."""
    missing = Estimate(None, reason="not measured")
    return Column(name, title, description, lambda row: Shown(row.beside or missing))


def privacy_column(privacy: str, description: str = "") -> Column:
    """A privacy, with what set it."""

    def of(row: Ranked) -> Shown:
        found = row.privacies[privacy]
        return Shown(found.estimate, found.set_by, found.bound, at_least=found.estimate.interval is not None)

    words = privacy.replace("_", " ")
    said = description or f"1 − the largest leakage over the attacks that set {words} privacy."
    return Column(f"{privacy}_privacy", f"{words.capitalize()} privacy", said, of, "set_by")


class Track(ABC):
    """A kind of release, with tables of its own. A file of the package, or one given with --plugin, ends in it.

    A track defines ``accepts``, and of the rest what differs from images. An instance holds no state.

    Attributes:
        version: raised by hand whenever a number of its tables may change.
        title: as headings name it.
        order: of its tables among those of a data set.
        description: what is released, in one sentence.
        lead: what a page tells, in one sentence.
        priced: whether the price of utility is asked of it: what leaks of a face rebuilt from an embedding alone.
        general: it accepts only what no track accepts that is not general; so a new one takes its defenses from it.
        stages: the module with the stages by which its releases are made and attacked (see design/003); empty: those of
            images and representations.
        utility_scorer: what scores its utility cells.
        privacies: which attacks set, by name, in the order of the columns.
        scored: those of them that the score takes, the least of them; empty: the first.
        asks: what the three sentences at the head of its tables answer.
        kept_title: what retention is, in plain words.
        hidden_titles: what each privacy is, in plain words, by name.
        likeness: measurements of the best reconstruction that are shown beside its floor and ceiling.
        utility_title, utility_description: of the table of the utility cells of a row.
        utility_columns: measurements of every recognizer; ``headline`` names the one in the main table.
    """

    version: ClassVar[int]
    title: ClassVar[str]
    order: ClassVar[int] = 100
    description: ClassVar[str] = ""
    lead: ClassVar[str] = (
        "How much of a face each defense keeps from attackers, and how much black-box recognizers still make of what "
        "it releases."
    )
    priced: ClassVar[bool] = True
    general: ClassVar[bool] = False
    stages: ClassVar[str] = ""
    utility_scorer: ClassVar[str] = "verification"
    privacies: ClassVar[tuple[str, ...]] = ("appearance", "identity")
    scored: ClassVar[tuple[str, ...]] = ()
    asks: ClassVar[tuple[str, str, str]] = ("What is hidden", "From whom", "How surely")
    kept_title: ClassVar[str] = "What recognizers keep"
    hidden_titles: ClassVar[Mapping[str, str]] = {
        "appearance": "Images hidden", "identity": "Identity hidden", "attribute": "Attributes hidden",
    }  # fmt: skip
    likeness: ClassVar[tuple[str, ...]] = ("lpips", "ssim")
    headline: ClassVar[str] = "accuracy"
    headline_title: ClassVar[str] = "Accuracy on released images, %"
    utility_title: ClassVar[str] = "What recognizers make of it"
    utility_description: ClassVar[str] = (
        "Verification, released against released. Re-fitted: the threshold is chosen on released scores; kept: it is "
        "that of clear images."
    )
    utility_columns: ClassVar[tuple[UtilityColumn, ...]] = (
        UtilityColumn("retention", "Retention", percent=False),
        UtilityColumn("accuracy", "Accuracy re-fitted, %", file="interval"),
        UtilityColumn("accuracy_frozen", "Accuracy kept, %", file="value"),
        UtilityColumn("clear_accuracy", "Clear accuracy, %"),
        UtilityColumn("auc", "AUC, %"),
        UtilityColumn("eer", "EER, %"),
        UtilityColumn("fnmr_at_fmr_1e-2", "FNMR at FMR 1%, %"),
        UtilityColumn("fnmr_at_fmr_1e-3", "FNMR at FMR 0.1%, %"),
    )

    def hidden_title(self, privacy: str) -> str:
        """``Images hidden``: a privacy in plain words, or its name where the track has none."""
        return self.hidden_titles.get(privacy) or f"{privacy.replace('_', ' ')} privacy".capitalize()

    @abstractmethod
    def accepts(self, defense: type[Method]) -> bool:
        """Whether what a class of defenses releases belongs here: to this track alone, general ones aside."""

    def utilities(self, recognizers: Sequence[Component], adapted: Component | None) -> Sequence[Component | None]:
        """Which recognizers measure utility; None where it is measured once and by no recognizer.

        Args:
            recognizers: of the suite.
            adapted: the surrogate, to be fine-tuned on what is released; None where the suite has none.
        """
        return list(recognizers)

    def seen(self, defense: type[Method], config: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the recognizers that a defense reads or was optimised against, under these parameters.

        They are those of the property ``seen`` of its class; of one that has none, nothing is told.
        """
        if not isinstance(getattr(defense, "seen", None), property):
            return ()
        made: Any = defense(defense.Config.model_validate(config))
        return tuple(made.seen)

    def accepts_attack(self, name: str, tracks: Sequence[str]) -> bool:
        """Whether an attack whose card names ``tracks`` attacks what this track, of this ``name``, releases."""
        return name in tracks if tracks else not self.stages

    def retention(self, utilities: Sequence[Utility]) -> Retention:
        """What is kept: the mean over the recognizers that it could not train on (over all, if none is unseen).

        A weak recognizer has no part in it.
        """
        return Retention(mean_over_unseen(utilities))

    def kept_by(self, utilities: Sequence[Utility]) -> Sequence[Utility]:
        """Those that ``retention`` is made of: pages lead from it to their records."""
        return unseen(utilities)

    def score(self, retention: Estimate, privacies: Mapping[str, Estimate]) -> Estimate:
        """What rows are ranked by, with its draws: the harmonic mean of retention and the first of ``privacies``.

        It is asked once for each of the leakages that may set one of the privacies in ``scored``, which is given as the
        first of ``privacies``, and a row scores the least of the answers; so it never falls as a privacy rises.
        """
        return harmonic_score(retention, privacies[self.privacies[0]])

    def point(self, row: Ranked) -> tuple[Estimate, Estimate]:
        """The two numbers between which defenses trade, more is better in both: the axes of the plots."""
        return row.retention, row.privacies[self.privacies[0]].estimate

    def axes(self) -> tuple[str, str]:
        """What the two numbers are called."""
        return "retention: what unseen recognizers keep", f"{self.privacies[0]} privacy: what no attack recovers"

    def ranks(self, rows: Sequence[Ranked]) -> list[Standing]:
        """Rank of each of the rows that compete: all complete, each with as many draws of its score as the others."""
        return standings([row.scores for row in rows], [self.point(row) for row in rows])

    def columns(self, privacies: Sequence[str]) -> tuple[Column, ...]:
        """The numbers of a row, in order.

        Args:
            privacies: those of this track, then others that an attack of the table sets.
        """
        return (
            score_column(f"Harmonic mean of retention and {self.privacies[0]} privacy."),
            retention_column("Share of the clear accuracy above chance that unseen recognizers keep."),
            *(privacy_column(name) for name in privacies),
        )


def mean_over_unseen(utilities: Sequence[Utility]) -> Estimate:
    """Mean retention over ``unseen``."""
    if utilities and all(utility.weak for utility in utilities):
        return Estimate(None, reason="only weak recognizers were measured")
    expected = [utility for utility in utilities if not (utility.surrogate or utility.seen or utility.weak)]
    chosen = unseen(utilities)
    if not chosen:
        return Estimate(None, reason=f"no {'unseen ' if expected else ''}recognizer was measured")
    reason = "" if expected else "on the surrogate: no recognizer is unseen"
    if len(chosen) < len(expected):
        reason = f"over {len(chosen)} of {len(expected)} unseen recognizers"
    return mean_estimate([utility.retention for utility in chosen], reason)


def unseen(utilities: Sequence[Utility]) -> list[Utility]:
    """Those of recognizers that the defense could not train on, or of all where there is none; none that is weak.

    Without those that gave no number.
    """
    able = [utility for utility in utilities if not utility.weak]
    chosen = [utility for utility in able if not (utility.surrogate or utility.seen)] or able
    return [utility for utility in chosen if utility.state == "ok"]


def load_track(name: str) -> Track:
    """The track that a plan names.

    Raises:
        UserError: there is none of that name here, or its file does not load.
    """
    known = registry.names("track")
    if registry.current_name("track", name) not in known:
        raise UserError(
            f"the plan has defenses of track '{printable(name)}', which is not among the tracks here",
            f"Give its file:  ppfr-bench leaderboard --plugin FILE.py   ({did_you_mean(name, known)})",
        )
    found: Track = registry.load("track", name)()
    return found
