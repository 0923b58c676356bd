"""The table: records of cells become one row a defense, ranked where a rank can be stood by.

Missing is never 0: a cell that failed, was skipped or was never run leaves its row incomplete, without a rank and last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ppfr_bench.leaderboard.rows import (
    Cell,
    CellState,
    Control,
    Figure,
    Interval,
    Privacy,
    Reconstruction,
    Row,
    Scale,
    Training,
    Utility,
)
from ppfr_bench.leaderboard.seeds import Slot, slot_of, split
from ppfr_bench.metrics.intervals import percentile_interval
from ppfr_bench.metrics.leakage import BROKEN, harmonic_mean
from ppfr_bench.metrics.pareto import pareto_front
from ppfr_bench.results import Component, MetricValue, Record, canonical_json

__all__ = ["SIGNIFICANT", "build"]

SIGNIFICANT = 0.975  # share of the replicates in which another defense must score higher to rank above
MARGIN = 0.02  # of leakage, that two trainings of one attack differ by without a meaning
SETS = {"appearance": ("appearance", "attributes"), "identity": ("identity",)}  # privacy -> what its attacks measure
LOOKING = "visual"  # the attack that rebuilds nothing: it hands on what was released

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Candidate:
    """One leakage among which the largest sets a privacy."""

    value: float
    attack: str
    measure: str
    recognizer: str
    path: str
    n: int
    replicates: tuple[float, ...]


@dataclass(frozen=True)
class _Reference:
    """What most records of a table agree on; a record measured otherwise does not compare."""

    protocol: tuple[Any, ...]
    components: dict[tuple[str, str], str]
    metrics: dict[Slot, str]
    slots: dict[Slot, str]  # -> measures
    surrogates: frozenset[str]
    adapted: frozenset[str]


def build(records: Iterable[Record]) -> list[Row]:
    """Rows of every table (suite, data set, track) in the records, tables and rows in reading order.

    In a table the ranked rows come first, then the controls, then what is incomplete.
    """
    tables: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.cell != "canary":
            track = record.defense_card.get("track")
            name = track if isinstance(track, str) else "recognition"
            tables[record.suite, record.dataset.label, name].append(record)
    rows: list[Row] = []
    for key in sorted(tables):
        found, _ = split(sorted(tables[key], key=lambda record: (str(record.folder), record.key)))
        reference = _reference(found)
        by_defense: dict[str, list[Record]] = defaultdict(list)
        for record in found:
            by_defense[record.defense.label].append(record)
        rows += _ranked([_row(key, by_defense[label], reference) for label in sorted(by_defense)])
    return rows


def path_of(record: Record) -> str:
    """Where the record lies below the results folder."""
    return (record.folder / f"{record.key}.json").as_posix()


def figure_of(record: Record, name: str) -> Figure:
    """A metric of a record as a figure; None with a reason where the record has no such number."""
    metric = record.metrics.get(name)
    if metric is None:
        reason = record.reason if record.status != "ok" else f"the record has no {name}"
        return Figure(None, reason=reason, path=path_of(record))
    return Figure(metric.value, metric.interval, metric.n, metric.reason, path_of(record))


# Which records compare ---------------------------------------------------------------------------------------------


def _protocol(record: Record) -> tuple[Any, ...]:
    return record.dataset_revision, record.dataset.version, record.seed


def _settings(component: Component) -> str:
    return canonical_json(component.model_dump(exclude={"label"}))


def _reference(records: Sequence[Record]) -> _Reference:
    protocols = Counter(_protocol(record) for record in records)
    settings: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    metrics: dict[Slot, Counter[str]] = defaultdict(Counter)
    slots: dict[Slot, str] = {}
    for record in records:
        slots[slot_of(record)] = record.measures or ""
        if record.status == "ok":
            metrics[slot_of(record)][_versions(record)] += 1
        for kind, component in _components(record):
            settings[kind, component.label][_settings(component)] += 1
    components = {at: _most(count) for at, count in settings.items()}
    surrogates = frozenset(r.recognizer.label for r in records if r.recognizer is not None and r.surrogate)
    adapted = frozenset(r.recognizer.label for r in records if r.recognizer is not None and r.adapted)
    versions = {at: _most(count) for at, count in metrics.items()}
    return _Reference(_most(protocols), components, versions, slots, surrogates, adapted)


def _versions(record: Record) -> str:
    return canonical_json({name: metric.version for name, metric in record.metrics.items()})


def _components(record: Record) -> list[tuple[str, Component]]:
    found = [("defense", record.defense), ("attack", record.attack), ("recognizer", record.recognizer)]
    return [(kind, component) for kind, component in found if component is not None]


def _most(counts: Counter[Any]) -> Any:
    """The most frequent, the first in sorted order among equals."""
    return min(counts, key=lambda value: (-counts[value], str(value)))


def _incomparable(record: Record, reference: _Reference) -> str:
    """Why a record does not compare with the rest of its table; empty if it does."""
    if _protocol(record) != reference.protocol:
        revision, version, seed = reference.protocol
        return (
            f"measured on revision {record.dataset_revision[:12]} with seed {record.seed}, "
            f"the table on {revision[:12]} (version {version}) with seed {seed}"
        )
    for kind, component in _components(record):
        if _settings(component) != reference.components[kind, component.label]:
            rest = "its row" if kind == "defense" else "the table"
            return f"{kind} {component.label} was run with other settings than in the rest of {rest}"
    if record.status == "ok" and _versions(record) != reference.metrics[slot_of(record)]:
        return "measured by other metrics, or other versions of them, than the rest of the table; run it again"
    return ""


# One row -----------------------------------------------------------------------------------------------------------


def _row(key: tuple[str, str, str], records: Sequence[Record], reference: _Reference) -> Row:
    by_slot: dict[Slot, list[Record]] = defaultdict(list)
    for record in records:
        by_slot[slot_of(record)].append(record)
    cells: list[Cell] = []
    good: list[tuple[Cell, Record]] = []
    for slot in sorted(reference.slots, key=lambda s: (s[0] != "utility", reference.slots[s], s)):
        cell = _cell(slot, by_slot.get(slot, []), reference)
        cells.append(cell)
        if cell.state == "ok":
            good.append((cell, by_slot[slot][0]))
    utilities = tuple(
        _utility(
            cell, by_slot.get((cell.kind, cell.attack, cell.recognizer), []),
            cell.recognizer in reference.surrogates, cell.recognizer in reference.adapted,
        )
        for cell in cells if cell.kind == "utility"
    )  # fmt: skip
    used = [record for cell, record in good if cell.kind == "utility"]
    retention, kept = _retention([r for r in used if not r.adapted], [u for u in utilities if not u.adapted])
    black_box = None
    if reference.adapted:
        black_box = retention
        retention, kept = _fine_tuned([record for record in used if record.adapted])
    appearance, hidden = _privacy("appearance", cells, good)
    identity, _ = _privacy("identity", cells, good)
    score, replicates = _score(retention, kept, appearance.figure, hidden)
    raised: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for flag in cell.flags:
            raised[flag].add(cell.title)
    for cell in cells:
        if cell.training is not None and cell.training.early and cell.attack in (appearance.attack, identity.attack):
            raised["attack_stopped_early"].add(f"{cell.title} at {cell.training.steps} of {cell.training.allowed}")
    for pair in _fallen_behind([record for _, record in good]):
        raised["attack_undertrained"].add(pair)
    settings = reference.components["defense", records[0].defense.label]
    first = next(record for record in records if _settings(record.defense) == settings)
    speeds = [r.cost.protect_images_per_second for r in records if r.cost.protect_images_per_second is not None]
    return Row(
        suite=key[0], dataset=key[1], track=key[2], defense=first.defense.label, name=first.defense.name,
        version=first.defense.version, config=dict(first.defense.config), card=dict(first.defense_card),
        guarantee=first.guarantee, control=first.defense_card.get("control") is True,
        real_people=any(record.real_people for record in records),
        score=score, retention=retention, appearance=appearance, identity=identity, utilities=utilities,
        reconstruction=_reconstruction(good), images_per_second=max(speeds, default=None),
        seconds=sum(record.cost.seconds for record in records),
        flags=tuple((flag, tuple(sorted(raised[flag]))) for flag in sorted(raised)),
        controls=_controls(good), cells=tuple(cells), measured=len(good), expected=len(cells), replicates=replicates,
        black_box=black_box,
    )  # fmt: skip


def _cell(slot: Slot, records: Sequence[Record], reference: _Reference) -> Cell:
    kind, attack, recognizer = slot
    measures = reference.slots[slot]
    if not records:
        return Cell(kind, attack, recognizer, measures, "missing", "not run for this defense", "")
    record = records[0]
    leakage = tuple((name.removeprefix("leakage_"), figure_of(record, name)) for name in _leakage_names(record))
    if measures == "unlinkability":
        leakage = (("d_sys", figure_of(record, "d_sys")),)  # shown in the same place; sets no privacy
    state, reason = _state(records, leakage, reference)
    return Cell(
        kind, attack, recognizer, measures, state, reason, path_of(record), leakage, record.flags, record.cost.seconds,
        _shots(record), _training(record),
    )  # fmt: skip


def _state(
    records: Sequence[Record], leakage: Sequence[tuple[str, Figure]], reference: _Reference
) -> tuple[CellState, str]:
    record = records[0]
    if len(records) > 1:
        return "incomparable", f"{len(records)} records of one cell; run it again, which sets aside all but one"
    if other := _incomparable(record, reference):
        return "incomparable", other
    if record.status != "ok":
        return record.status, record.reason
    if record.cell == "utility":
        retention = figure_of(record, "retention")
        return ("ok", "") if retention.value is not None else ("unmeasured", retention.reason)
    if record.measures in ("unlinkability", "control"):
        return "ok", ""  # sets no number of the row
    # A measure on which the attack is broken even without a defense says nothing, about any defense alike; one that
    # is missing for another reason might have been the largest.
    missing = [(name, figure.reason) for name, figure in leakage if figure.value is None]
    for name, reason in missing:
        if reason != BROKEN:
            return "unmeasured", f"{name}: {reason}"
    if len(missing) == len(leakage):
        return "unmeasured", missing[0][1] if missing else "the record has no leakage"
    return "ok", ""


def _leakage_names(record: Record) -> list[str]:
    return sorted(name for name in record.metrics if name.startswith("leakage_"))


def _utility(cell: Cell, records: Sequence[Record], surrogate: bool, adapted: bool) -> Utility:
    record = records[0] if records else None

    def figure(name: str) -> Figure:
        if record is None or cell.state not in ("ok", "unmeasured"):
            return Figure(None, reason=cell.reason, path=cell.path)
        return figure_of(record, name)

    return Utility(
        cell.recognizer, surrogate, adapted, cell.state, figure("retention"), figure("accuracy"),
        figure("accuracy_frozen"), figure("clear_accuracy"), figure("auc"), figure("eer"),
    )  # fmt: skip


def _retention(records: Sequence[Record], utilities: Sequence[Utility]) -> tuple[Figure, Array | None]:
    """Mean over the recognizers that no defense could train on (over all, where none is unseen)."""
    unseen = [utility for utility in utilities if not utility.surrogate]
    chosen = [record for record in records if not record.surrogate] if unseen else list(records)
    if not chosen:
        return Figure(None, reason=f"no {'unseen ' if unseen else ''}recognizer was measured"), None
    metrics = [record.metrics["retention"] for record in chosen]
    value = float(np.mean([metric.value for metric in metrics if metric.value is not None]))
    lengths = {len(metric.replicates) for metric in metrics}
    replicates = None
    if len(lengths) == 1 and lengths != {0}:
        replicates = np.mean([metric.replicates for metric in metrics], axis=0)
    n = min(metric.n for metric in metrics)
    path = ", ".join(path_of(record) for record in chosen)
    reason = "" if unseen else "on the surrogate: no recognizer is unseen"
    if len(chosen) < len(unseen):
        reason = f"over {len(chosen)} of {len(unseen)} unseen recognizers"
    return Figure(value, _interval(replicates, value), n, reason, path), replicates


def _fine_tuned(records: Sequence[Record]) -> tuple[Figure, Array | None]:
    """What is left to the recognizer that was fine-tuned on the representation."""
    if not records:
        return Figure(None, reason="no recognizer was fine-tuned on it"), None
    metric = records[0].metrics["retention"]
    replicates = np.asarray(metric.replicates, dtype=np.float64) if metric.replicates else None
    value = metric.value if metric.value is not None else 0.0
    return Figure(value, _interval(replicates, value), metric.n, path=path_of(records[0])), replicates


def _privacy(measures: str, cells: Sequence[Cell], good: Sequence[tuple[Cell, Record]]) -> tuple[Privacy, Array | None]:
    candidates = [
        candidate for cell, record in good if cell.measures in SETS[measures] for candidate in _candidates(cell, record)
    ]
    if not candidates:
        return Privacy(Figure(None, reason=f"no {measures} attack was measured")), None
    worst = min(candidates, key=lambda c: (-c.value, c.attack, c.measure, c.recognizer))
    expected = [cell for cell in cells if cell.measures in SETS[measures]]
    measured = sum(cell.state == "ok" for cell in expected)
    if measured < len(expected):
        # The attack without a number might have been the one that sees through it.
        bound = 1 - worst.value
        reason = f"at most {bound:.2f}: {measured} of {len(expected)} {measures} cells gave a number"
        figure = Figure(None, n=worst.n, reason=reason, path=worst.path)
        return Privacy(figure, worst.attack, worst.measure, worst.recognizer, bound), None
    lengths = Counter(len(c.replicates) for c in candidates if c.replicates)
    replicates = None
    if lengths:
        length = _most(lengths)
        # A leakage without replicates stands in each at its point value: left out, it would look like privacy.
        columns = [c.replicates if len(c.replicates) == length else (c.value,) * length for c in candidates]
        replicates = 1 - np.max(np.asarray(columns, dtype=np.float64), axis=0)
    figure = Figure(1 - worst.value, _interval(replicates, 1 - worst.value), worst.n, path=worst.path)
    return Privacy(figure, worst.attack, worst.measure, worst.recognizer), replicates


def _candidates(cell: Cell, record: Record) -> list[_Candidate]:
    found = []
    for measure, figure in cell.leakage:
        if figure.value is not None:
            metric: MetricValue = record.metrics[f"leakage_{measure}"]
            found.append(
                _Candidate(figure.value, cell.attack, measure, cell.recognizer, cell.path, metric.n, metric.replicates)
            )
    return found


def _score(
    retention: Figure, kept: Array | None, appearance: Figure, hidden: Array | None
) -> tuple[Figure, tuple[float, ...]]:
    if retention.value is None or appearance.value is None:
        missing = [figure.reason for figure in (retention, appearance) if figure.value is None]
        return Figure(None, reason="; ".join(missing)), ()
    value = harmonic_mean(min(max(retention.value, 0.0), 1.0), appearance.value)
    if kept is None or hidden is None or len(kept) != len(hidden):
        return Figure(value, n=min(retention.n, appearance.n)), ()
    replicates = harmonic_mean(np.clip(kept, 0, 1), hidden)
    figure = Figure(value, _interval(replicates, value), min(retention.n, appearance.n))
    return figure, tuple(float(one) for one in replicates)


def _fallen_behind(records: Sequence[Record]) -> list[str]:
    """Pairs of an attack and one that it builds on, or that had fewer releases, where it leaks less beyond chance."""
    attacks = [record for record in records if record.attack is not None and record.measures is not None]
    found = []
    for strong in attacks:
        for weak in attacks:
            assert strong.attack is not None and weak.attack is not None
            more = strong.attack.name == weak.attack.name and _releases(strong) > _releases(weak)
            builds = weak.attack.name in strong.builds_on and _shots(weak) <= _shots(strong)
            if not (more or builds) or strong.recognizer != weak.recognizer:
                continue
            if weak.attack.name == "linkage" and weak.attack.config.get("probe") != "protected":
                continue  # what a parrot builds on is the recognizer on what was released
            for name in sorted(_leakage_names(strong)):
                if _less(strong.metrics.get(name), weak.metrics.get(name)):
                    found.append(f"{strong.attack.label} below {weak.attack.label} on {name.removeprefix('leakage_')}")
    return found


def _releases(record: Record) -> int:
    value = record.attack.config.get("releases", 1) if record.attack else 1
    return value if isinstance(value, int) else 1


def _less(strong: MetricValue | None, weak: MetricValue | None) -> bool:
    """Whether the stronger attack leaks less, by more than the margin and in nearly all draws of people."""
    if strong is None or weak is None or strong.value is None or weak.value is None:
        return False
    if strong.value >= weak.value - MARGIN or len(strong.replicates) != len(weak.replicates):
        return False
    below = np.less(strong.replicates, weak.replicates)
    return bool(len(below)) and float(below.mean()) >= SIGNIFICANT


def _reconstruction(good: Sequence[tuple[Cell, Record]]) -> Reconstruction | None:
    """The appearance attack, other than looking, with the largest leakage."""
    tried = [
        (cell, record)
        for cell, record in good
        if cell.measures == "appearance" and record.attack is not None and record.attack.name != LOOKING
    ]
    if not tried:
        return None
    cell, record = min(tried, key=lambda pair: (-(pair[0].worst.value or 0.0), pair[0].attack))

    def scale(name: str) -> Scale:
        floor, ceiling = (figure_of(record, f"{name}_{end}").value for end in ("blind", "ceiling"))
        return Scale(figure_of(record, name), floor, ceiling)

    samples = (record.folder / record.samples).as_posix() if record.samples else ""
    return Reconstruction(cell.attack, scale("lpips"), scale("ssim"), samples)


def _controls(good: Sequence[tuple[Cell, Record]]) -> tuple[Control, ...]:
    """What answers that rebuild nothing score, by label."""
    found = [
        Control(cell.attack, figure_of(record, "lpips"), figure_of(record, "ssim"))
        for cell, record in good
        if cell.measures == "control"
    ]
    return tuple(sorted(found, key=lambda control: control.attack))


def _shots(record: Record) -> int:
    """Releases of each target that the attack made use of; 1 where all are alike."""
    shots = record.log.get("shots", 1)
    return shots if isinstance(shots, int) and shots > 0 else 1


def _training(record: Record) -> Training | None:
    """What the record's log says of an attack's training; None of one that does not learn by steps."""
    taken, allowed = record.log.get("steps"), record.attack.config.get("steps") if record.attack else None
    if not isinstance(taken, int) or not isinstance(allowed, int) or not 0 <= taken <= allowed:
        return None
    try:  # the log of somebody's attack has no fixed form
        curve = tuple((int(step), float(error)) for step, error in record.log.get("validation", []))
    except (TypeError, ValueError, OverflowError):
        curve = ()
    sound = all(0 <= step <= allowed and 0 <= error < np.inf for step, error in curve)
    return Training(taken, allowed, curve if sound else ())


def _interval(replicates: Array | None, value: float) -> Interval | None:
    """The percentile interval, widened to hold the value.

    A maximum over noisy leakages is larger in most replicates than in the sample: where it is near nothing, the
    interval would else lie wholly beside it. Its private end is then the value itself.
    """
    found = None if replicates is None else percentile_interval(replicates)
    return found and (min(found[0], value), max(found[1], value))


# Ranks -------------------------------------------------------------------------------------------------------------


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows of one table with rank, rank interval and front, in reading order."""
    lengths = Counter(len(row.replicates) for row in rows if row.complete and not row.control and row.replicates)
    length = _most(lengths) if lengths else 0
    marked = [replace(row, unranked=_why_unranked(row, length)) for row in rows]
    competing = [row for row in marked if not row.unranked]
    done = [row for row in marked if row.unranked]
    if competing:
        scores = np.asarray([row.replicates for row in competing])
        above = scores[None, :, :] > scores[:, None, :]  # [this, other, replicate]
        ranks = 1 + (above.mean(axis=2) >= SIGNIFICANT).sum(axis=1)
        of_replicates = 1 + above.sum(axis=1)
        low = np.quantile(of_replicates, 0.025, axis=1, method="lower")
        high = np.quantile(of_replicates, 0.975, axis=1, method="higher")
        points = [[row.retention.value, row.appearance.figure.value] for row in competing]
        front = pareto_front(np.asarray(points, dtype=np.float64))
        done += [
            replace(row, rank=int(ranks[i]), rank_interval=(int(low[i]), int(high[i])), front=bool(front[i]))
            for i, row in enumerate(competing)
        ]
    return sorted(done, key=_reading_order)


def _why_unranked(row: Row, length: int) -> str:
    if not row.complete:
        return row.completeness
    if row.control:
        return "control: shown as an end of the scale, never ranked"
    if row.score.value is None:
        return row.score.reason
    if len(row.replicates) != length or not length:
        return "its records hold no replicates to compare it by"
    return ""


def _reading_order(row: Row) -> tuple[Any, ...]:
    group = 0 if row.rank is not None else 1 if row.control and row.complete else 2
    score = -row.score.value if row.score.value is not None else 1.0
    end = -(row.retention.value or 0.0) if group == 1 else 0.0
    return group, row.rank or 0, end, score, row.defense
