"""Transforms of templates by hand, and attacks on templates where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppfr_bench import registry
from ppfr_bench.api import FloatArray
from ppfr_bench.datasets.faces import subset
from ppfr_bench.errors import UserError
from ppfr_bench.template.api import Service, TemplateProtection, TemplateView, unit_rows
from ppfr_bench.template.reading import ReadingConfig, choose_reading
from ppfr_bench.testing import example_faces


def rows(n: int, d: int, seed: int = 0) -> FloatArray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def method(name: str, **params: object) -> TemplateProtection:
    found: TemplateProtection = registry.build("defense", name, params)
    return found


@pytest.mark.parametrize(("overlap", "parts"), [(0, 4), (2, 5), (4, 13)])
def test_polyprotect_term_by_term(overlap: int, parts: int) -> None:
    scheme, template = method("polyprotect", overlap=overlap), rows(1, 17)
    key = scheme.new_key(17, seeded())
    found = scheme.protect(template, key, seeded())
    assert sorted(key["exponents"]) == [1, 2, 3, 4, 5] and len(set(key["coefficients"])) == 5
    assert 0 not in key["coefficients"] and np.abs(key["coefficients"]).max() <= 50
    filled, terms = [*template[0], *np.zeros(5)], list(zip(key["coefficients"], key["exponents"], strict=True))
    expected = [
        sum(int(c) * filled[start + i] ** int(e) for i, (c, e) in enumerate(terms))
        for start in range(0, parts * (5 - overlap), 5 - overlap)
    ]
    np.testing.assert_allclose(found, [expected])
    with pytest.raises(UserError, match="overlap below"):
        method("polyprotect", overlap=5)


def test_biohashing_bits_disagree_as_angles_do() -> None:
    """Of two templates at angle a, a random plane parts a share a / pi."""
    scheme, angle = method("biohashing"), np.pi / 5
    left, other = np.eye(512)[:1], np.eye(512)[1:2]
    right = np.cos(angle) * left + np.sin(angle) * other
    shares = []
    for seed in range(20):
        key = scheme.new_key(512, seeded(seed))
        np.testing.assert_allclose(key["directions"].T @ key["directions"], np.eye(512), atol=1e-9)
        shares.append(1 - scheme.score(left, right, key, seeded())[0])
    assert np.mean(shares) == pytest.approx(0.2, abs=0.015)


def test_slerp_stops_so_far_from_the_direction() -> None:
    scheme = method("slerp_rotation", drop=0.0)
    key, template = scheme.new_key(40, seeded()), rows(6, 40)
    found = scheme.protect(template, key, seeded()).reshape(6, 3, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1)
    groups = unit_rows(np.pad(template, ((0, 0), (0, 8))).reshape(18, 16)).reshape(6, 3, 16)
    before, after = (np.arccos((one * key["directions"]).sum(2)) for one in (groups, found))
    np.testing.assert_allclose(after, 0.1 * before, atol=1e-9)
    assert method("slerp_rotation").protect(
        template, method("slerp_rotation").new_key(40, seeded()), seeded()
    ).shape == (6, 24)


def test_projection_keeps_angles_on_average() -> None:
    scheme = method("random_projection", share=1.0)
    left, right = rows(200, 256), unit_rows(rows(200, 256) + rows(200, 256, 1))
    key = scheme.new_key(256, seeded())
    assert np.mean(scheme.score(left, right, key, seeded()) - (left * right).sum(1)) == pytest.approx(0, abs=0.02)


def test_a_map_is_read_off_a_linear_transform_and_none_off_random_templates() -> None:
    clear, held_out = rows(300, 24), np.arange(300) >= 250
    for name, low, high in (("random_projection", 0.98, 1.01), ("random_template", -0.3, 0.3)):
        scheme = method(name, **({"share": 1.0} if name == "random_projection" else {}))
        released = scheme.protect(clear, scheme.new_key(24, seeded()), seeded())
        found = choose_reading(released, clear, held_out, ReadingConfig(steps=5, width=8), seeded())
        assert low < (found.held_out * clear[held_out]).sum(1).mean() < high
    assert set(found.note["held_out_cosine"]) == {
        "as released",
        "network",
        *(f"ridge {s:g}" for s in (1e-3, 1e-2, 0.1, 1, 10)),
    }


def asked(targets: FloatArray, own: FloatArray, *, scores: bool, threshold: float = 0.6) -> TemplateView:
    """A view whose service compares by cosine."""
    service = Service(
        lambda at, probes: (targets[at] * unit_rows(probes)).sum(1), threshold, scores, len(targets), targets.shape[1]
    )
    faces = example_faces()
    people = subset(faces, np.arange(len(own)) % len(faces))
    people.identities = np.arange(len(own))
    return TemplateView(
        knowledge="aware", auxiliary=people, targets=np.empty((1, 0, 3, 112, 112), np.uint8), released=targets,
        own_embeddings=own, service=service, releases_image=False,
    )  # fmt: skip


@pytest.mark.parametrize(("scores", "queries", "least"), [(False, 2 * 12 * 16, 0.97), (True, 16, 0.999)])
def test_climbing_finds_a_template_behind_one_bit_and_behind_scores(scores: bool, queries: int, least: float) -> None:
    targets, own = rows(8, 16), rows(300, 16, 1)
    attack, view = (
        registry.build("attack", "hill_climbing", {"queries": queries}),
        asked(targets, own, scores=scores, threshold=0.3),
    )
    attack.fit(view, seeded())
    found = attack.run(view)
    cosines = (found.main * targets).sum(1)
    assert cosines.min() > least
    assert view.queries <= queries * len(targets), "no target is asked about more often than the limit says"
    halves = (found.at[queries // 2] * targets).sum(1)
    assert halves.mean() < cosines.mean()


def test_a_limit_of_ten_leaves_nothing_to_climb() -> None:
    targets, own = rows(8, 64), rows(300, 64, 1)
    attack, view = registry.build("attack", "hill_climbing", {}), asked(targets, own, scores=False)
    attack.fit(view, seeded())
    found = attack.run(view)
    assert view.queries == 10 * len(targets) and attack.log["accepted"] == 0
    assert np.abs((found.main * targets).sum(1)).max() < 0.6


def test_a_service_of_decisions_gives_no_score() -> None:
    view = asked(rows(2, 8), rows(9, 8, 1), scores=False)
    assert view.service is not None
    with pytest.raises(UserError, match="a decision and no score"):
        view.service.scores(np.arange(2), rows(2, 8))
