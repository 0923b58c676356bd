"""The plots of a suite, the same to the last byte each time: the Pareto front, settings, releases, and training."""

from __future__ import annotations

import gc
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ppfr_bench.leaderboard.board import Board, Dial, Section
from ppfr_bench.leaderboard.rows import Figure as Number
from ppfr_bench.leaderboard.rows import Interval, Row
from ppfr_bench.leaderboard.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

SIDE = 6.4  # inches a panel is wide
DPI = 160


class Theme(NamedTuple):
    """Colours of a plot."""

    page: str
    ink: str
    faint: str
    grid: str
    kinds: dict[str, str]
    curves: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1c2230", "#5c6577", "#e4e7ee",
    {"on the front": "#0b62c4", "ranked": "#6f8fb8", "incomplete": "#b4690e", "control": "#6b7280"},
    ("#0b62c4", "#b4690e", "#1b7f4b", "#a3348c", "#8a6d00", "#6b7280"),
)  # fmt: skip
DARK = Theme(
    "#161a22", "#e8ebf2", "#a3acbd", "#2a3040",
    {"on the front": "#6bb0ff", "ranked": "#7f9cc4", "incomplete": "#e9a23b", "control": "#9aa3b2"},
    ("#6bb0ff", "#e9a23b", "#5fcf94", "#e58ad2", "#d6c24a", "#9aa3b2"),
)  # fmt: skip
MARKERS = {"on the front": "o", "ranked": "o", "incomplete": "X", "control": "s"}
CURVE_MARKERS = ("o", "s", "^", "D", "v", "P")


class Plot(ABC):
    """One picture in three files: PNG and SVG on white, SVG for dark pages."""

    stem: str
    order: int
    height = SIDE  # inches a panel

    @property
    def name(self) -> str:
        return f"{self.stem}*"

    @abstractmethod
    def panels(self, board: Board) -> list[Panel]:
        """What there is to draw, in rows and columns; none where no record has any of it."""

    def publish(self, board: Board) -> dict[str, bytes]:
        """``STEM.png``, ``STEM.svg`` and ``STEM_dark.svg``."""
        panels = self.panels(board)
        if not panels:
            return {}
        import matplotlib

        # The defaults first: neither a user's matplotlibrc nor a style set elsewhere may change a byte.
        style: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
        style |= {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.unicode_minus": False,
                  "text.parse_math": False, "svg.hashsalt": "ppfr-bench"}  # fmt: skip
        with matplotlib.rc_context(style):
            files = {}
            for theme, ending in ((LIGHT, ""), (DARK, "_dark")):  # one figure in memory at a time
                figure = _drawn(panels, theme, self.height)
                if theme is LIGHT:
                    files[f"{self.stem}.png"] = _saved(figure, "png", {"Software": None})
                files[f"{self.stem}{ending}.svg"] = _saved(figure, "svg", {"Date": None, "Creator": None})
                del figure
                gc.collect()  # a figure refers to itself: it would stay while the next is drawn
            return files


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its place, and how to draw and then label it in a theme."""

    row: int
    column: int
    draw: Callable[[Axes, Theme], None]
    label: Callable[[Axes, Theme], None]


def _drawn(panels: list[Panel], theme: Theme, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = (1 + max(place) for place in zip(*((panel.row, panel.column) for panel in panels), strict=True))
    figure = Figure(figsize=(SIDE * columns + 0.4, height * rows), dpi=DPI, facecolor=theme.page)
    FigureCanvasAgg(figure)
    drawn = [(figure.add_subplot(rows, columns, panel.row * columns + panel.column + 1), panel) for panel in panels]
    for axes, panel in drawn:
        axes.set_facecolor(theme.page)
        axes.set_axisbelow(True)
        axes.grid(True, color=theme.grid, linewidth=0.8)
        axes.tick_params(colors=theme.faint, length=0)
        for spine in axes.spines.values():
            spine.set_color(theme.grid)
        panel.draw(axes, theme)
    figure.tight_layout(pad=1.4, w_pad=3, h_pad=3)
    for axes, panel in drawn:  # what is placed by its size in pixels comes when the axes have theirs
        panel.label(axes, theme)
    return figure


def _saved(figure: Figure, suffix: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata=metadata, facecolor=figure.get_facecolor())
    return buffer.getvalue()


class ParetoPlot(Plot):
    """``pareto``: what recognizers keep against what attackers regain."""

    stem = "pareto"
    order = 10

    def panels(self, board: Board) -> list[Panel]:
        """One a table that has a point to draw."""
        found = [section for section in board.sections if any(_drawable(row) for row in section.rows)]
        return [
            Panel(0, at, partial(self._draw, section, len(found) > 1), partial(self._label, section))
            for at, section in enumerate(found)
        ]

    def _draw(self, section: Section, titled: bool, axes: Axes, theme: Theme) -> None:
        import pandas as pd
        import seaborn as sns

        rows = [row for row in section.rows if _drawable(row)]
        points = [(*_point(row), row) for row in rows]
        for x, y, row in points:
            _cross(axes, (x, y), row.retention.interval, row.appearance.figure.interval, theme.kinds[_kind(row)])
        for name in dict.fromkeys(row.name for row in rows):
            dial = sorted((x, y) for x, y, row in points if row.name == name != "precomputed")
            if len(dial) > 2:  # one plug-in at several settings: its dial
                axes.plot([x for x, _ in dial], [y for _, y in dial], color=theme.faint, linewidth=0.9, zorder=2)
        front = sorted((x, -y) for x, y, row in points if row.front)
        if len(front) > 1:
            axes.plot([x for x, _ in front], [-y for _, y in front], color=theme.kinds["on the front"], linewidth=1.4,
                      linestyle=(0, (5, 3)), zorder=3)  # fmt: skip
        kinds = [kind for kind in MARKERS if any(_kind(row) == kind for row in rows)]
        data = pd.DataFrame({
            "retention": [x for x, _, _ in points], "appearance privacy": [y for _, y, _ in points],
            "kind": [_kind(row) for row in rows],
        })  # fmt: skip
        scatter: Any = sns.scatterplot  # seaborn is not typed
        scatter(data=data, x="retention", y="appearance privacy", hue="kind", style="kind", hue_order=kinds,
                        style_order=kinds, palette=theme.kinds, markers=MARKERS, s=70, ax=axes, zorder=4,
                        edgecolor=theme.page, linewidth=0.9)  # fmt: skip
        xs = [0.0, 1.0] + [end for x, _, row in points for end in (x, *(row.retention.interval or ()))]
        axes.set_xlim(min(xs) - 0.06, max(xs) + 0.06)
        axes.set_ylim(-0.06, 1.08)
        _titles(
            axes,
            theme,
            section if titled else None,
            "retention: what unseen recognizers keep →",
            "appearance privacy: what no attack regains →",
        )
        legend = axes.legend(loc="lower left", frameon=False, title=None, labelcolor=theme.ink)
        legend.set_zorder(1)

    def _label(self, section: Section, axes: Axes, theme: Theme) -> None:
        """Each point's name; only the front is named at any price."""
        rows = sorted((row for row in section.rows if _drawable(row)), key=lambda row: (not row.front, not row.control))
        _name(axes, theme, [
            Name(plain(row.defense, 32), _point(row), theme.ink if row.front else theme.faint, must=row.front)
            for row in rows
        ])  # fmt: skip


class SettingsPlot(Plot):
    """``settings``: what one defense keeps and hides at several values of one parameter."""

    stem = "settings"
    order = 11
    height = 0.75 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table that has a dial: appearance, then identity, if it was attacked."""
        found = [section for section in board.sections if section.dials]
        return [
            Panel(
                row, column, partial(self._draw, section, measures, len(found) > 1),
                partial(self._label, section, measures),
            )
            for row, section in enumerate(found)
            for column, measures in enumerate(("appearance", "identity"))
            if any(_along(dial, measures) for dial in section.dials)
        ]  # fmt: skip

    def _draw(self, section: Section, measures: str, titled: bool, axes: Axes, theme: Theme) -> None:
        ends = [0.0, 1.0]
        for at, dial in enumerate(section.dials):
            colour, points = theme.curves[at % len(theme.curves)], _along(dial, measures)
            for point, row in points:
                _cross(axes, point, row.retention.interval, _privacy(row, measures).interval, colour)
                ends += row.retention.interval or (point[0],)
            axes.plot([x for (x, _), _ in points], [y for (_, y), _ in points], color=colour, linewidth=1.4, zorder=3,
                      linestyle="-" if dial.ordered else ":", marker=CURVE_MARKERS[at % len(CURVE_MARKERS)],
                      markersize=6, markeredgecolor=theme.page, label=plain(dial.title, 60))  # fmt: skip
        axes.set_xlim(min(ends) - 0.06, max(ends) + 0.06)
        axes.set_ylim(-0.1 - 0.07 * len(section.dials), 1.08)  # the names of the curves stand below all points
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        _titles(
            axes,
            theme,
            section if titled else None,
            "retention: what unseen recognizers keep →",
            f"{measures} privacy: what no attack regains →",
        )
        axes.legend(loc="lower left", frameon=False, labelcolor=theme.ink).set_zorder(1)

    def _label(self, section: Section, measures: str, axes: Axes, theme: Theme) -> None:
        """The value at each point, in the colour of its curve."""
        _name(axes, theme, [
            Name(plain(dial.value(row), 16), point, theme.curves[at % len(theme.curves)], must=True)
            for at, dial in enumerate(section.dials)
            for point, row in _along(dial, measures)
        ])  # fmt: skip


class ReleasesPlot(Plot):
    """``releases``: privacy against the number of releases an attacker holds."""

    stem = "releases"
    order = 12
    height = 0.6 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """A row for each table that was attacked with several releases: appearance, then identity."""
        found = [section for section in board.sections if section.shots]
        return [
            Panel(
                row, column, partial(self._draw, section, measures, len(found) > 1),
                partial(self._label, section, measures),
            )
            for row, section in enumerate(found)
            for column, measures in enumerate(("appearance", "identity"))
        ]  # fmt: skip

    def _draw(self, section: Section, measures: str, titled: bool, axes: Axes, theme: Theme) -> None:
        ticks = range(len(section.shots))
        names = losing(section, measures)
        for row, values in _against(section, measures):
            falls = row.defense in names
            axes.plot(ticks, values, color=theme.kinds["on the front"] if falls else theme.kinds["control"],
                      linewidth=1.8 if falls else 0.8, alpha=1.0 if falls else 0.4, marker="o" if falls else None,
                      markersize=4.5, zorder=3 if falls else 2)  # fmt: skip
        axes.set_xticks(list(ticks), [str(count) for count in section.shots])
        axes.set_xlim(-0.15, len(section.shots) - 0.35)
        axes.set_ylim(-0.04, 1.04)
        _titles(
            axes, theme, section if titled else None, "releases of each target held, at most", f"{measures} privacy"
        )

    def _label(self, section: Section, measures: str, axes: Axes, theme: Theme) -> None:
        """Names at the right ends of the lines that fall, moved apart."""
        names = losing(section, measures)
        named = [(values[-1], row) for row, values in _against(section, measures) if row.defense in names]
        lowest = -1.0
        for value, row in sorted(named, key=lambda one: (one[0], one[1].defense)):
            lowest = max(value, lowest + 0.05)
            axes.text(len(section.shots) - 0.93, lowest, plain(row.defense, 32), color=theme.ink, fontsize=8.5,
                      va="center")  # fmt: skip


class TrainingPlot(Plot):
    """``training``: what the attacker's error comes to as it trains, by steps: what a larger budget might buy."""

    stem = "training"
    order = 13
    height = 0.75 * SIDE

    def panels(self, board: Board) -> list[Panel]:
        """One a table in which an attack kept the curve of its training."""
        found = [section for section in board.sections if section.longest]
        return [
            Panel(0, at, partial(self._draw, section, len(found) > 1), partial(self._label, section))
            for at, section in enumerate(found)
        ]

    def _draw(self, section: Section, titled: bool, axes: Axes, theme: Theme) -> None:
        named = gaining(section)
        for row, training in section.trainings:
            gains = row.defense in named
            steps, errors = zip(*training.error, strict=True)
            colour = theme.kinds["on the front" if gains else "control"]
            axes.plot(steps, errors, color=colour, linewidth=1.6 if gains else 0.8, alpha=1.0 if gains else 0.4)
            end = theme.kinds["incomplete"] if training.early else colour
            axes.plot(steps[-1:], errors[-1:], color=end, marker="X" if training.early else "o",
                      markersize=6 if training.early else 3.5, alpha=1.0 if gains or training.early else 0.4,
                      zorder=3)  # fmt: skip
        most = max(training.allowed for _, training in section.trainings)
        axes.set_xlim(-0.02 * most, 1.38 * most)
        axes.set_xticks([most * quarter / 4 for quarter in range(5)])
        axes.set_ylim(0, 1.04)
        _titles(
            axes,
            theme,
            section if titled else None,
            f"steps of training, {plain(section.longest, 32)}",
            "error on held-out people, of the first answer's",
        )

    def _label(self, section: Section, axes: Axes, theme: Theme) -> None:
        """Names beside the ends of the lines that fall most, moved apart."""
        named = gaining(section)
        ends = [(training.error[-1], row) for row, training in section.trainings if row.defense in named]
        most, lowest = max(training.allowed for _, training in section.trainings), -1.0
        for (_, error), row in sorted(ends, key=lambda one: (one[0][1], one[1].defense)):
            lowest = max(error, lowest + 0.045)
            axes.text(1.02 * most, lowest, plain(row.defense, 32), color=theme.ink, fontsize=8.5, va="center")


class Name(NamedTuple):
    """What stands beside a point; left out where it would cover something, unless it ``must`` be there."""

    words: str
    point: tuple[float, float]
    colour: str
    must: bool


def _titles(axes: Axes, theme: Theme, section: Section | None, across: str, up: str) -> None:
    """What the axes measure and, where a page has several tables, which of them this is."""
    axes.set_xlabel(across, color=theme.ink)
    axes.set_ylabel(up, color=theme.ink)
    if section is not None:
        axes.set_title(f"{plain(section.dataset, 40)}, {plain(section.track, 40)} track", color=theme.ink)


def _name(axes: Axes, theme: Theme, names: list[Name]) -> None:
    """Write each name beside its point, where it covers no other name and no point."""
    canvas: Any = axes.figure.canvas
    renderer = canvas.get_renderer()
    spots = [axes.transData.transform(name.point) for name in names]
    legend = axes.get_legend()
    taken: list[Bbox] = [legend.get_window_extent(renderer)] if legend else []
    inside = axes.get_window_extent(renderer)
    for name, spot in zip(names, spots, strict=True):
        best: tuple[float, float, Any, Bbox] | None = None
        for dx, dy, across, up in _places(further=name.must):
            text = axes.annotate(
                name.words, name.point, xytext=(dx, dy), textcoords="offset points", ha=across, va=up,
                color=name.colour, fontsize=8.5, zorder=5,
                # A box in the page's colour keeps a name readable where a line runs behind it.
                bbox={"facecolor": theme.page, "edgecolor": "none", "alpha": 0.7, "pad": 0.4},
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            clash = 4.0 * sum(_shared(box, other) for other in taken)
            clash += sum(900.0 for other in spots if other is not spot and _near(box, other, 5))
            clash += 20 * max(0.0, inside.x0 - box.x0, box.x1 - inside.x1, inside.y0 - box.y0, box.y1 - inside.y1)
            if best is None or clash + abs(dx) + abs(dy) < best[0]:
                if best is not None:
                    best[2].remove()
                best = (clash + abs(dx) + abs(dy), clash, text, box)
            else:
                text.remove()
        assert best is not None
        if best[1] and not name.must:
            best[2].remove()
        else:
            taken.append(best[3])


def _cross(
    axes: Axes, point: tuple[float, float], across: Interval | None, up: Interval | None, colour: str
) -> None:  # fmt: skip
    """The intervals of a point, as lines: an error bar cannot take one that lies to one side of its point."""
    x, y = point
    for line in ([(across, (y, y))] if across else []) + ([((x, x), up)] if up else []):
        axes.plot(*line, color=colour, linewidth=1.2, alpha=0.55, zorder=2, solid_capstyle="butt")


def _along(dial: Dial, measures: str) -> list[tuple[tuple[float, float], Row]]:
    """The points of a dial, in the order of its values, as far as they have the privacy."""
    found = [(row.retention.value, _privacy(row, measures).value, row) for row in dial.rows]
    return [((x, y), row) for x, y, row in found if x is not None and y is not None]


def _privacy(row: Row, measures: str) -> Number:
    return (row.identity if measures == "identity" else row.appearance).figure


def gaining(section: Section, most: int = 8) -> list[str]:
    """Labels of the defenses against which training bought most, if over a hundredth of the first answer's error."""
    gains = [(1 - training.error[-1][1], row.defense) for row, training in section.trainings]
    return [label for gain, label in sorted(gains, key=lambda one: (-one[0], one[1]))[:most] if gain > 0.01]


def losing(section: Section, measures: str) -> list[str]:
    """Labels of the defenses that lose more than a hundredth of a privacy to further releases."""
    return [row.defense for row, values in _against(section, measures) if values[0] - values[-1] > 0.01]


def _against(section: Section, measures: str) -> list[tuple[Row, list[float]]]:
    """The rows that every attack measured; where one gave no number, the line would be drawn too high."""
    found = [(row, section.against(row, measures)) for row in section.rows]
    whole = [(row, figures) for row, figures in found if not any(figure.reason for figure in figures)]
    return [(row, [figure.value for figure in figures if figure.value is not None]) for row, figures in whole]


def _places(further: bool) -> list[tuple[float, float, str, str]]:
    """Offsets in points and alignments, close to a point; and further off, where it must be named."""
    near = [(8.0, 4.0, "left", "bottom"), (-8.0, 4.0, "right", "bottom"), (8.0, -4.0, "left", "top"),
            (-8.0, -4.0, "right", "top"), (0.0, 9.0, "center", "bottom"), (0.0, -9.0, "center", "top")]  # fmt: skip
    return near + [(dx * k, dy * k, across, up) for k in (2.5, 4.0) for dx, dy, across, up in near if further]


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _near(box: Bbox, spot: Any, margin: float) -> bool:
    x, y = float(spot[0]), float(spot[1])
    return bool(box.x0 - margin < x < box.x1 + margin and box.y0 - margin < y < box.y1 + margin)


def _drawable(row: Row) -> bool:
    return row.retention.value is not None and row.appearance.figure.value is not None


def _point(row: Row) -> tuple[float, float]:
    assert row.retention.value is not None and row.appearance.figure.value is not None, "only drawable rows come here"
    return row.retention.value, row.appearance.figure.value


def _kind(row: Row) -> str:
    if row.control:
        return "control"
    if row.rank is None:
        return "incomplete"
    return "on the front" if row.front else "ranked"
