"""The audit of differential privacy refutes false claims, and no true one."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import guarantees
import numpy as np
import pytest
import torch
from guarantees import BEYOND, CASES, Case, built, half_the_noise
from scipy.stats import binomtest

from ppfr_bench import registry
from ppfr_bench.api import Defense, DefenseCard, Guarantee, UserError
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.contracts.dp_audit import audit, check_guarantee, epsilon_limit, largest_limit, neighbours

ROOT = Path(__file__).parents[2]
FEW = {"dp_pix": 8000, "dp_samp": 1000, "dp_snow": 20_000, "peep": 4000}  # One needs more of them, another is slow.
IDS = [f"{case.name}-{case.what}" for case in CASES]


# The limit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "false_hits"), [(300, 20), (1000, 0), (700, 999), (0, 10), (500, 1000)])
@pytest.mark.parametrize(("delta", "confidence"), [(0.0, 0.95), (0.2, 0.95), (0.0, 0.999)])
def test_the_limit_is_that_of_clopper_and_pearson(hits: int, false_hits: int, delta: float, confidence: float) -> None:
    low = binomtest(hits, 1000).proportion_ci(confidence).low
    high = binomtest(false_hits, 1000).proportion_ci(confidence).high
    expected = math.log((low - delta) / high) if low - delta > high else 0
    assert float(epsilon_limit(hits, false_hits, 1000, delta, confidence)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.1), (0.05, 0.01), (0.9, 0.5)])
def test_the_limit_is_above_the_truth_in_at_most_a_twentieth_of_the_audits(p: float, q: float) -> None:
    draws, random = 2000, np.random.RandomState(0)
    limits = epsilon_limit(random.binomial(draws, p, 20_000), random.binomial(draws, q, 20_000), draws)
    assert float((limits > math.log(p / q)).mean()) <= 0.05
    assert float(np.median(limits)) > 0.6 * math.log(p / q)


def test_images_that_are_released_alike_are_rarely_told_apart() -> None:
    """An event chosen by the draws that are counted would tell them apart nearly every time."""
    defense = built("dp_pix", block=3)
    same = (np.full((3, 3, 3), 128, dtype=np.uint8),) * 2
    limits = [audit(defense, same, draws=400, seed=seed).limit for seed in range(40)]
    assert sum(limit > 0 for limit in limits) <= 4


# The claims of defenses ---------------------------------------------------------------------------------------------


def test_every_defense_with_a_guarantee_is_audited() -> None:
    claims = {
        name: registry.build("defense", name, {}).guarantee
        for name in registry.names("defense")
        if registry.load("defense", name).guarantee is not Defense.guarantee
    }
    assert set(claims) == {case.name for case in CASES if case.holds} | set(BEYOND)
    for name in BEYOND:
        claim = claims[name]
        assert claim is not None and claim.epsilon > largest_limit(10**9)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_false_claims_are_refuted_and_true_ones_are_not(case: Case) -> None:
    found = case.audit(FEW[case.name])
    assert found.refuted != case.holds
    if case.true is not None and 0 < case.true < math.inf:
        assert 0.5 * case.true < found.limit <= case.true


def test_dp_samp_samples_places_that_a_neighbour_cannot_show() -> None:
    """So its epsilon is none of them without a delta."""
    defense: Any = built("dp_samp")
    first, second = guarantees.two_colours(defense)
    patch = (first != second).any(0).ravel()
    assert patch.sum() == defense.config.neighbours

    def hits(image: Any) -> int:
        pixels = image.reshape(3, -1).astype(np.float64)
        keys = (torch.Generator().manual_seed(seed) for seed in range(400))
        return sum(bool(patch[defense.samples(pixels, key)[0]].any()) for key in keys)

    assert hits(second) == 0
    assert binomtest(hits(first), 400).proportion_ci(0.95).low > 0.1


# The command and its neighbours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 16, 100])
def test_neighbours_differ_in_so_many_pixels_as_much_as_they_can(count: int) -> None:
    black, white = neighbours(Guarantee(epsilon=1, per="pixels", pixels=count))
    differ = (black != white).any(0)
    assert differ.sum() == count
    assert (black[:, differ] == 0).all() and (white[:, differ] == 255).all()


def test_neighbours_of_images_and_of_what_only_the_author_knows() -> None:
    black, white = neighbours(Guarantee(epsilon=1, per="image"), 8)
    assert black.shape == (3, 8, 8) and (black == 0).all() and (white == 255).all()
    every = neighbours(Guarantee(epsilon=1, per="pixels", pixels=10_000), 8)
    assert (every[1] - every[0] == 255).all()
    for per in ("coefficient", "identity"):
        with pytest.raises(UserError, match=f"per {per} depend"):
            neighbours(Guarantee(epsilon=1, per=per))


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(UserError, match="no guarantee to audit"):
        audit(built("dp_samp"), guarantees.two_colours(None), draws=100, seed=0)
    with pytest.raises(UserError, match="40 draws or more"):
        audit(built("dp_snow"), guarantees.nine_pixels(None), draws=39, seed=0)


def test_the_check_refuses_half_the_noise_and_takes_the_whole() -> None:
    (finding,) = check_guarantee(half_the_noise(), seed=2)
    assert finding.code == "guarantee"
    said = re.search(r"claims epsilon 1\.5, but epsilon is at least (\d\.\d{3}):", finding.message)
    claim = half_the_noise().guarantee
    assert claim is not None
    found = audit(half_the_noise(), neighbours(claim), draws=2000, seed=2, confidence=0.999)
    assert said and found.limit - 1e-3 < float(said[1]) <= found.limit, "rounded down"
    assert check_guarantee(built("dp_pix"), seed=0) == []
    assert check_guarantee(built("dp_snow", delta=0.2), seed=0) == []


class Unasked(Defense):
    """A claim and no release."""

    version = 1
    card = DefenseCard(title="Unasked", family="test", reference="test", licence="MIT")

    def __init__(self, claim: Guarantee | None) -> None:
        super().__init__()
        self.claim, self.asked = claim, False

    @property
    def guarantee(self) -> Guarantee | None:
        return self.claim

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.asked = True
        raise ValueError("no face found")


def test_the_check_draws_nothing_where_no_claim_could_be_refuted() -> None:
    for claim in (None, Guarantee(epsilon=5, per="pixel"), Guarantee(epsilon=1, per="coefficient")):
        defense = Unasked(claim)
        assert check_guarantee(defense, seed=0) == [] and not defense.asked
    refusing = Unasked(Guarantee(epsilon=1, per="pixel"))
    assert check_guarantee(refusing, seed=0) == [] and refusing.asked, "an image without a face may be refused"


CLAIM = '''
"""Noise that is too little for what is claimed."""

import torch

from ppfr_bench.api import Defense, DefenseCard, Guarantee, per_image_generators


class Mine(Defense):
    """The attacker knows the noise's scale."""

    version = 1
    card = DefenseCard(title="Mine", family="test", reference="test", licence="MIT", randomness="per_call")

    @property
    def guarantee(self):
        return Guarantee(epsilon=0.5, per="pixel")

    def protect(self, images, generator):
        keys = per_image_generators(generator, len(images))
        return torch.stack([(x / 4 + torch.rand(x.shape, generator=key)).clamp(0, 1) for x, key in zip(images, keys)])


DEFENSE = Mine
'''


def test_a_false_claim_of_a_contributor_breaks_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "false_claim.py"
    path.write_text(CLAIM, encoding="utf-8")
    (finding,) = check_plugin(*registry.add_plugin(path)[0])
    assert finding.code == "guarantee" and "claims epsilon 0.5" in finding.message


# The page -----------------------------------------------------------------------------------------------------------


def rows_of_the_page() -> list[list[str]]:
    page = (ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8")
    table = page.split("## Guarantees of differential privacy")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout: no docs")
def test_the_page_has_all_cases_and_their_claims() -> None:
    found = rows_of_the_page()
    assert [(row[0].strip("`"), row[1]) for row in found] == [(case.name, case.what) for case in CASES]
    for row, case in zip(found, CASES, strict=True):
        assert row[2].split(",")[0] == f"{case.claim.epsilon:g}"
        assert (row[5] == "**yes**") == (float(row[4]) > case.claim.epsilon) == (not case.holds)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_the_page_says_what_is_measured(index: int) -> None:
    case = CASES[index]
    assert float(rows_of_the_page()[index][4]) == pytest.approx(case.audit(case.draws).limit, abs=0.05)
