"""Identification, closed-set and open-set: known answers, ties, and a count by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.identification import open_set, rank_1_at, rank_k_hits, rank_of_match


def test_known_ranks() -> None:
    similarities = np.array([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2], [0.9, 0.1, 0.2]])
    gallery, targets = np.array([7, 8, 9]), np.array([7, 8, 9])
    np.testing.assert_array_equal(rank_of_match(similarities, targets, gallery), [1, 3, 2])
    np.testing.assert_array_equal(rank_k_hits(similarities, targets, gallery, 1), [1, 0, 0])
    np.testing.assert_array_equal(rank_k_hits(similarities, targets, gallery, 2), [1, 0, 1])
    np.testing.assert_array_equal(rank_k_hits(similarities, targets, gallery, 3), [1, 1, 1])


def test_perfect_recognizer_and_its_opposite() -> None:
    identities = np.arange(50)
    for similarities, rank in ((np.eye(50), 1), (-np.eye(50), 50)):
        np.testing.assert_array_equal(rank_of_match(similarities, identities, identities), np.full(50, rank))


@pytest.mark.parametrize("k", [1, 10, 50, 80])
def test_constant_similarities_give_chance_wherever_the_match_stands(k: int) -> None:
    """A stable sort would give the first gallery photo rank 1, and so a blank image a perfect linkage of one person."""
    identities = np.arange(50)
    hits = rank_k_hits(np.zeros((50, 50)), identities, identities, k)
    np.testing.assert_array_equal(hits, np.full(50, min(k / 50, 1.0)))
    np.testing.assert_array_equal(rank_of_match(np.zeros((50, 50)), identities, identities), np.full(50, 26))


def test_noise_gives_chance() -> None:
    random = np.random.RandomState(0)
    targets, gallery = np.repeat(np.arange(100), 20), np.arange(100)
    hits = rank_k_hits(random.standard_normal((2000, 100)), targets, gallery, 10)
    assert hits.mean() == pytest.approx(0.1, abs=0.025)  # standard deviation 0.0067
    assert rank_of_match(random.standard_normal((2000, 100)), targets, gallery).mean() == pytest.approx(50.5, abs=3)


def by_enumeration(row: list[int], true: list[bool], k: int) -> tuple[float, float]:
    """Chance of a hit and expected rank over every order of the gallery, sorted stably by similarity."""
    hits, ranks = [], []
    for order in itertools.permutations(range(len(row))):
        ranking = sorted(order, key=lambda at: -row[at])
        rank = 1 + next(place for place, at in enumerate(ranking) if true[at])
        hits.append(rank <= k)
        ranks.append(rank)
    return float(np.mean(hits)), float(np.mean(ranks))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 6), st.data())
def test_ties_are_broken_at_random_in_expectation(photos: list[tuple[int, bool]], k: int, data: st.DataObject) -> None:
    row = [similarity for similarity, _ in photos]
    true = [match for _, match in photos]
    true[data.draw(st.integers(0, len(true) - 1))] = True
    gallery = np.array([5 if match else 6 for match in true])
    hit, rank = by_enumeration(row, true, k)
    similarities = np.array([row], dtype=np.float64)
    assert rank_k_hits(similarities, np.array([5]), gallery, k)[0] == pytest.approx(hit, abs=1e-12)
    assert rank_of_match(similarities, np.array([5]), gallery)[0] == np.ceil(rank - 1e-9)


def test_more_places_never_hurt() -> None:
    random = np.random.RandomState(1)
    similarities = random.randint(0, 4, (30, 12)).astype(float)
    targets, gallery = random.randint(0, 4, 30), np.arange(12) % 4
    curve = [rank_k_hits(similarities, targets, gallery, k) for k in range(1, 13)]
    assert (np.diff(curve, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(curve[-1], 1.0)


def test_a_match_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="1 of 2 targets have no photo"):
        rank_of_match(np.zeros((2, 2)), np.array([1, 3]), np.array([1, 2]))


def test_a_failed_attack_is_not_an_attack_that_links_nobody() -> None:
    similarities = np.zeros((3, 3))
    similarities[1, 1] = np.nan
    with pytest.raises(UserError, match="1 of 9 similarities are not finite"):
        rank_k_hits(similarities, np.arange(3), np.arange(3), 1)


def test_shapes_and_k_are_checked() -> None:
    with pytest.raises(UserError, match="shape"):
        rank_of_match(np.zeros((3, 2)), np.arange(2), np.arange(3))
    with pytest.raises(UserError, match="at least 1"):
        rank_k_hits(np.zeros((2, 2)), np.arange(2), np.arange(2), 0)
    assert rank_k_hits(np.zeros((0, 2)), np.arange(0), np.arange(2), 1).shape == (0,)


# Galleries of other sizes --------------------------------------------------------------------------------------------


def test_a_random_guess_is_right_once_in_the_gallery() -> None:
    identities = np.arange(50)
    for size, hits in zip(
        (1, 2, 10, 50), rank_1_at(np.zeros((50, 50)), identities, identities, (1, 2, 10, 50)), strict=True
    ):
        np.testing.assert_array_equal(hits, np.full(50, 1 / size))
    random = np.random.RandomState(0)
    targets, gallery = np.repeat(np.arange(100), 20), np.arange(100)
    [hits] = rank_1_at(random.standard_normal((2000, 100)), targets, gallery, [10])
    assert hits.mean() == pytest.approx(0.1, abs=0.02)  # standard deviation below 0.0067


def test_a_perfect_recognizer_is_right_in_any_gallery_and_its_opposite_in_none() -> None:
    identities = np.arange(40)
    np.testing.assert_array_equal(rank_1_at(np.eye(40), identities, identities, [1, 5, 40]), np.ones((3, 40)))
    np.testing.assert_array_equal(rank_1_at(-np.eye(40), identities, identities, [2, 40]), np.zeros((2, 40)))


def by_all_galleries(row: list[int], true: list[bool], size: int) -> float:
    """Mean over every gallery that holds the best true photo and size - 1 of other people."""
    best = max(similarity for similarity, match in zip(row, true, strict=True) if match)
    others = [similarity for similarity, match in zip(row, true, strict=True) if not match]
    chances = [
        0.0 if max(drawn, default=best) > best else 1 / (1 + drawn.count(best))
        for drawn in itertools.combinations(others, size - 1)
    ]
    return float(np.mean(chances))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=9), st.data())
def test_the_closed_form_is_the_mean_over_all_galleries(photos: list[tuple[int, bool]], data: st.DataObject) -> None:
    row = [similarity for similarity, _ in photos]
    true = [match for _, match in photos]
    true[data.draw(st.integers(0, len(true) - 1))] = True
    gallery = np.array([5 if match else 6 for match in true])
    sizes = list(range(1, true.count(False) + 2))
    found = rank_1_at(np.array([row], dtype=np.float64), np.array([5]), gallery, sizes)
    np.testing.assert_allclose(found[:, 0], [by_all_galleries(row, true, size) for size in sizes], atol=1e-15)
    assert (np.diff(found[:, 0]) <= 1e-15).all(), "a larger gallery is never easier"


def test_the_whole_gallery_gives_rank_1() -> None:
    random = np.random.RandomState(3)
    similarities = random.randint(0, 9, (200, 60)).astype(np.float64)
    targets, gallery = random.randint(0, 60, 200), np.arange(60)
    [hits] = rank_1_at(similarities, targets, gallery, [60])
    np.testing.assert_allclose(hits, rank_k_hits(similarities, targets, gallery, 1), atol=1e-15)


def test_large_galleries_neither_overflow_nor_lose_digits() -> None:
    similarities = np.arange(20_000, 0, -1.0)[None]  # the match is fourth of 20,000
    [hits] = rank_1_at(similarities, np.array([3]), np.arange(20_000), [1000])
    away = [1 - 999 / (19_999 - i) for i in range(3)]  # none of the three above it is drawn
    assert hits[0] == pytest.approx(np.prod(away), rel=1e-12)


def test_sizes_that_cannot_be_drawn_are_refused() -> None:
    for size in (0, 4):
        with pytest.raises(UserError, match=f"galleries of {size} photos"):
            rank_1_at(np.zeros((2, 3)), np.arange(2), np.arange(3), [1, size])
    with pytest.raises(UserError, match="Choose 1 to 2"):  # two of three photos are the target's own
        rank_1_at(np.zeros((1, 3)), np.array([1]), np.array([1, 1, 2]), [3])
    assert rank_1_at(np.zeros((0, 3)), np.arange(0), np.arange(3), [1, 3]).shape == (2, 0)
    assert rank_1_at(np.zeros((2, 3)), np.arange(2), np.arange(3), []).shape == (0, 2)


# The person may not be there -----------------------------------------------------------------------------------------


def test_open_set_by_hand() -> None:
    """Searches without the person return at most 0.00, 0.01, .. 0.99; 10% of 100 are the ten from 0.90."""
    similarities = np.full((100, 101), -1.0)
    similarities[:, 100] = np.arange(100) / 100  # a stranger
    similarities[np.arange(100), np.arange(100)] = np.where(np.arange(100) < 25, 0.89, 0.90)
    found = open_set(similarities, np.arange(100), np.arange(101), 0.1)
    assert found.value == 0.25
    assert found.achieved_fpir == 0.1
    assert found.threshold == np.nextafter(0.89, 1)
    assert found.missed is not None and found.missed[:25].all() and not found.missed[25:].any()
    assert found.n == 100 and not found.reason


def test_open_set_takes_the_person_out_with_all_photos() -> None:
    """Each gallery holds two photos of everybody; were one left in, every non-mated search would return it."""
    identities = np.arange(100)
    similarities = (identities[:, None] == np.repeat(identities, 2)[None]).astype(np.float64)
    found = open_set(similarities, identities, np.repeat(identities, 2), 0.1)
    assert found.value == 0 and found.achieved_fpir == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_open_set_of_constant_similarities_returns_nobody(dtype: type) -> None:
    """Level scores fall together: a threshold that let one in would let all in."""
    found = open_set(np.full((100, 50), 1, dtype), np.arange(100) % 50, np.arange(50), 0.1)
    assert found.value == 1 and found.achieved_fpir == 0


def test_open_set_of_noise_finds_hardly_anybody() -> None:
    random = np.random.RandomState(0)
    found = open_set(random.standard_normal((1000, 100)), np.arange(1000) % 100, np.arange(100), 0.1)
    assert found.value is not None and found.value > 0.99
    assert found.achieved_fpir == pytest.approx(0.1)


def test_open_set_gives_no_value_that_was_not_measured() -> None:
    few = open_set(np.eye(99), np.arange(99), np.arange(99), 0.1)
    assert (
        few.value is None and few.missed is None and few.reason == "FPIR 0.1 needs 100 non-mated searches, there are 99"
    )
    assert open_set(np.eye(100), np.arange(100), np.arange(100), 0.1).value == 0
    assert open_set(np.eye(100), np.arange(100), np.arange(100), 0.01).value is None
    alone = open_set(np.ones((100, 1)), np.zeros(100, int), np.zeros(1, int), 0.1)
    assert alone.value is None and "nobody but" in alone.reason
    assert open_set(np.zeros((0, 5)), np.arange(0), np.arange(5), 0.1).value is None
    with pytest.raises(UserError, match="between 0 and 1"):
        open_set(np.eye(100), np.arange(100), np.arange(100), 1.0)
    with pytest.raises(UserError, match="not finite"):
        open_set(np.full((100, 100), np.nan), np.arange(100), np.arange(100), 0.1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_open_set_keeps_to_its_rate_and_no_lower_threshold_does(seed: int, levels: int) -> None:
    random = np.random.RandomState(seed)
    similarities = random.randint(0, 4**levels, (120, 15)).astype(np.float64)
    targets, gallery = random.randint(0, 10, 120), np.r_[np.arange(10), np.arange(5)]
    found = open_set(similarities, targets, gallery, 0.1)
    loudest = np.array(
        [row[gallery != person].max() for row, person in zip(similarities, targets, strict=True)], dtype=np.float64
    )
    mates = np.array([row[gallery == person].max() for row, person in zip(similarities, targets, strict=True)])
    assert found.threshold is not None and found.achieved_fpir is not None
    assert found.achieved_fpir == (loudest >= found.threshold).mean() <= 0.1
    assert found.value == (mates < found.threshold).mean()
    below = loudest[loudest < found.threshold].max()
    assert (loudest >= below).mean() > 0.1
