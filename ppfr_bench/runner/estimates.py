"""How long stages take on this machine: noted as they are computed, and asked before a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ppfr_bench.assets import cache_dir
from ppfr_bench.files import write_atomic
from ppfr_bench.stages.spec import Stage

_KEPT = 20  # The latest times of each group.


def group_of(stage: Stage) -> str:
    """Stages that take about as long as each other: of one kind, plug-in, and size of the data set."""
    spec = stage.spec
    named = spec.get("attack") or spec.get("recognizer") or spec.get("defense") or {}
    name = named.get("name", "") if isinstance(named, dict) else ""
    of = spec.get("split") or spec.get("of") or spec.get("name") or spec.get("scorer") or ""
    return " ".join(filter(None, (stage.kind, name, str(of), str(spec.get("dataset", ""))[:60], stage.device)))


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: of the stages whose like was computed here before, on one worker.
        stages: how many are to be computed; ``unknown``: of how many of them no like was.
    """

    seconds: float
    stages: int
    unknown: int

    def words(self, workers: int) -> str:
        """``about 3 min on 2 workers``, or why there is none."""
        if not self.stages:
            return "nothing to compute"
        if self.unknown == self.stages:
            return "no estimate: nothing like it was computed on this machine yet"
        time = self.seconds / max(workers, 1)
        said = f"{time:.0f} s" if time < 100 else f"{time / 60:.0f} min" if time < 6000 else f"{time / 3600:.1f} h"
        on = "1 worker" if workers == 1 else f"{workers} workers"
        if self.unknown:
            return f"more than {said} on {on}: the like of {self.unknown} stages was not computed on this machine yet"
        return f"about {said} on {on}"


class Times:
    """The latest times of each group of stages, in a small file of the cache."""

    def __init__(self) -> None:
        self._path = cache_dir() / "times.json"
        self._new: dict[str, list[float]] = {}

    def note(self, stage: Stage, seconds: float) -> None:
        """A stage was computed."""
        self._new.setdefault(group_of(stage), []).append(round(seconds, 3))

    def save(self) -> None:
        """Keep what was noted."""
        if self._new:
            kept = self._read()
            for group, seconds in self._new.items():
                kept[group] = [*kept.get(group, []), *seconds][-_KEPT:]
            write_atomic(self._path, json.dumps(kept, sort_keys=True).encode())
            self._new = {}

    def estimate(self, stages: Iterable[Stage]) -> Estimate:
        """What computing stages will take, by the mean of their like."""
        kept, seconds, count, unknown = self._read(), 0.0, 0, 0
        for stage in stages:
            count += 1
            known = kept.get(group_of(stage))
            seconds += sum(known) / len(known) if known else 0.0
            unknown += not known
        return Estimate(seconds, count, unknown)

    def _read(self) -> dict[str, list[float]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(group): [float(x) for x in times] for group, times in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # It is only a help, and damaged it helps nobody.
