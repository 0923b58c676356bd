"""Image metrics and attributes against known answers and independent implementations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from pretended_device import OTHERS, assert_alike, other_device
from scipy.ndimage import correlate
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ppfr_bench import device
from ppfr_bench.api import to_bytes, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import ImageMetric, load_image_metric, metric_info
from ppfr_bench.metrics.attributes import ATTRIBUTES, _lab, read_attributes
from ppfr_bench.metrics.psnr import CAP

SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data"))
METRIC_NAMES = [pytest.param("lpips", marks=pytest.mark.assets), "ssim", "ms_ssim", "psnr"]


@pytest.fixture(params=METRIC_NAMES)
def metric(request: pytest.FixtureRequest) -> ImageMetric:
    return load_image_metric(request.param)


def textures(n: int, seed: int = 0, size: int = 112) -> torch.Tensor:
    """Images with structure at every scale, float32 (n, 3, size, size) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(n, 3, size, size)
    for side in (3, 7, 14, 28, size):
        noise = torch.rand(n, 3, side, side, generator=generator) - 0.5
        total += torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear") * side**-0.4
    return (total + 0.5).clamp(0, 1)


def noisy(images: torch.Tensor, amount: float, seed: int = 1) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return (images + amount * noise).clamp(0, 1)


def worse_first(metric: ImageMetric, worse: np.ndarray, better: np.ndarray) -> bool:
    return bool((worse > better).all() if metric.info.direction == "lower_is_better" else (worse < better).all())


BEST = {"lpips": 0.0, "ssim": 1.0, "ms_ssim": 1.0, "psnr": CAP}


def test_identical_images_score_the_best_value_there_is(metric: ImageMetric) -> None:
    images = torch.cat([textures(3), torch.zeros(1, 3, 112, 112), torch.ones(1, 3, 112, 112)])
    values = metric.values(images, images.clone())
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, BEST[metric.info.name], atol=1e-6)
    assert metric_info(metric.info.name) is metric.info


@pytest.mark.parametrize("kind", OTHERS)
def test_values_are_the_same_on_every_device(metric: ImageMetric, kind: str) -> None:
    """Computed on the current device, wherever the images lie, and handed back as numbers."""
    images, references = noisy(textures(3), 0.1), textures(3)
    here = metric.values(images, references)
    with other_device(kind) as exact:
        assert_alike(metric.values(device.to(images), references), here, exact)
    assert_alike(metric.values(images, references), here, exact=True)


@pytest.mark.parametrize("kind", OTHERS)
def test_attributes_are_the_same_on_every_device(kind: str) -> None:
    images = to_bytes(textures(3))
    here = read_attributes(images)
    with other_device(kind) as exact:
        assert_alike(read_attributes(images), here, exact)


def test_swapped_colour_channels_are_noticed(metric: ImageMetric) -> None:
    images = textures(4)
    swapped = metric.values(images.flip(1), images)
    margin = {"lpips": 0.02, "ssim": 0.1, "ms_ssim": 0.1, "psnr": 20.0}[metric.info.name]
    assert (np.abs(swapped - BEST[metric.info.name]) > margin).all()


def test_more_noise_is_worse_and_values_stay_in_range(metric: ImageMetric) -> None:
    images = textures(4)
    little, much = (metric.values(noisy(images, amount), images) for amount in (0.05, 0.3))
    assert worse_first(metric, much, little)
    for value in [*little, *much, *metric.values(1 - images, images)]:
        assert metric.info.contains(value)


def test_every_image_gets_its_own_value_whatever_the_batch(metric: ImageMetric) -> None:
    references = textures(7)
    images = torch.stack([noisy(one[None], 0.03 * number, number)[0] for number, one in enumerate(references)])
    whole = metric.values(images, references)
    pieces = [metric.values(images[at : at + 3], references[at : at + 3]) for at in (0, 3, 6)]
    assert whole.shape == (7,)
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-4, atol=1e-6)
    assert worse_first(metric, whole[1:], whole[:-1])


def test_an_empty_batch_has_no_values(metric: ImageMetric) -> None:
    assert metric.values(torch.zeros(0, 3, 112, 112), torch.zeros(0, 3, 112, 112)).shape == (0,)


@pytest.mark.parametrize("wrong", [lambda x: x * 255, lambda x: x * 2 - 1, lambda x: x / 0])
def test_another_range_is_refused(metric: ImageMetric, wrong: object) -> None:
    images = textures(2)
    assert callable(wrong)
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        metric.values(wrong(images), images)
    with pytest.raises(UserError, match=r"must lie in \[0, 1\]"):
        metric.values(images, wrong(images))


def test_images_too_small_for_the_metric_are_refused(metric: ImageMetric) -> None:
    if metric.info.name == "psnr":
        pytest.skip("PSNR is defined down to one pixel")
    with pytest.raises(UserError, match="pixels a side"):
        metric.values(torch.zeros(1, 3, 112, 9), torch.zeros(1, 3, 112, 9))


def test_measuring_leaves_inputs_and_random_state_alone(metric: ImageMetric) -> None:
    images, references = noisy(textures(2), 0.1), textures(2)
    copies, state = (images.clone(), references.clone()), torch.get_rng_state()
    metric.values(images, references)
    assert torch.equal(images, copies[0]) and torch.equal(references, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_ssim_is_that_of_skimage() -> None:
    references = textures(5)
    images = torch.stack([noisy(one[None], 0.05 * (at + 1))[0] for at, one in enumerate(references)])
    expected = [
        structural_similarity(
            left.numpy().astype(np.float64), right.numpy().astype(np.float64), data_range=1.0, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for left, right in zip(images, references, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(load_image_metric("ssim").values(images, references), expected, atol=1e-5)


def test_psnr_is_that_of_skimage() -> None:
    references = textures(3)
    images = noisy(references, 0.1)
    expected = [
        peak_signal_noise_ratio(right.double().numpy(), left.double().numpy(), data_range=1.0)
        for left, right in zip(images, references, strict=True)
    ]
    np.testing.assert_allclose(load_image_metric("psnr").values(images, references), expected, rtol=1e-9)


def test_psnr_known_answers() -> None:
    psnr = load_image_metric("psnr")
    black = torch.zeros(1, 3, 16, 16)
    assert psnr.values(black, black + 1)[0] == pytest.approx(0.0)
    assert psnr.values(black, black + 0.1)[0] == pytest.approx(20.0, abs=1e-5)
    assert psnr.values(black, black + 1 / 255)[0] == pytest.approx(48.13, abs=0.01)  # one grey level everywhere
    assert pytest.approx(58.92, abs=0.01) == CAP


def reference_ms_ssim(left: np.ndarray, right: np.ndarray) -> float:
    """The paper's formula a channel at a time, written from the paper: window 7x7, sigma 1.5, mean of channels."""
    axis = np.arange(7) - 3
    line = np.exp(-(axis**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def local(image: np.ndarray) -> np.ndarray:
        return correlate(image, window)[3:-3, 3:-3]

    channels = []
    for x, y in zip(left, right, strict=True):
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mean_x, mean_y = local(x), local(y)
            spread = local(x * x) - mean_x**2 + local(y * y) - mean_y**2
            contrast = (2 * (local(x * y) - mean_x * mean_y) + 0.03**2) / (spread + 0.03**2)
            if scale == 4:
                contrast *= (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
            product *= max(contrast.mean(), 0.0) ** weight
            if scale < 4:
                x, y = (one.reshape(len(one) // 2, 2, len(one) // 2, 2).mean(axis=(1, 3)) for one in (x, y))
        channels.append(product)
    return float(np.mean(channels))


def test_ms_ssim_is_that_of_the_paper_with_the_smaller_window() -> None:
    references = textures(3)
    images = noisy(references, 0.2)
    expected = [
        reference_ms_ssim(left.double().numpy(), right.double().numpy())
        for left, right in zip(images, references, strict=True)
    ]
    np.testing.assert_allclose(load_image_metric("ms_ssim").values(images, references), expected, atol=1e-5)


def picture(name: str) -> torch.Tensor:
    path = SHARED / "lpips" / f"{name}.png"
    if not path.is_file():
        pytest.skip(f"{path} is missing; set PPFR_BENCH_SHARED to the folder with the validation data")
    with Image.open(path) as opened:
        return to_float(np.asarray(opened.convert("RGB")).transpose(2, 0, 1)[None])


@pytest.mark.assets
def test_lpips_golden_distances() -> None:
    """The two distances the reference implementation (richzhang/PerceptualSimilarity, v0.1 AlexNet) prints."""
    reference = picture("ex_ref").repeat(2, 1, 1, 1)
    images = torch.cat([picture("ex_p0"), picture("ex_p1")])
    np.testing.assert_allclose(load_image_metric("lpips").values(images, reference), [0.722, 0.138], atol=5e-4)


@pytest.mark.assets
def test_lpips_trunk_and_heads_belong_together() -> None:
    """The asset carries a copy of the linear heads too; they must be those of the installed package."""
    from ppfr_bench.assets import asset_path, load_numpy_pickle
    from ppfr_bench.metrics.lpips import ASSET, _network

    weights = load_numpy_pickle(asset_path(ASSET))
    heads = _network(weights).lins
    assert len(heads) == 5
    bound = 0.0
    for number, head in enumerate(heads):
        installed = head.model[1].weight.detach().numpy().ravel()
        np.testing.assert_array_equal(installed, weights[f"NetLinLayer_{number}"]["Conv_0"]["kernel"].ravel())
        bound += 2 * float(installed.max())
    assert metric_info("lpips").range == (0.0, pytest.approx(bound, abs=0.005))


@pytest.mark.assets
def test_lpips_is_deaf_to_the_random_state() -> None:
    from ppfr_bench.metrics.lpips import Lpips

    state = torch.get_rng_state()
    Lpips()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_damaged_lpips_asset_says_what_to_do() -> None:
    from ppfr_bench.metrics.lpips import _network

    convolution = {"kernel": np.zeros((11, 11, 3, 64), np.float32), "bias": np.zeros(64, np.float32)}
    for weights in ({}, {"AlexNet_0": {f"Conv_{number}": convolution for number in range(5)}}):
        with pytest.raises(UserError, match="ppfr-bench assets fetch lpips_alexnet"):
            _network(weights)


# Attributes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((1, 1, 1), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)  # fmt: skip
def test_lab_of_known_colours(colour: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """CIELAB under D65 of the primaries, as any table of them has it."""
    image = torch.tensor(colour, dtype=torch.float32)[None, :, None, None]
    np.testing.assert_allclose(_lab(image).flatten().numpy(), expected, atol=0.05)


def face(
    cheeks: int = 180, brows: int = 180, chin: int = 180, mouth: tuple[int, int, int] = (180, 150, 120)
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """A painted face of warm skin; each argument a brightness."""
    warm = np.array([1.0, 0.83, 0.67])
    image = np.empty((3, 112, 112), np.uint8)
    image[:] = (cheeks * warm)[:, None, None]
    image[:, 38:44, 30:46] = image[:, 38:44, 66:82] = (brows * warm)[:, None, None]
    image[:, 78:88, 44:68] = image[:, 98:] = (chin * warm)[:, None, None]
    image[:, 88:97] = np.array(mouth)[:, None, None]
    return image


def test_each_attribute_follows_what_it_is_named_after() -> None:
    faces = np.stack(
        [face(), face(cheeks=90, chin=90, brows=90), face(brows=30), face(chin=90), face(mouth=(200, 60, 70))]
    )
    found = dict(zip(ATTRIBUTES, read_attributes(faces).T, strict=True))
    assert found["skin_tone"][1] < found["skin_tone"][0] - 20  # darker: a smaller angle
    assert found["brow_tone"][2] > found["brow_tone"][0] + 30
    assert found["facial_hair"][3] > found["facial_hair"][0] + 20
    assert found["lip_colour"][4] > found["lip_colour"][0] + 20
    for name, changed in (("brow_tone", 1), ("facial_hair", 2), ("lip_colour", 3), ("skin_tone", 4)):
        assert found[name][changed] == pytest.approx(found[name][0], abs=1e-3), name
