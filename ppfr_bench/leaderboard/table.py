"""The table: records of cells become one row a defense, ranked where a rank can be stood by.

Missing is never 0: a cell that failed, was skipped or was never run leaves its row incomplete, without a rank and last.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ppfr_bench.card_reader import described
from ppfr_bench.leaderboard.comparable import Table, incomparable, planned_records, tables
from ppfr_bench.leaderboard.privacy import between_shared_ends, fallen_behind, leakages, privacy_of, shots_of
from ppfr_bench.leaderboard.reported_figures import refuted
from ppfr_bench.leaderboard.rows import (
    Baseline,
    Cell,
    CellState,
    Estimate,
    Named,
    Privacy,
    Reconstruction,
    Row,
    Scale,
    Training,
    Utility,
)
from ppfr_bench.leaderboard.seeds import split
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.claims import Claim, standing
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.groups import Groups
from ppfr_bench.records.plan_file import PlanFile, PlannedAttack
from ppfr_bench.records.record import Record, Slot
from ppfr_bench.tracks.base import Track
from ppfr_bench.tracks.ranking import smallest

__all__ = ["build"]

Measured = Sequence[tuple[Cell, Record]]  # The cells of a row that gave a number.


CLAIMED = {
    "claimed": "claimed by the authors: the maintainers have not measured it again yet",
    "refuted": "claim refuted: measured again on people that the authors did not know, it came out otherwise",
}


def build(records: Iterable[Record], plan: PlanFile, claims: Mapping[str, Claim] | None = None) -> list[Row]:
    """Rows of every table (data set and track) of a suite's plan, tables and rows in reading order.

    In a table the ranked rows come first, then the controls, then what is incomplete. A record whose key no cell of
    the plan has is left out, and changes nothing. Nor does a row that is a claim change another: it has no rank, and no
    number of it is an end of the others' scales.

    Args:
        claims: of the suite, by data set and label.

    Raises:
        UserError: the plan names a track that is not here.
    """
    found = list(records)
    rows: list[Row] = []
    for table in tables(plan):
        mine = [
            record
            for record in planned_records(found, table.planned)
            if record.cell != "canary" and record.defense.label in table.defenses
        ]
        widened, _ = split(mine, table.planned.seed)
        states = _claims(table, claims or {})
        by_defense: dict[str, list[Record]] = defaultdict(list)
        for record in between_shared_ends([one for one in widened if one.defense.label not in states]):
            by_defense[record.defense.label].append(record)
        for record in between_shared_ends(widened) if states else ():
            if record.defense.label in states:
                by_defense[record.defense.label].append(record)
        made = [_row(table, label, by_defense[label]) for label in table.defenses]
        rows += _ranked(table, [replace(row, claim=states.get(row.defense, "")) for row in made])
    return rows


def _claims(table: Table, claims: Mapping[str, Claim]) -> dict[str, Literal["claimed", "refuted"]]:
    """The rows of a table that are claims."""
    keys: dict[str, list[str]] = defaultdict(list)
    for cell in table.planned.cells:
        keys[cell.defense].append(cell.key)
    found = {label: standing(claims, table.dataset, label, keys[label]) for label in table.defenses}
    return {label: "refuted" if one.state == "refuted" else "claimed" for label, one in found.items() if one}


def rows_by_seed(records: Iterable[Record], table: Table) -> dict[str, dict[int, Row]]:
    """Rows of the defenses that were measured with further seeds, each seed by itself, by label and seed.

    Those of the published seed, whose intervals the others widen, are not among them.
    """
    by_seed: dict[int, list[Record]] = defaultdict(list)
    for record in planned_records(records, table.planned):
        if record.seed != table.planned.seed and record.cell != "canary":
            by_seed[record.seed].append(record)
    found: dict[str, dict[int, Row]] = defaultdict(dict)
    for seed, mine in sorted(by_seed.items()):
        alone = replace(table, planned=table.planned.model_copy(update={"seed": seed}))
        compared = between_shared_ends(mine)
        for label in table.defenses:
            if own := [record for record in compared if record.defense.label == label]:
                found[label][seed] = _row(alone, label, own)
    return dict(found)


# One row -----------------------------------------------------------------------------------------------------------


def _row(table: Table, label: str, records: Sequence[Record]) -> Row:
    by_slot: dict[Slot, list[Record]] = defaultdict(list)
    for record in records:
        by_slot[record.slot].append(record)
    slots = table.slots_of(label)
    cells = [_cell(table, slot, by_slot[slot]) for slot in slots]
    good = [(cell, by_slot[slot][0]) for cell, slot in zip(cells, slots, strict=True) if cell.state == "ok"]
    utilities = tuple(_utility(table, label, cell, by_slot[cell.kind, "", cell.recognizer]) for cell in cells
                      if cell.kind == "utility")  # fmt: skip
    kept = table.rules.retention(utilities)
    privacies = {name: privacy_of(name, cells) for name in table.privacies}
    scores = _scores(table.rules, kept.estimate, privacies)
    planned = table.planned.defenses[label]
    first = next((one for one in records if one.defense.spec == planned.component.spec), None)
    speeds = [(found, r.key) for r in records if (found := r.cost.protect_images_per_second) is not None]
    speed, speed_key = max(speeds, default=(None, ""))
    return Row(
        suite=table.suite, dataset=table.dataset, track=table.track, defense=label, name=planned.component.name,
        version=planned.component.version, config=dict(planned.component.config),
        card=_card(planned.component.name, first), guarantee=first.guarantee if first else None,
        control=planned.control, unprotected=planned.unprotected, seen=planned.seen,
        real_people=table.planned.real_people or any(record.real_people for record in records),
        score=next((one for one in scores if one.value is None), None) or smallest(scores), scores=scores,
        retention=kept.estimate, beside=kept.beside, privacies=privacies, utilities=utilities,
        reconstruction=_reconstruction(good, table.rules.likeness), baselines=_baselines(good, table.rules.likeness),
        images_per_second=speed, speed_key=speed_key, seconds=math.fsum(record.cost.own for record in records),
        flags=_flags(table, cells, good, privacies), cells=tuple(cells), measured=len(good),
        expected=sum(cell.state != "broken" for cell in cells),
    )  # fmt: skip


def _card(name: str, first: Record | None) -> dict[str, Any]:
    """The card in the records of a row, and what no record holds from the source of the plug-in, if there."""
    card = dict(first.defense_card) if first else {}
    said = described("defense", name) if card else {}
    return card | {key: said[key] for key in ("plain", "stored_in_clear") if said.get(key) and not card.get(key)}


def _scores(rules: Track, kept: Estimate, privacies: Mapping[str, Privacy]) -> tuple[Estimate, ...]:
    """The score for each of the leakages that may set a privacy that is scored: of these the row scores the least."""
    found = {name: privacy.estimate for name, privacy in privacies.items()}
    first = rules.privacies[0]
    set_by_some = [one for name in rules.scored or (first,) for one in privacies[name].contenders or (found[name],)]
    return tuple(rules.score(kept, found | {first: one}) for one in set_by_some)


def _cell(table: Table, slot: Slot, records: Sequence[Record]) -> Cell:
    kind, label, recognizer = slot
    attack = table.attack(slot) if label else None
    about: dict[str, Any] = {}
    if attack is not None:
        sources = (table.planned.attacks.get(source) for source in attack.sources)
        about = {"scorer": attack.scorer, "sets": attack.sets, "faces": attack.faces, "sources": attack.sources,
                 "from_embedding": any(one.from_embedding for one in (attack, *filter(None, sources)))}  # fmt: skip
    if not records:
        return Cell(kind, label, recognizer, "missing", "not run for this defense", **about)
    record = records[0]
    leakage = leakages(record)
    state, reason = _state(records, table, leakage)
    others: tuple[tuple[str, Estimate], ...] = ()
    if attack is not None and attack.faces != "unrelated":
        names = [attack.shown] if attack.shown else sorted(record.metrics)
        others = tuple((name, _beside_chance(record, name)) for name in names)
    return Cell(
        kind, label, recognizer, state, reason, record.key, **about, leakage=leakage, others=others,
        flags=record.flags, seconds=record.cost.seconds, shots=shots_of(record), training=_training(record),
        budget=BudgetCurve.of_log(record.log), groups=Groups.of_log(record.log),
        named_by=_named_by(record, attack), rank_1=record.estimate("rank_1"),
    )  # fmt: skip


def _named_by(record: Record, attack: PlannedAttack | None) -> Named:
    """What the recognizer of an attack that names people looks at; empty of any other attack."""
    if attack is None or attack.sets != "identity" or record.estimate("rank_1").value is None:
        return ""
    if attack.sources:
        return "rebuilt"
    return "released" if record.knowledge == "oblivious" else "retrained"


def _beside_chance(record: Record, name: str) -> Estimate:
    """A number of a record; what chance gives stands beside it, where the record says."""
    found, measured = record.estimate(name), record.metrics.get(name)
    if measured is None or measured.floor is None or measured.floor.value is None or found.value is None:
        return found
    return replace(found, reason=f"{measured.floor.value:.2f} by chance")


def _state(records: Sequence[Record], table: Table, leakage: Sequence[tuple[str, Estimate]]) -> tuple[CellState, str]:
    record = records[0]
    if len(records) > 1:
        return "incomparable", f"{len(records)} records of one cell; run it again, which sets aside all but one"
    if other := incomparable(record, table):
        return "incomparable", other
    if record.status != "ok":
        return record.status, record.reason
    if record.cell == "utility":
        retention = record.estimate("retention")
        return ("ok", "") if retention.value is not None else ("unmeasured", retention.reason)
    return _leak_state(leakage) if table.attack(record.slot).sets else ("ok", "")


def _leak_state(leakage: Sequence[tuple[str, Estimate]]) -> tuple[CellState, str]:
    """Of an attack that sets a privacy.

    A measure on which the attack is broken even without a defense says nothing, about any defense alike; one that is
    missing for another reason might have been the largest.
    """
    missing = [(name, estimate.reason) for name, estimate in leakage if estimate.value is None]
    for name, reason in missing:
        if reason != BROKEN:
            return "unmeasured", f"{name}: {reason}"
    if not leakage:
        return "unmeasured", "the record has no leakage"
    if len(missing) == len(leakage):
        return "broken", BROKEN
    return "ok", ""


def _utility(table: Table, defense: str, cell: Cell, records: Sequence[Record]) -> Utility:
    if cell.state in ("ok", "unmeasured"):
        log = records[0].log
        found = Utility(
            cell.recognizer, state=cell.state, key=cell.key, metrics=records[0].metrics, curves=Curves.of_log(log),
            groups=Groups.of_log(log),
        )  # fmt: skip
    else:
        found = Utility(cell.recognizer, state=cell.state, reason=cell.reason, key=cell.key)
    planned = table.planned.recognizers.get(cell.recognizer)
    if planned is None:
        return found
    seen = planned.component.name in table.planned.defenses[defense].seen
    return replace(found, surrogate=planned.surrogate, adapted=planned.adapted, weak=planned.weak, seen=seen)


def _flags(
    table: Table, cells: Sequence[Cell], good: Measured, privacies: dict[str, Privacy]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and where it was raised: those of the records, and those that only a whole row can raise."""
    raised: dict[str, set[str]] = defaultdict(set)
    setters = {privacy.attack for privacy in privacies.values()}
    for cell in cells:
        for flag in cell.flags:
            raised[flag].add(cell.title)
        if cell.training is not None and cell.training.early and cell.attack in setters:
            raised["attack_stopped_early"].add(f"{cell.title} at {cell.training.steps} of {cell.training.allowed}")
    for pair in fallen_behind([record for _, record in good], table.planned.attacks):
        raised["attack_undertrained"].add(pair)
    return tuple((flag, tuple(sorted(raised[flag]))) for flag in sorted(raised))


def _reconstruction(good: Measured, names: Sequence[str]) -> Reconstruction | None:
    """Of the attacks that rebuild faces, the one that recovers most."""
    tried = [(cell, record) for cell, record in good if cell.faces == "rebuilt"]
    if not tried:
        return None
    cell, record = min(tried, key=lambda pair: (pair[0].order, pair[0].attack))
    return Reconstruction(cell.attack, {name: _scale(record, name) for name in names})


def _scale(record: Record, name: str) -> Scale:
    measured = record.metrics.get(name)
    low_is_alike = measured is not None and measured.lower_is_more_alike
    value, floor, ceiling = (record.estimate(name, part) for part in ("value", "floor", "ceiling"))
    return Scale(value, floor, ceiling, low_is_alike)


def _baselines(good: Measured, names: Sequence[str]) -> tuple[Baseline, ...]:
    """What answers that ignore the target score, by label."""
    found = [
        Baseline(cell.attack, {name: record.estimate(name) for name in names})
        for cell, record in good
        if cell.faces == "unrelated"
    ]
    return tuple(sorted(found, key=lambda baseline: baseline.attack))


def _training(record: Record) -> Training | None:
    """What the attack reports of its training; None of one that does not learn by steps."""
    found = record.training
    allowed = record.attack.config.get("steps") if record.attack else None
    if found is None or found.steps is None or not isinstance(allowed, int) or found.steps > allowed:
        return None
    sound = all(0 <= step <= allowed and error >= 0 for step, error in found.validation)
    return Training(found.steps, allowed, found.validation if sound else ())


# Ranks -------------------------------------------------------------------------------------------------------------


def _ranked(table: Table, rows: Sequence[Row]) -> list[Row]:
    """The rows of one table with rank, rank interval and front, in reading order."""
    pointed = [replace(row, point=table.rules.point(row), refuted=refuted(row)) for row in rows]
    compete = [row for row in pointed if row.complete and not row.control and not row.claim]
    draws = max((len(row.score.draws) for row in compete), default=0)
    marked = [replace(row, unranked=_why_unranked(row, draws)) for row in pointed]
    competing = [row for row in marked if not row.unranked]
    done = [row for row in marked if row.unranked]
    for row, place in zip(competing, table.rules.ranks(competing), strict=True):
        done.append(replace(row, rank=place.rank, rank_interval=place.interval, front=place.front))
    return sorted(done, key=_reading_order)


def _why_unranked(row: Row, draws: int) -> str:
    if not row.complete:
        return row.completeness
    if row.control:
        return "control: shown as an end of the scale, never ranked"
    if row.claim:
        return CLAIMED[row.claim]
    if row.score.value is None:
        return row.score.reason
    if row.refuted:
        return row.refuted
    if len(row.score.draws) != draws or not draws:
        return "its records hold no draws to compare it by"
    return ""


def _reading_order(row: Row) -> tuple[Any, ...]:
    group = 0 if row.rank is not None else 1 if row.control and row.complete else 2
    score = -row.score.value if row.score.value is not None else 1.0
    end = -(row.retention.value or 0.0) if group == 1 else 0.0
    return group, row.rank or 0, end, score, row.defense
