"""How long stages take on this machine: noted as they are computed, and asked before a run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ppfr_bench.assets import cache_dir
from ppfr_bench.files import write_atomic
from ppfr_bench.stages.spec import Stage

_KEPT = 20  # The latest times of each group.
_TYPICAL = Path(__file__).with_name("typical_seconds.json")  # By kind and plug-in; measured on two cores.


def group_of(stage: Stage) -> str:
    """Stages that take about as long as each other: of one kind, plug-in, and size of the data set."""
    spec = stage.spec
    named = spec.get("attack") or spec.get("recognizer") or spec.get("defense") or {}
    name = named.get("name", "") if isinstance(named, dict) else ""
    data = str(spec.get("dataset", ""))[:60]
    return " ".join(filter(None, (stage.kind, name, _part(stage), data, stage.device)))


def _likeness(stage: Stage) -> str:
    """A wider group: of one kind and attack, recognizer or part, whatever the defense and the data set."""
    named = stage.spec.get("attack") or stage.spec.get("recognizer") or {}
    name = named.get("name", "") if isinstance(named, dict) else ""
    return " ".join(filter(None, (stage.kind, name, _part(stage))))


def _part(stage: Stage) -> str:
    spec = stage.spec
    return str(spec.get("split") or spec.get("of") or spec.get("name") or spec.get("scorer") or "")


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


class Pace:
    """How much of a run is left, by what its stages so far have taken.

    What is left to compute, each stage as its like took in this run, or else in proportion to what was expected, goes
    on as fast as what is done: seconds of stages a second of the clock, with all workers, waits and scores in it.
    """

    def __init__(self, stages: Mapping[str, Stage], expected: Mapping[str, float]) -> None:
        self._left, self._expected = dict(stages), expected
        self._start = time.monotonic()
        self._took: dict[str, list[float]] = {}
        self._done = self._foreseen = 0.0

    def note(self, key: str, seconds: float | None) -> None:
        """A stage was computed in so many seconds; None if it failed, or somebody else has computed it."""
        if (stage := self._left.pop(key, None)) is not None and seconds is not None:
            self._took.setdefault(_likeness(stage), []).append(seconds)
            self._done += seconds
            self._foreseen += self._expected[key]

    def seconds(self) -> float | None:
        """Of the clock, until the run ends; None before any stage is done."""
        if not self._done:
            return None
        slower = self._done / max(self._foreseen, 1e-9)
        left = 0.0
        for key, stage in self._left.items():
            took = self._took.get(_likeness(stage))
            left += sum(took) / len(took) if took else slower * self._expected[key]
        return left * (time.monotonic() - self._start) / self._done


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

    def expected(self, stages: Iterable[Stage]) -> dict[str, float]:
        """Seconds of each stage by its key: of its like on this machine, or what is typical of its kind elsewhere."""
        kept, typical = self._read(), json.loads(_TYPICAL.read_text(encoding="utf-8"))
        found = {}
        for stage in stages:
            known = kept.get(group_of(stage))
            likely = typical.get(_likeness(stage), typical.get(stage.kind, 1.0))
            found[stage.key] = sum(known) / len(known) if known else likely
        return found

    def _read(self) -> dict[str, list[float]]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(group): [float(x) for x in times] for group, times in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # It is only a help, and damaged it helps nobody.
