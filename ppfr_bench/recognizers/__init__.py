"""Recognizers: built in, a file each (its stem is its name, its last line ``RECOGNIZER = <class>``), or brought along.

What is brought along is named by a card beside a file of weights (``path/to/card.toml``) or as a model of another
package (``deepface:Dlib``). It goes by a label and a hash of all that decides its embeddings, so that two files never
share a cached embedding or a record. docs/howto/bring_a_recognizer.md
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ppfr_bench import registry
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.recognizers._external import ExternalRecognizer, is_external, resolve
from ppfr_bench.records.record import Component

if TYPE_CHECKING:
    import torch

    from ppfr_bench.api import Recognizer, RecognizerCard

__all__ = [
    "external_recognizer", "load_recognizer", "recognizer_card", "recognizer_class", "recognizer_component",
    "recognizer_names",
]  # fmt: skip

_known: dict[str, ExternalRecognizer] = {}  # The key is the name that a user types.


def recognizer_names() -> list[str]:
    """Names of all recognizers that are plug-ins, sorted, none of them imported."""
    return registry.names("recognizer")


def recognizer_class(name: str) -> type[Recognizer]:
    """The class of a recognizer that is a plug-in, its runtime and weights neither needed nor loaded.

    Raises:
        UserError: unknown (the nearest name is given), or the file breaks the contract.
    """
    if name not in recognizer_names():
        near = did_you_mean(name, recognizer_names())
        raise UserError(f"unknown recognizer '{name}'", f"{near} Others: docs/howto/bring_a_recognizer.md")
    found: type[Recognizer] = registry.load("recognizer", name)
    return found


def recognizer_component(source: str) -> Component:
    """What a suite or a user names, made known to this process: a built-in, ``path/to/card.toml`` or ``package:model``.

    Raises:
        UserError: unknown, a card that is wrong, weights that are not those of the card.
        Unavailable: the other package or its weights cannot be had on this machine.
    """
    if not is_external(source):
        return Component(label=source, name=source, version=recognizer_class(source).version)
    found = resolve(source)
    if found.label in recognizer_names():
        raise UserError(
            f"{source}: the label '{found.label}' belongs to a built-in recognizer", "Write another in the card."
        )
    _known[found.name] = found
    return Component(label=found.label, name=found.name, version=found.version)


def external_recognizer(name: str) -> ExternalRecognizer | None:
    """What is known of a recognizer that was brought along, by the name it goes by; None of a built-in one."""
    return _known.get(name)


def recognizer_card(name: str) -> RecognizerCard:
    """What is known of a recognizer. Raises UserError as ``recognizer_class`` does."""
    return _known[name].card if name in _known else recognizer_class(name).card


def load_recognizer(name: str) -> Recognizer:
    """The recognizer, ready to embed on the current device; one instance for each device of a process.

    Raises:
        UserError: as ``recognizer_class``; of one that was brought along, its file has changed or does not do what
            its card says.
        Unavailable: its runtime (an extra) or its weights cannot be had on this machine.
    """
    from ppfr_bench import device

    return _loaded(name, device.current())


@cache
def _loaded(name: str, where: torch.device) -> Recognizer:
    return _known[name].load() if name in _known else recognizer_class(name)()
