"""Records that somebody can have measured: for each cell of a plan, numbers that follow from one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np

from ppfr_bench import registry
from ppfr_bench.cards import TrainingLog
from ppfr_bench.maintenance.numbers import Counts
from ppfr_bench.metrics import metric_info
from ppfr_bench.metrics.intervals import share_interval
from ppfr_bench.metrics.leakage import leakage
from ppfr_bench.records import samples
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.request import Request
from ppfr_bench.runner.scoring import header

PICTURE = made.strip(1, "released")
_LEAKING = ("lpips", "ssim", "ms_ssim", "rank_1", "attribute_error", "agreement")


def digits(value: float, count: int = 6) -> float:
    return float(f"{value:.{count}g}")


def estimate(value: float, counts: Counts, n: int, *, share: bool = False, drawn: bool = False) -> Estimate:
    """A number with its draws around it, and the interval that they give."""
    spread = np.random.RandomState(1).normal(0, 0.01, counts.replicates)
    values = value + spread if not share else np.clip(value + spread, 0, 1)
    draws = tuple(digits(float(x), 5) for x in values)
    interval = share_interval(draws, value, counts.people if share else 0, n)
    assert interval is not None
    low, high = sorted(interval)
    return Estimate(digits(value), (digits(low), digits(high)), n, "", draws if drawn else ())


def attacked(metric: str, counts: Counts, leaks: float, sets: bool) -> Measurement:
    """A measure of an attack that regains so much."""
    info, n = metric_info(metric), counts.targets
    floor, ceiling = (0.6, 0.1) if info.direction == "lower_is_better" else (0.2, 0.9)
    value = floor + leaks * (ceiling - floor)
    found = {"floor": floor, "value": value, "ceiling": ceiling}
    parts = {name: estimate(x, counts, n) for name, x in found.items()}
    if metric in ("d_sys_bias",):
        parts = {name: replace(one, interval=None) for name, one in parts.items() if name != "floor"}
    if metric == "d_sys":
        parts["floor"] = replace(parts["floor"], interval=None)
    asked = sets and metric in _LEAKING
    share = digits(leakage(*(digits(found[name]) for name in ("value", "floor", "ceiling")),
                           info.direction == "lower_is_better"))  # fmt: skip
    return Measurement(
        metric=metric, version=info.version, direction=info.direction, unit=info.unit, **parts,
        leakage=estimate(share, counts, n, share=True, drawn=True) if asked else None,
    )  # type: ignore[arg-type]  # fmt: skip


def verified(counts: Counts, kept: float) -> dict[str, Measurement]:
    """What a recognizer keeps."""
    clear, numbers = 0.95, {"auc": 0.9, "eer": 0.1}
    accuracy = digits(0.5 + kept * (clear - 0.5))
    numbers |= {"accuracy": accuracy, "accuracy_frozen": accuracy, "clear_accuracy": clear}
    numbers |= dict.fromkeys(("tar_at_far_1e-2", "tar_at_far_1e-3", "fnmr_at_fmr_1e-2", "fnmr_at_fmr_1e-3"), 0.5)
    out = {}
    for name, value in (numbers | {"retention": (accuracy - 0.5) / (clear - 0.5)}).items():
        info = metric_info("accuracy" if "accuracy" in name else name)
        out[name] = Measurement(
            metric=info.name, version=info.version, direction=info.direction, unit=info.unit,
            value=estimate(value, counts, counts.pairs, drawn=name == "retention"),
        )  # fmt: skip
    return out


def record_of(plan: Plan, cell: Cell, counts: Counts, commit: str, leaks: float = 0.4, kept: float = 0.8) -> Record:
    """A good record of a cell."""
    metrics: dict[str, Measurement]
    if cell.kind == "attack":
        scorer = registry.load("scorer", cell.scorer)(cell.extra)
        named = {"attribute_error": "skin_tone", "agreement": "gender"}
        possible = [name for name in scorer.metrics if not name.startswith(("rank_10", "rank_1_of_", "leakage"))]
        metrics = {named.get(name, name): attacked(name, counts, leaks, bool(scorer.sets)) for name in possible}
    else:
        metrics = verified(counts, kept)
    shown = cell.attack is not None and cell.attack.label == "visual"
    return Record(
        **header(plan, cell), environment=replace(made.ENVIRONMENT, commit=commit), status="ok", metrics=metrics,
        training=TrainingLog(shots=1) if cell.kind == "attack" else None,
        samples=samples.name_of(PICTURE) if shown else "",
    )  # fmt: skip


def recorded(
    request: Request, root: Path, name: str, commit: str, numbers: tuple[float, float] = (0.4, 0.8), **changes: Any
) -> ResultStore:
    """A good record for each cell of a defense of a plan; the last with changes.

    Args:
        numbers: how much attacks regain, and recognizers keep.
    """
    store, plan = ResultStore(root), request.plan
    counts = Counts.of(request.dataset, plan.setting.protocol.replicates)
    cells = [cell for cell in plan.cells if cell.defense.name == name and cell.kind != "canary"]
    for cell in cells:
        found = record_of(plan, cell, counts, commit, *numbers)
        changed = Record.model_validate(found.model_dump() | (changes if cell is cells[-1] else {}))
        store.write(changed, PICTURE if found.samples else None)
    store.write_plan(plan.published())
    store.compact(plan.suite)
    return store
