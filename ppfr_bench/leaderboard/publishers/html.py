"""``leaderboard.html``: the tables of a suite on one page."""

from __future__ import annotations

from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.faces import suite_strips
from ppfr_bench.leaderboard.publishers.gallery import galleries
from ppfr_bench.leaderboard.rendering import render


class HtmlPage(Publisher):
    """The main page."""

    name = "leaderboard.html"
    order = 50

    def publish(self, board: Board) -> dict[str, bytes]:
        """UTF-8 HTML."""
        page = render(
            "leaderboard.html", root="", board=board, has_pareto=any(row.drawable for row in board.rows),
            strips=suite_strips(board), galleries=galleries(board),
            has_settings=any(section.dials for section in board.sections),
            has_releases=any(section.shots for section in board.sections),
            has_budgets=any(section.budgets for section in board.sections),
            has_price=any(section.rows and section.prices for section in board.sections),
            has_det=any(section.curves for section in board.sections),
            has_training=any(section.longest for section in board.sections),
        )  # fmt: skip
        return {self.name: page}


PUBLISHER = HtmlPage
