"""For scripts and notebooks: measure one defense, and read records as tables."""

from __future__ import annotations

import html
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ppfr_bench import registry
from ppfr_bench.api import Defense, FaceDataset, UserError
from ppfr_bench.assets import cache_dir
from ppfr_bench.cards import Randomness
from ppfr_bench.console import NeutralConsole, Progress
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.leaderboard import table, terminal
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.parquet import board_frame
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import bracketed
from ppfr_bench.places import user_path
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.frame import frame
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import LABEL, Record
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.choice import choose
from ppfr_bench.runner.execution import Where, execute, missing
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.suites import Entry, Suite, load_suite
from ppfr_bench.wrapping import WrappedDefense, main_left_alone, name_of, registered, wrapped_defense

__all__ = ["Evaluation", "evaluate", "load_results"]

log = logging.getLogger(__name__)
SHOWN = [
    "defense", "score", "score_low", "score_high", "retention", "appearance_privacy", "appearance_privacy_set_by",
    "identity_privacy", "identity_privacy_set_by", "measured", "expected", "flags",
]  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one defense, and of the controls beside it.

    Attributes:
        defense: its label in the tables.
        suite: the suite's name.
        store: where the records are kept.
        measured: every record of the run, in the order of the suite.
        plan: what ``plan.json`` says of the run.
        note: why it will be measured anew in the next process, if it will.
    """

    defense: str
    suite: str
    store: ResultStore
    measured: tuple[Record, ...]
    plan: PlanFile
    note: str = ""

    @property
    def results(self) -> Path:
        """The folder of the records."""
        return Path(str(self.store.root))

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row a metric: value, interval, n, the cell it belongs to; without a number, one row and the reason."""
        return _tidy(self.measured)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a defense, in the columns of ``leaderboard.parquet``; not measured is null."""
        return self._table(self.measured, self.plan)

    @cached_property
    def row(self) -> Row:
        """The defense's row of the leaderboard: every number with its interval and its record."""
        (found,) = [row for row in table.build(self.measured, self.plan) if row.defense == self.defense]
        return found

    def beside(self, results: str | Path = "results") -> pd.DataFrame:
        """``table`` among the defenses whose records of the same suite lie in another folder.

        Raises:
            UserError: no records there.
        """
        there = ResultStore(user_path(results, "the results"))
        others = {record.key: record for record in there.records(self.suite) if record.defense.label != self.defense}
        plan = there.plan(self.suite)
        mine = [record for record in self.measured if record.key not in others]
        merged = plan.merged(self.plan) if plan else self.plan
        return self._table((*others.values(), *mine), merged, there.claims(self.suite))

    def explain(self) -> str:
        """The row in words: what each number is, what set it, between which ends, and why one is missing."""
        return _words(self.row) + (f"{self.note}\n" if self.note else "")

    def _table(
        self, records: Sequence[Record], plan: PlanFile, claims: Mapping[str, Claim] | None = None
    ) -> pd.DataFrame:
        known = self.store.claims(self.suite) if claims is None else claims
        return board_frame(Board(self.suite, tuple(records), plan, self.store, known))

    def __str__(self) -> str:
        row = self.row
        lines = [
            f"{self.defense} in {self.suite}: score {bracketed(row.score)}",
            f"  retention          {bracketed(row.retention)}",
            *(
                f"  {f'{name} privacy':<18} {bracketed(found.estimate)}  set by {found.set_by or 'nothing'}"
                for name, found in row.privacies.items()
            ),
            f"  {row.completeness}" + (f"; flags: {', '.join(flag for flag, _ in row.flags)}" if row.flags else ""),
        ]
        lines += [f"  {cell.title} {cell.state}: {cell.reason}" for cell in row.gaps]
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = self.table[SHOWN].set_index("defense")
        return f"<pre>{html.escape(str(self))}</pre>{shown.to_html(na_rep='–', float_format='{:.2f}'.format)}"


def evaluate(
    defense: Callable[..., torch.Tensor] | Defense | type[Defense] | str | Path,
    suite: str | Path = "quick",
    *,
    name: str = "",
    version: int = 1,
    randomness: Randomness = "deterministic",
    clear_share: float = 0.0,
    data: str | FaceDataset | None = None,
    attacks: Sequence[str] = (),
    recognizers: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    workers: int | None = None,
    scheduler: str = "",
    device: str = "cpu",
    stages: str | Path = "",
    seed: int | None = None,
    rerun: Literal["failed", "all"] | None = None,
    progress: bool = True,
    trust: bool = False,
) -> Evaluation:
    """Measure one defense as ``ppfr-bench run`` does, and the controls beside it.

    What was measured before is not measured again, in this process or another. A callable has no file and no version
    that anyone raises, so it is known by a hash of its code, what it closes over and what it calls; where
    something of that cannot be seen, its results are kept for nobody, and ``note`` says what it was. What it reads
    from outside (a file, a service) is not in the hash: raise ``version`` when that changes.

    A callable is checked like any defense, on the faces that ship with the package: shape, range, the same bytes for
    one seed in any batch, no clear image let out. Without a word on ``randomness`` it counts as deterministic, and one
    that is not is refused with what to declare.

    Args:
        defense: a callable ``(images, generator) -> images`` or ``images -> images`` on float32 RGB (n, 3, 112, 112) in
            [0, 1]; a Defense class or an instance that was not fitted; a name or a label of the suite; a plug-in file.
        suite: a suite's name or file.
        name: its label; that of the function, the class or the plug-in, if none is given.
        version: of a callable; raise it when what it does changes and its code does not.
        randomness: of a callable: ``deterministic``, ``per_call``, ``per_image_key``, ``per_user_key`` or
            ``per_session_key``.
        clear_share: of a callable: share of the textured pixels that it leaves untouched by design, 0 to 1.
        data: another data set, by name or as an object.
        attacks, recognizers: only these; all of the suite, if none is given.
        settings: as ``--set``: ``{"dataset.root": "/data/lfw", "protocol.shots": 4, "drop_duplicates": True}``. A
            parameter of the defense, ``{"defense.pixelate.block": 8}``, gives it a label of its own
            (``pixelate_block_8``), so that several settings stand side by side in one folder.
        results: the folder of the records; ``evaluations`` in the user's cache, if none is given.
        workers: worker processes; as many as pay off, if none is given.
        scheduler: address of a Dask cluster; ``inline`` for one task after the other in this process.
        device: ``cpu``, ``cuda`` or ``mps``.
        stages: folder or URL where the outputs of stages are kept; the user's cache, if none is given.
        seed: instead of the suite's.
        rerun: run cells again that failed, or all.
        progress: show a bar, or a line now and then.
        trust: run a plug-in file in the harness's own processes, with all that you may do, and flag every record;
            else it has a process of its own that reaches nothing. What is given as an object always runs in them.

    Returns:
        The numbers. A cell that failed is in them, with its reason.

    Raises:
        UserError: an unknown name, a wrong parameter, a setting of something that is not measured, a callable that
            breaks the contract, data that are not there.
    """
    settings_ = tuple(f"{key}={json.dumps(value)}" for key, value in (settings or {}).items())
    files = (file,) if (file := _file_of(defense)) else ()
    registry.run_here(trust)
    for path in files:
        registry.add_plugin(path, only="defense")  # A setting may be one of this plug-in.
    whole = load_suite(str(suite), settings_, data if isinstance(data, str) else None)
    if data is not None and not isinstance(data, str):
        _check_data(data)
        if unused := [key for key in settings or {} if key.startswith("dataset.")]:
            raise UserError(
                f"the setting {unused[0]} has no effect: data is open already", "Give it where data is made."
            )
    entry, wrapped = _entry(defense, name, version, randomness, clear_share, whole)
    if wrapped is not None and (findings := check_plugin("defense", wrapped.name)):
        raise UserError(
            f"{wrapped.name} breaks the contract: " + "; ".join(f"{one.code}: {one.message}" for one in findings),
            "Declare what it is: randomness='per_call' if every call draws anew, clear_share=0.3 if a part is left "
            "clear by design; draw from the generator it is given, and from nothing else.",
        )
    request = resolve(suite, Asked(
        attacks=tuple(attacks), recognizers=tuple(recognizers), dataset=data if isinstance(data, str) else None,
        settings=settings_, plugins=files, seed=seed, only=_with_controls(entry, whole),
        wrapped=(wrapped,) if wrapped else (), data=None if isinstance(data, str) else data, device=device,
        trust=trust,
    ))  # fmt: skip
    plan = request.plan
    store = ResultStore(user_path(results, "results") if results is not None else cache_dir() / "evaluations")
    pending = missing(plan, store, rerun)
    if pending:
        request.audit()
    shown = Progress(len(pending), f"{entry.label} in {plan.suite}") if progress and pending else nullcontext(_quiet)
    if progress:
        request.tell()
    told: dict[str, Any] = {} if progress else {"tell": log.info}
    where = Where.of(plan, workers, scheduler, str(stages))
    with main_left_alone(), shown as report:
        if isinstance(report, Progress):
            told["start"] = report.go_by
        execute(plan, store, where=where, rerun=rerun, report=report, **told)
    wanted = {cell.key for cell in plan.cells}
    by_key = {record.key: record for record in store.records(plan.suite) if record.key in wanted}
    note = f"Measured anew in every process: {wrapped.unseen}." if wrapped and wrapped.unseen else ""
    records = tuple(by_key[cell.key] for cell in plan.cells if cell.key in by_key)
    return Evaluation(entry.label, plan.suite, store, records, plan.published(), note)


def load_results(path: str | Path = "results", suite: str | None = None) -> pd.DataFrame:
    """Records as a tidy table, one row a metric, of one suite or of all in the folder.

    Columns: suite, dataset, defense (its label), defense_name, parameters (JSON, for ``json.loads``), cell, attack,
    recognizer, status, reason, seed, key, metric, value, low, high (95% interval), n. A cell without a number has one
    row, with an empty metric and the reason.

    Raises:
        UserError: no records there, or a file that is none.
    """
    return _tidy(tuple(ResultStore(user_path(path, "the results")).records(suite)))


def _tidy(records: Sequence[Record]) -> pd.DataFrame:
    found = frame(list(records))
    if found.empty:
        return found
    by_key = {record.key: record.defense for record in records}
    found.insert(3, "defense_name", found["key"].map({key: one.name for key, one in by_key.items()}))
    found.insert(4, "parameters", found["key"].map({key: canonical_json(one.config) for key, one in by_key.items()}))
    for column in ("value", "low", "high"):
        found[column] = pd.to_numeric(found[column])
    return found


def _entry(
    defense: Any, name: str, version: int, randomness: Randomness, clear_share: float, suite: Suite
) -> tuple[Entry, WrappedDefense | None]:
    """The defense as an entry of a suite, and wrapped unless it is a plug-in."""
    if name and not LABEL.fullmatch(name):
        raise UserError(f"expected a name of lower-case letters, digits and _, got {name!r}", "For example: my_defense")
    if isinstance(defense, Path | str):
        file, known = _file_of(defense), str(defense)
        if file:
            registry.add_plugin(file, only="defense")
            known = file.stem
        found = choose("defense", [known], suite.defense)[0]
        return (found.model_copy(update={"label": name}) if name else found), None
    params: dict[str, Any] = {}
    if isinstance(defense, Defense):
        params = _params(defense)
        defense = type(defense)
    if isinstance(defense, type):
        if not issubclass(defense, Defense):
            raise UserError(
                f"expected a Defense, got the class {defense.__name__}", "Give an object that can be called."
            )
        if registry_name := registered(defense):
            return Entry(name=registry_name, label=name, params=params), None
    elif not callable(defense):
        raise UserError(f"expected a callable, a Defense or a name, got {type(defense).__name__}", "See the docstring.")
    wrapped = wrapped_defense(defense, name or name_of(defense), version, randomness, clear_share)
    wrapped.adopt()
    return Entry(name=wrapped.name, params=params), wrapped


def _file_of(defense: Any) -> Path | None:
    """The file of a plug-in that is given by it."""
    given = isinstance(defense, Path) or (isinstance(defense, str) and defense.endswith(".py"))
    return Path(defense).resolve() if given else None


def _params(defense: Defense) -> dict[str, Any]:
    """The parameters of an instance, all that a Defense is beside its class.

    Raises:
        UserError: it holds more.
    """
    fresh = type(defense)(defense.config)
    if more := sorted(set(vars(defense)) - set(vars(fresh))):
        raise UserError(
            f"{type(defense).__name__} holds {', '.join(more)} beside its config: fitted, or used, before",
            "Give the class, or a new instance; one that learns is fitted here, on the defender's people.",
        )
    params: dict[str, Any] = defense.config.model_dump(mode="json")
    return params


def _check_data(data: object) -> None:
    """Raises:
    UserError: it is no data set, or is named otherwise than labels are.
    """
    if not isinstance(data, FaceDataset):
        raise UserError(
            f"expected the name of a data set or a FaceDataset, got {type(data).__name__}",
            "Make one of your images:  ppfr_bench.datasets.from_sequence(images, identities)",
        )
    if not LABEL.fullmatch(data.name):
        raise UserError(
            f"expected a data set named by lower-case letters, digits and _, got {data.name!r}",
            "Give it another name, for example:  my_photos",
        )


def _with_controls(entry: Entry, suite: Suite) -> tuple[Entry, ...]:
    """The entry and, before it, the two ends of the scale that it is measured between."""
    ends = [one for one in suite.defense if one.name in suite.controls and one.label == one.name]
    ends += [Entry(name=name) for name in suite.controls if name not in [one.name for one in ends]]
    return (*(one for one in ends if one.label != entry.label), entry)


def _words(row: Row) -> str:
    out = io.StringIO()
    terminal.explain(row, NeutralConsole(file=out, width=200, color_system=None))
    return out.getvalue()


def _quiet(cell: object, record: object) -> None:
    """Says nothing."""
