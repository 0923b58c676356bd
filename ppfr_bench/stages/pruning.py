"""How much room the outputs of stages take, and the removal of those that were not used for the longest time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ppfr_bench import integrity
from ppfr_bench.assets import cache_dir
from ppfr_bench.stages.store import NOTES

STORES = ("stages", "stages-of-trusted-files")  # Folders of the cache that hold outputs of stages.
# An output's folder in them: format, kind, first two digits of its key, key. Copies of a store at a URL lie one deeper.
_PLACES = ("*/*/??/*", "copies/*/*/??/*")


@dataclass(frozen=True, order=True)
class Kept:
    """A folder with an output; ``used``: when it was last read or written, in seconds since 1970; ``size`` in bytes."""

    used: float
    folder: Path
    size: int


def kept_outputs() -> list[Kept]:
    """Outputs of stages in the cache, the one that was used last at the end; unfinished ones too, and other formats."""
    found = []
    folders = [folder for store in STORES for place in _PLACES for folder in (cache_dir() / store).glob(place)]
    for folder in folders:
        try:
            states = [path.stat() for path in folder.iterdir()]
            used = max((state.st_mtime for state in states), default=folder.stat().st_mtime)
        except (FileNotFoundError, NotADirectoryError):  # Another process has removed it or published it meanwhile.
            continue
        found.append(Kept(used, folder, sum(state.st_size for state in states)))
    return sorted(found)


def prune(keep: int) -> list[Kept]:
    """Remove the outputs that were not used for the longest time, until at most ``keep`` bytes of outputs are left.

    Returns:
        What was removed. What is removed is computed anew when a run needs it.
    """
    outputs, removed = kept_outputs(), []
    left = sum(one.size for one in outputs)
    for one in outputs:
        if left <= keep:
            break
        # Without its notes an output is absent, so that a removal that is stopped half way leaves nothing that is read.
        integrity.remove(one.folder / NOTES)
        integrity.remove(one.folder)
        left -= one.size
        removed.append(one)
    return removed


def contents() -> dict[str, int]:
    """Bytes of each file and folder that lies in the cache, by its name."""
    return {
        place.name: sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())
        for place in sorted(cache_dir().glob("*"))
    }
