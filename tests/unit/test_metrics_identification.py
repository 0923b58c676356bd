"""Rank-k identification: known answers, ties, and a count by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfr_bench.errors import UserError
from ppfr_bench.metrics.identification import rank_k_hits, rank_of_match


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
