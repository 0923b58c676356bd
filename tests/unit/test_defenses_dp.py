"""Known answers of the differentially private and the mixing defenses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ppfr_bench.defenses import _draws
from ppfr_bench.defenses.dp_samp import sample_size

from ppfr_bench import registry, testing
from ppfr_bench.api import Defense, UserError, to_bytes, to_float
from ppfr_bench.contracts.defense import check_defense
from ppfr_bench.datasets.faces import ArrayFaces

EXAMPLES = testing.example_faces()
IMAGES, LABELS = EXAMPLES.load(range(len(EXAMPLES))), list(EXAMPLES.names)
NAMES = ("dp_pix", "dp_samp", "dp_snow", "peep", "instahide", "mixup_decoy")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dp_pix", {"epsilon": 50, "block": 9}),
    ("dp_samp", {"epsilon": 5, "clusters": 3}),
    ("peep", {"per": "coefficient"}),
    ("peep", {"per": "image"}),
    ("instahide", {"k": 4, "release": "absolute"}),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(name: str, **params: Any) -> Any:
    """Fitted on the example faces, if it learns."""
    defense: Defense = registry.build("defense", name, params)
    defense.fit(EXAMPLES, seeded(1))
    return defense


@pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
def test_variants_keep_the_contract(name: str, params: dict[str, Any]) -> None:
    assert check_defense(built(name, **params), IMAGES[::2], LABELS[::2], seed=3) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_or_tall_image_is_touched_everywhere(name: str) -> None:
    for shape in (30, 112), (112, 43):
        images = to_float(IMAGES[:2, :, : shape[0], : shape[1]])
        out = built(name).protect(images, seeded())
        assert out.shape == images.shape
        changed = ((out - images).abs() > 1e-3).float()
        tiles = torch.nn.functional.avg_pool2d(changed.amax(1), 14)
        assert float(tiles.min()) > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_flat_and_extreme_images_give_finite_values(name: str) -> None:
    images = torch.stack([torch.full((3, 56, 56), level) for level in (0.0, 0.4, 1.0)])
    out = built(name).protect(images, seeded())
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    assert built(name).protect(images[:1], seeded()).shape == (1, 3, 56, 56)


def test_laplace_noise_has_the_density_of_its_name() -> None:
    from scipy.stats import kstest, laplace

    noise = _draws.laplace(seeded(), (40_000,))
    assert torch.isfinite(noise).all()
    assert float(noise.abs().mean()) == pytest.approx(1, rel=0.02)
    assert float((noise < 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert kstest(noise.numpy(), laplace.cdf).pvalue > 0.001


def test_dp_pix_noise_has_the_scale_of_sensitivity_over_epsilon() -> None:
    epsilon, block, m = 2.0, 8, 4
    images = torch.full((24, 3, 112, 112), 0.5)
    out = built("dp_pix", epsilon=epsilon, block=block, neighbours=m).protect(images, seeded())
    noise = (out - 0.5)[:, :, ::block, ::block] * 255
    assert float(noise.abs().mean()) == pytest.approx(255 * m / (block**2 * epsilon), rel=0.03)
    assert float((noise < 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    cells = out.reshape(24, 3, 14, 8, 14, 8)
    assert torch.equal(cells, cells[:, :, :, :1, :, :1].expand_as(cells)), "one value a cell"


def test_dp_pix_sensitivity_is_that_of_the_means() -> None:
    """m pixels turned from black to white move the means by 255 m / b^2 in all, wherever they lie."""
    defense = built("dp_pix", epsilon=1.0, block=16, neighbours=16)
    for spread in (1, 5):
        image = torch.zeros(1, 1, 112, 112)
        image[0, 0].view(-1)[torch.arange(16) * 3 * spread] = 1
        moved = torch.nn.functional.avg_pool2d(image, 16).sum()
        torch.testing.assert_close(moved, torch.tensor(float(defense.scale(16 * 16))))


def test_dp_pix_keeps_the_means_and_gives_cut_cells_their_share_of_noise() -> None:
    images = to_float(IMAGES[:2])
    quiet = built("dp_pix", epsilon=1e6).protect(images, seeded())
    means = torch.nn.functional.avg_pool2d(images, 16)
    torch.testing.assert_close(quiet[:, :, ::16, ::16], means, atol=1e-3, rtol=0)
    images = torch.full((2000, 3, 20, 16), 0.5)
    out = built("dp_pix", epsilon=20.0, block=16, neighbours=4).protect(images, seeded()) - 0.5
    whole, cut = out[:, :, 0, 0].abs().mean(), out[:, :, 16, 0].abs().mean()
    assert float(whole) == pytest.approx(4 / (256 * 20), rel=0.05)
    assert float(cut / whole) == pytest.approx(4, rel=0.08)


@pytest.mark.parametrize(
    ("delta", "shown"), [(0.0, 0), (0.2, 2508), (0.25, 3136), (0.29, 3637), (0.5, 6272), (0.9, 11289)]
)
def test_dp_snow_shows_the_most_pixels_that_delta_allows(delta: float, shown: int) -> None:
    images = to_float(np.where(IMAGES == 127, 128, IMAGES)[:3])
    out = to_bytes(built("dp_snow", delta=delta).protect(images, seeded()))
    grey = (out == 127).all(1)
    assert (~grey).sum((1, 2)).tolist() == [shown] * 3
    kept = np.broadcast_to(~grey[:, None], out.shape)
    assert np.array_equal(out[kept], to_bytes(images)[kept])
    if delta > 0:
        assert abs(grey[:, :, :56].mean() - grey[:, :, 56:].mean()) < 0.03, "over the whole image"


@pytest.mark.parametrize(("delta", "pixels", "shown"), [(0.29, 100, 29), (0.57, 100, 57), (0.7, 10, 7), (0.2, 9, 1)])
def test_dp_snow_counts_delta_as_it_is_written(delta: float, pixels: int, shown: int) -> None:
    out = built("dp_snow", delta=delta).protect(torch.ones(1, 3, 1, pixels), seeded())
    assert int((out[0, 0] == 1).sum()) == shown


@pytest.mark.parametrize(("frequency", "m", "epsilon"), [(900, 16, 0.5), (200, 3, 2.0), (50, 1, 0.1), (17, 16, 9.0)])
def test_dp_samp_sample_size_is_the_largest_that_the_budget_allows(frequency: int, m: int, epsilon: float) -> None:
    def factor(x: int) -> float:
        return math.comb(frequency, x) / math.comb(frequency - m, x)

    x = sample_size(frequency, m, epsilon)
    assert factor(x) <= math.exp(epsilon)
    assert x == frequency - m or factor(x + 1) > math.exp(epsilon)
    assert sample_size(m, m, 1e9) == 0


def test_dp_samp_samples_pixels_of_typical_colours_and_shows_those() -> None:
    defense = built("dp_samp")
    pixels = to_float(IMAGES[:1]).double()[0].flatten(1).numpy() * 255
    chosen, colours = defense.samples(pixels, seeded())
    assert 20 < len(chosen) == len(set(chosen.tolist())) < 400
    assert np.abs(pixels[:, chosen] - colours).sum(0).max() <= 60
    assert len(np.unique(colours, axis=1).T) <= 5
    assert len(built("dp_samp", epsilon=5.0).samples(pixels, seeded())[0]) > 5 * len(chosen)
    other, _ = defense.samples(pixels, seeded(1))
    assert len(set(chosen.tolist()) & set(other.tolist())) < len(chosen) / 4


def test_dp_samp_image_shows_the_samples_and_flat_grey_without_any() -> None:
    defense = built("dp_samp")
    image = to_float(IMAGES[:1])
    released = defense._release(image[0], seeded(2))
    chosen, colours = defense.samples(image.double()[0].flatten(1).numpy() * 255, seeded(2))
    np.testing.assert_allclose(released.flatten(1).numpy()[:, chosen] * 255, colours, atol=1e-2)
    none = built("dp_samp", epsilon=1e-6).protect(image, seeded())
    assert torch.equal(none, torch.full_like(none, 127 / 255))
    two = built("dp_samp", epsilon=0.003, clusters=1).protect(torch.full((1, 3, 112, 112), 0.4), seeded())
    torch.testing.assert_close(two, torch.full_like(two, 0.4))


def peep_of_noise(**params: Any) -> tuple[Any, torch.Tensor]:
    """PEEP on 56x56 faces of low contrast, where nothing is resized or clipped; and such faces."""
    images = np.random.default_rng(0).integers(118, 138, (300, 1, 56, 56), dtype=np.uint8).repeat(3, 1)
    defense = registry.build("defense", "peep", {"components": 10, **params})
    defense.fit(ArrayFaces(images, np.arange(300), [str(i) for i in range(300)]), seeded())
    return defense, to_float(images)


def codes_of(defense: Any, images: torch.Tensor) -> torch.Tensor:
    codes: torch.Tensor = (images[:, 0].flatten(1) - defense.mean) @ defense.basis.T
    return codes


def test_peep_without_noise_is_the_projection_onto_eigenfaces() -> None:
    defense, images = peep_of_noise(epsilon=1e7)
    out = defense.protect(images[:20], seeded())
    torch.testing.assert_close(codes_of(defense, out), codes_of(defense, images[:20]), atol=1e-4, rtol=0)
    outside = (out[:, 0].flatten(1) - defense.mean) - codes_of(defense, out) @ defense.basis
    assert float(outside.abs().max()) < 1e-5
    assert torch.equal(out[:, 0], out[:, 2])


def test_peep_per_pixel_adds_the_noise_of_every_pixel_to_each_coefficient() -> None:
    defense, images = peep_of_noise(epsilon=20.0)
    added = codes_of(defense, defense.protect(images, seeded())) - codes_of(defense, images)
    assert float(added.std()) == pytest.approx(math.sqrt(2) / 20, rel=0.05)  # the basis is orthonormal
    assert float(added.mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("per", ["coefficient", "image"])
def test_peep_noise_has_the_scale_of_sensitivity_over_epsilon(per: str) -> None:
    epsilon = 100.0
    defense, images = peep_of_noise(per=per, epsilon=epsilon)
    quiet, _ = peep_of_noise(per=per, epsilon=1e7)
    noisy = codes_of(defense, defense.protect(images, seeded()))
    added = noisy - codes_of(quiet, quiet.protect(images, seeded()))
    scale = defense.span if per == "coefficient" else 2 * defense.bound.expand(10)
    torch.testing.assert_close(added.abs().mean(0), scale / epsilon, rtol=0.2, atol=0)
    assert float((added.abs().mean(0) / scale).mean() * epsilon) == pytest.approx(1, rel=0.05)


def test_peep_per_image_bounds_the_norm_before_the_noise() -> None:
    quiet, images = peep_of_noise(per="image", epsilon=1e7)
    norms = codes_of(quiet, quiet.protect(images, seeded())).abs().sum(1)
    assert float(norms.max()) <= float(quiet.bound) * 1.001
    assert float((norms > 0.999 * quiet.bound).float().mean()) == pytest.approx(0.5, abs=0.02), "C is the median"


def test_instahide_weights_add_up_and_keep_to_the_bound() -> None:
    for k, bound in ((2, 0.65), (4, 0.65), (4, 0.25)):
        defense = built("instahide", k=k, bound=bound)
        weights = torch.stack([defense.weights(seeded(i)) for i in range(200)])
        torch.testing.assert_close(weights.sum(1), torch.ones(200))
        assert float(weights.max()) <= bound + 1e-6 and float(weights.min()) >= 0
    assert float(built("instahide").weights(seeded()).std()) > 0
    with pytest.raises(UserError, match="at least 1 / k"):
        built("instahide", k=2, bound=0.4)


def test_instahide_flips_half_of_the_signs_of_the_mix() -> None:
    images = to_float(IMAGES[:4])
    shifted = 2 * built("instahide").protect(images, seeded()) - 1
    absolute = built("instahide", release="absolute").protect(images, seeded())
    torch.testing.assert_close(shifted.abs(), absolute, atol=1e-6, rtol=0)
    strong = shifted[absolute > 0.1]
    assert float((strong < 0).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_instahide_and_mixup_mix_with_the_face_of_another() -> None:
    other = np.full((2, 3, 112, 112), 255, dtype=np.uint8)
    other[1] = 240
    faces = ArrayFaces(other, np.arange(2), ["a", "b"])
    images = torch.zeros(6, 3, 112, 112)
    for name in ("instahide", "mixup_decoy"):
        params = {"release": "absolute"} if name == "instahide" else {}
        defense = registry.build("defense", name, params)
        defense.fit(faces, seeded())
        out = defense.protect(images, seeded())
        mixed = out[:, 0, 0, 0]
        assert torch.equal(out, mixed[:, None, None, None].expand_as(out))
        if name == "mixup_decoy":  # of white and nearly white, white is farther from black
            assert ((mixed >= 0.35) & (mixed <= 0.65)).all() and len(mixed.unique()) == 6
        else:
            assert (mixed <= 0.31).all(), "|2 w - 1| for w between 0.35 and 0.65"


def test_mixup_never_takes_the_face_itself_for_a_decoy() -> None:
    defense = registry.build("defense", "mixup_decoy", {"least": 0.5, "most": 0.5})
    two = ArrayFaces(IMAGES[[0, 4]], np.arange(2), ["a", "b"])
    defense.fit(two, seeded())
    out = defense.protect(to_float(IMAGES[[0, 4]]), seeded())
    expected = to_float(IMAGES[[0, 4]]).mean(0).expand(2, -1, -1, -1)
    torch.testing.assert_close(out, expected)
    with pytest.raises(UserError, match="at least 2 identities"):
        defense.fit(ArrayFaces(IMAGES[:3], np.zeros(3, dtype=np.int64), ["a", "b", "c"]), seeded())


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_an_epsilon_is_per(name: str) -> None:
    card, text = registry.load("defense", name).card, " ".join(registry.load("defense", name).card.deviations)
    assert card.family in ("differential privacy", "mixing")
    if card.family == "differential privacy":
        assert "psilon" in text and any(word in text for word in ("pixel", "grey value", "image"))


@pytest.mark.parametrize(
    ("name", "params", "epsilon", "delta", "per"),
    [
        ("dp_pix", {"epsilon": 0.5}, 1.5, 0.0, "pixels"),
        ("dp_snow", {"delta": 0.3}, 0.0, 0.3, "pixel"),
        ("peep", {"epsilon": 8, "per": "image"}, 8.0, 0.0, "image"),
    ],
)
def test_a_guarantee_says_how_much_and_of_what(
    name: str, params: dict[str, Any], epsilon: float, delta: float, per: str
) -> None:
    found = registry.build("defense", name, params).guarantee
    assert (found.epsilon, found.delta, found.per) == (epsilon, delta, per)


def test_no_guarantee_is_claimed_where_none_is_proven() -> None:
    """DP-Samp may show a pixel that a neighbour cannot show, and its colours get no noise."""
    for name in ("gaussian_noise", "stochastic_local", "dp_samp", "instahide"):
        assert registry.build("defense", name, {}).guarantee is None
