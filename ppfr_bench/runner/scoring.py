"""A cell becomes a record: its scorer is given the arrays of its inputs, and it is noted what they cost."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import ppfr_bench
from ppfr_bench import registry
from ppfr_bench.api import Attack, Method
from ppfr_bench.cards import TrainingLog
from ppfr_bench.contracts.defense import FEW_DRAWS
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers import external_recognizer
from ppfr_bench.records import samples
from ppfr_bench.records.budget import BudgetCurve
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.records.record import TRUSTED, Cost, Environment, Record
from ppfr_bench.redaction import publishable
from ppfr_bench.runner.plan import VERIFICATION, Cell, Plan
from ppfr_bench.scorers.base import Scorer, Truth, sizes
from ppfr_bench.scorers.held_out import unlike_held_out
from ppfr_bench.scorers.verification import Verification
from ppfr_bench.stages.context import Context, Setting
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer

CANARY_TOLERANCE = 0.005  # Accuracy may differ by so much from the recognizer's card.


@dataclass(frozen=True)
class CellJob:
    """A cell as it is sent to a worker.

    Attributes:
        cell: without its stages.
        header: of the record, all that is known before it is measured.
        inputs: kind and key of the stages that the scorer is given, by name.
        paid: kind and key of the stages whose time is the cell's: not of its floor and its ceiling.
        shared: those of ``paid`` that an earlier cell of the row needs too.
        check: of the defense; what it notes of its randomness becomes flags.
    """

    cell: Cell
    header: dict[str, Any]
    inputs: dict[str, tuple[str, str]]
    paid: tuple[tuple[str, str], ...]
    shared: frozenset[tuple[str, str]]
    check: tuple[str, str] | None

    @property
    def key(self) -> str:
        """Of the record."""
        return self.cell.key


def job_of(plan: Plan, cell: Cell) -> CellJob:
    """What a worker needs to score a cell."""
    others = [c.spec for c in (plan.ceiling, plan.floor) if c.name != cell.defense.name]
    stages = {stage.key: stage for one in cell.inputs.values() for stage in one.before()}
    paid = [s for s in stages.values() if s.spec.get("defense") not in others]
    mine = [s for s in stages.values() if s.kind == "check" and s.spec["defense"] == cell.defense.spec]
    shared = [s for s in paid if plan.first_to_need[cell.defense.label, s.key] != cell.key]
    bare = Cell(
        cell.kind, cell.defense, cell.attack, cell.recognizer, cell.track, cell.scorer, cell.extra, {}, cell.key
    )
    return CellJob(
        bare, header(plan, cell), {name: (stage.kind, stage.key) for name, stage in cell.inputs.items()},
        tuple((stage.kind, stage.key) for stage in paid), frozenset((stage.kind, stage.key) for stage in shared),
        (mine[0].kind, mine[0].key) if mine else None,
    )  # fmt: skip


def header(plan: Plan, cell: Cell) -> dict[str, Any]:
    """What is known of a record before the cell is measured."""
    attack: Attack | None = registry.build("attack", cell.attack.name, cell.attack.config) if cell.attack else None
    defense: Method = registry.build("defense", cell.defense.name, cell.defense.config)
    return {
        "key": cell.key, "suite": plan.suite, "dataset": plan.dataset,
        "dataset_revision": plan.setting.dataset_revision,
        "real_people": plan.real_people, "cell": cell.kind, "track": cell.track, "defense": cell.defense,
        "attack": cell.attack, "recognizer": cell.recognizer,
        "surrogate": cell.recognizer is not None and cell.recognizer.name == plan.setting.surrogate,
        "adapted": cell.adapted, "scorer": cell.scorer if attack or cell.scorer != VERIFICATION else "",
        "sets": registry.load("scorer", cell.scorer).sets if attack else "",
        "builds_on": attack.card.builds_on if attack else (), "knowledge": attack.knowledge if attack else None,
        "seed": plan.seed, "defense_card": type(defense).card.model_dump(mode="json"), "guarantee": defense.guarantee,
    }  # fmt: skip


def unmeasured(
    head: Mapping[str, Any], environment: Environment, status: str, reason: str, flags: tuple[str, ...] = ()
) -> Record:
    """A record without numbers: failed or skipped, and why."""
    return Record(**head, environment=environment, status=status, reason=publishable(reason), flags=flags)


def marks(setting: Setting) -> tuple[str, ...]:
    """The flag of every record of a run in which the code of a file could change any number."""
    return (TRUSTED,) if setting.trusted else ()


def compared(job: Job, inputs: Mapping[str, Output], context: Context, writer: Writer) -> None:
    """What a scorer keeps of an answer beside the originals, as it says in ``Scorer.compare``."""
    scorer: Scorer = registry.load("scorer", job.spec["scorer"])(tuple(job.how.get("extra", ())))
    answers, truth = dict(inputs["answer"]), truth_of(context)
    if "row" in job.spec:
        answers = {"answer": np.asarray(answers["answer"][job.spec["row"]])[None]}
    else:
        check_answers(scorer, answers, truth, job.how["label"])
    if job.spec.get("another"):  # A floor is of the whole budget.
        parts = sizes(answers).values()
        answers = {name: np.asarray(answer)[truth.of_another] for name, answer in answers.items() if name not in parts}
    for name, array in scorer.compare(answers, truth).items():
        writer.save(name, np.asarray(array))


def check_answers(scorer: Scorer, answers: Mapping[str, npt.NDArray[Any]], truth: Truth, attack: str) -> None:
    """Raises:
    UserError: an attack has answered something that its scorer cannot read.
    """
    for name, answer in answers.items():
        if wrong := scorer.wrong_answer(answer, len(truth.targets), len(truth.gallery)):
            which = "" if name == "answer" else f" ({name})"
            raise UserError(f"attack {attack}{which}: {wrong}", "See the scorer that its card names in `measures`.")


def truth_of(context: Context) -> Truth:
    """What the scorers know of the data set of a context."""
    return Truth(context.dataset, context.batch)


def score(
    job: CellJob, inputs: Mapping[str, Output], paid: Sequence[Output], shared: Sequence[Output],
    check: Output | None, context: Context,
) -> tuple[Record, bytes | None]:  # fmt: skip
    """The record of a cell, and its strip of sample faces if it has one."""
    cell, truth, protocol = job.cell, truth_of(context), context.setting.protocol
    bootstrap = truth.bootstrap(protocol.replicates, context.setting.seed)
    scorer: Scorer = registry.load("scorer", cell.scorer)(cell.extra)
    found = _attack if cell.attack is not None else _recognizer
    metrics, noted = found(scorer, cell, inputs, truth, bootstrap, context)
    noted["flags"] = (*noted["flags"], *marks(context.setting))
    if check is not None and cell.attack is not None:
        seen = (FEW_DRAWS,) if inputs["attack"].meta.get("repeated") else ()
        noted["flags"] = tuple(dict.fromkeys((*noted["flags"], *check.meta["flags"], *seen)))
    strip = None
    if noted.pop("faces", False) and not context.dataset.card.real_people and protocol.samples:
        strip = _strip(noted.pop("answer"), truth.targets, protocol.samples)
        noted["samples"] = samples.name_of(strip)
    noted.pop("answer", None)
    cost = _cost(cell, paid, shared, int(noted.pop("queries", 0)), int(noted.pop("trained", 0)))
    return Record(
        **job.header, environment=environment(protocol.threads, context.setting.device, _layers(job, paid)),
        status="ok", metrics=metrics, cost=cost, **noted,
    ), strip  # fmt: skip


def _layers(job: CellJob, paid: Sequence[Output]) -> str:
    """What closed in the process of the cell's own defense, if it had one."""
    found = [output.meta["sandbox"] for output in paid if "sandbox" in output.meta]
    return str(found[0]) if found else ""


def _attack(
    scorer: Scorer, cell: Cell, inputs: Mapping[str, Output], truth: Truth, bootstrap: Any, context: Context
) -> tuple[dict[str, Measurement], dict[str, Any]]:
    assert cell.attack is not None
    attack: Attack = registry.build("attack", cell.attack.name, cell.attack.config)
    answered = inputs["attack"]
    check_answers(scorer, answered, truth, cell.attack.label)
    metrics = scorer.score(inputs, truth, bootstrap)
    training = TrainingLog.model_validate(answered.meta["training"])
    learned = attack.card.learned and training.training_images > 0
    flags = scorer.flags(metrics, learned=learned, same_key=attack.key_access != "other")
    if training.converged is False:
        flags.append("attack_not_converged")
    if learned and unlike_held_out(metrics, training.notes.get("held_out", {})):
        flags.append("targets_unlike_held_out")
    log: dict[str, Any] = {}
    if groups := scorer.by_group(inputs, truth, bootstrap):
        log["groups"] = groups
    spent = scorer.by_budget(inputs, truth)
    if any(size < answered.meta["whole"] for size in spent):
        of_whole = {name: one.leakage.value for name, one in metrics.items() if one.leakage is not None}
        curve = BudgetCurve.of(answered.meta["budget"], spent, answered.meta["whole"], of_whole)
        log["budget"] = curve.model_dump(mode="json")
        if curve.still_rising:
            flags.append("attack_still_rising")
    return metrics, {
        "flags": tuple(flags), "training": training, "faces": scorer.shows_faces, "answer": answered["answer"],
        "queries": answered.meta["queries"], "trained": training.training_images,
        "log": log,
    }  # fmt: skip


def _recognizer(
    scorer: Scorer, cell: Cell, inputs: Mapping[str, Output], truth: Truth, bootstrap: Any, context: Context
) -> tuple[dict[str, Measurement], dict[str, Any]]:
    recognizer = context.recognizer(cell.recognizer.name) if cell.recognizer is not None else None
    if cell.kind == "canary":
        assert recognizer is not None and cell.recognizer is not None and isinstance(scorer, Verification)
        draws = type(bootstrap)(bootstrap.replicates, bootstrap.seed, np.unique(context.dataset.canary[0].identities))
        metrics = scorer.canary(inputs["canary"]["embeddings"], recognizer, truth, draws)
        expected = recognizer.card.expected_accuracy.get(context.dataset.name)
        log: dict[str, Any] = {"expected_accuracy": expected}
        if external := external_recognizer(cell.recognizer.name):
            log["recognizer"] = external.provenance
        accuracy = metrics["accuracy"].value.value
        moved = expected is not None and (accuracy is None or abs(accuracy - expected) > CANARY_TOLERANCE)
        return metrics, {"flags": ("canary_moved",) if moved else (), "log": log}
    metrics, log = scorer.utility(inputs, recognizer, truth, bootstrap)
    trained = 0
    if cell.adapted:
        log |= inputs["protected"].meta["log"]
        trained = int(log["training_images"])
    return metrics, {"flags": (), "log": log, "trained": trained}


def _strip(images: npt.NDArray[np.uint8], identities: npt.NDArray[np.int64], count: int) -> bytes:
    """The first image of the first ``count`` identities side by side (synthetic faces only)."""
    _, first = np.unique(identities, return_index=True)
    return samples.strip_of([images[i] for i in np.sort(first)[:count]])


def _cost(cell: Cell, paid: Sequence[Output], shared: Sequence[Output], queries: int, trained: int) -> Cost:
    """Seconds of the stages that this cell's own defense and attack needed, as first computed; not its floor's."""
    speed = None
    for output in paid:
        spec = output.meta["spec"]
        own = spec.get("defense", {}).get("name") == cell.defense.name
        if own and spec.get("split") == "evaluation" and output.seconds > 0 and "images" in output.meta:
            speed = round(output.meta["images"] / output.seconds, 1)
    return Cost(
        seconds=round(sum(output.seconds for output in paid), 3),
        shared=round(sum(output.seconds for output in shared), 3), protect_images_per_second=speed,
        peak_memory_mib=max((output.meta["peak_memory_mib"] for output in paid), default=None),
        attack_training_images=trained, oracle_queries=queries,
    )  # fmt: skip


@cache
def environment(threads: int, device: str, sandbox: str = "") -> Environment:
    """Where this process runs; ``sandbox``: what closed in the process of the defense, if it had one."""
    return Environment(
        ppfr_bench=ppfr_bench.__version__, commit=_git("rev-parse", "HEAD"), dirty=_dirty(),
        python=platform.python_version(), torch=torch.__version__, platform=f"{sys.platform}-{platform.machine()}",
        processor=_processor(), device=device, threads=threads, sandbox=sandbox,
    )  # fmt: skip


def _dirty() -> bool | None:
    changed = _git("status", "--porcelain", "--", "ppfr_bench", "attacks", "defenses", "pyproject.toml")
    return None if changed is None else bool(changed)


def _git(*arguments: str) -> str | None:
    """What git says of the checkout this package runs from, or None outside one."""
    root = Path(ppfr_bench.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
