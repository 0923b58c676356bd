"""Numbers of table rows beside their points in a plot: a number is never nearer another point than its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, hypot, pi, sin
from typing import TYPE_CHECKING, Any, NamedTuple

from ppfr_bench.leaderboard.publishers._plot import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 8.5  # Of the numbers, in points; so are all distances here.
TOGETHER = 5.0  # Points of a plot that lie nearer each other share a label.
MARKER = 4.0  # No label comes nearer to any point.
BARE = 12.0  # A label further from its point has a line to it.
RADII = (5.0, 8.0, 12.0, 17.0, 24.0, 32.0, 42.0, 56.0, 72.0)
ANGLES = 24

Spot = tuple[float, float]  # On the canvas, in pixels.


class Numbered(NamedTuple):
    """A point of a plot, in its data's units, and the number of its row."""

    number: int
    point: tuple[float, float]


class Box(NamedTuple):
    """A rectangle on the canvas, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float

    def away(self, spot: Spot) -> float:
        """How far a spot lies from its edge; 0 within."""
        x, y = spot
        return hypot(max(self.x0 - x, 0.0, x - self.x1), max(self.y0 - y, 0.0, y - self.y1))

    def meets(self, other: Box) -> bool:
        """Whether the two share something."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def inside(self, other: Box) -> bool:
        """Whether it lies wholly within the other."""
        return self.x0 >= other.x0 and self.y0 >= other.y0 and self.x1 <= other.x1 and self.y1 <= other.y1


class _Label(NamedTuple):
    """Where a label of some points stands: its box, and how far that is from them, in points."""

    members: tuple[int, ...]
    box: Box
    radius: float


def joined(numbers: Sequence[int]) -> str:
    """``3, 20–23``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}{'–' if len(run) > 2 else ', '}{run[-1]}" for run in runs
    )


def number_points(axes: Axes, theme: Theme, points: Sequence[Numbered]) -> None:
    """Write the number of each point beside it; points that lie together share one label.

    A label stands where it covers no point and no other label and is nearest to a point of its own. Where there is no
    such place, its points join those of the nearest other label.
    """
    canvas: Any = axes.figure.canvas
    renderer = canvas.get_renderer()
    scale = axes.figure.dpi / 72
    spots: list[Spot] = [(float(x), float(y)) for x, y in map(axes.transData.transform, (one.point for one in points))]
    legend = axes.get_legend()
    taken = [_box(legend.get_window_extent(renderer))] if legend else []
    inside = _box(axes.get_window_extent(renderer))

    def size(members: Sequence[int]) -> tuple[float, float]:
        text = axes.text(0, 0, joined([points[i].number for i in members]), fontsize=SIZE)
        extent = text.get_window_extent(renderer)
        text.remove()
        return float(extent.width), float(extent.height)

    groups = _together(spots, TOGETHER * scale)
    while True:
        labels, homeless = _placed(groups, spots, size, taken, inside, scale)
        if homeless is None or len(groups) == 1:
            break
        nearest = min((g for g in groups if g != homeless), key=lambda g: _apart(g, homeless or (), spots))
        groups = sorted([*(g for g in groups if g not in (homeless, nearest)), tuple(sorted(homeless + nearest))])
    for label in labels:
        _write(axes, theme, label, points, spots, scale)


def _write(
    axes: Axes, theme: Theme, label: _Label, points: Sequence[Numbered], spots: Sequence[Spot], scale: float
) -> None:  # fmt: skip
    own = min(label.members, key=lambda i: label.box.away(spots[i]))
    centre = ((label.box.x0 + label.box.x1) / 2, (label.box.y0 + label.box.y1) / 2)
    line = {"arrowstyle": "-", "color": theme.faint, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 3}
    axes.annotate(
        joined([points[i].number for i in label.members]), points[own].point,
        xytext=((centre[0] - spots[own][0]) / scale, (centre[1] - spots[own][1]) / scale),
        textcoords="offset points", ha="center", va="center", color=theme.ink, fontsize=SIZE, zorder=5,
        arrowprops=line if label.radius > BARE else None,
    )  # fmt: skip


def _placed(
    groups: Sequence[tuple[int, ...]], spots: Sequence[Spot], size: Any, taken: Sequence[Box], inside: Box, scale: float
) -> tuple[list[_Label], tuple[int, ...] | None]:  # fmt: skip
    """A label for each group, the crowded first; and the first group for which there is no place, if any."""
    crowded = sorted(groups, key=lambda g: (-sum(_apart(g, o, spots) < 40 * scale for o in groups), g))
    labels: list[_Label] = []
    for group in crowded:
        others = [spot for i, spot in enumerate(spots) if i not in group]
        boxes = [*taken, *(label.box for label in labels)]
        for radius, box in _candidates(group, spots, size(group), scale):
            own = min(box.away(spots[i]) for i in group)
            free = box.inside(inside) and not any(box.meets(other) for other in boxes)
            clear = all(box.away(spot) >= MARKER * scale for spot in spots)
            if free and clear and all(box.away(spot) > own + scale for spot in others):
                labels.append(_Label(group, box, radius))
                break
        else:
            return labels, group
    return labels, None


def _candidates(
    group: Sequence[int], spots: Sequence[Spot], size: tuple[float, float], scale: float
) -> Iterator[tuple[float, Box]]:
    """Boxes around each point of a group, the nearest first."""
    half_width, half_height = size[0] / 2 + 1, size[1] / 2
    for radius in RADII:
        for i in group:
            for turn in range(ANGLES):
                angle = 2 * pi * turn / ANGLES + pi / 4
                x = spots[i][0] + cos(angle) * (radius * scale + half_width)
                y = spots[i][1] + sin(angle) * (radius * scale + half_height)
                yield radius, Box(x - half_width, y - half_height, x + half_width, y + half_height)


def _together(spots: Sequence[Spot], near: float) -> list[tuple[int, ...]]:
    """The spots in groups, each nearer than that to another one of its group."""
    groups: list[tuple[int, ...]] = []
    for i in range(len(spots)):
        mine = [g for g in groups if _apart(g, (i,), spots) < near]
        groups = [g for g in groups if g not in mine] + [tuple(sorted([i, *(k for g in mine for k in g)]))]
    return sorted(groups)


def _apart(one: Sequence[int], other: Sequence[int], spots: Sequence[Spot]) -> float:
    """Between the nearest spots of two groups."""
    return min(hypot(spots[i][0] - spots[k][0], spots[i][1] - spots[k][1]) for i in one for k in other)


def _box(extent: Any) -> Box:
    return Box(float(extent.x0), float(extent.y0), float(extent.x1), float(extent.y1))
