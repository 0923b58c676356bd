"""Estimates that may be missing, the list of metrics, and the guard on images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ppfr_bench.errors import UserError
from ppfr_bench.metrics import IMAGE_METRICS, load_image_metric, metric_info, metric_names
from ppfr_bench.metrics.base import check_images
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.scorers.bootstrap import estimate

METRICS = {name: metric_info(name) for name in metric_names()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_is_missing_and_never_zero(value: float) -> None:
    found = estimate(value, 40, np.array([0.1, 0.2]))
    assert (found.value, found.interval, found.n) == (None, None, 40)
    assert found.reason


def test_a_missing_estimate_keeps_its_own_reason() -> None:
    assert estimate(math.nan, 0, reason="the attack crashed").reason == "the attack crashed"


def test_a_missing_estimate_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        Estimate(None)


def test_a_measured_zero_stays_a_zero() -> None:
    found = estimate(0.0, 5, np.zeros(20))
    assert (found.value, found.interval) == (0.0, (0.0, 0.0))


def test_every_metric_is_described_under_its_own_name() -> None:
    expected = {"lpips", "ssim", "ms_ssim", "psnr", "accuracy", "auc", "eer", "rank_1", "leakage", "retention"}
    assert expected <= METRICS.keys()
    for name, info in METRICS.items():
        low, high = info.range
        assert info.name == name
        assert info.version >= 1
        assert info.source and info.description and info.description[-1] != "."
        assert low is None or high is None or low < high


def test_directions_say_what_is_better() -> None:
    lower = {name for name, info in METRICS.items() if info.direction == "lower_is_better"}
    linked = {"leakage", "d_sys", "d_sys_bias", "fnir_at_fpir_1e-1", "fnir_at_fpir_1e-2"}
    missed = {"fnmr_at_fmr_1e-2", "fnmr_at_fmr_1e-3"}
    templates = {"fmr", "fnmr", "bytes_up", "bytes_down"}
    hardened = {"membership_auc", "service_queries", "certificate_violations"}
    assert lower == {"lpips", "eer", "attribute_error", "impersonation"} | linked | missed | templates | hardened


def test_a_range_contains_its_ends_but_no_nan() -> None:
    accuracy, retention = METRICS["accuracy"], METRICS["retention"]
    assert accuracy.contains(0.0) and accuracy.contains(1.0)
    assert not accuracy.contains(99.4)  # a percentage is not a share
    assert not accuracy.contains(math.nan)
    assert retention.contains(-0.02) and not retention.contains(math.nan)


def test_an_unknown_image_metric_names_the_nearest() -> None:
    assert IMAGE_METRICS == ("lpips", "ssim", "ms_ssim", "psnr")
    with pytest.raises(UserError, match="Did you mean 'ms_ssim'"):
        load_image_metric("msssim")


def image(value: float = 0.5, shape: tuple[int, ...] = (2, 3, 112, 112)) -> torch.Tensor:
    return torch.full(shape, value)


@pytest.mark.parametrize(
    ("images", "references", "message"),
    [
        (image(1.0) * 255, image(), r"lie in \[0, 1\], got 255"),
        (image() * 2 - 1.5, image(), r"lie in \[0, 1\], got -0.5"),
        (image(), image(1.00001), r"references must lie in \[0, 1\]"),
        (image(math.nan), image(), "NaN"),
        (image(), image(math.inf), "inf"),
        (image().double(), image(), "float32"),
        ((image() * 255).byte(), image(), "float32"),
        (image(), image(shape=(1, 3, 112, 112)), "one reference an image"),
        (image(shape=(2, 1, 112, 112)), image(), "n, 3, h, w"),
        (image(shape=(2, 112, 112, 3)), image(), "n, 3, h, w"),
        (image(shape=(3, 112, 112)), image(), "n, 3, h, w"),
        (image(shape=(2, 3, 8, 112)), image(), "11 pixels a side"),
    ],
)
def test_images_of_another_kind_are_refused(images: torch.Tensor, references: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_images("SSIM", images, references, smallest_side=11)


def test_one_nan_pixel_in_a_batch_is_enough() -> None:
    images = image()
    images[1, 2, 3, 4] = math.nan
    with pytest.raises(UserError, match="NaN"):
        check_images("SSIM", images, image(), smallest_side=11)


def test_rounding_beyond_the_range_is_clamped() -> None:
    images, references = check_images("SSIM", image(1 + 5e-7), image(-5e-7), smallest_side=11)
    assert float(images.max()) == 1.0
    assert float(references.min()) == 0.0
