"""Known answers of the filters, masks, permutations and k-same defenses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from ppfr_bench import registry, testing
from ppfr_bench.api import ByteArray, Defense, UserError, to_bytes, to_float
from ppfr_bench.contracts.defense import check_defense
from ppfr_bench.datasets.faces import ArrayFaces

EXAMPLES = testing.example_faces()
IMAGES, LABELS = EXAMPLES.load(range(len(EXAMPLES))), list(EXAMPLES.names)
PARTIAL = ("eye_mask", "random_erasing")
NAMES = (
    "median", "downsample", "eye_mask", "gaussian_noise", "random_erasing", "k_same_pixel", "k_same_eigen",
    "fourier_phase", "fourier_amplitude", "pixel_permutation", "negative_positive",
)  # fmt: skip
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("median", {"size": 5}),
    ("downsample", {"factor": 9, "enlarge": "bilinear"}),
    ("k_same_pixel", {"k": 2}),
    ("k_same_eigen", {"components": 3, "k": 3}),
    ("fourier_phase", {"key": "session"}),
    ("fourier_phase", {"phase": "shifted"}),
    ("fourier_amplitude", {"exponent": 0}),
    ("pixel_permutation", {"key": "image"}),
    ("negative_positive", {"key": "image", "block": 7}),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def release(defense: Defense, images: ByteArray) -> ByteArray:
    return to_bytes(defense.protect(to_float(images), seeded()))


def built(name: str, **params: Any) -> Defense:
    """Fitted on the example faces, if it learns."""
    defense: Defense = registry.build("defense", name, params)
    defense.fit(EXAMPLES, seeded(1))
    return defense


def noise_faces(people: int, each: int = 1, side: int = 112) -> ArrayFaces:
    images = np.random.default_rng(0).integers(0, 256, (people * each, 3, side, side), dtype=np.uint8)
    return ArrayFaces(images, np.repeat(np.arange(people), each), [str(i) for i in range(people * each)])


@pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
def test_variants_keep_the_contract(name: str, params: dict[str, Any]) -> None:
    assert check_defense(built(name, **params), IMAGES[::2], LABELS[::2], seed=3) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_or_tall_image_is_touched_everywhere(name: str) -> None:
    for shape in (28, 112), (112, 42):
        images = to_float(IMAGES[:2, :, : shape[0], : shape[1]])
        out = built(name).protect(images, seeded())
        assert out.shape == images.shape
        if name not in PARTIAL:
            changed = ((out - images).abs() > 1e-3).float()
            tiles = torch.nn.functional.avg_pool2d(changed.amax(1), 14)
            assert float(tiles.min()) > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_flat_images_give_finite_values(name: str) -> None:
    images = torch.stack([torch.full((3, 56, 56), level) for level in (0.0, 0.4, 1.0)])
    out = built(name).protect(images, seeded())
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


def test_median_is_that_of_scipy() -> None:
    for size in (3, 9):
        out = to_bytes(built("median", size=size).protect(to_float(IMAGES[:2, :, :60]), seeded()))
        expected = median_filter(IMAGES[:2, :, :60], size=(1, 1, size, size), mode="mirror")
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("size", "side"), [(4, 112), (15, 7)])
def test_median_refuses_windows_that_have_no_centre_or_no_room(size: int, side: int) -> None:
    with pytest.raises(UserError, match=f"odd size .*got {size}"):
        built("median", size=size).protect(to_float(IMAGES[:1, :, :side, :side]), seeded())


def test_downsample_releases_block_means_only() -> None:
    defense = built("downsample")
    images = to_float(IMAGES[:2])
    means = torch.nn.functional.avg_pool2d(images, 7)
    blocks = means.repeat_interleave(7, 2).repeat_interleave(7, 3)
    torch.testing.assert_close(defense.protect(images, seeded()), defense.protect(blocks, seeded()))
    assert float((defense.protect(images, seeded()) - images).abs().mean()) > 0.01


def test_eye_mask_blackens_the_band_and_nothing_else() -> None:
    out = built("eye_mask").protect(to_float(IMAGES), seeded())
    band = np.zeros((112, 112), dtype=bool)
    band[40:64, 16:96] = True
    assert not out[:, :, band].any()
    np.testing.assert_array_equal(to_bytes(out)[:, :, ~band], IMAGES[:, :, ~band])
    for eye in ((52, 38), (52, 74), (52, 56)):
        assert band[eye], "the eyes of the template, and between them"
    with pytest.raises(UserError, match="a tenth"):
        built("eye_mask", top=0.5, bottom=0.5)


def test_gaussian_noise_has_both_signs_and_its_deviation() -> None:
    images = torch.full((4, 3, 112, 112), 0.5)
    noise = built("gaussian_noise", sigma=0.1).protect(images, seeded()) - 0.5
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.002)
    assert float((noise < 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    flat = noise.flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.03, "each image has its own"


def test_random_erasing_erases_one_rectangle_of_the_area_and_shape_asked_for() -> None:
    images = torch.full((200, 3, 112, 112), 2.0)  # outside the range, so that no draw equals it
    out = built("random_erasing").protect(images, seeded())
    assert torch.equal(images, torch.full_like(images, 2.0))
    areas = []
    for image in out:
        erased = (image != 2).all(0)
        rows, columns = erased.any(1).nonzero().flatten(), erased.any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert int(erased.sum()) == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        areas.append(height * width / 112**2)
        assert 0.27 < height / width < 3.7
    assert 0.015 < min(areas) < 0.06 and 0.34 < max(areas) < 0.41
    assert np.mean(areas) == pytest.approx(0.21, abs=0.025)
    with pytest.raises(UserError, match="lower bound"):
        built("random_erasing", least_area=0.5)


def test_k_same_pixel_is_the_mean_of_k_faces_of_different_people() -> None:
    defense = registry.build("defense", "k_same_pixel", {"k": 4})
    faces = noise_faces(people=6, each=3)
    defense.fit(faces, seeded())
    assert len(defense.faces) == 6
    kept = [int(faces.identities[(faces.load(range(18)) == face.numpy()).all((1, 2, 3))][0]) for face in defense.faces]
    assert sorted(kept) == list(range(6)), "one image an identity"
    images = to_float(defense.faces[:2].numpy()) * 0.5 + 0.2
    nearest = defense.nearest(images)
    assert nearest.shape == (2, 3) and all(len(set(row.tolist())) == 3 for row in nearest)
    assert nearest[:, 0].tolist() == [0, 1], "the image it is made of is the nearest"
    expected = torch.stack([(images[i] + to_float(defense.faces[nearest[i]]).sum(0)) / 4 for i in range(2)])
    torch.testing.assert_close(defense.protect(images, seeded()), expected)


def test_k_same_eigen_is_the_mean_of_k_codes_and_nothing_beside_it() -> None:
    defense = registry.build("defense", "k_same_eigen", {"k": 3, "components": 5})
    faces = noise_faces(people=12)
    defense.fit(faces, seeded())
    torch.testing.assert_close(defense.basis @ defense.basis.T, torch.eye(5), atol=1e-4, rtol=0)
    images = to_float(IMAGES[:4])
    codes = defense.encode(images)
    distances = torch.cdist(codes, defense.codes)
    for code, merged, order in zip(codes, defense.merged(codes), distances.argsort(1), strict=True):
        torch.testing.assert_close(merged, (code + defense.codes[order[0]] + defense.codes[order[1]]) / 3)
    whole = (defense.mean + defense.merged(codes) @ defense.basis).reshape(images.shape).clamp(0, 1)
    torch.testing.assert_close(defense.protect(images, seeded()), whole)


def test_eigenfaces_are_those_of_a_singular_value_decomposition() -> None:
    from ppfr_bench.defenses._background import eigenfaces

    vectors = torch.randn(20, 50, generator=seeded())
    mean, basis = eigenfaces(vectors, 6)
    expected = torch.linalg.svd(vectors - vectors.mean(0)).Vh[:6]
    torch.testing.assert_close((basis @ expected.T).abs(), torch.eye(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(mean, vectors.mean(0))
    assert len(eigenfaces(vectors, 100)[1]) == 19, "one direction is lost to the mean"


@pytest.mark.parametrize("name", ["k_same_pixel", "k_same_eigen", "peep", "instahide", "mixup_decoy"])
def test_a_defense_that_learns_says_so_when_it_has_not(name: str) -> None:
    defense = registry.build("defense", name, {})
    with pytest.raises(UserError, match="learns before it protects"):
        defense.protect(to_float(IMAGES[:1]), seeded())


@pytest.mark.parametrize("name", ["k_same_pixel", "k_same_eigen"])
def test_k_same_refuses_fewer_people_than_k_needs(name: str) -> None:
    with pytest.raises(UserError, match="at least 5 identities of the defender, got 4"):
        built(name, k=6)


def test_fourier_phase_keeps_amplitudes_and_mean_and_no_phase() -> None:
    images = 0.5 + 0.2 * (to_float(IMAGES[:2]) - 0.5)  # of low contrast, so that nothing is clipped
    out = built("fourier_phase").protect(images, seeded())
    before, after = torch.fft.rfft2(images), torch.fft.rfft2(out)
    torch.testing.assert_close(after.abs(), before.abs(), atol=2e-2, rtol=1e-3)
    torch.testing.assert_close(out.mean((2, 3)), images.mean((2, 3)))
    difference = (after / before).angle().flatten()
    assert abs(float(torch.exp(1j * difference).mean().abs())) < 0.05, "phases are uniform"
    shifted = built("fourier_phase").protect(images.roll((5, 9), (2, 3)), seeded())
    torch.testing.assert_close(shifted, out, atol=1e-4, rtol=0)  # a shift changes phases only


def test_fourier_phase_shifted_by_a_session_key_is_undone_by_it() -> None:
    images = 0.5 + 0.2 * (to_float(IMAGES[:2]) - 0.5)
    defense = built("fourier_phase", phase="shifted", key="session", secret=4)
    impulse = torch.full((1, 3, 112, 112), 0.5)
    impulse[:, :, 0, 0] += 0.5
    key = torch.fft.rfft2(defense.protect(impulse, seeded()) - 0.5) / 0.5
    out = defense.protect(images, seeded())
    back = torch.fft.irfft2(torch.fft.rfft2(out) / key, s=(112, 112))
    torch.testing.assert_close(back - back.mean((2, 3), keepdim=True), images - images.mean((2, 3), keepdim=True),
                               atol=2e-3, rtol=0)  # fmt: skip


def test_fourier_amplitude_releases_phases_only() -> None:
    defense = built("fourier_amplitude", contrast=0.1)
    images = to_float(IMAGES[:4])
    out = defense.protect(images, seeded())
    assert float(out.std((2, 3)).mean()) == pytest.approx(0.1, rel=0.05)
    torch.testing.assert_close(out.mean((2, 3)), torch.full((4, 3), 0.5), atol=5e-3, rtol=0)
    dimmed = defense.protect(images * torch.tensor([0.5, 0.7, 0.9])[:, None, None] + 0.1, seeded())
    assert float((dimmed - out).abs().max()) < 0.03, "light and contrast are gone"
    before, after = torch.fft.rfft2(images)[:, :, 1:6, 1:6], torch.fft.rfft2(out)[:, :, 1:6, 1:6]
    assert float((after / before).angle().abs().mean()) < 0.05, "the phases stay"


@pytest.mark.parametrize("key", ["session", "image"])
def test_pixel_permutation_is_a_permutation(key: str) -> None:
    marks = np.arange(112 * 112).reshape(1, 1, 112, 112)
    images = np.concatenate([marks % 256, marks // 256, marks % 7], axis=1).astype(np.uint8).repeat(3, 0)
    out = to_bytes(built("pixel_permutation", key=key).protect(to_float(images), seeded())).astype(np.int64)
    places = out[:, 0] + 256 * out[:, 1]
    assert all(np.array_equal(np.sort(one.ravel()), np.arange(112 * 112)) for one in places)
    assert np.array_equal(out[:, 2], places % 7), "the channels move together"
    assert (places != marks[0]).mean() > 0.99
    assert len({one.tobytes() for one in places}) == (1 if key == "session" else 3)


@pytest.mark.parametrize("block", [14, 56])
def test_no_block_keeps_its_place(block: int) -> None:
    """A block in its place is released clear, and with few blocks some would be on most images."""
    images = to_float(np.random.default_rng(0).integers(0, 256, (300, 3, 112, 112), dtype=np.uint8))
    out = built("block_permutation", key="image", block=block).protect(images, seeded())
    kept = (out == images).all(1).reshape(300, 112 // block, block, 112 // block, block).all(4).all(2)
    assert not kept.any()
    assert torch.equal(out.flatten(1).sort()[0], images.flatten(1).sort()[0])


def test_permutations_of_a_session_follow_the_secret_and_not_the_generator() -> None:
    images = to_float(IMAGES[:2])
    for name in ("pixel_permutation", "negative_positive", "fourier_phase"):
        first = built(name, key="session").protect(images, seeded(0))
        assert torch.equal(first, built(name, key="session").protect(images, seeded(1)))
        assert not torch.equal(first, built(name, key="session", secret=1).protect(images, seeded(0)))


def test_negative_positive_moves_turns_negates_and_exchanges_whole_blocks() -> None:
    out = to_bytes(built("negative_positive").protect(to_float(IMAGES[:1]), seeded()))[0]

    def blocks(image: Any) -> list[Any]:
        return list(image.reshape(3, 8, 14, 8, 14).transpose(1, 3, 0, 2, 4).reshape(64, 3, 14, 14))

    def canonical(block: Any) -> bytes:
        """The same for all 96 ways in which one block may come out."""
        ways = []
        for polarity in (block, 255 - block):
            for turns in range(4):
                for mirrored in (polarity, polarity.transpose(0, 2, 1)):
                    turned = np.rot90(mirrored, turns, axes=(1, 2))
                    ways.append(b"".join(sorted(channel.tobytes() for channel in turned)))
        return min(ways)

    assert sorted(map(canonical, blocks(out))) == sorted(map(canonical, blocks(IMAGES[0])))
    assert np.mean([np.array_equal(*pair) for pair in zip(blocks(out), blocks(IMAGES[0]), strict=True)]) < 0.1


def test_negative_positive_uses_every_orientation_channel_order_and_polarity() -> None:
    from ppfr_bench.defenses.negative_positive import _within

    table = _within(3)
    assert table.shape == (8, 6, 27)
    assert len({tuple(row.tolist()) for row in table.flatten(0, 1)}) == 48
    assert all(sorted(row.tolist()) == list(range(27)) for row in table.flatten(0, 1))
    flat = built("negative_positive", block=1).protect(torch.full((1, 3, 112, 112), 0.2), seeded())
    assert float((flat > 0.5).float().mean()) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(flat[flat < 0.5], torch.full_like(flat[flat < 0.5], 0.2))


def test_negative_positive_refuses_blocks_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="16 divides, got 98x112"):
        built("negative_positive", block=16).protect(to_float(IMAGES[:1, :, :98]), seeded())


def test_gaussian_blur_is_that_of_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    blurred = registry.build("defense", "gaussian_blur", {"sigma": 4.0}).protect(to_float(IMAGES[:2]), seeded())
    expected = gaussian_filter(IMAGES[:2] / 255.0, (0, 0, 4.0, 4.0), mode="mirror", truncate=3.0)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=2e-6)


def test_pixelate_keeps_block_means_and_takes_any_size() -> None:
    images = to_float(IMAGES[:2])
    out = registry.build("defense", "pixelate", {"block": 14}).protect(images, seeded())
    means = images.reshape(2, 3, 8, 14, 8, 14).mean((3, 5))
    torch.testing.assert_close(out[:, :, 7::14, 7::14], means)
    uneven = registry.build("defense", "pixelate", {"block": 100}).protect(images, seeded())
    torch.testing.assert_close(uneven[:, :, 105, 105], images[:, :, 100:, 100:].mean((2, 3)))


def test_block_permutation_moves_whole_blocks_and_loses_none() -> None:
    out = release(registry.build("defense", "block_permutation", {}), IMAGES[:2])

    def blocks(images: ByteArray) -> list[list[bytes]]:
        cut = images.reshape(2, 3, 8, 14, 8, 14).transpose(0, 2, 4, 1, 3, 5).reshape(2, 64, -1)
        return [sorted(block.tobytes() for block in image) for image in cut]

    assert blocks(out) == blocks(IMAGES[:2])
    assert (out != IMAGES[:2]).any()


def test_block_permutation_uses_one_order_for_all_or_one_each() -> None:
    marks = np.broadcast_to(np.repeat(np.repeat(np.arange(64).reshape(8, 8), 14, 0), 14, 1), (4, 3, 112, 112))
    marks = marks.astype(np.uint8)
    shared = release(registry.build("defense", "block_permutation", {}), marks)
    assert all(np.array_equal(shared[0], other) for other in shared)
    other_secret = release(registry.build("defense", "block_permutation", {"secret": 1}), marks)
    assert not np.array_equal(shared, other_secret)
    fresh = release(registry.build("defense", "block_permutation", {"key": "image"}), marks)
    assert len({image.tobytes() for image in fresh}) == 4


def test_block_permutation_refuses_blocks_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="13 divides"):
        release(registry.build("defense", "block_permutation", {"block": 13}), IMAGES[:1])


def test_local_contrast_ignores_light_and_colour() -> None:
    defense = registry.build("defense", "local_contrast", {})
    images = to_float(IMAGES)
    out = defense.protect(images, seeded())
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    darker = defense.protect(images * 0.5 + 0.25, seeded())
    brighter = defense.protect(images.clamp(0, 0.8) + 0.2, seeded())
    same = defense.protect(images.clamp(0, 0.8), seeded())
    torch.testing.assert_close(brighter, same, atol=2e-4, rtol=0)
    assert np.corrcoef(out.flatten().numpy(), darker.flatten().numpy())[0, 1] > 0.95
    flat = defense.protect(torch.full((1, 3, 112, 112), 0.3), seeded())
    torch.testing.assert_close(flat, torch.full_like(flat, 0.5), atol=1e-3, rtol=0)


def test_stochastic_local_adds_what_it_says() -> None:
    flat = torch.full((24, 3, 112, 112), 0.5)
    field = registry.build("defense", "stochastic_local", {"noise": 0, "warp": 0}).protect(flat, seeded())
    noise = registry.build("defense", "stochastic_local", {"field": 0, "warp": 0}).protect(flat, seeded())
    assert float(noise.std()) * 255 == pytest.approx(10, rel=0.02)
    assert float(field.std()) * 255 == pytest.approx(30, rel=0.15)
    assert float((field[..., 1:] - field[..., :-1]).std()) < 0.2 * float(field.std()), "the field is smooth"
