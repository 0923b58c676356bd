"""The encrypted protocols: exact inner products, shares that say nothing, decisions, clear errors."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.template import bfv as bfv_module
from ppfr_bench.template import cryptomask
from ppfr_bench.template.api import checked, unit_rows
from ppfr_bench.template.comparison import compare_shares
from ppfr_bench.template.quantised import check_modulus, integer_thresholds, largest_score, quantise, quantised_cosine

needs_tenseal = pytest.mark.skipif(importlib.util.find_spec("tenseal") is None, reason="the extra `template`")
needs_mpyc = pytest.mark.skipif(importlib.util.find_spec("mpyc") is None, reason="the extra `template`")
BITS = 20


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)))


@needs_tenseal
@pytest.mark.parametrize("dimension", [128, 143, 512])
def test_every_slot_of_a_packed_gallery_is_the_exact_inner_product(dimension: int) -> None:
    party = bfv_module.Bfv(dimension, 4096, BITS)
    query, gallery = quantise(rows(1, dimension))[0], quantise(rows(party.slots, dimension, 1))
    mask, shares = party.mask(np.random.default_rng(0))
    reply = party.reply(party.encrypt(query), party.gallery(gallery)[0], mask)
    found = bfv_module.signed((party.decrypt(reply) - shares) % party.modulus, party.modulus)
    assert party.slots == 4096 // dimension
    np.testing.assert_array_equal(found, gallery @ query)
    assert party.noise_budget(reply) > 0


@needs_tenseal
def test_the_polynomial_product_is_negacyclic_and_never_reaches_a_slot() -> None:
    """By schoolbook multiplication in Z[X] / (X^N + 1), for a ring in which the last template wraps around."""
    party = bfv_module.Bfv(512, 4096, BITS)
    query, gallery = quantise(rows(1, 512))[0], quantise(rows(8, 512, 1))
    packed = gallery[:, ::-1].ravel()
    full = np.convolve(query, packed)
    wrapped = full[:4096].copy()
    wrapped[: len(full) - 4096] -= full[4096:]
    np.testing.assert_array_equal(wrapped[511::512], gallery @ query)
    assert np.flatnonzero(full[4096:]).max() < 511, "what wraps around falls below the first slot"
    plain = bfv_module.sealapi().Plaintext()
    unmasked = bfv_module.sealapi().Ciphertext()
    party._evaluator.multiply_plain(party.encrypt(query), party.gallery(gallery)[0], unmasked)
    party._decryptor.decrypt(unmasked, plain)
    decrypted = np.array([plain[i] for i in range(plain.coeff_count())])
    np.testing.assert_array_equal(bfv_module.signed(decrypted, party.modulus), wrapped[: len(decrypted)])


def test_signed_lift() -> None:
    np.testing.assert_array_equal(bfv_module.signed(np.array([0, 1, 7, 8, 15]), 16), [0, 1, 7, -8, -1])


@needs_tenseal
def test_masks_are_uniform_over_the_ring_and_flood_the_noise() -> None:
    party = bfv_module.Bfv(512, 4096, BITS)
    draws = np.random.default_rng(0)
    shares = np.concatenate([party.mask(draws)[1] for _ in range(100)])
    assert shares.min() >= 0 and shares.max() < party.modulus
    counts = np.bincount(shares // (party.modulus // 8), minlength=8)
    assert ((counts - 100) ** 2 / 100).sum() < 24.3, "chi squared of 7 degrees of freedom at 0.1%"
    query = party.encrypt(quantise(rows(1, 512))[0])
    product, mask = bfv_module.sealapi().Ciphertext(), party.mask(draws)[0]
    party._evaluator.multiply_plain(query, party.gallery(quantise(rows(8, 512)))[0], product)
    assert party.noise_budget(product) - party.noise_budget(mask) >= 12, "the mask has more than 2^12 times the noise"


@needs_tenseal
def test_one_seed_for_two_encryptions_would_give_the_messages_away() -> None:
    """Why each encryption has a context of its own: SEAL starts the seeded generator anew."""
    party, seed = bfv_module.Bfv(128, 4096, BITS), np.arange(8)
    first, second = (party.encrypt(quantise(one[None])[0], seed) for one in rows(2, 128))
    same = party.residues(first, 256)[256:] == party.residues(second, 256)[256:]
    assert same.all(), "the second polynomial is the randomness alone"
    other = party.encrypt(quantise(rows(1, 128))[0], np.arange(1, 9))
    assert not (party.residues(first, 256)[256:] == party.residues(other, 256)[256:]).any()


@needs_tenseal
@needs_mpyc
def test_the_protocol_decides_as_the_quantised_cosine() -> None:
    party, probes = bfv_module.Bfv(128, 4096, BITS), rows(40, 128)
    references = unit_rows(probes + np.linspace(0, 0.3, 40)[:, None] * rows(40, 128, 1) * 8)
    expected = quantised_cosine(probes, references)
    shares = cryptomask.search(party, 125, probes, list(references[:, None]))
    np.testing.assert_array_equal(cryptomask.scores_of(shares, party.modulus, 125)[:, 0], expected)
    thresholds = np.where(np.arange(40) % 3, 0.7, expected)  # Every third score is its own threshold: it is reached.
    found = cryptomask.decide(shares, thresholds, party.modulus, 125)
    np.testing.assert_array_equal(found.accepted, expected >= thresholds)
    assert 0 < found.accepted.sum() < 40


@needs_mpyc
def test_comparison_of_shares_at_every_edge_and_over_a_gallery() -> None:
    modulus, draws = 1 << BITS, np.random.default_rng(0)
    differences = np.array([[-(modulus // 2) + 1, -1], [-1, 0], [0, -5], [1, 2], [modulus // 2 - 1, -7], [-3, -2]])
    masks = draws.integers(0, modulus, differences.shape)
    masks[0], masks[1] = 0, modulus - 1
    found = compare_shares((masks + differences) % modulus, masks, modulus)
    np.testing.assert_array_equal(found.accepted, [False, True, True, True, True, False])
    assert found.sent.shape == (3, 3) and (found.sent.diagonal() == 0).all() and (found.sent.sum() > 0)


@needs_mpyc
@pytest.mark.parametrize(
    ("client", "matcher", "modulus", "message"),
    [
        (np.zeros((2, 1), int), np.zeros((3, 1), int), 16, "of both parties"),
        (np.zeros(2, int), np.zeros(2, int), 16, "of both parties"),
        (np.full((2, 1), 16), np.zeros((2, 1), int), 16, r"\[0, 16\)"),
        (np.zeros((2, 1), int), np.zeros((2, 1), int), 15, "power of two"),
    ],
)
def test_wrong_shares_are_refused(client: np.ndarray, matcher: np.ndarray, modulus: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_shares(client, matcher, modulus)


def distinguished(views: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy, on the second half, of a ridge classifier and of a nearest-neighbour one on views; the better one."""
    half = len(views) // 2
    x = (views - views[:half].mean(0)) / np.maximum(views[:half].std(0), 1e-9)
    y = np.where(labels, 1.0, -1.0)
    gram = x[:half] @ x[:half].T
    dual = np.linalg.solve(gram + gram.trace() / half * np.eye(half), y[:half])
    linear = (x[half:] @ x[:half].T @ dual > 0) == labels[half:]
    distances = ((x[half:, None] - x[None, :half]) ** 2).sum(2)
    nearest = labels[:half][distances.argmin(1)] == labels[half:]
    return float(max(linear.mean(), nearest.mean()))


CHANCE = 0.5 + 3.5 * 0.5 / 150**0.5  # 3.5 standard errors of 150 views: one test in 2,000 fails by chance.


@needs_tenseal
def test_what_the_matcher_sees_does_not_tell_two_people_apart() -> None:
    party, people, draws = bfv_module.Bfv(128, 4096, BITS), quantise(rows(2, 128)), np.random.default_rng(0)
    labels = draws.random(300) < 0.5
    seeds = bfv_module.seeds(draws, 300)
    views = np.stack([party.residues(party.encrypt(people[int(who)], seed), 256)
                      for who, seed in zip(labels, seeds, strict=True)])  # fmt: skip
    assert distinguished(views, labels) < CHANCE
    # The same test fails a matcher that sees encryptions under one seed.
    careless = np.stack([party.residues(party.encrypt(people[int(who)], seeds[0]), 256) for who in labels])
    assert distinguished(careless, labels) == 1


@needs_tenseal
def test_what_the_client_decrypts_does_not_tell_scores_apart() -> None:
    """The client knows its probe; whether the gallery holds its own template must show in the bit alone."""
    party, probe = bfv_module.Bfv(128, 4096, BITS), rows(1, 128)[0]
    draws = np.random.default_rng(0)
    labels, views, scores = draws.random(300) < 0.5, [], []
    for label in labels:
        gallery = rows(2, 128, int(draws.integers(2**31)))
        gallery[0] = probe if label else gallery[0]
        shares = cryptomask.search(party, 125, probe[None], [gallery], draws)
        views.append(shares.client[0])
        scores.append(cryptomask.scores_of(shares, party.modulus, 125)[0])
    assert distinguished(np.asarray(views, dtype=float), labels) < CHANCE
    assert distinguished(np.asarray(scores), labels) == 1, "without masks the client would see them"


def test_thresholds_are_the_least_integer_that_is_accepted() -> None:
    scores = np.array([0.5, 0.5 + 1 / 125**2, 3 / 125**2])
    np.testing.assert_array_equal(integer_thresholds(scores), [7813, 7814, 3])
    np.testing.assert_array_equal(integer_thresholds([-0.5]), [-7812])


def test_no_score_is_larger_than_the_bound() -> None:
    probes = rows(200, 64)
    assert np.abs((quantise(probes) * quantise(probes)).sum(1)).max() <= largest_score(64)
    check_modulus(64, 125, 1 << 20)
    with pytest.raises(UserError, match="plain modulus"):
        check_modulus(64, 1000, 1 << 20)


def test_wrong_templates_and_keys_are_refused() -> None:
    draws = torch.Generator().manual_seed(0)
    with pytest.raises(UserError, match="length 1"):
        checked(rows(2, 16) * 1.1)
    with pytest.raises(UserError, match="length 1"):
        checked(np.full((1, 16), np.nan))
    with pytest.raises(UserError, match=r"\(n, d\)"):
        checked(rows(1, 16)[0])
    for name in ("random_projection", "biohashing", "polyprotect", "slerp_rotation", "cryptomask", "ckks_cosine"):
        method = registry.build("defense", name, {})
        key = method.new_key(128, draws)
        with pytest.raises(UserError, match="128 numbers, got templates of 64"):
            method.score(rows(1, 64), rows(1, 64), key, draws)
        with pytest.raises(UserError, match="expected a key with"):
            method.score(rows(1, 128), rows(1, 128), {}, draws)
    with pytest.raises(UserError, match="plain modulus"):
        registry.build("defense", "cryptomask", {"scale": 1000}).new_key(512, draws)
