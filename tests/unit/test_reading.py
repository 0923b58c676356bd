"""Representations are read place by place, draw by draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ppfr_bench import registry, testing
from ppfr_bench.api import ByteArray, to_bytes, to_float
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.learning.adaptation import pictures
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.learning.mixed_channels import MixedChannels, fit_mixed_channels
from ppfr_bench.learning.observations import observe
from ppfr_bench.learning.reading import Reading, fit_reading, readable

SIDE, BLOCK = 28, 4
PEOPLE = 20
ORDERS = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])


def faces_of(people: int, seed: int) -> ArrayFaces:
    """Two images each of people who do not exist: smooth noise."""
    coarse = torch.rand(2 * people, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    images = functional.interpolate(coarse, size=112, mode="bicubic").clamp(0, 1)
    return ArrayFaces(to_bytes(images), np.arange(2 * people) // 2, [f"{i}" for i in range(2 * people)])


def released(faces: ArrayFaces, seed: int) -> tuple[ByteArray, torch.Tensor]:
    """Twelve channels of 28x28, each weaker than the one before, in one of three orders, and which order it was."""
    small = functional.avg_pool2d(to_float(faces.load(range(len(faces)))) - 0.5, 2)
    channels = functional.pixel_unshuffle(small, 2) * 0.85 ** torch.arange(12)[:, None, None]
    order = torch.randint(0, 3, (len(channels),), generator=torch.Generator().manual_seed(seed))
    return to_bytes(channels[torch.arange(len(channels))[:, None], ORDERS[order]] + 0.5), order


@pytest.fixture(scope="module")
def known() -> tuple[ArrayFaces, ByteArray, torch.Tensor, Reading]:
    faces = faces_of(PEOPLE, seed=0)
    sent, order = released(faces, seed=1)
    found = fit_reading(sent, faces, faces.identities < 4, torch.Generator().manual_seed(0))
    return faces, sent, order, found


def test_draws_are_told_apart_and_each_is_read(known: tuple[ArrayFaces, ByteArray, torch.Tensor, Reading]) -> None:
    _, _, _, found = known
    others = faces_of(5, seed=2)
    sent, order = released(others, seed=3)
    drawn = found.drawn(sent)
    assert found.draws >= 3 and all(len(order[drawn == k].unique()) == 1 for k in drawn.unique())
    one, apart = found.errors
    assert apart < 0.2 * one
    read, clear = found(sent), to_float(others.load(range(len(others))))
    assert read.shape == clear.shape and float((read - clear).square().mean()) < 0.1 * float(clear.var())


def test_a_reading_comes_back_from_its_arrays(known: tuple[ArrayFaces, ByteArray, torch.Tensor, Reading]) -> None:
    _, sent, _, found = known
    again = Reading.of(found.arrays())
    assert again.errors == found.errors and torch.equal(again(sent[:4]), found(sent[:4]))


def test_one_draw_stays_one() -> None:
    """Many channels are first read alone; a fine grid has places of one pixel."""
    faces = faces_of(PEOPLE, seed=0)
    sent = np.repeat(faces.load(range(len(faces))), 20, axis=1)
    found = fit_reading(sent, faces, faces.identities < 4, torch.Generator().manual_seed(0))
    assert found.draws == 1 and found.alone.shape == (1, 61, 27) and found.weights.shape == (1, 9 * 27 + 1, 3)
    assert float((found(sent[:4]) - to_float(faces.load(range(4)))).abs().mean()) < 0.005


def test_what_lies_on_no_grid_of_whole_pixels_is_not_read() -> None:
    assert readable((5, 27, 28, 28)) and readable((5, 3, 112, 112)) and readable((5, 64, 7, 7))
    assert not readable((5, 64, 4, 4)) and not readable((5, 512, 1, 1)), "a place would be of hundreds of pixels"
    assert not readable((5, 3, 30, 30)) and not readable((5, 3, 28, 56)) and not readable((5, 3, 224, 224))


@pytest.mark.parametrize(("name", "kind"), [("duetface", Reading), ("minusface", MixedChannels)])
def test_attacks_see_what_is_read(name: str, kind: type) -> None:
    """High frequencies are read place by place; of a shuffle of an image's own, what no mixture of channels hides."""
    faces = testing.example_faces()
    defense = registry.build("defense", name, {"steps": 2} if name == "minusface" else {})
    defense.fit(faces, torch.Generator().manual_seed(0))
    attack = registry.build("attack", "ridge", {})
    view = testing.attacker_view(attack, defense, faces, faces.load(range(2)), faces.load(range(2)), shots=1)
    data = read_inversion_data(view, 64, 1)
    assert data.reading is not None and isinstance(data.reading, kind) and "read" in data.log
    assert np.array_equal(pictures(view, data, view.targets[0]), to_bytes(data.reading(view.targets[0])))
    assert torch.equal(observe(view, view.targets, 56, None, data.reading).images, data.targets.images)


def test_what_no_mixture_of_channels_hides() -> None:
    """The first two maps of channels stay the same when a matrix mixes them, and a face is found among them."""
    people = faces_of(400, seed=4).load(range(400))
    people[:] = people // 2 + people[:1] // 2  # All have something of the first.
    found = fit_mixed_channels([people[:300]], SIDE)
    luma = functional.avg_pool2d(to_float(people[300:340]).mean(1, keepdim=True), BLOCK)
    others = torch.rand(40, 5, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    channels = torch.cat([luma, others], dim=1)
    channels = channels - channels.mean((2, 3), keepdim=True)
    mixing = torch.linalg.qr(torch.randn(40, 6, 6, generator=torch.Generator().manual_seed(1)))[0]
    mixed = torch.einsum("nkc,nchw->nkhw", mixing, channels)
    before, after = (found(to_bytes((0.5 + one / 3).clamp(0, 1))) for one in (channels, mixed))
    assert before.shape == (40, 3, 112, 112)
    assert float((before - after)[:, :2].abs().mean()) < 0.02
    shown = functional.avg_pool2d(after[:, :1], BLOCK).flatten(1)
    assert float(functional.cosine_similarity(shown - 0.5, channels[:, 0].flatten(1)).min()) > 0.8
    again = MixedChannels.of(found.arrays())
    assert torch.equal(again(people[:2, :, ::4, ::4]), found(people[:2, :, ::4, ::4]))
