"""Records for the tests of pages: made through the real model, with numbers chosen by hand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ppfr_bench.results import Component, Cost, Environment, MetricValue, Record, digest

ENVIRONMENT = Environment(
    ppfr_bench="0.1.0", commit="0123456789abcdef", dirty=False, python="3.11.7", torch="2.15.0",
    platform="linux-x86_64", processor="A processor", device="cpu", threads=2,
)  # fmt: skip
REPLICATES = 200


def value(
    number: float | None,
    replicates: Sequence[float] = (),
    *,
    reason: str = "",
    direction: str = "higher_is_better",
    version: int = 1,
) -> MetricValue:
    interval = None
    if replicates:
        low, high = np.quantile(replicates, [0.025, 0.975])
        interval = (float(low), float(high))
    return MetricValue(
        value=number, interval=interval, n=120, version=version, direction=direction,
        reason=reason if number is None else "", replicates=tuple(replicates),
    )  # type: ignore[arg-type]  # fmt: skip


def around(number: float, spread: float, seed: int = 0) -> tuple[float, ...]:
    """Replicates around a number; the same seed moves them together, as paired draws do."""
    draws = np.random.RandomState(seed).normal(0, 1, REPLICATES)
    return tuple(float(x) for x in np.clip(number + spread * draws, 0, 1))


def record(
    defense: str,
    cell: str,
    *,
    metrics: dict[str, MetricValue] | None = None,
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
) -> Record:
    key = digest([suite, dataset, defense, cell, attack, recognizer, revision, seed, attack_config])
    if card is None:
        card = {
            "title": defense.replace("_", " ").capitalize(), "family": "classical", "reference": "A paper, 2020",
            "licence": "MIT", "track": "recognition", "code_url": "https://example.org/code",
            "randomness": "deterministic", "deviations": ["Smaller than in the paper."],
        }  # fmt: skip
    return Record(
        key=key, suite=suite, dataset=Component(label=dataset, name=dataset, version=1), dataset_revision=revision,
        real_people=real_people, cell=cell, defense=Component(label=defense, name=defense_name or defense, version=1),
        attack=Component(label=attack, name=attack_name or attack, version=1, config=attack_config or {})
        if attack else None,
        recognizer=Component(label=recognizer, name=recognizer, version=1) if recognizer else None,
        surrogate=surrogate, measures=measures, knowledge="aware" if attack else None, seed=seed, status=status,
        reason=reason, metrics=metrics or {}, flags=flags, log=log or {}, defense_card=card | {"control": control},
        samples=f"{key}.jpg" if samples else None,
        samples_sha256=hashlib.sha256(samples).hexdigest() if samples else None, environment=ENVIRONMENT,
        cost=Cost(seconds=seconds, protect_images_per_second=speed),
    )  # type: ignore[arg-type]  # fmt: skip


def utility(
    defense: str, recognizer: str, retention: float | None, *, replicates: Sequence[float] = (), reason: str = "",
    surrogate: bool = False, **more: Any,
) -> Record:  # fmt: skip
    accuracy = None if retention is None else 0.5 + 0.49 * retention
    metrics = {
        "retention": value(retention, replicates, reason=reason), "clear_accuracy": value(0.99),
        "accuracy": value(accuracy, reason=reason),
        "accuracy_frozen": value(accuracy and accuracy - 0.02, reason=reason), "auc": value(accuracy, reason=reason),
        "eer": value(accuracy and 1 - accuracy, reason=reason),
    }  # fmt: skip
    return record(defense, "utility", recognizer=recognizer, surrogate=surrogate, metrics=metrics, speed=850.0, **more)


def appearance(
    defense: str, attack: str, leakage: dict[str, float | None], *,
    replicates: dict[str, Sequence[float]] | None = None, reason: str = "broken", **more: Any,
) -> Record:  # fmt: skip
    metrics = {}
    for name, leaked in leakage.items():
        drawn = (replicates or {}).get(name, ())
        metrics[f"leakage_{name}"] = value(leaked, drawn, reason=reason, direction="lower_is_better")
        floor, ceiling = (0.6, 0.1) if name == "lpips" else (0.35, 0.95)
        metrics[name] = value(floor + (leaked or 0) * (ceiling - floor))
        metrics |= {f"{name}_blind": value(floor), f"{name}_ceiling": value(ceiling)}
    return record(defense, "attack", attack=attack, measures="appearance", metrics=metrics, **more)


def identity(
    defense: str, attack: str, recognizer: str, leakage: float, *, replicates: Sequence[float] = (), **more: Any
) -> Record:
    metrics = {
        "leakage_rank_1": value(leakage, replicates, direction="lower_is_better"), "rank_1": value(leakage),
        "rank_1_blind": value(1 / 60), "rank_1_ceiling": value(1.0),
    }  # fmt: skip
    return record(defense, "attack", attack=attack, recognizer=recognizer, measures="identity", metrics=metrics, **more)


def simple(defense: str, kept: float, leaked: float, spread: float = 0.01, seed: int = 0, **more: Any) -> list[Record]:
    """A defense with one unseen recognizer and one attack, its replicates around the given numbers."""
    replicates = {"lpips": around(leaked, spread, seed + 100)}
    return [
        utility(defense, "dlib_resnet", kept, replicates=around(kept, spread, seed), **more),
        appearance(defense, "unet", {"lpips": leaked}, replicates=replicates, **more),
    ]


def canary(recognizer: str, accuracy: float, expected: float, *, moved: bool = False, **more: Any) -> Record:
    metrics = {
        "accuracy": value(accuracy), "auc": value(0.999), "eer": value(0.01),
        "tar_at_far_1e-2": value(0.99), "tar_at_far_1e-3": value(None, reason="too few impostor pairs"),
    }  # fmt: skip
    return record(
        "identity", "canary", recognizer=recognizer, metrics=metrics, log={"expected_accuracy": expected},
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
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


# defense -> retention, leakage when looked at, by ridge, by unet, linkage, its control flag
STORY: dict[str, tuple[float, float, float, float, float, bool]] = {
    "identity": (1.0, 1.0, 1.0, 1.0, 1.0, True),
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
                utility(
                    defense, name, here, replicates=around(here, 0.02, j), surrogate=surrogate, control=control, **more
                )
            )
            leaked = max(0.0, linked - 0.03 * j)
            drawn = around(leaked, 0.02, 20 + j)
            records.append(identity(defense, "linkage", name, leaked, replicates=drawn, control=control, **more))
        for attack, leaked in (("visual", seen), ("ridge", ridge), ("unet", unet)):
            kind = "clear" if defense == "identity" else "released" if attack == "visual" else "rebuilt"
            picture = None if more.get("real_people") else strip(i if attack != "visual" else 0, kind)
            leakage: dict[str, float | None] = {
                "lpips": leaked,
                "ssim": max(0.0, leaked - 0.08),
                "ms_ssim": max(0.0, leaked - 0.04),
            }
            replicates = {name: around(x, 0.015, 40 + i) for name, x in leakage.items() if x is not None}
            made = appearance(
                defense, attack, leakage, replicates=replicates, samples=picture, control=control,
                flags=("attack_not_converged",) if (defense, attack) == ("stochastic_local", "unet") else (), **more,
            )  # fmt: skip
            records.append(made)
            if picture is not None:
                pictures[made.key] = picture
    return records, pictures
