"""Titles of attacks as people read them: that of the card, and in which parameters an entry differs from others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ppfr_bench.card_reader import described
from ppfr_bench.leaderboard.dials import shown_value
from ppfr_bench.leaderboard.text import measure, plain, words
from ppfr_bench.metrics import LEAKING
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Component

LONGEST = 120  # Characters of a title.


def attack_titles(plan: PlanFile) -> dict[str, str]:
    """``Averaging several releases, releases 4`` by the label of the attack, of all tables of a plan."""
    by_plugin: dict[str, dict[str, Component]] = defaultdict(dict)
    for table in plan.tables.values():
        for label, planned in table.attacks.items():
            by_plugin[planned.component.name].setdefault(label, planned.component)
    return {
        label: attack_title(component, list(entries.values()))
        for entries in by_plugin.values()
        for label, component in entries.items()
    }


def attack_title(component: Component, others: Sequence[Component]) -> str:
    """The title of an attack's card and its parameters that differ from those of the others of its plug-in."""
    given = component.config.get("title")  # Answers that were made elsewhere bring a title of their own.
    title = given or described("attack", component.name).get("title") or words(component.label).capitalize()
    config = component.config
    differing = [
        key for key in sorted(config) if key != "title" and any(one.config.get(key) != config[key] for one in others)
    ]
    said = (f"{words(key)} {words(shown_value(config[key]))}" for key in differing)
    return plain(", ".join([str(title), *said]), LONGEST)


def in_words(note: str, titles: Mapping[str, str]) -> str:
    """What set a number, ``unet, lpips``, with the title of the attack and without underscores."""
    return ", ".join(titles.get(part) or measured(part) for part in note.split(", ")) if note else ""


def measured(name: str) -> str:
    """A measure as a heading: ``MS-SSIM``, ``rank 1``."""
    return measure(name) if name in LEAKING else words(name)
