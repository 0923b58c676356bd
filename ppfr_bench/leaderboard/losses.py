"""Which defenses lose to more training, budget or releases: what plots and pages name."""

from __future__ import annotations

from ppfr_bench.leaderboard.board import Section
from ppfr_bench.leaderboard.rows import Estimate, Row


def gaining(section: Section, most: int = 8) -> list[str]:
    """Labels of the defenses against which training bought most, if over a hundredth of the first answer's error."""
    gains = [(1 - training.error[-1][1], row.defense) for row, training in section.trainings]
    return [label for gain, label in sorted(gains, key=lambda one: (-one[0], one[1]))[:most] if gain > 0.01]


def rising(section: Section, privacy: str, most: int = 8) -> list[str]:
    """Labels of the defenses that lost most of a privacy to the last doubling of its attack's budget, if they did."""
    gains = [(curve.last_doubling or 0.0, row.defense) for row, curve in section.budgets[privacy] if curve.still_rising]
    return [label for _, label in sorted(gains, key=lambda one: (-one[0], one[1]))[:most]]


def losing(section: Section, privacy: str) -> list[str]:
    """Labels of the defenses that lose more than a hundredth of a privacy to further releases."""
    found = []
    for row, estimates in along_releases(section, privacy):
        first, last = estimates[0].value, estimates[-1].value
        if first is not None and last is not None and first - last > 0.01:
            found.append(row.defense)
    return found


def along_releases(section: Section, privacy: str) -> list[tuple[Row, list[Estimate]]]:
    """The rows that every attack measured; where one gave no number, the line would be drawn too high."""
    found = [(row, section.against(row, privacy)) for row in section.rows]
    return [(row, estimates) for row, estimates in found if not any(one.reason for one in estimates)]
