"""What a row of the leaderboard holds: every number knows its interval and its record, or why it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ppfr_bench.cards import Guarantee
from ppfr_bench.variants import again, described, origin

Interval = tuple[float, float]
CellState = Literal["ok", "failed", "skipped", "missing", "unmeasured", "incomparable"]


@dataclass(frozen=True)
class Figure:
    """One number, or None with the reason; ``path`` is that of its record below the results folder.

    A number with a ``reason`` holds with that reservation.
    """

    value: float | None
    interval: Interval | None = None
    n: int = 0
    reason: str = ""
    path: str = ""


@dataclass(frozen=True)
class Privacy:
    """1 - the largest leakage, in [0, 1], and what set it: the attack, its measure and, if any, its recognizer.

    Where an attack gave no number the figure is None and ``bound`` is the most that the privacy can be.
    """

    figure: Figure
    attack: str = ""
    measure: str = ""
    recognizer: str = ""
    bound: float | None = None

    @property
    def set_by(self) -> str:
        """``unet, lpips`` or ``linkage, rank_1, dlib_resnet``; empty if nothing was measured."""
        return ", ".join(part for part in (self.attack, self.measure, self.recognizer) if part)


@dataclass(frozen=True)
class Scale:
    """A figure between its floor (an answer without looking) and its ceiling (the same attack, no defense)."""

    figure: Figure
    blind: float | None
    ceiling: float | None


@dataclass(frozen=True)
class Reconstruction:
    """The best attack that rebuilds faces (looking at the released image is not one), and how like they are."""

    attack: str
    lpips: Scale
    ssim: Scale
    samples: str = ""  # path of the picture below the results folder


@dataclass(frozen=True)
class Control:
    """An answer that rebuilds nothing, such as the nearest face at hand: a mark for the reconstructions to beat."""

    attack: str
    lpips: Figure
    ssim: Figure


@dataclass(frozen=True)
class Utility:
    """One recognizer on protected images.

    ``surrogate``: learned defenses may have trained on it; ``adapted``: it was itself fine-tuned on what is released.
    """

    recognizer: str
    surrogate: bool
    adapted: bool
    state: CellState
    retention: Figure
    accuracy: Figure  # threshold re-fitted on protected scores
    accuracy_frozen: Figure  # threshold kept from clear scores
    clear_accuracy: Figure
    auc: Figure
    eer: Figure

    @property
    def mark(self) -> str:
        """``fine-tuned``, ``surrogate`` or nothing: whether anyone trained on it."""
        return "fine-tuned" if self.adapted else "surrogate" if self.surrogate else ""


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
    """One cell a row is made of; ``leakage`` in [0, 1] by measure."""

    kind: str
    attack: str
    recognizer: str
    measures: str
    state: CellState
    reason: str
    path: str
    leakage: tuple[tuple[str, Figure], ...] = ()
    flags: tuple[str, ...] = ()
    seconds: float = 0.0
    shots: int = 1  # releases of each target that were made use of
    training: Training | None = None

    @property
    def title(self) -> str:
        """``unet``, ``linkage / dlib_resnet`` or ``utility / dlib_resnet``."""
        return " / ".join(part for part in (self.attack or self.kind, self.recognizer) if part)

    @property
    def worst(self) -> Figure:
        """The largest leakage of the cell, or why there is none."""
        found = [figure for _, figure in self.leakage if figure.value is not None]
        if self.state != "ok" or not found:
            return Figure(None, reason=self.reason or "no leakage was measured", path=self.path)
        return max(found, key=lambda figure: figure.value if figure.value is not None else -1.0)


@dataclass(frozen=True)
class Row:
    """A defense on one data set, in one track of one suite.

    Attributes:
        rank: 1 + the number of defenses whose score is significantly higher; None for controls and incomplete rows.
        rank_interval: the middle 95% of the ranks over the replicates.
        unranked: why there is no rank.
        score: harmonic mean of retention and appearance privacy, in [0, 1].
        retention: share of the clear accuracy above chance that is left, mean over unseen recognizers; of a
            representation, to the recognizer that was fine-tuned on it.
        black_box: of a representation, what is left to unseen recognizers that are given its picture.
        front: no complete defense beats it in both retention and appearance privacy.
        measured, expected: utility and attack cells that gave a number, and all that the table has.
        flags: name and the cells that raised it.
        replicates: of the score, the same draw of identities at the same place in every row.
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
    real_people: bool
    score: Figure
    retention: Figure
    appearance: Privacy
    identity: Privacy
    utilities: tuple[Utility, ...]
    reconstruction: Reconstruction | None
    images_per_second: float | None
    seconds: float
    flags: tuple[tuple[str, tuple[str, ...]], ...]
    controls: tuple[Control, ...]
    cells: tuple[Cell, ...]
    measured: int
    expected: int
    rank: int | None = None
    rank_interval: tuple[int, int] | None = None
    unranked: str = ""
    front: bool = False
    replicates: tuple[float, ...] = field(default=(), repr=False)
    black_box: Figure | None = None

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
    def promise(self) -> str:
        """``epsilon 1.5 per 16 pixels``, or nothing."""
        found = self.guarantee
        if found is None:
            return ""
        delta = f", delta {found.delta:g}" if found.delta else ""
        what = f"{found.pixels} pixels" if found.per == "pixels" else found.per
        return f"epsilon {found.epsilon:g}{delta} per {what}"

    @property
    def complete(self) -> bool:
        """Every cell of the table gave a number for this defense."""
        return self.measured == self.expected

    @property
    def completeness(self) -> str:
        """``complete`` or ``incomplete, n of m``."""
        return "complete" if self.complete else f"incomplete, {self.measured} of {self.expected}"

    def privacy_against(self, shots: int, measures: Sequence[str]) -> Figure:
        """1 - the largest leakage over attacks that hold at most so many releases of each target."""
        worst = [cell.worst for cell in self.cells if cell.measures in measures and cell.shots <= shots]
        found = [figure for figure in worst if figure.value is not None]
        if not found:
            return Figure(None, reason="no such attack was measured")
        figure = max(found, key=lambda figure: figure.value or 0.0)
        low, high = figure.interval or (figure.value, figure.value)
        assert figure.value is not None and low is not None and high is not None
        gaps = any(cell.measures in measures and cell.state != "ok" for cell in self.cells)
        reason = "at most: some attacks gave no number" if gaps else ""
        return Figure(1 - figure.value, (1 - high, 1 - low), figure.n, reason, figure.path)

    @property
    def gaps(self) -> tuple[Cell, ...]:
        """The cells without a number, each with its reason."""
        return tuple(cell for cell in self.cells if cell.state != "ok")

    @property
    def title(self) -> str:
        """The card's title, or the label."""
        title = self.card.get("title")
        return title if isinstance(title, str) and title else self.defense
