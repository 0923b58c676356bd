"""Draw ``docs/threat_ladder.svg``: what an attacker holds, and which attacks of the ensemble ``auto`` play it.

    python studies/threat_ladder.py

Where an attack stands follows from its card, its parameters, and the attacks whose reconstructions it starts from.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

from ppfr_bench import registry
from ppfr_bench.suites import load_suite

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "threat_ladder.svg"
SUITE = "full"  # It runs every attack of the ensemble.
KNOWS = ("oblivious", "aware", "informed")
# What is held, beside all that the steps below it hold.
STEPS = (
    ("One release", "and tools that anyone can get"),
    ("Pairs of another customer", "its own images, protected under another key"),
    ("Pairs of its own", "its own images, protected under the key of the targets"),
    ("Several releases", "4, 16 or 64 independently protected versions of a photo"),
    ("The code and the weights", "of the defense, to differentiate through it"),
)
DOES = (
    ("rebuilds the face", ("appearance", "template")), ("names the person", ("identity",)),
    ("reads attributes", ("attributes", "soft_biometrics")), ("links releases", ("unlinkability",)),
)  # fmt: skip
WIDTH, LEFT, PAD, TITLE, LINE, GAP = 460, 40, 12, 22, 18, 12
LETTERS = 58  # In one line of a step.


@dataclass(frozen=True)
class Step:
    """What an attacker holds, and the labels of the attacks that hold it, by what they do."""

    title: str
    more: str
    attacks: dict[str, list[str]]

    @property
    def lines(self) -> list[str]:
        """Below the title."""
        told = [f"{does}: {', '.join(labels)}" for does, labels in self.attacks.items()]
        return [line for one in (self.more, *told) for line in wrap(one, LETTERS, break_long_words=False)]

    @property
    def height(self) -> int:
        """Pixels."""
        return 2 * PAD + TITLE + LINE * len(self.lines)


def steps() -> list[Step]:
    """From the attacker who holds least to the one who holds most."""
    mounted = {
        entry.label: registry.build("attack", entry.name, entry.params) for entry in load_suite(SUITE).attack
    }  # fmt: skip
    found = [Step(title, more, {}) for title, more in STEPS]
    for does, measured in DOES:
        for label, attack in mounted.items():
            if attack.card.measures in measured:
                found[_held(attack, mounted)].attacks.setdefault(does, []).append(label)
    return found


def _held(attack: Any, mounted: dict[str, Any]) -> int:
    """The step on which an attack stands; one that starts from others needs what they hold."""
    chain = [attack, *(mounted[label] for label in attack.sources)]
    if any(one.knowledge == KNOWS[2] for one in chain):
        return 4
    if max(one.shots for one in chain) > 1:
        return 3
    if all(one.knowledge == KNOWS[0] for one in chain):
        return 0
    return 1 if attack.key_access == "other" else 2


def alt() -> str:
    """What the picture says, for who does not see it."""
    said = []
    for at, step in enumerate(steps(), 1):
        told = "; ".join(f"{does}: {', '.join(labels)}" for does, labels in step.attacks.items())
        said.append(f"{at}. {step.title}, {step.more}. {told[0].upper()}{told[1:]}.")
    return f"A ladder; whoever stands on a step may hold what the steps below it name. {' '.join(said)}"


def draw() -> str:
    """SVG for light and dark pages, narrow enough for a phone: the step that holds most is on top."""
    parts, top = [], 30
    for at, step in reversed(list(enumerate(steps(), 1))):
        bottom = top + step.height
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 1}" height="{step.height}" rx="8"/>')
        parts.append(f'<circle cx="16" cy="{(top + bottom) / 2:g}" r="12"/>')
        parts.append(f'<text class="at" x="16" y="{(top + bottom) / 2 + 5:g}">{at}</text>')
        parts.append(f'<text class="title" x="{LEFT + PAD}" y="{top + PAD + 14}">{escape(step.title)}</text>')
        for line, words in enumerate(step.lines):
            y = top + PAD + TITLE + 12 + LINE * line
            parts.append(f'<text x="{LEFT + PAD}" y="{y}">{escape(words)}</text>')
        top = bottom + GAP
    height = top - GAP + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<title>The threat ladder</title>", "<style>", STYLE, "</style>",
        f'<path class="rail" d="M16 {height - 26}V26m-6 8l6-8 6 8"/>',
        f'<text class="end" x="{LEFT}" y="18">holds most</text>', *parts,
        f'<text class="end" x="{LEFT}" y="{height - 10}">holds least</text>', "</svg>", "",
    ])  # fmt: skip


STYLE = """\
text { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif; fill: #1c2230; }
.title { font-weight: 700; font-size: 15px; }
.at { font-weight: 700; text-anchor: middle; }
.end { fill: #5a6374; }
rect { fill: #e5f0fd; stroke: #0b62c4; }
circle { fill: #e5f0fd; stroke: #0b62c4; }
.rail { fill: none; stroke: #5a6374; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8ebf2; }
  .end { fill: #a3acbd; }
  rect, circle { fill: #17304d; stroke: #6bb0ff; }
  .rail { stroke: #a3acbd; }
}"""


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8", newline="\n")
    print(alt())
