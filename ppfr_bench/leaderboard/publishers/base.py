"""What a publisher is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ppfr_bench.leaderboard.board import Board


class Publisher(ABC):
    """Makes files of a suite's folder from its board: same board, same bytes. It is made without arguments.

    Attributes:
        version: raised by hand whenever it makes other files of the same board.
        name: a glob of all the files that it may make; what is there of them and is made no more is removed.
        order: it publishes after those of a smaller one.
    """

    version: ClassVar[int] = 1
    name: ClassVar[str]
    order: ClassVar[int] = 100

    @abstractmethod
    def publish(self, board: Board) -> dict[str, bytes]:
        """The files by their path below the suite's folder, as far as there is something to say."""
