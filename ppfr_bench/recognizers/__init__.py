"""Black-box recognizers: one file each, the file's stem is its name, its last line ``RECOGNIZER = <class>``."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.errors import UserError, did_you_mean

__all__ = ["load_recognizer", "recognizer_card", "recognizer_class", "recognizer_names"]

_NOT_RECOGNIZERS = {"store"}


def recognizer_names() -> list[str]:
    """Names of all recognizers, sorted, none of them imported."""
    stems = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return sorted(stems - _NOT_RECOGNIZERS)


def recognizer_class(name: str) -> type[Recognizer]:
    """The class of a recognizer, its runtime and weights neither needed nor loaded.

    Raises:
        UserError: unknown (the nearest name is given), or the file breaks the contract.
    """
    if name not in recognizer_names():
        raise UserError(f"unknown recognizer '{name}'", did_you_mean(name, recognizer_names()))
    loaded = getattr(import_module(f"{__name__}.{name}"), "RECOGNIZER", None)
    if not (isinstance(loaded, type) and issubclass(loaded, Recognizer)):
        raise UserError(
            f"recognizer '{name}': expected its file to end in RECOGNIZER = <subclass of ppfr_bench.api.Recognizer>",
            "See CONTRIBUTING.md.",
        )
    return loaded


def recognizer_card(name: str) -> RecognizerCard:
    """What is known of a recognizer. Raises UserError as ``recognizer_class`` does."""
    return recognizer_class(name).card


@cache
def load_recognizer(name: str) -> Recognizer:
    """The recognizer, ready to embed; one instance a process.

    Raises:
        UserError: as ``recognizer_class``.
        Unavailable: its runtime (an extra) or its weights cannot be had on this machine.
    """
    return recognizer_class(name)()
