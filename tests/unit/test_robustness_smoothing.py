"""Certificates against known answers: linear classifiers, whose smoothed versions have exact radii, and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from torch import nn

from ppfr_bench.api import SIZE
from ppfr_bench.errors import UserError
from ppfr_bench.robustness.api import HardenedClassifier, certified_at
from ppfr_bench.robustness.smoothing import ABSTAINS, Noise, certify, lower_bound, significant


class Halfspace(nn.Module):
    """Class 1 where w·x > 0, class 0 elsewhere; the distance of x to the boundary is |w·x| for a w of length 1."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight / weight.norm())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = images.flatten(1) @ self.weight
        return torch.stack([-side, side], dim=1)


def at_distance(weight: torch.Tensor, distance: float, shape: tuple[int, ...]) -> torch.Tensor:
    """One image whose w·x is the distance."""
    return (weight / weight.norm() * distance).reshape(1, *shape)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("distance", [0.05, 0.4, 1.1])
@pytest.mark.parametrize("deviation", [0.25, 0.5, 1.0])
def test_the_gaussian_radius_of_a_linear_classifier_is_its_distance_to_the_boundary(
    distance: float, deviation: float
) -> None:
    share = norm.cdf(distance / deviation)  # Of the votes, exactly.
    assert Noise("gaussian", deviation).radius(share, "l2", 12) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("distance", [0.05, 0.4])
def test_laplace_and_uniform_radii_of_a_threshold_on_one_value_are_its_distance(distance: float) -> None:
    laplace, uniform = Noise("laplace", 0.5), Noise("uniform", 0.5)
    scale, width = 0.5 / math.sqrt(2), 0.5 * math.sqrt(3)
    assert laplace.radius(1 - math.exp(-distance / scale) / 2, "l1", 7) == pytest.approx(distance, rel=1e-9)
    assert uniform.radius((width + distance) / (2 * width), "l1", 7) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("side", [56, 28])
def test_a_sampled_certificate_nears_the_exact_radius_and_never_passes_it(side: int) -> None:
    weight = torch.randn(3 * side * side, generator=seed())
    made = HardenedClassifier(Halfspace(weight), 2, Noise("gaussian", 0.5), side)
    k = SIZE // side
    small = at_distance(weight, 0.5, (3, side, side))
    image = small.repeat_interleave(k, 2).repeat_interleave(k, 3)  # Averaged, it is the small one.
    found = made.certify(image, seed(1), first=50, samples=2000)
    exact = 0.5 * k  # A change of the whole image moves its average by a k-th at most.
    assert found.classes.tolist() == [1]
    assert 0.78 * exact < found.radii["l2"][0] <= exact
    assert found.radii["linf"][0] == pytest.approx(found.radii["l2"][0] / k / math.sqrt(3 * side**2))
    assert found.radii["l1"][0] == pytest.approx(found.radii["l2"][0] * k)


def test_a_perturbation_of_the_exact_length_reaches_the_boundary_of_the_averaged_image() -> None:
    weight = torch.randn(3 * 56 * 56, generator=seed())
    network = Halfspace(weight)
    made = HardenedClassifier(network, 2, Noise("none"), 56)
    small = at_distance(weight, 0.5, (3, 56, 56))
    image = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    direction = network.weight.reshape(1, 3, 56, 56).repeat_interleave(2, 2).repeat_interleave(2, 3) / 2
    assert direction.norm() == pytest.approx(1)
    decided = [int(made.decide(image - length * direction, seed())[0]) for length in (0.99, 1.01)]
    assert decided == [1, 0]  # 0.5 there is 1 here.


def test_the_certified_curve_of_a_linear_classifier_has_the_shape_of_cohen_et_al() -> None:
    weight = torch.ones(3 * 28 * 28)
    distances = np.linspace(-0.2, 1.8, 40)
    images = torch.cat([at_distance(weight, d, (3, 28, 28)) for d in distances])
    images = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    labels = np.ones(40, dtype=np.int64)
    curves = {}
    for deviation in (0.12, 0.25, 0.5):
        made = HardenedClassifier(Halfspace(weight), 2, Noise("gaussian", deviation), 28)
        found = made.certify(images, seed(), first=50, samples=1000)
        radii = np.linspace(0, 8, 33)
        curve = np.asarray([certified_at(r, found.classes, found.radii["l2"], labels).mean() for r in radii])
        exact = np.asarray([(4 * distances >= r).mean() for r in radii])
        highest = (
            4 * deviation * norm.ppf(0.001 ** (1 / 1000))
        )  # All votes agree: the largest radius that samples show.
        assert (np.diff(curve) <= 0).all()
        assert (curve <= exact + 1e-9).all(), "more is certified than holds"
        assert np.abs(curve - exact)[radii < 0.9 * highest].max() < 0.15
        assert (curve[radii > highest] == 0).all()
        curves[deviation] = curve
    assert curves[0.12][0] >= curves[0.5][0]  # Less noise is more accurate,
    assert (curves[0.12] > 0).sum() < (curves[0.5] > 0).sum()  # and reaches less far.


@given(st.integers(1, 400), st.data())
def test_the_lower_bound_is_clopper_and_pearsons(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    exact = binomtest(hits, trials).proportion_ci(confidence_level=1 - 2 * 0.001, method="exact").low
    assert lower_bound([hits], trials, 0.001)[0] == pytest.approx(exact, abs=1e-9)


def test_it_abstains_where_the_classes_are_equally_likely() -> None:
    weight = torch.ones(3 * 28 * 28)
    made = HardenedClassifier(Halfspace(weight), 2, Noise("gaussian", 0.5), 28, draws=100)
    image = torch.zeros(1, 3, 112, 112)
    found = made.certify(image, seed())
    assert found.classes.tolist() == [ABSTAINS]
    assert [float(radius[0]) for radius in found.radii.values()] == [0.0, 0.0, 0.0]
    assert made.decide_surely(image, 200, seed()).tolist() == [ABSTAINS]
    assert certified_at(0.0, found.classes, found.radii["l2"], np.ones(1, dtype=np.int64)).tolist() == [0.0]


def test_what_is_voted_for_surely_is_told_by_the_binomial_test() -> None:
    votes = np.asarray([[60, 40, 0], [90, 10, 0], [0, 0, 0], [100, 0, 0]])
    assert binomtest(60, 100).pvalue > 0.001 > binomtest(90, 100).pvalue
    assert significant(votes).tolist() == [ABSTAINS, 0, ABSTAINS, 0]


def test_the_class_is_chosen_by_other_votes_than_those_that_bound_it() -> None:
    drawn = iter([np.asarray([[10, 90]]), np.asarray([[990, 10]])])
    found = certify(lambda draws: next(drawn), Noise("gaussian", 1.0), 3)
    assert found.classes.tolist() == [ABSTAINS]  # The chosen class lost the second vote.


@pytest.mark.parametrize("family", ["gaussian", "laplace", "uniform"])
def test_noise_has_the_deviation_that_it_says_and_comes_from_its_generator(family: str) -> None:
    noise = Noise(family, 0.3)  # type: ignore[arg-type]
    drawn = noise.draw((200_000,), seed())
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.02)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.005)
    assert torch.equal(drawn, noise.draw((200_000,), seed()))


def test_the_rarest_draw_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.zeros(shape))  # One in 16 million.
    assert torch.isfinite(Noise("laplace", 1.0).draw((3,), seed())).all()


@pytest.mark.parametrize("family", ["gaussian", "laplace", "uniform"])
@given(st.floats(0.5, 0.9999), st.integers(1, 10_000))
def test_balls_of_other_norms_lie_inside_the_proved_one(family: str, share: float, dimensions: int) -> None:
    noise = Noise(family, 0.7)  # type: ignore[arg-type]
    l1, l2, linf = (noise.radius(share, norm, dimensions) for norm in ("l1", "l2", "linf"))
    assert l1 >= l2 >= linf >= 0
    assert l2 <= l1 * (1 + 1e-9) and linf * math.sqrt(dimensions) <= l2 * (1 + 1e-9)


@pytest.mark.parametrize(("family", "deviation"), [("cauchy", 1.0), ("gaussian", 0.0), ("none", 0.5), ("laplace", -1)])
def test_noise_without_a_certificate_is_refused(family: str, deviation: float) -> None:
    with pytest.raises(UserError):
        Noise(family, deviation)  # type: ignore[arg-type]


def test_a_side_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="divides 112"):
        HardenedClassifier(nn.Identity(), 2, Noise("none"), 50)
