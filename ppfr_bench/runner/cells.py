"""A cell becomes a record: fetch its stages from the lab, score them, say what it cost and what is odd about it."""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import ppfr_bench
from ppfr_bench import registry
from ppfr_bench.api import AttackCard, Defense, Pairs, Recognizer
from ppfr_bench.errors import Unavailable
from ppfr_bench.metrics import image_metric_names
from ppfr_bench.metrics.attributes import read_attributes
from ppfr_bench.recognizers import brought_recognizer, load_recognizer
from ppfr_bench.results import Component, Cost, Environment, MetricValue, Record
from ppfr_bench.runner import score
from ppfr_bench.runner.lab import Lab
from ppfr_bench.runner.plan import Cell, Plan, identity_of

CANARY_TOLERANCE = 0.005  # of accuracy, around what the recognizer's card expects


def run_cell(lab: Lab, cell: Cell) -> tuple[Record, bytes | None]:
    """The record of a cell, and its sample strip if it has one. Whatever goes wrong becomes its status and reason."""
    lab.cache.used.clear()
    try:
        return _measure(lab, cell)
    except Unavailable as error:
        return unmeasured(lab.plan, cell, "skipped", str(error)), None
    except Exception as error:  # a cell that fails is a result: it is recorded, and the other cells go on
        reason = f"{type(error).__name__}: {error}"
        return unmeasured(lab.plan, cell, "failed", reason[:2000]), None


def unmeasured(plan: Plan, cell: Cell, status: str, reason: str) -> Record:
    """A record without numbers: failed or skipped, and why."""
    return Record(**_header(plan, cell), status=status, reason=reason)


def _measure(lab: Lab, cell: Cell) -> tuple[Record, bytes | None]:
    plan, dataset = lab.plan, lab.dataset
    everyone = np.unique(dataset.evaluation.identities)
    bootstrap = score.Bootstrap(plan.protocol.replicates, plan.seed, everyone)
    extra: dict[str, Any] = {}
    strip = None
    flags: list[str] = []
    if cell.kind == "attack" and cell.attack is not None:
        card = _attack_card(cell.attack)
        stage = lab.attack(cell.defense, cell.attack, cell.recognizer)
        ceiling = lab.attack(plan.identity, cell.attack, cell.recognizer)
        identities = dataset.evaluation.identities[dataset.targets]
        if card.measures in ("appearance", "control"):
            likeness = _arrays(lab.likeness(stage.key, stage["answer"]))
            blind = lab.blind_likeness(cell.attack)
            best = _arrays(lab.likeness(ceiling.key, ceiling["answer"]))
            metrics = score.appearance(likeness, blind, best, identities, bootstrap)
            if card.measures == "control":
                metrics = {name: found for name, found in metrics.items() if not name.startswith("leakage")}
            # Who learnt under another key is led astray, and that says nothing of how well it learnt.
            same_key = registry.build("attack", cell.attack.name, cell.attack.config).key == "same"
            if card.learned and same_key and _below_blind(metrics):
                flags.append("attack_below_blind")
            if not plan.real_people and plan.protocol.samples:
                strip = _strip(stage["answer"], identities, plan.protocol.samples)
                extra = {"samples": f"{cell.key}.jpg", "samples_sha256": hashlib.sha256(strip).hexdigest()}
        elif card.measures == "attributes":
            truth = read_attributes(dataset.evaluation.load(dataset.targets))
            blind_answer = lab.attack(plan.blackout, cell.attack)["answer"]
            metrics = score.attributes(stage["answer"], blind_answer, ceiling["answer"], truth, identities, bootstrap)
        else:
            gallery = dataset.evaluation.identities[dataset.gallery]
            compare = score.unlinkability if card.measures == "unlinkability" else score.linkage
            metrics = compare(stage["answer"], ceiling["answer"], identities, gallery, bootstrap)
        log = stage.meta["log"]
        if log.get("converged") is False:
            flags.append("attack_not_converged")
        flags += lab.randomness_flags(cell.defense)
        extra |= {"log": log}
        queries, trained = int(stage.meta["queries"]), int(log.get("training_images", 0))
    else:
        assert cell.recognizer is not None
        queries = trained = 0
        recognizer = load_recognizer(cell.recognizer.name)
        if cell.kind == "canary":
            faces, pairs = dataset.canary
            embeddings = lab.clear_embeddings(cell.recognizer, "canary")["embeddings"]
            everyone = np.unique(faces.identities)
            bootstrap = score.Bootstrap(plan.protocol.replicates, plan.seed, everyone)
            metrics = score.verification(_scores(recognizer, embeddings, pairs), pairs, faces.identities, bootstrap)
            expected = recognizer.card.expected_accuracy.get(dataset.name)
            extra["log"] = {"expected_accuracy": expected}
            if brought := brought_recognizer(cell.recognizer.name):
                extra["log"]["recognizer"] = brought.provenance
            accuracy = metrics["accuracy"].value
            if expected is not None and (accuracy is None or abs(accuracy - expected) > CANARY_TOLERANCE):
                flags.append("canary_moved")
        else:
            untouched = cell.recognizer.model_copy(update={"label": cell.recognizer.name, "config": {}})
            clear = lab.clear_embeddings(untouched)["embeddings"]
            frozen = lab.frozen_threshold(untouched)
            extra["log"] = {"threshold_frozen": float(f"{frozen:.6g}")}
            if cell.adapted:
                stage = lab.adapted_embeddings(cell.recognizer, cell.defense)
                extra["log"] |= stage.meta["log"]
                trained = int(stage.meta["log"]["training_images"])
            else:
                stage = lab.released_embeddings(cell.recognizer, cell.defense)
            protected = stage["embeddings"]
            metrics = score.utility(
                _scores(recognizer, protected, dataset.pairs), _scores(recognizer, clear, dataset.pairs),
                dataset.pairs, dataset.evaluation.identities, frozen, bootstrap,
            )  # fmt: skip
    record = Record(
        **_header(plan, cell), status="ok", metrics=metrics, flags=tuple(flags), **extra,
        cost=_cost(lab, cell, queries, trained),
    )  # fmt: skip
    return record, strip


def _header(plan: Plan, cell: Cell) -> dict[str, Any]:
    card = _attack_card(cell.attack) if cell.attack else None
    defense: Defense = registry.build("defense", cell.defense.name, cell.defense.config)
    return {
        "key": cell.key, "suite": plan.suite, "dataset": plan.dataset, "dataset_revision": plan.dataset_revision,
        "real_people": plan.real_people, "cell": cell.kind, "defense": cell.defense, "attack": cell.attack,
        "recognizer": cell.recognizer,
        "surrogate": cell.recognizer is not None and cell.recognizer.name == plan.surrogate,
        "adapted": cell.adapted,
        "measures": card.measures if card else None, "builds_on": card.builds_on if card else (),
        "knowledge": card.knowledge if card else None,
        "seed": plan.seed, "defense_card": type(defense).card.model_dump(mode="json"), "guarantee": defense.guarantee,
        "environment": environment(plan.protocol.threads),
    }  # fmt: skip


def _attack_card(attack: Component) -> AttackCard:
    card: AttackCard = registry.load("attack", attack.name).card
    return card


def _scores(recognizer: Recognizer, embeddings: npt.NDArray[Any], pairs: Pairs) -> npt.NDArray[np.float64]:
    embeddings = embeddings.astype(np.float64)
    return recognizer.similarity(embeddings[pairs.left], embeddings[pairs.right])


def _arrays(likeness: Any) -> dict[str, npt.NDArray[np.float64]]:
    return {name: likeness[name] for name in image_metric_names()}


def _below_blind(metrics: dict[str, MetricValue]) -> bool:
    """The attack is worse than answering blindly on every measure, beyond its interval: broken or under-trained."""

    def worse(name: str) -> bool:
        here, blind = metrics[name], metrics[f"{name}_blind"]
        if here.interval is None or blind.value is None:
            return False
        return here.interval[0] > blind.value if here.direction == "lower_is_better" else here.interval[1] < blind.value

    return all(worse(name) for name in score.LEAKING)


def _strip(images: npt.NDArray[np.uint8], identities: npt.NDArray[np.int64], count: int) -> bytes:
    """The first image of the first ``count`` identities side by side, as JPEG (synthetic faces only)."""
    _, first = np.unique(identities, return_index=True)
    row = np.concatenate([images[i].transpose(1, 2, 0) for i in np.sort(first)[:count]], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(row).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _cost(lab: Lab, cell: Cell, queries: int, trained: int) -> Cost:
    """Seconds of the stages that this cell's own defense and attack needed, as first computed; not its floor's."""
    others = [identity_of(c) for c in (lab.plan.identity, lab.plan.blackout) if c.name != cell.defense.name]
    stages = [stage for stage in lab.cache.used.values() if stage.meta["spec"].get("defense") not in others]
    speed = None
    for stage in stages:
        spec = stage.meta["spec"]
        own = spec.get("defense", {}).get("name") == cell.defense.name
        if own and spec.get("split") == "evaluation" and stage.seconds > 0:
            speed = round(stage.meta["images"] / stage.seconds, 1)
    return Cost(
        seconds=round(sum(stage.seconds for stage in stages), 3), protect_images_per_second=speed,
        peak_memory_mib=max((stage.meta["peak_memory_mib"] for stage in stages), default=None),
        attack_training_images=trained, oracle_queries=queries,
    )  # fmt: skip


@cache
def environment(threads: int) -> Environment:
    """Where this process runs."""
    return Environment(
        ppfr_bench=ppfr_bench.__version__, commit=_git("rev-parse", "HEAD"), dirty=_dirty(),
        python=platform.python_version(), torch=torch.__version__, platform=f"{sys.platform}-{platform.machine()}",
        processor=_processor(), device="cpu", threads=threads,
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
