"""The Pareto plot: what recognizers keep against what attackers regain, drawn the same to the last byte each time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

SIDE = 6.4  # inches a plot
DPI = 160


class Theme(NamedTuple):
    """Colours of a plot."""

    page: str
    ink: str
    faint: str
    grid: str
    kinds: dict[str, str]


LIGHT = Theme(
    "#ffffff", "#1c2230", "#5c6577", "#e4e7ee",
    {"on the front": "#0b62c4", "ranked": "#6f8fb8", "incomplete": "#b4690e", "control": "#6b7280"},
)  # fmt: skip
DARK = Theme(
    "#161a22", "#e8ebf2", "#a3acbd", "#2a3040",
    {"on the front": "#6bb0ff", "ranked": "#7f9cc4", "incomplete": "#e9a23b", "control": "#9aa3b2"},
)  # fmt: skip
MARKERS = {"on the front": "o", "ranked": "o", "incomplete": "X", "control": "s"}


class ParetoPlot:
    """``pareto.png``, and the same for dark pages."""

    def __init__(self, name: str, order: int, theme: Theme) -> None:
        self.name, self.order, self.theme = name, order, theme

    def publish(self, board: Board) -> dict[str, bytes]:
        """PNG, one plot a table; nothing where no table has a point to draw."""
        sections = [section for section in board.sections if any(_drawable(row) for row in section.rows)]
        if not sections:
            return {}
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # The defaults first: neither a user's matplotlibrc nor a style set elsewhere may change a byte.
        style: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
        style |= {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.unicode_minus": False, "text.parse_math": False}
        with matplotlib.rc_context(style):
            figure = Figure(figsize=(SIDE * len(sections) + 0.4, SIDE), dpi=DPI, facecolor=self.theme.page)
            FigureCanvasAgg(figure)
            for index, section in enumerate(sections):
                axes = figure.add_subplot(1, len(sections), index + 1)
                self._draw(axes, section, titled=len(sections) > 1)
            figure.tight_layout(pad=1.4, w_pad=3)
            for axes, section in zip(figure.axes, sections, strict=True):
                self._label(axes, section)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None}, facecolor=self.theme.page)
        return {self.name: buffer.getvalue()}

    def _draw(self, axes: Axes, section: Section, titled: bool) -> None:
        import pandas as pd
        import seaborn as sns

        theme, rows = self.theme, [row for row in section.rows if _drawable(row)]
        axes.set_facecolor(theme.page)
        axes.set_axisbelow(True)
        axes.grid(True, color=theme.grid, linewidth=0.8)
        points = [(*_point(row), row) for row in rows]
        for x, y, row in points:
            colour = theme.kinds[_kind(row)]
            for found, along in ((row.retention.interval, "x"), (row.appearance.figure.interval, "y")):
                if found:
                    # Drawn as lines: an error bar cannot take an interval that lies to one side of its point.
                    line = (found, (y, y)) if along == "x" else ((x, x), found)
                    axes.plot(*line, color=colour, linewidth=1.2, alpha=0.55, zorder=2, solid_capstyle="butt")
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
        axes.set_xlabel("retention: what unseen recognizers keep →", color=theme.ink)
        axes.set_ylabel("appearance privacy: what no attack regains →", color=theme.ink)
        if titled:
            axes.set_title(f"{plain(section.dataset, 40)}, {plain(section.track, 40)} track", color=theme.ink)
        axes.tick_params(colors=theme.faint, length=0)
        for spine in axes.spines.values():
            spine.set_color(theme.grid)
        legend = axes.legend(loc="lower left", frameon=False, title=None, labelcolor=theme.ink)
        legend.set_zorder(1)

    def _label(self, axes: Axes, section: Section) -> None:
        """Each point's name where it covers no other name and no point, as far as there is room."""
        from matplotlib.patheffects import withStroke

        canvas: Any = axes.figure.canvas
        renderer = canvas.get_renderer()
        rows = [row for row in section.rows if _drawable(row)]
        spots = [axes.transData.transform(_point(row)) for row in rows]
        legend = axes.get_legend()
        taken: list[Bbox] = [legend.get_window_extent(renderer)] if legend else []
        inside = axes.get_window_extent(renderer)
        for row, spot in zip(rows, spots, strict=True):
            best: tuple[float, Any, Bbox] | None = None
            for dx, dy, across, up in _places():
                text = axes.annotate(
                    plain(row.defense, 32), _point(row), xytext=(dx, dy), textcoords="offset points", ha=across, va=up,
                    color=self.theme.ink if row.front else self.theme.faint, fontsize=8.5, zorder=5,
                )  # fmt: skip
                box = text.get_window_extent(renderer)
                cost = 4.0 * sum(_shared(box, other) for other in taken)
                cost += sum(900.0 for other in spots if other is not spot and _near(box, other, 5))
                cost += 20 * max(0.0, inside.x0 - box.x0, box.x1 - inside.x1, inside.y0 - box.y0, box.y1 - inside.y1)
                cost += abs(dx) + abs(dy)
                if best is None or cost < best[0]:
                    if best is not None:
                        best[1].remove()
                    best = (cost, text, box)
                else:
                    text.remove()
            if best is not None:
                # A halo in the page's colour keeps a name readable where a line runs behind it.
                best[1].set_path_effects([withStroke(linewidth=2.5, foreground=self.theme.page)])
                taken.append(best[2])


def _places() -> list[tuple[float, float, str, str]]:
    near = [(8.0, 4.0, "left", "bottom"), (-8.0, 4.0, "right", "bottom"), (8.0, -4.0, "left", "top"),
            (-8.0, -4.0, "right", "top"), (0.0, 9.0, "center", "bottom"), (0.0, -9.0, "center", "top")]  # fmt: skip
    further = [(dx * k, dy * k, across, up) for k in (2.5, 4.0) for dx, dy, across, up in near]
    return near + further


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
