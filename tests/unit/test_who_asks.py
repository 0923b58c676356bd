"""A defense cannot tell who asks: not by the seed, the order, the number of images, or what a check does otherwise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench.api import ByteArray, Defense, DefenseCard, to_bytes, to_float
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.contracts.defense import check_defense
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.records.estimate import Estimate, Measurement
from ppfr_bench.scorers.held_out import unlike_held_out
from ppfr_bench.stages.attack import LiveOracle
from ppfr_bench.stages.context import Context
from ppfr_bench.stages.protected import asked_at_once, protected
from ppfr_bench.stages.release import draws_for
from ppfr_bench.stages.store import Writer
from ppfr_bench.testing import example_faces

PEOPLE, PHOTOS = 40, 4


class Listener(Defense):
    """A mosaic that writes down what it is told, and codes into each image who is on it if photos came in order."""

    version = 1
    card = DefenseCard(title="Listener", family="classical", reference="control, 2026", licence="MIT")

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.sizes: list[int] = []
        self.seen: dict[int, int] = {}

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seed = generator.initial_seed()
        self.seeds.append(seed)
        self.sizes.append(len(images))
        start = self.seen.get(seed, 0)
        self.seen[seed] = start + len(images)
        out = images.mean((1, 2, 3), keepdim=True).expand_as(images).clone()
        for i in range(len(images)):
            code = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed((start + i) // PHOTOS))
            out[i] = torch.nn.functional.interpolate(code[None], size=images.shape[-2:], mode="nearest")[0]
        return out


def faces() -> ArrayFaces:
    images = np.random.default_rng(0).integers(0, 256, (PEOPLE * PHOTOS, 3, 16, 16), dtype=np.uint8)
    return ArrayFaces(images, np.repeat(np.arange(PEOPLE), PHOTOS), [f"photo {i}" for i in range(len(images))])


class Surroundings(Context):
    """Of a stage that protects, without a suite: one defense and one split."""

    def __init__(self, defense: Defense, seed: int = 0) -> None:
        self.setting: Any = SimpleNamespace(seed=seed)
        self._defense = defense

    def defense(self, spec: Any) -> Defense:
        return self._defense

    def faces(self, split: Any) -> ArrayFaces:
        return faces()


def released(defense: Defense, folder: Path, split: str = "evaluation", shot: int = 0) -> ByteArray:
    folder.mkdir()
    spec = {"defense": {}, "dataset": "x", "split": split, "shot": shot}
    protected(SimpleNamespace(spec=spec, how={"label": "listener"}), {}, Surroundings(defense), Writer(folder))  # type: ignore[arg-type]
    return np.load(folder / "images.npy")


def test_every_image_is_asked_for_once_in_no_order_and_in_batches_of_any_size() -> None:
    batches = list(asked_at_once(500, np.random.default_rng(1)))
    rows = np.concatenate(batches)
    assert sorted(rows) == list(range(500)) and len({len(batch) for batch in batches}) > 3
    assert abs(np.corrcoef(rows, np.arange(500))[0, 1]) < 0.2
    assert max(map(len, batches)) <= 64
    assert [len(batch) for batch in asked_at_once(5, np.random.default_rng(1))] == [5]
    assert list(asked_at_once(0, np.random.default_rng(1))) == []


def alike(images: ByteArray) -> tuple[float, float]:
    """How many photos have the code of another photo of the same person, and of the next."""
    codes = images.reshape(PEOPLE, PHOTOS, -1).astype(int)
    pairs = ((codes[:, :1] == other[:, 1:]).all(axis=2) for other in (codes, np.roll(codes, 1, axis=0)))
    same, next_one = (float(pair.mean()) for pair in pairs)
    return same, next_one


def test_who_counts_photos_learns_nobody(tmp_path: Path) -> None:
    """Asked in the order of the data set under one generator, it gives each person a code of its own."""
    in_order = Listener().protect(to_float(faces().load(range(PEOPLE * PHOTOS))), torch.Generator().manual_seed(0))
    assert alike(to_bytes(in_order)) == (1, 0)
    same, other = alike(released(Listener(), tmp_path / "out"))
    assert abs(same - other) < 0.1 and same < 0.3


def test_an_image_is_released_where_it_stands(tmp_path: Path) -> None:
    """Whatever order the defense is asked in."""

    class Mean(Listener):
        def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return images.mean((1, 2, 3), keepdim=True).expand_as(images).clone()

    images = released(Mean(), tmp_path / "out")
    clear = faces().load(range(PEOPLE * PHOTOS)).astype(float).mean((1, 2, 3))
    np.testing.assert_allclose(images[:, 0, 0, 0], clear, atol=0.51)


def test_seeds_say_nothing(tmp_path: Path) -> None:
    """Each batch has a new one; those of a check, a run and an attacker's queries look alike."""
    run, attackers, checked, queried = (Listener() for _ in range(4))
    released(run, tmp_path / "evaluation")
    released(attackers, tmp_path / "attacker", "attacker")
    some = faces().load(range(8))
    check_defense(checked, some, [str(i) for i in range(8)], 0)

    def protect(images: ByteArray, draw: int) -> ByteArray:
        queried.protect(torch.zeros(len(images), 3, 8, 8), draws_for(images, 0, draw))
        return images

    oracle = LiveOracle(protect)
    for _ in range(3):
        oracle.protect(some)
    assert len(set(queried.seeds)) == 3 and oracle.queries == 24
    for listener in (run, attackers, checked, queried):
        assert min(listener.seeds) > 2**40 and max(listener.seeds) < 2**61
    assert len(set(run.seeds)) == len(run.seeds) and not set(run.seeds) & set(attackers.seeds)
    assert checked.seeds[0] == draws_for(some, 0, 0).initial_seed(), "as a run would ask for these images"


def test_the_same_images_get_the_same_draws_once() -> None:
    some = faces().load(range(3))
    first = draws_for(some, 0, 0).initial_seed()
    assert first == draws_for(some.copy(), 0, 0).initial_seed()
    others = {draws_for(*args).initial_seed() for args in ((some, 0, 1), (some, 1, 0), (some[::-1], 0, 0))}
    assert len(others | {first}) == 4


def test_check_uses_seeds_of_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    monkeypatch.setattr("ppfr_bench.registry.build", lambda *args: listener)
    check_plugin("defense", "listener")
    assert min(listener.seeds) > 2**40
    assert len(example_faces()) in listener.sizes


def measured(name: str, value: float, floor: float, ceiling: float, leaked: float | None) -> Measurement:
    lower = name == "lpips"
    ends = {key: Estimate(one) for key, one in (("value", value), ("floor", floor), ("ceiling", ceiling))}
    return Measurement(
        metric=name, version=1, direction="lower_is_better" if lower else "higher_is_better",
        leakage=None if leaked is None else Estimate(leaked), **ends,
    )  # fmt: skip


def test_far_better_on_people_held_out_than_on_targets_is_noticed() -> None:
    targets = {"lpips": measured("lpips", 0.4, 0.5, 0.1, 0.25), "rank_1": measured("rank_1", 0.5, 0.0, 1.0, 0.5)}
    assert unlike_held_out(targets, {"lpips": 0.36}) == "", "0.35 of it"
    assert unlike_held_out(targets, {"lpips": 0.3}) == "lpips", "0.5 of it"
    assert unlike_held_out(targets, {"lpips": 0.45}) == "", "worse on people held out is no sign of it"
    assert unlike_held_out(targets, {"rank_1": 0.75}) == "" and unlike_held_out(targets, {"rank_1": 0.85}) == "rank_1"
    assert unlike_held_out(targets, {}) == "" and unlike_held_out(targets, {"ssim": 1.0}) == ""
    unknown = {"lpips": measured("lpips", 0.4, 0.5, 0.1, None)}
    assert unlike_held_out(unknown, {"lpips": 0.0}) == ""
