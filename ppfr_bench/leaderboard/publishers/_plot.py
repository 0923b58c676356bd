"""What the plots of a suite share: themes, panels, and names beside points. The same bytes each time."""

from __future__ import annotations

import gc
import io
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from math import hypot
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.rows import Interval, Row
from ppfr_bench.leaderboard.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

SIDE = 6.4  # A panel is so many inches wide.
NARROW = 4.2  # So many on a phone, where text has the size that it has on a wide page.
BESIDE = 2  # Panels in one row of a wide page, at most: text of three would be too small to read.
DPI = 160
UNDATED: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


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
    {"on the front": "#0b62c4", "ranked": "#6f8fb8", "incomplete": "#b4690e", "claimed": "#a3348c",
     "control": "#6b7280"},
    ("#0b62c4", "#b4690e", "#1b7f4b", "#a3348c", "#8a6d00", "#6b7280"),
)  # fmt: skip
DARK = Theme(
    "#161a22", "#e8ebf2", "#a3acbd", "#2a3040",
    {"on the front": "#6bb0ff", "ranked": "#7f9cc4", "incomplete": "#e9a23b", "claimed": "#e58ad2",
     "control": "#9aa3b2"},
    ("#6bb0ff", "#e9a23b", "#5fcf94", "#e58ad2", "#d6c24a", "#9aa3b2"),
)  # fmt: skip
MARKERS = {"on the front": "o", "ranked": "o", "incomplete": "X", "claimed": "D", "control": "s"}
CURVE_MARKERS = ("o", "s", "^", "D", "v", "P")


class Plot(Publisher):
    """One picture in five files: PNG on white; SVG for light and dark pages, wide, and one panel a row for phones.

    Attributes:
        stem: of the names of the files.
        height: inches a panel.
    """

    stem: ClassVar[str]
    height: ClassVar[float] = SIDE

    @abstractmethod
    def panels(self, board: Board) -> list[Panel]:
        """What there is to draw, in rows and columns; none where no record has any of it."""

    def publish(self, board: Board) -> dict[str, bytes]:
        """``STEM.png``, ``STEM.svg``, ``STEM_dark.svg``, ``STEM_narrow.svg`` and ``STEM_narrow_dark.svg``."""
        panels = self.panels(board)
        if not panels:
            return {}
        with plain_style():
            with _nothing_left():
                png, wide = _pictures(wrapped(panels), SIDE, self.height, "png", "svg")
            with _nothing_left():
                (narrow,) = _pictures(stacked(panels), NARROW, max(self.height * NARROW / SIDE, 3.2), "svg")
        files = {f"{self.stem}.png": png}
        for ending, picture in (("", wide), ("_narrow", narrow)):
            files[f"{self.stem}{ending}.svg"] = picture
            files[f"{self.stem}{ending}_dark.svg"] = darkened(picture)
        return files


def plain_style() -> AbstractContextManager[None]:
    """The settings in which all is drawn: neither a user's matplotlibrc nor a style set elsewhere may change a byte."""
    import matplotlib

    style: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    style |= {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.unicode_minus": False,
              "text.parse_math": False, "svg.hashsalt": "ppfr-bench"}  # fmt: skip
    return matplotlib.rc_context(style)


def darkened(picture: bytes) -> bytes:
    """An SVG in the colours for light pages, in those for dark ones."""
    pairs = dict(zip(_colours(LIGHT), _colours(DARK), strict=True))
    return re.sub(rb"#[0-9a-f]{6}\b", lambda found: pairs.get(found[0].decode(), found[0].decode()).encode(), picture)


def _colours(theme: Theme) -> list[str]:
    return [theme.page, theme.ink, theme.faint, theme.grid, *theme.kinds.values(), *theme.curves]


def stacked(panels: list[Panel]) -> list[Panel]:
    """The same panels, one a row."""
    ordered = sorted(panels, key=lambda panel: (panel.row, panel.column))
    return [replace(panel, row=at, column=0) for at, panel in enumerate(ordered)]


def wrapped(panels: list[Panel]) -> list[Panel]:
    """The same panels in the same order, each row broken where it has more than ``BESIDE``."""
    by_row: dict[int, list[Panel]] = {}
    for panel in sorted(panels, key=lambda panel: (panel.row, panel.column)):
        by_row.setdefault(panel.row, []).append(panel)
    lines = [row[at : at + BESIDE] for row in by_row.values() for at in range(0, len(row), BESIDE)]
    return [
        replace(panel, row=line, column=column)
        for line, beside in enumerate(lines) for column, panel in enumerate(beside)
    ]  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its place, and how to draw and then label it in a theme."""

    row: int
    column: int
    draw: Callable[[Axes, Theme], None]
    label: Callable[[Axes, Theme], None]


def drawn(panels: list[Panel], side: float, height: float, theme: Theme = LIGHT) -> Figure:
    """A figure of the panels, each so many inches wide and high, within ``plain_style``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = (1 + max(place) for place in zip(*((panel.row, panel.column) for panel in panels), strict=True))
    figure = Figure(figsize=(side * columns + 0.4, height * rows), dpi=DPI, facecolor=theme.page)
    FigureCanvasAgg(figure)
    found = [(figure.add_subplot(rows, columns, panel.row * columns + panel.column + 1), panel) for panel in panels]
    for axes, panel in found:
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        axes.grid(True, color=theme.grid, linewidth=0.8)
        axes.tick_params(colors=theme.faint, length=0)
        for spine in axes.spines.values():
            spine.set_color(theme.grid)
        panel.draw(axes, theme)
    figure.tight_layout(pad=1.4, w_pad=3, h_pad=3)
    for axes, panel in found:  # Labels are placed by their size in pixels, which needs final axes.
        panel.label(axes, theme)
    return figure


def _pictures(panels: list[Panel], side: float, height: float, *formats: str) -> list[bytes]:
    """One figure of the panels, as the files of these formats."""
    figure = drawn(panels, side, height)
    return [_saved(figure, name) for name in formats]


def _saved(figure: Figure, name: str) -> bytes:
    buffer = io.BytesIO()
    page = "none" if name == "svg" else figure.get_facecolor()
    figure.savefig(buffer, format=name, metadata=UNDATED[name], facecolor=page)
    return buffer.getvalue()


@contextmanager
def _nothing_left() -> Iterator[None]:
    """Collect what the block leaves: a figure refers to itself, and would stay while the next is drawn.

    All that was there before is not looked through, for it is every record of every board.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


class Name(NamedTuple):
    """What stands beside a point; left out where it would cover something, unless it ``must`` be there."""

    words: str
    point: tuple[float, float]
    colour: str
    must: bool


def titles(axes: Axes, theme: Theme, section: Section | None, across: str, up: str) -> None:
    """What the axes measure and, where a page has several tables, which of them this is."""
    axes.set_xlabel(across, color=theme.ink)
    axes.set_ylabel(up, color=theme.ink)
    if section is not None:
        axes.set_title(plain(section.heading, 80), color=theme.ink)


def name_points(axes: Axes, theme: Theme, names: list[Name]) -> None:
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
            clash += 5000.0 * any(_away(box, other) < _away(box, spot) for other in spots)
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


def name_ends(
    axes: Axes, theme: Theme, ends: list[tuple[float, float, str]], at: float, step: float, leftwards: bool = False
) -> None:  # fmt: skip
    """Write names at ``at``, beside the ends of lines: moved apart by ``step``, each with a line to its end.

    Args:
        ends: of each line the last x and y, in the units of the data, and its name.
        leftwards: the names end at ``at``, and do not begin there.
    """
    ordered = sorted(ends, key=lambda end: (end[1], end[2]))
    heights: list[float] = []
    for _, y, _ in ordered:
        heights.append(max(y, heights[-1] + step) if heights else y)
    top = axes.get_ylim()[1] - step / 2
    for i in range(len(heights) - 1, -1, -1):
        heights[i] = min(heights[i], top)
        top = heights[i] - step
    narrow = axes.bbox.width / axes.figure.dpi < 4.2
    for (x, y, name), height in zip(ordered, heights, strict=True):
        axes.plot([x, at], [y, height], color=theme.faint, linewidth=0.6, zorder=1)
        words = f" {plain(name, 18 if narrow else 34)} "
        side = "right" if leftwards else "left"
        axes.text(at, height, words, color=theme.ink, fontsize=8.5, va="center", ha=side)


def cross(
    axes: Axes, point: tuple[float, float], across: Interval | None, up: Interval | None, colour: str
) -> None:  # fmt: skip
    """The intervals of a point, as lines: an error bar cannot take one that lies to one side of its point."""
    x, y = point
    for line in ([(across, (y, y))] if across else []) + ([((x, x), up)] if up else []):
        axes.plot(*line, color=colour, linewidth=1.2, alpha=0.55, zorder=2, solid_capstyle="butt")


def _places(further: bool) -> list[tuple[float, float, str, str]]:
    """Offsets in points and alignments, close to a point; and further off, where it must be named."""
    near = [(8.0, 4.0, "left", "bottom"), (-8.0, 4.0, "right", "bottom"), (8.0, -4.0, "left", "top"),
            (-8.0, -4.0, "right", "top"), (0.0, 9.0, "center", "bottom"), (0.0, -9.0, "center", "top")]  # fmt: skip
    return near + [(dx * k, dy * k, across, up) for k in (2.5, 4.0) for dx, dy, across, up in near if further]


def _shared(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _away(box: Bbox, spot: Any) -> float:
    """How far a spot lies from a box, in pixels; 0 within."""
    x, y = float(spot[0]), float(spot[1])
    return hypot(max(box.x0 - x, 0.0, x - box.x1), max(box.y0 - y, 0.0, y - box.y1))


def _near(box: Bbox, spot: Any, margin: float) -> bool:
    x, y = float(spot[0]), float(spot[1])
    return bool(box.x0 - margin < x < box.x1 + margin and box.y0 - margin < y < box.y1 + margin)


def kind_of(row: Row) -> str:
    """How a row is marked."""
    if row.control:
        return "control"
    if row.claim:
        return "claimed"
    if row.rank is None:
        return "incomplete"
    return "on the front" if row.front else "ranked"


def point_of(row: Row) -> tuple[float, float]:
    """Where a row that can be drawn stands."""
    x, y = (estimate.value for estimate in row.point)
    assert x is not None and y is not None, "only drawable rows come here"
    return x, y
