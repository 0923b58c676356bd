"""Request: a suite and what was asked of it become a plan, the one way for every command.

``run``, ``evaluate``, ``nightly``, ``submit``, ``score``, ``data export`` and ``data releases`` all come through
``resolve``, so that none of them measures on data that somebody trains on, or under another reading of the same
options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ppfr_bench import registry
from ppfr_bench.api import FaceDataset
from ppfr_bench.console import err
from ppfr_bench.datasets import dataset_class, dataset_names, disjoint_splits
from ppfr_bench.datasets.opening import open_dataset
from ppfr_bench.recognizers import recognizer_card, recognizer_component
from ppfr_bench.records.record import TRUSTED
from ppfr_bench.runner.choice import check_settings_used, choose, narrowed, precomputed_entries
from ppfr_bench.runner.elsewhere import Answered, check_entries, check_row, take_answers
from ppfr_bench.runner.plan import Plan, make_plan, training_splits
from ppfr_bench.runner.worker import stage_store
from ppfr_bench.sandbox.stand_in import StandIn
from ppfr_bench.suites import DatasetEntry, Entry, Suite, load_suite
from ppfr_bench.wrapping import PickledDataset, WrappedDefense


@dataclass(frozen=True)
class Asked:
    """What is asked of a suite; what is left empty is as the suite has it.

    Attributes:
        defenses, attacks, recognizers: only these.
        dataset: another data set, with its defaults; ``dataset_root``: where it lies.
        settings: ``path=value``; ``sweeps``: the same with several values of a parameter.
        plugins: files of plug-ins; ``precomputed``: folders of images that were protected elsewhere.
        answers: folders of answers to the releases of the one row, by attacks that were made elsewhere.
        only: the defenses, as entries, in place of those of the suite.
        wrapped: defenses without a file that are among these.
        data: a data set that is open already.
        device: of the stages.
        trust: run defenses that are given by file in the harness's own process, and mark every record.
    """

    defenses: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    recognizers: tuple[str, ...] = ()
    dataset: str | None = None
    dataset_root: Path | None = None
    settings: tuple[str, ...] = ()
    sweeps: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    precomputed: tuple[Path, ...] = ()
    answers: tuple[Path, ...] = ()
    drop_duplicates: bool = False
    seed: int | None = None
    only: tuple[Entry, ...] = ()
    wrapped: tuple[WrappedDefense, ...] = ()
    data: FaceDataset | None = None
    device: str = "cpu"
    trust: bool = False


@dataclass(frozen=True)
class Request:
    """A plan with its data open, ready to be audited and run.

    Attributes:
        suite: as it runs: narrowed and with its settings.
        added: what the files of plug-ins brought, by kind and name.
        idle: plug-ins among them that do not run, as something else was chosen.
        answered: what was answered elsewhere.
    """

    suite: Suite
    plan: Plan
    dataset: FaceDataset
    added: tuple[tuple[registry.Kind, str], ...] = ()
    idle: tuple[str, ...] = field(default=())
    answered: tuple[Answered, ...] = ()

    def audit(self) -> None:
        """Refuse data whose measured people or photographs are also trained on; looked at once a data set.

        Raises:
            UserError: with the images.
        """
        splits = training_splits(self.plan.defenses)
        spec = {"dataset": self.plan.setting.dataset_revision, "splits": splits, "distance": disjoint_splits.DISTANCE}
        look = disjoint_splits.kept_perceptual_hashes
        stage_store("").get(
            "disjoint", spec, lambda writer: disjoint_splits.check_disjoint(self.dataset, splits, hashes_of=look)
        )

    def tell(self) -> None:
        """Say which files are passed over, which copies are left out, who is weak, and where the code of files runs."""
        for note in getattr(self.dataset, "notes", ()):
            err.print(note, highlight=False, markup=False, soft_wrap=True)
        for split, names in self.plan.dataset.config.get("drop_duplicates", {}).items():
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            what = (
                f"are copies of measured photographs and left out: {listed}" if names else "are copies of measured ones"
            )
            line = f"{len(names) or 'none'} of the {split}'s images {what}"
            err.print(line, highlight=False, markup=False, soft_wrap=True)
        for line in (*self._weak_recognizers(), *self._where_files_run()):
            err.print(line, highlight=False, markup=False, soft_wrap=True)
        for name in self.idle:
            err.print(f"the plug-in {name} is not among what --defense or --attack chooses: it does not run",
                      highlight=False, markup=False, soft_wrap=True)  # fmt: skip

    def _weak_recognizers(self) -> Iterator[str]:
        """A line for each recognizer that misjudges too many clear pairs."""
        for one in {cell.recognizer.name: cell.recognizer for cell in self.plan.cells if cell.recognizer}.values():
            card = recognizer_card(one.name)
            if card.weak:
                yield (
                    f"{one.label} is weak: it judges {card.expected_accuracy['lfw']:.1%} of LFW's clear pairs rightly. "
                    "What it fails to recognize says little of a defense."
                )

    def _where_files_run(self) -> Iterator[str]:
        """A line for each defense with a process of its own, and one for all other files."""
        for component in {one.name: one for one in self.plan.defenses}.values():
            cls = registry.load("defense", component.name)
            if issubclass(cls, StandIn):
                child = cls.plugin.child
                line = f"{component.name} runs in a process of its own, held by {', '.join(child.held) or 'nothing'}"
                reached = f"; it can reach {', '.join(child.open_to)}:  ppfr-bench doctor" if child.open_to else ""
                yield line + reached
        here = sorted({name for _, name in self.added} & set(registry.added_here()))
        if here or self.plan.setting.here:
            what = ", ".join(here) or "code given by file"
            yield f"{what}: in the harness's own process, with all that you may do; every record is flagged {TRUSTED}"


def resolve(suite: str | Path, asked: Asked | None = None) -> Request:
    """The plan of a suite under what is asked.

    Raises:
        UserError: an unknown suite, name or setting, a wrong parameter, a setting of something that does not run, or
            data that are not there.
    """
    asked = asked or Asked()
    registry.run_here(asked.trust)
    added = tuple(one for path in asked.plugins for one in registry.add_plugin(path))
    overrides = (*asked.settings, *(() if asked.seed is None else (f"seed={asked.seed}",)))
    overrides += ("drop_duplicates=true",) if asked.drop_duplicates else ()
    whole = load_suite(str(suite), overrides, asked.dataset, asked.sweeps)
    published_seed = load_suite(str(suite), asked.settings, asked.dataset, asked.sweeps).seed
    whole = _with_metrics(_with_root(whole, asked.dataset_root), added)
    brought = [name for kind, name in added if kind == "defense"]
    chosen = [] if asked.only else list(asked.defenses) or brought
    elsewhere = precomputed_entries(asked.precomputed)
    answered = tuple(map(take_answers, asked.answers))
    loaded = narrowed(whole, chosen, list(asked.attacks), asked.sweeps, elsewhere, tuple(one.entry for one in answered))
    check_entries(answered, whole.attack, loaded.attack)
    if asked.only:
        check_settings_used("defense", whole.defense, asked.only)
        loaded = loaded.model_copy(update={"defense": asked.only})
    if not asked.attacks:
        loaded = _with_attacks(loaded, [name for kind, name in added if kind == "attack"])
    if asked.recognizers or (more := [name for kind, name in added if kind == "recognizer"]):
        for name in asked.recognizers:
            recognizer_component(name)  # Opening the data takes longer.
        loaded = loaded.model_copy(update={"recognizers": asked.recognizers or (*loaded.recognizers, *more)})
    if asked.data is not None:
        loaded = loaded.model_copy(update={"dataset": _entry_of(asked.data, loaded.drop_duplicates)})
    opened = open_dataset(loaded.dataset, asked.data)
    reopened = asked.data is None or bool(_parameters(asked.data))
    plan = make_plan(
        loaded, opened, named=whole.attack, plugins=tuple(path.resolve() for path in asked.plugins),
        device=asked.device, wrapped=asked.wrapped,
        pickled=None if reopened or asked.data is None else PickledDataset.pack(asked.data),
        published_seed=published_seed, here=asked.trust,
        trusted=asked.trust or bool({name for _, name in added} & set(registry.added_here())),
    )  # fmt: skip
    check_row(answered, plan, opened)
    running = {one.name for one in (*plan.defenses, *plan.attacks.values())}
    idle = sorted({name for kind, name in added if kind in ("defense", "attack")} - running)
    return Request(loaded, plan, opened, added, tuple(idle), answered)


def narrow_plan(request: Request, keys: Sequence[str]) -> Request:
    """The same with the cells of these keys alone."""
    wanted = set(keys)
    cells = tuple(cell for cell in request.plan.cells if cell.key in wanted)
    return replace(request, plan=replace(request.plan, cells=cells))


def _entry_of(data: FaceDataset, drop_duplicates: bool) -> DatasetEntry:
    """The entry of a data set that is open already."""
    return DatasetEntry(name=data.name, params=_parameters(data), drop_duplicates=drop_duplicates)


def _parameters(data: FaceDataset) -> dict[str, Any]:
    """Under which name and parameters open a data set again; empty of one that they do not."""
    config = getattr(data, "config", None)
    known = data.name in dataset_names() and type(data) is dataset_class(data.name)
    return dict(config.model_dump(mode="json")) if known and config is not None else {}


def _with_root(suite: Suite, root: Path | None) -> Suite:
    if root is None:
        return suite
    params = suite.dataset.params | {"root": str(root)}
    return suite.model_copy(update={"dataset": suite.dataset.model_copy(update={"params": params})})


def _with_metrics(suite: Suite, added: Sequence[tuple[registry.Kind, str]]) -> Suite:
    """A metric that a file brings is computed beside those that every suite computes."""
    more = [name for kind, name in added if kind == "metric" and name not in suite.metrics]
    return suite.model_copy(update={"metrics": (*suite.metrics, *more)}) if more else suite


def _with_attacks(suite: Suite, names: Sequence[str]) -> Suite:
    """An attack that a file brings runs after those of the suite."""
    more = [name for name in names if name not in [entry.name for entry in suite.attack]]
    return suite.model_copy(update={"attack": (*suite.attack, *choose("attack", more, ()))}) if more else suite
