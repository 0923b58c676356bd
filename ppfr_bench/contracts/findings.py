"""What is found wrong with a plug-in, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Finding:
    """One breach of the contract: a stable ``code``, a sentence for people, the images it was seen on (if on some)."""

    code: str
    message: str
    names: tuple[str, ...] = ()


class BreachError(Exception):
    """A plug-in broke its contract, in the way of the ``finding``."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def where(wrong: torch.Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the images with any True, of bool (n, ...)."""
    return tuple(name for name, is_wrong in zip(names, wrong.flatten(1).any(1).tolist(), strict=True) if is_wrong)


def on(names: Sequence[str]) -> str:
    """`` (on a, b, c and 2 more)``."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (on {', '.join(names[:3])}{more})"
