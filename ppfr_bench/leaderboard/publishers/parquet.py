"""``leaderboard.parquet``: what the CSV holds, for a program: numbers as numbers, missing ones null."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.base import Publisher
from ppfr_bench.leaderboard.publishers.csv import csv_lines

if TYPE_CHECKING:
    import pandas as pd

TEXTS = (
    "suite", "dataset", "track", "defense", "unranked", "guarantee", "best_reconstruction", "flags", "not_measured",
)  # fmt: skip
YES_OR_NO = ("control", "front")


class ParquetFile(Publisher):
    """One row a defense and table."""

    name = "leaderboard.parquet"
    order = 41

    def publish(self, board: Board) -> dict[str, bytes]:
        """Parquet; nothing without rows."""
        table = board_frame(board)
        return {} if table.empty else {self.name: table.to_parquet(index=False)}


def board_frame(board: Board) -> pd.DataFrame:
    """One row a defense and table, in the columns of the CSV."""
    import pandas as pd

    table = pd.DataFrame(csv_lines(board))
    notes = [f"{column.name}_{column.note}" for one in board.sections for column in one.columns if column.note]
    for name in table.columns:
        if name in YES_OR_NO:
            table[name] = table[name] == "true"
        elif name not in (*TEXTS, *notes):
            table[name] = pd.to_numeric(table[name].replace("", None))
    return table


PUBLISHER = ParquetFile
