"""Titles of attacks as people read them: that of the card, and in which parameters an entry differs from others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ppfr_bench.card_reader import described
from ppfr_bench.leaderboard.definitions import is_measure
from ppfr_bench.leaderboard.dials import shown_value
from ppfr_bench.leaderboard.text import measure, plain, words
from ppfr_bench.metrics import LEAKING
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Component
from ppfr_bench.suites.schema import Entry
from ppfr_bench.tracks.base import Shown

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
        key for key in sorted(config)
        if key != "title" and config[key] != "none" and any(one.config.get(key) != config[key] for one in others)
    ]  # fmt: skip
    said = (f"{words(key)} {_valued(config[key])}" for key in differing)
    return plain(", ".join([str(title), *said]), LONGEST)


def entry_titles(entries: Sequence[Entry]) -> dict[str, str]:
    """The same of the attacks of a suite, by label: its parameters are those that the suite writes out."""
    found = {}
    for entry in entries:
        same = [one.params for one in entries if one.name == entry.name]
        differing = [key for key in sorted(entry.params) if any(one.get(key) != entry.params[key] for one in same)]
        title = described("attack", entry.name).get("title") or words(entry.label).capitalize()
        said = (f"{words(key)} {_valued(entry.params[key])}" for key in differing)
        found[entry.label] = plain(", ".join([str(title), *said]), LONGEST)
    return found


def _valued(value: Any) -> str:
    """A value of a parameter; an attack whose answer another one starts from by its title."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_valued, value))
    title = described("attack", value).get("title") if isinstance(value, str) else None
    return str(title) if title else words(shown_value(value))


def in_words(note: str, titles: Mapping[str, str]) -> str:
    """What set a number, ``unet, lpips``, or raised a flag, with the titles of attacks and the names of measures."""

    def spelled(found: re.Match[str]) -> str:
        name = found[0]
        return titles.get(name) or (measured(name) if is_measure(name) else name)

    return re.sub(r"[\w.-]*\w", spelled, note)


def with_titles(shown: Shown, titles: Mapping[str, str]) -> Shown:
    """A number of a table, what has set it ``in_words``."""
    return replace(shown, note=in_words(shown.note, titles))


def measured(name: str) -> str:
    """A measure as a heading: ``MS-SSIM``, ``rank 1``, ``TAR at FAR 0.1%``, ``dodging within 2``."""
    if name in LEAKING:
        return measure(name)
    said = words(re.sub(r"_l2_([\d.]+)$", r" within \1", name)).replace("d sys", "D_sys")
    said = re.sub(r"\b(psnr|auc|eer|tar|far|fnir|fpir|fnmr|fmr)\b", lambda found: found[0].upper(), said)
    return re.sub(r"\b1e-(\d)\b", lambda found: f"{100 * 10 ** -int(found[1]):g}%", said)
