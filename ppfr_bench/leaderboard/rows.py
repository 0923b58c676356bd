"""What a row of the leaderboard holds: every number knows its interval and its record, or why it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ppfr_bench.cards import Guarantee
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.estimate import Estimate, Interval
from ppfr_bench.records.groups import GAP, Groups
from ppfr_bench.tracks.base import Privacy, Utility
from ppfr_bench.variants import again, described, origin

__all__ = [
    "Baseline", "Cell", "CellState", "Estimate", "Faces", "Interval", "Privacy", "Reconstruction", "Row", "Scale",
    "Training", "Utility",
]  # fmt: skip

CellState = Literal["ok", "failed", "skipped", "missing", "unmeasured", "incomparable", "broken"]
Faces = Literal["", "rebuilt", "released", "unrelated"]
Named = Literal["", "released", "rebuilt", "retrained"]


@dataclass(frozen=True)
class Scale:
    """A number between its floor (an answer that ignores the target) and its ceiling (the same attack, no defense)."""

    estimate: Estimate
    floor: Estimate
    ceiling: Estimate
    low_is_alike: bool = False


@dataclass(frozen=True)
class Reconstruction:
    """The best attack that rebuilds faces (looking at the released image is not one), and how like they are."""

    attack: str
    likeness: Mapping[str, Scale]  # Measurement -> scale, as many as the track shows.


@dataclass(frozen=True)
class Baseline:
    """An answer that ignores the target, such as the nearest face at hand: a mark for the reconstructions to beat."""

    attack: str
    likeness: Mapping[str, Estimate]


@dataclass(frozen=True)
class Grouped:
    """A number of each group of people, and under the name ``gap`` the largest less the smallest."""

    title: str
    estimates: Mapping[str, Estimate]
    gap: str
    low_is_worse: bool

    @property
    def groups(self) -> list[str]:
        """Names, without the gap."""
        return [name for name in self.estimates if name != self.gap]

    @property
    def worst(self) -> str:
        """The group of which least is kept, or of which most leaks; empty where they are alike."""
        if self.gap not in self.estimates or not self.estimates[self.gap].value:
            return ""
        sign = 1 if self.low_is_worse else -1
        return min(self.groups, key=lambda name: sign * (self.estimates[name].value or 0.0), default="")


@dataclass(frozen=True)
class Training:
    """How an attack learned: ``steps`` taken of those ``allowed``, and its error on held-out people along the way.

    ``curve`` holds (step, error), of the first answer at step 0; empty where the attack keeps none.
    """

    steps: int
    allowed: int
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def early(self) -> bool:
        """It ended before three quarters of its steps, while its learning rate was still high."""
        return self.steps < 0.75 * self.allowed

    @property
    def error(self) -> tuple[tuple[int, float], ...]:
        """(step, least error so far over that of the first answer): the best weights are the ones that are kept."""
        first = self.curve[0][1] if self.curve else 0.0
        least = [min(value for _, value in self.curve[: i + 1]) for i in range(len(self.curve))]
        return tuple((step, value / first) for (step, _), value in zip(self.curve, least, strict=True)) if first else ()


@dataclass(frozen=True)
class Cell:
    """One cell of a row.

    Attributes:
        scorer: what scored an attack's answer; ``sets``: the privacy that it sets, if any.
        faces: what the faces of the answer are, as in the plan.
        key: of its record; empty where there is none.
        leakage: in [0, 1], by measure.
        others: what is shown of an attack by which nothing leaks, by measurement.
        shots: releases of each target that the attack made use of.
        budget: what leaks after parts of the attack's budget, where it tells.
        groups: what leaks of groups of people, by what they differ in.
        from_embedding: its answer is made of what a recognizer makes of the image, or of a face rebuilt from that.
        sources: labels of the attacks whose reconstructions it starts from.
        named_by: of an attack that names people: the recognizer looks at the ``released`` face or at a ``rebuilt``
            one, or was ``retrained`` on what is released; empty of all others.
        rank_1: the share of people whom it names first, in [0, 1]; without a value where that is not measured.
    """

    kind: str
    attack: str
    recognizer: str
    state: CellState
    reason: str = ""
    key: str = ""
    scorer: str = ""
    sets: str = ""
    faces: Faces = ""
    leakage: tuple[tuple[str, Estimate], ...] = ()
    others: tuple[tuple[str, Estimate], ...] = ()
    flags: tuple[str, ...] = ()
    seconds: float = 0.0
    shots: int = 1
    training: Training | None = None
    budget: BudgetCurve | None = None
    groups: Mapping[str, Groups] = field(default_factory=dict, repr=False)
    from_embedding: bool = False
    sources: tuple[str, ...] = ()
    named_by: Named = ""
    rank_1: Estimate = field(default=Estimate(None, reason="not measured"), repr=False)

    @property
    def title(self) -> str:
        """``unet``, ``linkage / dlib_resnet`` or ``utility / dlib_resnet``."""
        return " / ".join(part for part in (self.attack or self.kind, self.recognizer) if part)

    @property
    def shown(self) -> tuple[tuple[str, Estimate], ...]:
        """What pages show of an attack: what leaks or, where nothing does, its other numbers."""
        return self.leakage or self.others

    @property
    def worst(self) -> Estimate:
        """The largest leakage, or why there is none."""
        found = [estimate for _, estimate in self.leakage if estimate.value is not None]
        if self.state != "ok" or not found:
            return Estimate(None, reason=self.reason or "no leakage was measured", key=self.key)
        return max(found, key=lambda estimate: estimate.value if estimate.value is not None else -1.0)

    @property
    def order(self) -> tuple[bool, float]:
        """What recovers most comes first: by its leakage, then, where nothing leaks, by its largest other number."""
        if self.worst.value is not None:
            return False, -self.worst.value
        known = [estimate.value for _, estimate in self.others if self.state == "ok" and estimate.value is not None]
        return True, -max(known, default=-1.0)


@dataclass(frozen=True)
class Row:
    """A defense on one data set, in one track of one suite.

    Attributes:
        rank: 1 + the number of defenses that score higher; None for controls and incomplete rows.
        rank_interval: from 1 + those that are significantly better to all less those that are significantly worse.
        unranked: why there is no rank.
        refuted: which published attack takes a privacy that is measured here; empty if none is known to.
        claim: ``claimed`` by its authors and not yet measured again, or ``refuted`` when it was; else empty.
        control: an end of the scale; ``unprotected``: the one where nothing is protected.
        score: what rows are ranked by, the least of ``scores``: one for each leakage that may set the first privacy,
            with its draws. The same draw of people stands at the same place in every row.
        retention: what the score takes of what is kept; ``beside``: what stands beside it, if anything does.
        privacies: by name, those of the track first.
        baselines: what answers that ignore the target score.
        front: no complete defense beats it in both numbers that the track trades between.
        images_per_second: the highest that a record tells, that of ``speed_key``.
        measured, expected: utility and attack cells that gave a number, and all that the table has; without those of an
            attack that is broken undefended, which says nothing of any defense.
        flags: name and the cells that raised it.
    """

    suite: str
    dataset: str
    track: str
    defense: str
    name: str
    version: int
    config: dict[str, Any]
    card: dict[str, Any]
    guarantee: Guarantee | None
    control: bool
    unprotected: bool
    seen: tuple[str, ...]
    real_people: bool
    score: Estimate
    scores: tuple[Estimate, ...] = field(repr=False)
    retention: Estimate
    beside: Estimate | None
    privacies: dict[str, Privacy]
    utilities: tuple[Utility, ...]
    reconstruction: Reconstruction | None
    baselines: tuple[Baseline, ...]
    images_per_second: float | None
    seconds: float
    flags: tuple[tuple[str, tuple[str, ...]], ...]
    cells: tuple[Cell, ...]
    measured: int
    expected: int
    rank: int | None = None
    rank_interval: tuple[int, int] | None = None
    unranked: str = ""
    refuted: str = ""
    claim: Literal["", "claimed", "refuted"] = ""
    front: bool = False
    speed_key: str = ""
    point: tuple[Estimate, Estimate] = field(default=(Estimate(None, reason="unknown"),) * 2, repr=False)

    @property
    def setting(self) -> str:
        """``pixelate with block = 8`` where ``--set`` or ``--sweep`` made the label of that; else nothing."""
        found = origin(self.defense, self.name, self.config)
        return f"{found[0]} with {described(found[1])}" if found else ""

    @property
    def again(self) -> str:
        """The options of ``ppfr-bench run`` that choose this defense."""
        return again("defense", self.defense, self.name, self.config)

    @property
    def measured_again(self) -> str:
        """The command that measures the row anew; one of real people needs the folder where their photos lie."""
        root = " --dataset-root FOLDER" if self.real_people else ""
        if not self.live:
            return f"ppfr-bench run {self.suite} --precomputed FOLDER{root} --rerun all"
        if self.setting:  # No entry of the suite has its label.
            return f"ppfr-bench run {self.suite} {self.again}{root} --rerun all"
        return f"ppfr-bench score {self.defense} --suite {self.suite}{root} --anew"

    @property
    def optimised_against(self) -> str:
        """``seen: faceplugin; left out: mobilefacenet``, of the recognizers of its cells; empty where none is seen."""
        if not self.seen:
            return ""
        others = dict.fromkeys(cell.recognizer for cell in self.cells if cell.recognizer not in ("", *self.seen))
        return f"seen: {', '.join(self.seen)}; left out: {', '.join(others) or 'none'}"

    def role_of(self, recognizer: str) -> str:
        """``seen`` or ``left out``: whether it reads or was trained with that recognizer; empty if it has seen none."""
        if not self.seen or not recognizer:
            return ""
        return "seen" if recognizer in self.seen else "left out"

    @property
    def claim_title(self) -> str:
        """What pages say of a row that is a claim; empty of one that is none."""
        return {"": "", "claimed": "claimed by the authors", "refuted": "claim refuted"}[self.claim]

    @property
    def promise(self) -> str:
        """``epsilon 1.5 per 16 pixels``, or nothing."""
        found = self.guarantee
        if found is None:
            return ""
        delta = f", delta {found.delta:g}" if found.delta else ""
        what = f"{found.pixels} pixels" if found.per == "pixels" else found.per
        return f"epsilon {found.epsilon:g}{delta} per {what}"

    @property
    def by_group(self) -> dict[str, list[Grouped]]:
        """What recognizers keep of each group of people, and what leaks of it where that sets a privacy.

        By what the groups differ in. Weak recognizers are left out.
        """
        found: dict[str, list[Grouped]] = {}

        def add(title: str, measure: str, groups: Mapping[str, Groups], key: str, *, low_is_worse: bool) -> None:
            for of, numbers in groups.items():
                if estimates := numbers.estimates(measure, key):
                    found.setdefault(of, []).append(Grouped(title, estimates, GAP, low_is_worse))

        for use in (one for one in self.utilities if not one.weak):
            add(f"retention, {use.recognizer}", "retention", use.groups, use.key, low_is_worse=True)
        for name, privacy in self.privacies.items():
            for cell in self.cells:
                if (cell.attack, cell.recognizer) == (privacy.attack, privacy.recognizer):
                    title = f"{name.replace('_', ' ')} leakage: {privacy.set_by}"
                    add(title, privacy.measure, cell.groups, cell.key, low_is_worse=False)
        return found

    @property
    def live(self) -> bool:
        """Whether it protects any image, so that rows of its plug-in are settings of one method."""
        return self.card.get("live") is not False

    @property
    def complete(self) -> bool:
        """Every cell of the table gave a number for this defense."""
        return self.measured == self.expected

    @property
    def completeness(self) -> str:
        """``complete`` or ``incomplete, n of m``."""
        return "complete" if self.complete else f"incomplete, {self.measured} of {self.expected}"

    @property
    def drawable(self) -> bool:
        """Whether it has both numbers of a point in the plots."""
        return all(estimate.value is not None for estimate in self.point)

    def cells_against(self, shots: int) -> tuple[Cell, ...]:
        """Those of attacks that hold at most so many releases of each target, and those without a number."""
        return tuple(cell for cell in self.cells if cell.shots <= shots or cell.state != "ok")

    @property
    def gaps(self) -> tuple[Cell, ...]:
        """The cells without a number, each with its reason."""
        return tuple(cell for cell in self.cells if cell.state != "ok")

    @property
    def title(self) -> str:
        """The card's title, or the label."""
        title = self.card.get("title")
        return title if isinstance(title, str) and title else self.defense

    @property
    def plain(self) -> str:
        """What the defense does, in a sentence or two for people outside the field; empty where its card is silent."""
        said = self.card.get("plain")
        return said if isinstance(said, str) else ""

    @property
    def appearance(self) -> Privacy:
        """For scripts of version 0.1: ``privacies["appearance"]``."""
        return self.privacies["appearance"]

    @property
    def identity(self) -> Privacy:
        """For scripts of version 0.1: ``privacies["identity"]``."""
        return self.privacies["identity"]
