"""For scripts and notebooks: measure one defense, and read records as tables."""

from __future__ import annotations

import html
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.console import Console

from ppfr_bench import registry
from ppfr_bench.api import Defense, FaceDataset, UserError
from ppfr_bench.assets import cache_dir
from ppfr_bench.cards import Randomness
from ppfr_bench.check import check_plugin
from ppfr_bench.console import Progress
from ppfr_bench.datasets import dataset_class, dataset_names
from ppfr_bench.guests import Guest, Luggage, guest_of, main_left_alone, name_of, registered
from ppfr_bench.leaderboard import table, terminal
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.markdown import ParquetFile
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.text import bracketed
from ppfr_bench.options import check_settings_used, choose, tell_left_out
from ppfr_bench.places import user_path
from ppfr_bench.results import LABEL, Record, ResultStore, canonical_json, frame
from ppfr_bench.runner.execute import execute, missing
from ppfr_bench.runner.lab import Lab
from ppfr_bench.runner.plan import make_plan, open_dataset
from ppfr_bench.suites import DatasetEntry, Entry, Suite, load_suite

__all__ = ["Evaluation", "evaluate", "load_results"]

log = logging.getLogger(__name__)
CONTROLS = ("identity", "blackout")
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
        results: the folder of the records.
        measured: every record of the run, in the order of the suite.
        note: why it will be measured anew in the next process, if it will.
    """

    defense: str
    suite: str
    results: Path
    measured: tuple[Record, ...]
    note: str = ""

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row a metric: value, interval, n, the cell it belongs to; without a number, one row and the reason."""
        return _tidy(self.measured)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a defense, in the columns of ``leaderboard.parquet``; not measured is null."""
        return self._table(self.measured)

    @cached_property
    def row(self) -> Row:
        """The defense's row of the leaderboard: every number with its interval and its record."""
        (found,) = [row for row in table.build(self.measured) if row.defense == self.defense]
        return found

    def beside(self, results: str | Path = "results") -> pd.DataFrame:
        """``table`` among the defenses whose records of the same suite lie in another folder.

        Raises:
            UserError: no records there.
        """
        others = [r for r in ResultStore(Path(results)).records(self.suite) if r.defense.label != self.defense]
        keys = {record.key for record in others}
        return self._table((*others, *(record for record in self.measured if record.key not in keys)))

    def explain(self) -> str:
        """The row in words: what each number is, what set it, between which ends, and why one is missing."""
        return _words(self.row) + (f"{self.note}\n" if self.note else "")

    def _table(self, records: Sequence[Record]) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(ParquetFile().publish(Board(self.suite, tuple(records), self.results))[
            ParquetFile.name]))  # fmt: skip

    def __str__(self) -> str:
        row = self.row
        lines = [
            f"{self.defense} in {self.suite}: score {bracketed(row.score)}",
            f"  retention          {bracketed(row.retention)}",
            f"  appearance privacy {bracketed(row.appearance.figure)}  set by {row.appearance.set_by or 'nothing'}",
            f"  identity privacy   {bracketed(row.identity.figure)}  set by {row.identity.set_by or 'nothing'}",
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
    workers: int = 1,
    seed: int | None = None,
    rerun: Literal["failed", "all"] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Measure one defense as ``ppfr-bench run`` does, and the controls beside it.

    What was measured before is not measured again, in this process or another. A callable has no file and no version
    that anyone raises, so it is known by a fingerprint of its code, what it closes over and what it calls; where
    something of that cannot be seen, its results are kept for nobody, and ``note`` says what it was. What it reads
    from outside (a file, a service) is not in the fingerprint: raise ``version`` when that changes.

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
        workers: worker processes.
        seed: instead of the suite's.
        rerun: run cells again that failed, or all.
        progress: show a bar, or a line now and then.

    Returns:
        The numbers. A cell that failed is in them, with its reason.

    Raises:
        UserError: an unknown name, a wrong parameter, a setting of something that is not measured, a callable that
            breaks the contract, data that are not there.
    """
    overrides = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    if file := _file_of(defense):
        registry.add_plugin(file)  # a setting may be of it
    other = data if isinstance(data, str) and data != load_suite(str(suite)).dataset.name else None
    loaded = load_suite(str(suite), (*overrides, *([] if seed is None else [f"seed={seed}"])), other)
    loaded, luggage, given = _with_data(loaded, data)
    if given is not None and (unused := [key for key in settings or {} if key.startswith("dataset.")]):
        raise UserError(f"the setting {unused[0]} has no effect: data is open already", "Give it where data is made.")
    entry, guest, files = _entry(defense, name, version, randomness, clear_share, loaded)
    entries = [one for one in loaded.defense if one.name in CONTROLS and one.label == one.name]
    entries += [Entry(name=one) for one in CONTROLS if one not in [e.name for e in entries]]
    entries = [one for one in entries if one.label != entry.label]
    update: dict[str, Any] = {"defense": (*entries, entry)}
    check_settings_used("defense", loaded.defense, (entry,))
    if attacks:
        update["attack"] = choose("attack", list(attacks), loaded.attack)
        check_settings_used("attack", loaded.attack, update["attack"])
    if recognizers:
        update["recognizers"] = tuple(recognizers)
    loaded = loaded.model_copy(update=update)
    if guest is not None and (findings := check_plugin("defense", guest.name)):
        raise UserError(
            f"{guest.name} breaks the contract: " + "; ".join(f"{one.code}: {one.message}" for one in findings),
            "Declare what it is: randomness='per_call' if every call draws anew, clear_share=0.3 if a part is left "
            "clear by design; draw from the generator it is given, and from nothing else.",
        )
    dataset = open_dataset(loaded.dataset, given)
    plan = make_plan(loaded, dataset, files)
    plan = replace(plan, guests=(guest,) if guest else (), luggage=luggage)
    store = ResultStore(user_path(results, "results") if results is not None else cache_dir() / "evaluations")
    if missing(plan, store, rerun):
        Lab(plan, dataset).audit()
    pending = len(missing(plan, store, rerun))
    shown = Progress(pending, f"{entry.label} in {plan.suite}") if progress and pending else nullcontext(_quiet)
    if progress:
        tell_left_out(plan, dataset)
    told = {} if progress else {"tell": log.info}
    with main_left_alone(), shown as report:
        execute(plan, store, workers=workers, rerun=rerun, report=report, **told)
    records = [store.find(plan.folder(cell), cell.key) for cell in plan.cells]
    note = f"Measured anew in every process: {guest.unseen}." if guest and guest.unseen else ""
    return Evaluation(entry.label, plan.suite, store.root, tuple(r for r in records if r is not None), note)


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
) -> tuple[Entry, Guest | None, tuple[Path, ...]]:
    """The defense as an entry of a suite, the guest that it is unless a plug-in, and the files to load."""
    if name and not LABEL.fullmatch(name):
        raise UserError(f"expected a name of lower-case letters, digits and _, got {name!r}", "For example: my_defense")
    if isinstance(defense, Path | str):
        file, known = _file_of(defense), str(defense)
        if file:
            kind, known = registry.add_plugin(file)
            if kind != "defense":
                raise UserError(f"expected a defense, {file.name} is an {kind}", "Give it to  ppfr-bench run --plugin")
        found = choose("defense", [known], suite.defense)[0]
        return (found.model_copy(update={"label": name}) if name else found), None, (file,) if file else ()
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
            return Entry(name=registry_name, label=name, params=params), None, ()
    elif not callable(defense):
        raise UserError(f"expected a callable, a Defense or a name, got {type(defense).__name__}", "See the docstring.")
    guest = guest_of(defense, name or name_of(defense), version, randomness, clear_share)
    guest.adopt()
    return Entry(name=guest.name, params=params), guest, ()


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


def _with_data(suite: Suite, data: str | FaceDataset | None) -> tuple[Suite, Luggage | None, FaceDataset | None]:
    if data is None or isinstance(data, str):  # the suite was loaded with it
        return suite, None, None
    if not isinstance(data, FaceDataset):
        raise UserError(f"expected the name of a data set or a FaceDataset, got {type(data).__name__}", "")
    if not LABEL.fullmatch(data.name):
        raise UserError(f"expected a data set named by lower-case letters, digits and _, got {data.name!r}", "")
    config = getattr(data, "config", None)
    if data.name in dataset_names() and type(data) is dataset_class(data.name) and config is not None:
        return _on(suite, data.name, config.model_dump(mode="json")), None, data
    return _on(suite, data.name, {}), Luggage.pack(data), data


def _on(suite: Suite, name: str, params: dict[str, Any]) -> Suite:
    """The suite on another data set."""
    entry = DatasetEntry(name=name, params=params, drop_duplicates=suite.drop_duplicates)
    return suite.model_copy(update={"dataset": entry})


def _words(row: Row) -> str:
    out = io.StringIO()
    terminal.explain(row, Console(file=out, width=200, color_system=None))
    return out.getvalue()


def _quiet(cell: object, record: object) -> None:
    """Says nothing."""
