"""The frequency-domain defenses: what they release, what they do not, and what their pictures show."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from ppfr_bench import registry, testing
from ppfr_bench.api import Defense, to_bytes, to_float

freq = import_module("ppfr_bench.defenses._frequency")
FACES = testing.example_faces()
IMAGES = to_float(FACES.load(range(len(FACES))))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str, **params: Any) -> Defense:
    defense: Defense = registry.build("defense", name, params)
    defense.fit(FACES, seeded(1))
    return defense


def channels(defense: Defense, images: torch.Tensor = IMAGES, seed: int = 0) -> torch.Tensor:
    """What is released, in [-1, 1], after the rounding to bytes."""
    with torch.no_grad():
        return freq.signed(freq.unpack(to_float(to_bytes(defense.protect(images, seeded(seed))))))


def test_frequencies_are_those_of_scipy_and_come_back() -> None:
    luma = (IMAGES[:2] - 0.5).numpy().transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
    blocks = luma.reshape(2, 14, 8, 14, 8).transpose(0, 1, 3, 2, 4)
    expected = dctn(blocks, axes=(3, 4), norm="ortho").reshape(2, 14, 14, 64).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(freq.analyse(IMAGES[:2])[:, :64].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(freq.synthesise(freq.analyse(IMAGES), IMAGES), IMAGES, atol=1e-5, rtol=0)
    torch.testing.assert_close(freq.unpack(freq.pack(freq.analyse(IMAGES), IMAGES)), freq.analyse(IMAGES))


def test_what_no_whole_block_holds_is_grey() -> None:
    cut = IMAGES[:1, :, :99, :70]
    back = freq.synthesise(freq.analyse(cut), cut)
    torch.testing.assert_close(back[..., :96, :64], cut[..., :96, :64], atol=1e-5, rtol=0)
    assert (back[..., 96:, :] == 0.5).all() and (back[..., 64:] == 0.5).all()


def test_duetface_keeps_the_visible_frequencies_with_the_client() -> None:
    defense = built("duetface")
    released = channels(defense)
    low = [0, 1, 2, 3, 4, 5, 8, 9, 16, 24]
    silent = [64 * colour + k for colour in range(3) for k in low if colour or k]
    assert released[:, silent].abs().max() < 0.01, "but for half a byte they are empty"
    with torch.no_grad():
        torch.testing.assert_close(released[:, 63], defense.scaled(IMAGES)[:, 63], atol=0.01, rtol=0)  # type: ignore[attr-defined]
    where = (released[:, 0] + 1) / 2
    assert (where[:, 0, 0] <= 0.51).all() and (where.amax((1, 2)) > 0.99).all(), "it looks at the middle"


def test_partialface_sends_nine_channels_a_colour_and_energies_give_them_away() -> None:
    defense: Any = built("partialface")
    assert sorted(defense.table[::6].flatten().tolist()) == sorted(set(range(64)) - {0, 1, 2, 3, 8, 9, 10, 16, 17, 24})
    assert defense.table.shape == (36, 9)
    released = channels(defense).unflatten(1, (3, 64))
    assert released[:, :, 9:].abs().max() < 0.01 < released[:, :, :9].abs().amax((2, 3)).min()
    with torch.no_grad():
        protected = defense.protect(IMAGES, seeded(5))
        drawn = freq.analyse(defense.picture(protected))
    kept = drawn.square().mean((2, 3))[:, :64] > 1e-7
    told = torch.stack([torch.isin(torch.arange(64), row) for row in defense.table[::6]])
    right = (kept[:, None] == told[None]).float().mean(2).amax(1)
    assert float((right > 0.9).float().mean()) > 0.5, "most pictures hold one whole subset, in its places"


def test_ppfr_fd_drops_nearly_all_energy_and_every_mean() -> None:
    defense: Any = built("ppfr_fd")
    energy = freq.analyse(IMAGES).square().mean((0, 2, 3))
    assert 1 - float(energy[defense.kept].sum() / energy.sum()) > 0.9
    assert len(defense.kept) == 36 and not set(defense.kept.tolist()) & {0, 64, 128}
    released = channels(defense)
    assert released[:, 36:].abs().max() < 0.01
    assert released[:, :36].mean((2, 3)).abs().max() < 0.02, "each channel is normalised"
    other = channels(built("ppfr_fd", secret=1))
    assert not torch.equal(released, other), "another key, another order"


def test_dctdp_shares_out_one_budget_and_drops_every_mean() -> None:
    defense: Any = built("dctdp", steps=20)
    kept = defense.scale[defense.scale.sum((1, 2)) > 0]
    assert len(kept) == 189
    torch.testing.assert_close((2 / kept).sum(), torch.tensor(defense.guarantee.epsilon), rtol=1e-3, atol=0)
    assert defense.guarantee.epsilon == 32 * 189 * 14 * 14 and defense.guarantee.per == "image"
    assert float((2 / kept).std() / (2 / kept).mean()) > 0.05, "the shares have been learnt"
    with torch.no_grad():
        noisy = freq.signed(freq.unpack(defense.protect(IMAGES, seeded()))) * (1 + 3 * defense.scale)
        clear = defense.scaled(IMAGES)
    inside = kept.shape[1:]
    error = (noisy - clear)[:, [c for c in range(192) if c % 64]].abs().mean(0)
    ratio = (error / kept).mean()  # of a Laplace variable's mean size to its scale, clipped at three scales: under 1
    assert inside == (14, 14) and 0.8 < float(ratio) < 1.02
    assert channels(defense)[:, [0, 64, 128]].abs().max() < 0.01


def test_dctdp_with_less_budget_has_more_noise() -> None:
    loud, quiet = (built("dctdp", epsilon=epsilon, steps=0) for epsilon in (4.0, 32.0))
    torch.testing.assert_close(loud.scale[1], 8 * quiet.scale[1])  # type: ignore[attr-defined]


def test_minusface_subtracts_what_is_seen_and_shuffles_the_rest() -> None:
    defense: Any = built("minusface")
    with torch.no_grad():
        residue = defense.residue_picture(IMAGES)
        first, second = (defense.protect(IMAGES, seeded(seed)).flatten(1) for seed in range(2))
    assert float(residue.abs().mean()) < 0.3 * float((IMAGES - 0.5).abs().mean()), "the residue is nearly blank"
    alike = torch.nn.functional.cosine_similarity(first - 0.5, second - 0.5)
    assert float(alike.abs().mean()) < 0.5, "another shuffle, another picture"
    assert defense.picture(first) is first, "it is an image as it is"


@pytest.mark.parametrize("name", ["duetface", "partialface", "ppfr_fd", "dctdp", "minusface"])
def test_they_are_in_the_track_of_representations(name: str) -> None:
    card = registry.load("defense", name).card
    assert card.output == card.track == "representation" and card.deviations
