"""Records of version 0.1 join the results of today: the same numbers under today's keys, nothing measured again."""

from __future__ import annotations

from pathlib import Path

from ppfr_bench import registry
from ppfr_bench.console import err
from ppfr_bench.device import device_class
from ppfr_bench.metrics import metric_info, metric_names
from ppfr_bench.records import legacy
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.record import Component, Record
from ppfr_bench.records.shelf import ASIDE
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Cell, Plan
from ppfr_bench.runner.scoring import header

_METRICS = {  # Every key of version 0.1 held the versions of all metrics.
    "accuracy": 1, "accuracy_at_clear_threshold": 1, "appearance_privacy": 2, "attribute_error": 1, "auc": 1,
    "d_sys": 1, "d_sys_bias": 1, "eer": 1, "fnir_at_fpir_1e-1": 1, "fnir_at_fpir_1e-2": 1, "harmonic_mean": 2,
    "identity_privacy": 2, "leakage": 2, "lpips": 1, "ms_ssim": 1, "psnr": 1, "rank_1": 1, "rank_10": 1,
    "rank_1_of_10": 1, "rank_1_of_100": 1, "rank_1_of_1000": 1, "rank_1_of_30": 1, "rank_1_of_300": 1, "retention":
    2, "ssim": 1, "tar_at_far_1e-2": 1, "tar_at_far_1e-3": 1,
}  # fmt: skip
_SCORERS = 1  # Scorers of this version compute what version 0.1 did.


def adopt(plan: Plan, store: ResultStore) -> int:
    """Take over the records of a plan's cells that version 0.1 has left in the folder; how many there were.

    The file of a record that was taken over is removed once the record lies in its row, so that nothing is lost by a
    kill. One that belongs to no cell of the plan, or was measured by another version of a metric or a scorer than
    today's, stays where it is, is counted, and is read as it is.

    Raises:
        UserError: a file is no record, or the folder cannot be written.
    """
    files, suite = store.files, plan.suite
    older = legacy.found_in(files, suite)
    if not older:
        return 0
    cells = {former_key(plan, cell): cell for cell in plan.cells if _as_then(plan, cell)}
    found = {key: legacy.read(files, path) for key, path in older.items() if key in cells}
    mine = {key: record for key, record in found.items() if _same_versions(record)}
    there = store.statuses(suite)
    for key, record in mine.items():
        if cells[key].key not in there:
            faces = legacy.strip(files, older[key], record)
            store.write(*_of_today(record, faces, plan, cells[key]))
    if mine:
        store.compact(suite)
        store.write_plan(plan.published())
        for key in mine:
            legacy.remove(files, older[key])
        _remove_empty(store.root / suite)
    _tell(len(mine), len(older) - len(mine), f"{store.root}/{suite}")
    return len(mine)


def _as_then(plan: Plan, cell: Cell) -> bool:
    """Whether version 0.1 could measure all of a cell, and as it is measured today."""
    scorer = registry.load("scorer", cell.scorer)
    if scorer.version != _SCORERS or device_class(plan.setting.device) != "cpu":
        return False
    return bool(scorer(cell.extra).metrics == scorer(()).metrics)


def _same_versions(record: Record) -> bool:
    known = metric_names()
    return all(
        one.metric in known and metric_info(one.metric).version == one.version for one in record.metrics.values()
    )


def former_key(plan: Plan, cell: Cell) -> str:
    """The key that version 0.1 gave the record of a cell."""
    setting = plan.setting
    chain = [_spec(one) for one in (cell.attack, *_sources(plan, cell.attack))] if cell.attack else []
    return digest({
        "schema": 1, "seed": setting.seed, "dataset": setting.dataset_revision, "surrogate": setting.surrogate,
        "protocol": setting.protocol.model_dump(include={"shots", "replicates", "threads"}), "metrics": _METRICS,
        "cell": cell.kind, "defense": _spec(cell.defense), "attack": chain,
        "recognizer": _spec(cell.recognizer) if cell.recognizer else None,
    })  # fmt: skip


def _spec(component: Component) -> dict[str, object]:
    return component.spec


def _sources(plan: Plan, attack: Component | None) -> list[Component]:
    """The attacks whose reconstructions an attack starts from, and theirs."""
    found: list[Component] = []
    queue = [attack] if attack else []
    while queue:
        current = queue.pop()
        for label in registry.build("attack", current.name, current.config).sources:
            source = plan.attacks[label]
            if source in found or source == attack:
                continue
            found.append(source)
            queue.append(source)
    return found


def _of_today(record: Record, faces: bytes | None, plan: Plan, cell: Cell) -> tuple[Record, bytes | None]:
    """The record under today's key, with what today's records say of a cell; and its sample faces."""
    record, strip = legacy.of_today(record, faces)
    same = {"guarantee", "real_people", "dataset", "dataset_revision", "suite", "seed"}
    update = {name: value for name, value in header(plan, cell).items() if name not in same}
    return record.model_copy(update={**update, "former_key": record.key}), strip


def _tell(taken: int, left: int, where: str) -> None:
    lines = []
    if taken:
        lines.append(f"{taken} records of version 0.1 in {where} were taken over, none measured again.")
    if left:
        lines.append(f"{left} records of version 0.1 in {where} are of no cell of this plan, and stay as they are.")
    err.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _remove_empty(folder: object) -> None:
    """Folders that version 0.1 made and that are empty now; at a URL there are none."""
    if isinstance(folder, Path):
        for path in sorted(folder.glob("*/*/**/"), key=lambda one: -len(one.parts)):
            if ASIDE not in path.relative_to(folder).parts and not any(path.iterdir()):
                path.rmdir()
