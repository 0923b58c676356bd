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


def released(defense: Defense, images: torch.Tensor = IMAGES, seed: int = 0) -> torch.Tensor:
    """What is released, in [-1, 1], after the rounding to bytes."""
    with torch.no_grad():
        return freq.signed(to_float(to_bytes(defense.protect(images, seeded(seed)))))


def test_frequencies_are_those_of_scipy_and_come_back() -> None:
    luma = (IMAGES[:2] - 0.5).numpy().transpose(0, 2, 3, 1) @ np.array([0.299, 0.587, 0.114])
    blocks = luma.reshape(2, 14, 8, 14, 8).transpose(0, 1, 3, 2, 4)
    expected = dctn(blocks, axes=(3, 4), norm="ortho").reshape(2, 14, 14, 64).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(freq.analyse(IMAGES[:2])[:, :64].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(freq.synthesise(freq.analyse(IMAGES)), IMAGES, atol=1e-5, rtol=0)


@pytest.mark.parametrize("enlarge", [1, 2, 4, 8])
def test_enlarged_images_come_back_too(enlarge: int) -> None:
    lifted = freq.lift(IMAGES[:2], enlarge)
    assert lifted.shape == (2, 192, 14 * enlarge, 14 * enlarge)
    torch.testing.assert_close(freq.lower(lifted, enlarge), IMAGES[:2], atol=1e-4, rtol=0)
    large = torch.nn.functional.interpolate(IMAGES[:2], scale_factor=float(enlarge), mode="bilinear")
    torch.testing.assert_close(freq.synthesise(lifted), large, atol=1e-4, rtol=0)


def test_edges_are_repeated_up_to_whole_blocks() -> None:
    cut = IMAGES[:1, :, :99, :70]
    lifted = freq.lift(cut, 2)
    assert lifted.shape[-2:] == (25, 18)
    back = freq.lower(lifted, 2)
    torch.testing.assert_close(back[..., :99, :70], cut, atol=1e-4, rtol=0)
    torch.testing.assert_close(back[..., 99, :70], cut[..., 98, :], atol=1e-4, rtol=0)


def test_duetface_keeps_the_visible_frequencies_with_the_client() -> None:
    defense: Any = built("duetface")
    found = released(defense)
    assert found.shape == (len(IMAGES), 3 * 54 + 1, 28, 28)
    sent = [64 * colour + k for colour in range(3) for k in range(64) if k not in (0, 1, 2, 3, 4, 5, 8, 9, 16, 24)]
    with torch.no_grad():
        torch.testing.assert_close(found[:, :-1], defense.scaled(IMAGES)[:, sent], atol=0.01, rtol=0)
    where = (found[:, -1] + 1) / 2
    assert (where[:, 0, 0] < 0.01).all() and (where.amax((1, 2)) > 0.99).all(), "it looks at the middle"


def test_partialface_sends_nine_frequencies_a_colour_and_energies_give_them_away() -> None:
    defense: Any = built("partialface")
    table = defense.table
    assert sorted(table[::6].flatten().tolist()) == sorted(set(range(64)) - {0, 1, 2, 3, 8, 9, 10, 16, 17, 24})
    assert table.shape == (36, 9)
    assert released(defense).shape == (len(IMAGES), 27, 28, 28)
    right = 0
    for pair, chosen in enumerate(table):
        channels = torch.cat([chosen + 64 * colour for colour in range(3)])
        image = pair % len(IMAGES)
        with torch.no_grad():
            sent = defense.scaled(IMAGES[image : image + 1])[:, channels]
            drawn = defense.render(freq.in_bytes(sent))
            expected = defense.image_of(freq.placed(sent, channels))
        right += float((drawn - expected).abs().max()) < 0.02
    assert right > 18, "of 36 pairs most are recognized, and every channel is put back in its place"


def test_ppfr_fd_drops_nearly_all_energy_and_every_mean() -> None:
    defense: Any = built("ppfr_fd")
    energy = freq.lift(IMAGES, 2).square().mean((0, 2, 3))
    assert 1 - float(energy[defense.kept].sum() / energy.sum()) > 0.9
    assert len(defense.kept) == 36 and not set(defense.kept.tolist()) & {0, 64, 128}
    found = released(defense)
    assert found.shape == (len(IMAGES), 36, 28, 28)
    assert found.mean((2, 3)).abs().max() < 0.03, "each channel is normalised"
    other = released(built("ppfr_fd", secret=1))
    assert not torch.equal(found, other), "another key, another order"


def test_dctdp_shares_out_one_budget() -> None:
    defense: Any = built("dctdp", steps=20)
    assert defense.scale.shape == (189, 28, 28)
    assert defense.guarantee.epsilon == 8 * 189 * 28 * 28 and defense.guarantee.per == "image"
    assert abs(float((2 / defense.scale.double()).sum()) / defense.guarantee.epsilon - 1) < 1e-3
    assert float((2 / defense.scale).std() / (2 / defense.scale).mean()) > 0.02, "the shares have been learnt"
    with torch.no_grad():
        noisy = freq.signed(defense.protect(IMAGES, seeded())) * (1 + 3 * defense.scale)
        clear = defense.scaled(IMAGES)[:, [c for c in range(192) if c % 64]]
    # Of a Laplace variable's mean size to its scale, where values beyond three scales are clipped: a little under 1.
    ratio = float(((noisy - clear).abs().mean(0) / defense.scale).mean())
    assert 0.85 < ratio < 1.02


def test_dctdp_with_less_budget_has_more_noise() -> None:
    loud, quiet = (built("dctdp", epsilon=epsilon, steps=0) for epsilon in (1.0, 8.0))
    torch.testing.assert_close(loud.scale, 8 * quiet.scale)  # type: ignore[attr-defined]


def test_dctdp_enlarged_eightfold_has_the_same_budget_for_more_values() -> None:
    """Shares are learnt for groups of sixteen blocks; what an image gets does not depend on those beside it."""
    defense: Any = built("dctdp", enlarge=8, epsilon=0.5, steps=2)
    assert defense.scale.shape == (189, 28, 28) and defense.guarantee.epsilon == 8 * 189 * 28 * 28
    found = released(defense, IMAGES[:5])
    assert found.shape == (5, 189, 112, 112)
    assert torch.equal(found[:2], released(defense, IMAGES[:2]))


def test_minusface_subtracts_what_is_seen_and_shuffles_the_rest() -> None:
    defense: Any = built("minusface")
    with torch.no_grad():
        residue = defense.residue_image(IMAGES)
        first, second = (defense.protect(IMAGES, seeded(seed)) for seed in range(2))
    assert float(residue.abs().mean()) < 0.3 * float((IMAGES - 0.5).abs().mean()), "the residue is nearly blank"
    alike = torch.nn.functional.cosine_similarity(first.flatten(1) - 0.5, second.flatten(1) - 0.5)
    assert float(alike.abs().mean()) < 0.5, "another shuffle, another picture"
    assert first.shape == (len(IMAGES), 48, 28, 28) and defense.render(first).shape == IMAGES.shape


@pytest.mark.parametrize("name", ["duetface", "partialface", "ppfr_fd", "dctdp", "minusface"])
def test_they_are_in_the_track_of_representations(name: str) -> None:
    loaded = registry.load("defense", name)
    assert registry.track_of(loaded) == "representation" and loaded.card.deviations
