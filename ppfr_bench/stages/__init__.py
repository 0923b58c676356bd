"""Stages: what is computed between a data set and a score, each a pure function of its spec and of upstream stages.

``function_of`` gives what computes one by the name of its kind; ``template.enrolled`` is a kind of the track of that
name. None of them sees who is on a target or what it looked like: originals are the scorers' (``ppfr_bench.scorers``),
whose one stage, ``compared``, is therefore not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ppfr_bench import registry

if TYPE_CHECKING:
    from ppfr_bench.stages.context import Context
    from ppfr_bench.stages.spec import Job
    from ppfr_bench.stages.store import Output, Writer

    Function = Callable[[Job, Mapping[str, Output], Context, Writer], None]

_PLACES = {  # Kind -> module of this package and function.
    "check": "protected:check",
    "protected": "protected:protected",
    "embed": "embed:embed",
    "adapt": "attack:adapt",
    "material": "attack:material",
    "attack": "attack:attack",
    "mean_faces": "floor:mean_faces",
}


def function_of(kind: str) -> Function:
    """What computes stages of a kind."""
    track, _, of_track = kind.partition(".")
    if of_track:  # A kind of a track's own.
        module, name = registry.load("track", track).stages, of_track
    else:
        place, _, name = _PLACES[kind].partition(":")
        module = f"{__name__}.{place}"
    found: Function = getattr(import_module(module), name)
    return found
