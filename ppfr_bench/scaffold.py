"""A plug-in to start from: complete, honest about being nothing special, and passing ``ppfr-bench check``."""

from __future__ import annotations

import re
from pathlib import Path

from ppfr_bench import registry
from ppfr_bench.errors import UserError

DEFENSE = '''"""{title}: say in one sentence what it does to a face, and why a recognizer should still know it."""

from __future__ import annotations

import torch
from pydantic import Field

from ppfr_bench.api import Config, Defense, DefenseCard


class {name}(Defense):
    """Say what an attacker is assumed to know. Start from this: reduce the contrast around middle grey."""

    version = 1  # one more whenever its numbers may change
    card = DefenseCard(
        title="{title}",
        plain="",  # Say what it does, in one or two sentences for people outside the field.
        family="classical",
        reference="yours, with its year",
        licence="MIT",
        randomness="deterministic",
    )

    class Config(Config):
        strength: float = Field(0.9, ge=0, le=1)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same; all randomness from ``generator``."""
        return 0.5 + (images - 0.5) * (1 - self.config.strength)


DEFENSE = {name}
'''

ATTACK = '''"""{title}: say in one sentence what it regains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ppfr_bench.api import Attack, AttackCard, AttackerView


class {name}(Attack):
    """Say what the attacker is assumed to know. Start from this: average the shots."""

    version = 1  # one more whenever its numbers may change
    card = AttackCard(
        title="{title}",
        plain="",  # Say what it is, in one or two sentences for people outside the field.
        family="averaging",
        reference="yours, with its year",
        licence="MIT",
        measures="reconstruction",
        knowledge="oblivious",
    )

    def run(self, view: AttackerView) -> npt.NDArray[np.uint8]:
        """Reconstructions uint8 (n_targets, 3, 112, 112)."""
        self.log["shots"] = len(view.targets)  # releases of each target that it made use of
        return view.targets.mean(axis=0).round().astype(np.uint8)


ATTACK = {name}
'''


def write_plugin(kind: str, name: str) -> Path:
    """Write ``defenses/NAME.py`` or ``attacks/NAME.py`` (in a checkout), or ``NAME.py`` here; never over a file.

    Raises:
        UserError: the name is not lower-case letters, digits and _, is taken, or the file exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"expected a name of lower-case letters, digits and _, got '{name}'", "For example:  my_defense"
        )
    if name in registry.names("defense" if kind == "defense" else "attack"):
        raise UserError(f"there is a {kind} '{name}' already", "Choose another name.")
    folder = Path(f"{kind}s")
    path = (folder if (folder / "__init__.py").is_file() else Path()) / f"{name}.py"
    if path.exists():
        raise UserError(f"{path} exists", "Choose another name.")
    words = name.split("_")
    template = DEFENSE if kind == "defense" else ATTACK
    text = template.format(title=" ".join(words).capitalize(), name="".join(word.capitalize() for word in words))
    path.write_text(text, encoding="utf-8")
    return path
