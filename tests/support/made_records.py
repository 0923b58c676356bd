"""Records for the tests of pages: made through the real model, with numbers chosen by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from ppfr_bench.card_reader import described
from ppfr_bench.cards import TrainingLog
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import table
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.metrics import metric_info
from ppfr_bench.records import samples as sample_faces
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.plan_file import (
    PlanFile,
    PlannedAttack,
    PlannedCell,
    PlannedDefense,
    PlannedRecognizer,
    PlannedTable,
)
from ppfr_bench.records.record import Component, Cost, Environment, Record
from ppfr_bench.records.store import ResultStore

ENVIRONMENT = Environment(
    ppfr_bench="0.1.0", commit="0123456789abcdef", dirty=False, python="3.11.7", torch="2.15.0",
    platform="linux-x86_64", processor="A processor", device="cpu", threads=2,
)  # fmt: skip
REPLICATES = 200


SCORERS = {"appearance": "reconstruction", "identity": "linkage"}  # what an attack measures -> its scorer
SETS = {"appearance": "appearance", "attributes": "appearance", "identity": "identity", "template": "appearance"}
LOWER = ("lpips", "eer")  # metrics of which less is better


def estimate(number: float | None, draws: Sequence[float] = (), *, reason: str = "") -> Estimate:
    interval = None
    if draws:
        low, high = np.quantile(draws, [0.025, 0.975])
        interval = (float(low), float(high))
    return Estimate(number, interval, 120, reason if number is None else "", tuple(draws))


def value(
    number: float | None, draws: Sequence[float] = (), *, metric: str = "accuracy", reason: str = "",
    version: int | None = None, **parts: Estimate,
) -> Measurement:  # fmt: skip
    return Measurement(
        metric=metric, version=metric_version(metric) if version is None else version,
        direction="lower_is_better" if metric in LOWER else "higher_is_better",
        value=estimate(number, draws, reason=reason), **parts,
    )  # fmt: skip


def around(number: float, spread: float, seed: int = 0) -> tuple[float, ...]:
    """Draws around a number, in five digits; the same seed moves them together, as paired draws do."""
    draws = np.random.RandomState(seed).normal(0, 1, REPLICATES)
    return tuple(float(f"{x:.5g}") for x in np.clip(number + spread * draws, 0, 1))


def metric_version(name: str) -> int:
    """The version that a metric has today; 1 of one that is made up."""
    try:
        return metric_info(name).version
    except UserError:
        return 1


def of_today(
    kind: Literal["attack", "defense"], label: str, name: str | None = None, config: dict[str, Any] | None = None
) -> Component:
    """A plug-in in the version that it has today; 1 of one that is not here."""
    name = name or label
    return Component(label=label, name=name, version=described(kind, name).get("version", 1), config=config or {})


def record(
    defense: str,
    cell: str,
    *,
    metrics: dict[str, Measurement] | None = None,
    attack: str | None = None,
    attack_name: str | None = None,
    attack_config: dict[str, Any] | None = None,
    recognizer: str | None = None,
    surrogate: bool = False,
    measures: str | None = None,
    status: str = "ok",
    reason: str = "",
    card: dict[str, Any] | None = None,
    control: bool = False,
    flags: tuple[str, ...] = (),
    suite: str = "quick",
    dataset: str = "synthetic",
    revision: str = "r" * 16,
    real_people: bool = False,
    seed: int = 0,
    seconds: float = 10.0,
    speed: float | None = None,
    log: dict[str, Any] | None = None,
    samples: bytes | None = None,
    defense_name: str | None = None,
    track: str = "image",
    adapted: bool = False,
) -> Record:
    key = digest([suite, dataset, defense, cell, attack, recognizer, revision, seed, attack_config])
    if card is None:
        card = {
            "title": defense.replace("_", " ").capitalize(), "family": "classical", "reference": "A paper, 2020",
            "licence": "MIT", "code_url": "https://example.org/code",
            "randomness": "deterministic", "deviations": ["Smaller than in the paper."],
        }  # fmt: skip
    return Record(
        key=key, suite=suite, dataset=Component(label=dataset, name=dataset, version=1), dataset_revision=revision,
        real_people=real_people, cell=cell, defense=of_today("defense", defense, defense_name),
        attack=of_today("attack", attack, attack_name, attack_config) if attack else None,
        recognizer=Component(label=recognizer, name=recognizer, version=1) if recognizer else None,
        surrogate=surrogate, adapted=adapted, track=track, scorer=SCORERS.get(measures or "", measures or ""),
        sets=SETS.get(measures or "", ""), knowledge="aware" if attack else None, seed=seed, status=status,
        reason=reason, metrics=metrics or {}, flags=flags, log={} if attack else log or {},
        training=TrainingLog.of({"shots": 1} | (log or {})) if attack and status == "ok" else None,
        defense_card=card | {"control": control}, samples=sample_faces.name_of(samples) if samples else "",
        environment=ENVIRONMENT,
        cost=Cost(seconds=seconds, protect_images_per_second=speed),
    )  # type: ignore[arg-type]  # fmt: skip


def utility(
    defense: str, recognizer: str, retention: float | None, *, draws: Sequence[float] = (), reason: str = "",
    surrogate: bool = False, **more: Any,
) -> Record:  # fmt: skip
    accuracy = None if retention is None else 0.5 + 0.49 * retention
    metrics = {
        "retention": value(retention, draws, metric="retention", reason=reason), "clear_accuracy": value(0.99),
        "accuracy": value(accuracy, reason=reason),
        "accuracy_frozen": value(accuracy and accuracy - 0.02, reason=reason),
        "auc": value(accuracy, metric="auc", reason=reason),
        "eer": value(accuracy and 1 - accuracy, metric="eer", reason=reason),
    }  # fmt: skip
    return record(defense, "utility", recognizer=recognizer, surrogate=surrogate, metrics=metrics, speed=850.0, **more)


def appearance(
    defense: str, attack: str, leakage: dict[str, float | None], *, draws: Mapping[str, Sequence[float]] | None = None,
    reason: str = "broken", version: int | None = None, **more: Any,
) -> Record:  # fmt: skip
    metrics = {}
    for name, leaked in leakage.items():
        floor, ceiling = (0.6, 0.1) if name == "lpips" else (0.35, 0.95)
        metrics[name] = value(
            floor + (leaked or 0) * (ceiling - floor), metric=name, version=version, floor=estimate(floor),
            ceiling=estimate(ceiling), leakage=estimate(leaked, (draws or {}).get(name, ()), reason=reason),
        )  # fmt: skip
    measures = more.pop("measures", "appearance")
    return record(defense, "attack", attack=attack, measures=measures, metrics=metrics, **more)


def identity(
    defense: str, attack: str, recognizer: str, leakage: float, *, draws: Sequence[float] = (), **more: Any
) -> Record:
    metrics = {
        "rank_1": value(
            leakage, metric="rank_1", floor=estimate(1 / 60), ceiling=estimate(1.0), leakage=estimate(leakage, draws)
        )
    }
    return record(defense, "attack", attack=attack, recognizer=recognizer, measures="identity", metrics=metrics, **more)


def simple(defense: str, kept: float, leaked: float, spread: float = 0.01, seed: int = 0, **more: Any) -> list[Record]:
    """A defense with one unseen recognizer and one attack, its draws around the given numbers."""
    draws = {"lpips": around(leaked, spread, seed + 100)}
    return [
        utility(defense, "dlib_resnet", kept, draws=around(kept, spread, seed), **more),
        appearance(defense, "unet", {"lpips": leaked}, draws=draws, **more),
    ]


def canary(recognizer: str, accuracy: float, expected: float, *, moved: bool = False, **more: Any) -> Record:
    metrics = {
        "accuracy": value(accuracy), "auc": value(0.999, metric="auc"), "eer": value(0.01, metric="eer"),
        "tar_at_far_1e-2": value(0.99, metric="tar_at_far_1e-2"),
        "tar_at_far_1e-3": value(None, metric="tar_at_far_1e-3", reason="too few impostor pairs"),
    }  # fmt: skip
    return record(
        "no_defense", "canary", recognizer=recognizer, metrics=metrics, log={"expected_accuracy": expected},
        flags=("canary_moved",) if moved else (), control=True, **more,
    )  # fmt: skip


def strip(colour: int, kind: str) -> bytes:
    """Four drawn faces side by side, 448x112, as JPEG."""
    image = Image.new("RGB", (448, 112))
    draw = ImageDraw.Draw(image)
    for i in range(4):
        x, tone = 112 * i, (90 + 30 * i, (colour * 37) % 160 + 40, 120)
        draw.rectangle((x, 0, x + 111, 111), fill=(225, 228, 235))
        draw.ellipse((x + 22, 12, x + 90, 106), fill=tone)
        for eye in (42, 70):
            draw.ellipse((x + eye - 6, 44, x + eye + 6, 54), fill=(20, 20, 30))
        draw.arc((x + 38, 66, x + 74, 90), 10, 170, fill=(60, 10, 20), width=4)
    if kind == "released":
        image = image.resize((448 // 8, 112 // 8), Image.Resampling.BOX).resize((448, 112), Image.Resampling.NEAREST)
    elif kind == "rebuilt":
        image = image.resize((448 // 5, 112 // 5), Image.Resampling.BOX).resize((448, 112), Image.Resampling.BICUBIC)
    return sample_faces.settled(np.asarray(image))


# defense -> retention, leakage when looked at, by ridge, by unet, linkage, its control flag
STORY: dict[str, tuple[float, float, float, float, float, bool]] = {
    "no_defense": (1.0, 1.0, 1.0, 1.0, 1.0, True),
    "blackout": (0.0, 0.0, 0.0, 0.0, 0.0, True),
    "gaussian_blur": (0.88, 0.62, 0.66, 0.71, 0.82, False),
    "pixelate": (0.41, 0.22, 0.44, 0.52, 0.31, False),
    "block_permutation": (0.20, 0.05, 0.99, 0.83, 0.14, False),
    "block_permutation_per_image": (0.18, 0.05, 0.24, 0.21, 0.12, False),
    "local_contrast": (0.93, 0.35, 0.58, 0.63, 0.9, False),
    "stochastic_local": (0.90, 0.31, 0.47, 0.49, 0.78, False),
}
RECOGNIZERS = (("dlib_resnet", False), ("mobilefacenet", False), ("faceplugin", True))


def quick(**more: Any) -> tuple[list[Record], dict[str, bytes]]:
    """A whole suite with its sample pictures by record key."""
    records = [canary(name, 0.985, 0.986, surrogate=seen, **more) for name, seen in RECOGNIZERS]
    pictures: dict[str, bytes] = {}
    for i, (defense, (kept, seen, ridge, unet, linked, control)) in enumerate(STORY.items()):
        for j, (name, surrogate) in enumerate(RECOGNIZERS):
            here = max(0.0, kept - 0.02 * j)
            records.append(
                utility(defense, name, here, draws=around(here, 0.02, j), surrogate=surrogate, control=control, **more)
            )
            leaked = max(0.0, linked - 0.03 * j)
            drawn = around(leaked, 0.02, 20 + j)
            records.append(identity(defense, "linkage", name, leaked, draws=drawn, control=control, **more))
        for attack, leaked in (("visual", seen), ("ridge", ridge), ("unet", unet)):
            kind = "clear" if defense == "no_defense" else "released" if attack == "visual" else "rebuilt"
            picture = None if more.get("real_people") else strip(i if attack != "visual" else 0, kind)
            leakage: dict[str, float | None] = {
                "lpips": leaked,
                "ssim": max(0.0, leaked - 0.08),
                "ms_ssim": max(0.0, leaked - 0.04),
            }
            draws = {name: around(x, 0.015, 40 + i) for name, x in leakage.items() if x is not None}
            made = appearance(
                defense, attack, leakage, draws=draws, samples=picture, control=control,
                flags=("attack_not_converged",) if (defense, attack) == ("stochastic_local", "unet") else (), **more,
            )  # fmt: skip
            records.append(made)
            if picture is not None:
                pictures[made.key] = picture
    return records, pictures


def plan_of(records: Sequence[Record], seed: int = 0) -> PlanFile:
    """The plan whose cells are those of the records, of one suite; a later record of one cell is planned, not both."""
    tables: dict[str, PlannedTable] = {}
    for record in records:
        found = _table_of(record, seed)
        label = record.dataset.label
        tables[label] = tables[label].merged(found) if label in tables else found
    return PlanFile(suite=records[0].suite if records else "quick", title="Quick", tables=tables)


def build(records: list[Record], of: list[Record] | None = None) -> list[Row]:
    """Rows under the plan of the records, or of others."""
    return table.build(records, plan_of(records if of is None else of))


def by_label(rows: Iterable[Row]) -> dict[str, Row]:
    """Rows by the label of their defense."""
    return {row.defense: row for row in rows}


def board_of(records: list[Record]) -> Board:
    """The board of the suite of the records, under their plan."""
    return Board(records[0].suite, tuple(records), plan_of(records))


def _table_of(record: Record, seed: int) -> PlannedTable:
    kind, attack, recognizer = record.slot
    attacks = {attack: _attack_of(record)} if record.attack else {}
    recognizers = {}
    if record.recognizer:
        recognizers[recognizer] = PlannedRecognizer(
            component=record.recognizer, surrogate=record.surrogate, adapted=record.adapted
        )
    cell = PlannedCell(
        key=record.key, cell=kind, defense=record.defense.label, attack=attack, recognizer=recognizer, seed=record.seed
    )
    defense = PlannedDefense(
        component=record.defense, track=record.track, control=record.defense_card.get("control") is True,
        unprotected=record.defense.name == "no_defense",
    )  # fmt: skip
    return PlannedTable(
        dataset=record.dataset, revision=record.dataset_revision, real_people=record.real_people, seed=seed,
        defenses={record.defense.label: defense}, attacks=attacks, recognizers=recognizers,
        metrics={one.metric: one.version for one in record.metrics.values()}, cells=(cell,),
    )  # fmt: skip


def _attack_of(record: Record) -> PlannedAttack:
    assert record.attack is not None
    faces = {"reconstruction": "released" if record.attack.name == "visual" else "rebuilt", "control": "unrelated",
             "template": "rebuilt", "purification": "rebuilt"}  # fmt: skip
    probe = record.attack.config.get("probe")
    return PlannedAttack(
        component=record.attack, scorer=record.scorer, sets=record.sets, faces=faces.get(record.scorer, ""),
        shown="d_sys" if record.scorer == "unlinkability" else "", shots=record.attack.config.get("releases", 1),
        live=not record.attack.name.endswith("_elsewhere"), from_embedding=record.scorer == "template",
        sources=(probe,) if probe else (),
    )  # type: ignore[arg-type]  # fmt: skip


def write(
    root: Path, records: list[Record], pictures: dict[str, bytes] | None = None, plan: PlanFile | None = None
) -> Path:
    """Publishes records of one suite with their faces and a plan, by default the plan of these records."""
    store = ResultStore(root)
    for record in records:
        store.write(record, (pictures or {}).get(record.key))
    store.write_plan(plan or plan_of(records))
    store.compact(records[0].suite)
    return root


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def filled(store: ResultStore, *records: Record) -> Path:
    """The published folder of suite ``quick`` with these records."""
    for one in records:
        store.write(one)
    store.compact("quick")
    return Path(str(store.root)) / "quick"


def published(folder: Path) -> dict[str, bytes]:
    """The content of all files but those of a run that goes on."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".cells" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
