"""``defenses/``: a page for every defense."""

from __future__ import annotations

from ppfr_bench.leaderboard.across import across
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.publishers._samples import defense_grid
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.faces import release_strip
from ppfr_bench.leaderboard.rendering import render
from ppfr_bench.leaderboard.rows import Cell, Row


class DefensePages(Publisher):
    """A label's card and parameters, what recognizers and attacks make of it, a picture of that."""

    name = "defenses/*"
    order = 60

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML, one a label, and JPEG of synthetic faces where there are some that may be shown."""
        entries: dict[str, list[tuple[Section, Row, list[tuple[str, list[Cell]]]]]] = {}
        for section in board.sections:
            for row in section.rows:
                entries.setdefault(row.defense, []).append((section, row, _by_scorer(row)))
        files: dict[str, bytes] = {}
        tables = across(board.together.values(), {section.track for section in board.sections})
        for label, found in entries.items():
            place, picture = f"defenses/{label}", defense_grid(board, label)
            if picture:
                files[f"{place}.jpg"] = picture
            strips = [release_strip(board, section, row) for section, row, _ in found]
            files |= {f"defenses/{strip.file}": strip.jpeg() for strip in strips if strip is not None}
            files[f"{place}.html"] = render(
                "defense.html", root="../", board=board, label=label, entries=found, has_picture=bool(picture),
                strips=strips, tables=tables,
            )  # fmt: skip
        return files


def _by_scorer(row: Row) -> list[tuple[str, list[Cell]]]:
    """The attacks of a row by what scores them, in reading order; baselines that ignore the target are not attacks."""
    found: dict[str, list[Cell]] = {}
    for cell in row.cells:
        if cell.attack and cell.faces != "unrelated":
            found.setdefault(cell.scorer, []).append(cell)
    return list(found.items())


PUBLISHER = DefensePages
