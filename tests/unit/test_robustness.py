"""The service, attacks on it and membership inference, against known answers."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from ppfr_bench import registry
from ppfr_bench.api import to_bytes, to_float
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.metrics.verification import auc
from ppfr_bench.robustness.api import HardenedClassifier, RobustnessView, Service, certified_at, impersonated
from ppfr_bench.robustness.evasion import AveragedOverNoise, changes_by_budget, descend, seeded
from ppfr_bench.robustness.membership import likelihood_ratios
from ppfr_bench.robustness.service import PHOTOS, TESTS, IdentificationNetwork, assign_roles, fit_head
from ppfr_bench.robustness.smoothing import NORMS, Noise
from ppfr_bench.robustness.square import _moved, square_search
from ppfr_bench.scorers.evasion import violations
from ppfr_bench.stages import robustness as stages


class Halfspace(nn.Module):
    """Class 1 where w·(x - 1/2) + offset > 0, for a w of length 1."""

    def __init__(self, offset: float, smooth: bool = False) -> None:
        super().__init__()
        weight = torch.randn(3 * 112 * 112, generator=torch.Generator().manual_seed(5))
        if smooth:  # Above and below the middle: what patches can follow.
            weight = torch.where(torch.arange(112)[:, None] < 56, 1.0, -1.0).expand(3, 112, 112).flatten()
        self.register_buffer("weight", weight / weight.norm())
        self.offset = offset

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = (images - 0.5).flatten(1) @ self.weight + self.offset
        return torch.stack([-side, side], dim=1)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def linear_view(offset: float, smooth: bool = False) -> RobustnessView:
    """Two grey photos of class 1, at that l2 distance from the boundary less the rounding of grey."""
    made = HardenedClassifier(Halfspace(offset, smooth), 2, Noise("none"))
    images = np.full((2, 3, 112, 112), 128, np.uint8)
    labels = np.ones(2, dtype=np.int64)
    return RobustnessView(
        hardened=made, images=images, labels=labels, certified={n: np.zeros(2) for n in NORMS},
        right=np.ones(2, dtype=bool), candidates=images, candidate_labels=labels, embeddings=np.zeros((2, 4)),
    )  # fmt: skip


def distance_of(view: RobustnessView) -> float:
    """To the boundary, exactly."""
    logits = view.hardened.network(view.floats())
    return float(logits[0, 1])


# The service -------------------------------------------------------------------------------------------------------


def test_photos_of_a_person_have_one_role_each_and_tests_are_nobodys() -> None:
    identities = np.repeat([7, 3, 9], [PHOTOS, PHOTOS - 1, PHOTOS + 5])
    roles = assign_roles(identities)
    assert roles.people.tolist() == [7, 9]  # The other has too few.
    every = np.concatenate([roles.enrolled, roles.queried, roles.test])
    assert len(np.unique(every)) == len(every)
    assert sorted(identities[roles.test].tolist()) == [7] * TESTS + [9] * TESTS
    assert (identities[roles.enrolled] == 7).sum() == (identities[roles.queried] == 7).sum() == (PHOTOS - TESTS) // 2
    assert roles.classes(np.asarray([9, 7])).tolist() == [1, 0]


@pytest.mark.parametrize("counts", [[PHOTOS], [PHOTOS, 3], [4, 4]])
def test_a_service_of_one_class_is_refused_and_told_what_to_do(counts: list[int]) -> None:
    with pytest.raises(UserError, match="two classes") as error:
        assign_roles(np.repeat(np.arange(len(counts)), counts))
    assert "evaluation_images" in error.value.hint


def test_the_head_separates_what_is_separable_and_knows_its_training_photos_best() -> None:
    centres = torch.eye(6)
    noise = 0.3 * torch.randn(60, 6, generator=seed())
    labels = torch.arange(60) % 6
    rows = torch.nn.functional.normalize(centres[labels] + noise, dim=1)
    weight, bias = fit_head(rows[:30], labels[:30], 6)
    network = IdentificationNetwork(nn.Identity(), weight, bias)
    shares = network.of_embeddings(rows).softmax(1)[torch.arange(60), labels]
    assert (network.of_embeddings(rows[:30]).argmax(1) == labels[:30]).all()
    assert shares[:30].mean() > shares[30:].mean()


@pytest.mark.parametrize("access", ["probabilities", "labels"])
def test_a_black_box_counts_what_it_is_asked(access: Any) -> None:
    service = Service(Halfspace(0.5), 2, access)
    images = np.full((40, 3, 112, 112), 128, np.uint8)
    found = service.query(images)
    assert service.query(images[:1]).shape == (1, 2)
    assert service.queries == 41
    assert found.sum(1).tolist() == pytest.approx([1.0] * 40)
    assert (found[:, 1] == 1).all() == (access == "labels")


def test_nobody_is_to_be_taken_for_himself() -> None:
    labels = np.arange(7).repeat(3)
    wanted = impersonated(labels, 7)
    assert (wanted != labels).all() and wanted.min() >= 0 and wanted.max() < 7


# Attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["dodging", "impersonation"])
def test_descent_needs_the_distance_to_a_hyperplane_and_no_more(goal: Any) -> None:
    pytest.importorskip("foolbox")
    view = linear_view(0.8)
    distance = distance_of(view)
    search = descend(view.hardened, goal, 10, 1, seed())
    budgets = (0.97 * distance, 1.05 * distance)
    found = changes_by_budget(view, search, budgets, goal, 8, seed())
    assert found.dtype == np.float16
    changed = [(view.floats() + torch.from_numpy(found[b]).float()).clamp(0, 1) for b in (0, 1)]
    decided = [view.hardened.decide(one, seed()).tolist() for one in changed]
    assert decided == [[1, 1], [0, 0]]
    norms = [float(torch.from_numpy(found[b, 0]).double().norm()) for b in (0, 1)]
    assert all(n <= budget for n, budget in zip(norms, budgets, strict=True))


@pytest.mark.parametrize("goal", ["dodging", "impersonation"])
def test_patches_alone_find_the_change_that_is_large_enough(goal: Any) -> None:
    view = linear_view(0.02, smooth=True)
    model = AveragedOverNoise(view.hardened, 1, seed())
    search, looks = square_search(model, goal == "impersonation", 200, seed())
    budgets = (distance_of(view) / 2, 40 * distance_of(view))
    found = changes_by_budget(view, search, budgets, goal, 8, seed())
    changed = [(view.floats() + torch.from_numpy(found[b]).float()).clamp(0, 1) for b in (0, 1)]
    assert [view.hardened.decide(one, seed()).tolist() for one in changed] == [[1, 1], [0, 0]]
    norms = torch.from_numpy(found).double().flatten(2).norm(dim=2)
    assert (norms <= torch.tensor(budgets)[:, None] * (1 + stages.SLACK)).all()
    assert looks() > 4


class Cells(nn.Module):
    """Three classes by two layers, of the mean of each quarter of an image."""

    def __init__(self) -> None:
        super().__init__()
        draws = seed(5)
        self.register_buffer("first", torch.randn(12, 16, generator=draws))
        self.register_buffer("second", torch.randn(16, 3, generator=draws))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = 56 * (avg_pool2d(images, 56) - 0.5).flatten(1)
        return torch.tanh(cells @ self.first / 12**0.5) @ self.second


def test_patches_alone_turn_decisions_of_a_network_that_descent_turns() -> None:
    """A known answer: where descent turns every decision within a norm, patches turn half of them or more."""
    pytest.importorskip("foolbox")
    cells = 0.25 + 0.5 * torch.rand(6, 3, 2, 2, generator=seed(1))
    images = to_bytes(cells.repeat_interleave(56, 2).repeat_interleave(56, 3))
    made = HardenedClassifier(Cells(), 3, Noise("none"))
    labels = made.decide(to_float(images), seed())
    view = replace(linear_view(1), hardened=made, images=images, labels=labels, right=np.ones(6, dtype=bool))
    turned = {}
    model = AveragedOverNoise(made, 1, seed())
    for name, search in (
        ("descent", descend(made, "dodging", 10, 1, seed())),
        ("patches", square_search(model, False, 200, seed())[0]),
    ):
        (change,) = changes_by_budget(view, search, (32.0,), "dodging", 8, seed())
        changed = (view.floats() + torch.from_numpy(change).float()).clamp(0, 1)
        turned[name] = float((made.decide(changed, seed()) != labels).mean())
    assert turned["descent"] == 1 and turned["patches"] >= 0.5


class Kept:
    """What a stage saves."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def save(self, name: str, array: np.ndarray) -> None:
        self.arrays[name] = array


def test_what_noise_decides_does_not_depend_on_how_many_photos_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key has ``protocol.batch``."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4))
    made = HardenedClassifier(network, 4, Noise("gaussian", 0.5), side=28, draws=11)
    photos = np.random.default_rng(0).integers(0, 256, (12, 3, 112, 112)).astype(np.uint8)
    monkeypatch.setattr(stages, "classifier", lambda job, inputs, context: made)
    monkeypatch.setattr(stages, "_tests", lambda context, inputs: photos)
    attack = {"name": "made", "config": {"budgets": [1.0], "goal": "dodging"}}
    job: Any = SimpleNamespace(
        spec={"defense": {}, "dataset": "r", "attack": attack, "first": 100, "samples": 200, "alpha": 0.001}
    )
    labels = np.arange(12) % 4
    inputs: Any = {
        "attack": {"answer": np.zeros((1, *photos.shape), np.float16)},
        "certified": {"classes": labels, "radius_l2": np.ones(12)},
        "service": {"people": np.arange(4), "rows": np.arange(12), "test": np.arange(12), "labels": labels},
    }
    found = []
    for batch in (64, 5):
        context: Any = SimpleNamespace(batch=batch, generator=lambda *purpose: seed(7))
        kept: Any = Kept()
        stages.certified(job, inputs, context, kept)
        stages.attacked(job, inputs, context, kept)
        found.append(kept.arrays)
    assert found[0].keys() == found[1].keys() and {"shares", "surely"} <= found[0].keys()
    for name in found[0]:
        assert np.array_equal(found[0][name], found[1][name]), name


@pytest.mark.parametrize("noisy", [False, True])
def test_a_patch_that_seems_better_by_luck_is_kept_only_where_nothing_is_random(noisy: bool) -> None:
    class Told(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, next(margins)]]).expand(len(images), 2)

    images, classes = torch.full((1, 3, 112, 112), 0.5), np.ones(1, dtype=np.int64)
    found = []
    for steps in (0, 1):
        margins = iter([1.0, -0.5, 2.5])  # Of the first change, of a patch, and of that patch under another draw.
        search, looks = square_search(Told(), False, steps, seed(), noisy=noisy)
        found.append(search(images, classes, 1.0))
    assert torch.equal(*found) == noisy and looks() == (3 if noisy else 2)


def test_a_patch_moves_what_is_there_and_keeps_the_length_of_the_change() -> None:
    change = torch.randn(3, 3, 112, 112, generator=seed())
    change = change / change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = _moved(change, 1.0, 9, seed(1))
    assert moved.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-4)
    touched = ((moved - change).abs() > 1e-6).any(1)
    assert all(0 < int(one.sum()) <= 2 * 9 * 9 for one in touched)
    assert not torch.equal(touched[0], touched[1]), "each image has places of its own"


def test_nothing_is_certified_of_a_network_that_draws_itself_and_radius_0_of_a_fixed_one() -> None:
    given, labels, images = stages._example("white_box")
    fixed, drawing = (
        registry.build("defense", name, {}).harden(given, seed()).certify(images, seed())
        for name in ("undefended", "jpeg_randomization")
    )
    assert (fixed.classes == labels).all() and not fixed.radii["l2"].any()
    assert (drawing.classes == -1).all() and not drawing.radii["l2"].any()


def test_a_photo_keeps_the_smallest_change_that_was_enough() -> None:
    view = linear_view(0.5)
    direction = -view.hardened.network.weight.reshape(1, 3, 112, 112)
    asked = []

    def search(images: torch.Tensor, classes: np.ndarray, budget: float) -> torch.Tensor:
        asked.append(budget)
        return images + budget * direction

    found = changes_by_budget(view, search, (0.25, 1.0, 4.0), "dodging", 8, seed())
    assert asked == [0.25, 1.0]
    assert np.array_equal(found[1], found[2])
    wrong = replace(view, right=np.zeros(2, dtype=bool))
    assert not changes_by_budget(wrong, search, (1.0,), "dodging", 8, seed()).any()


def test_no_attack_falls_below_what_is_certified_of_a_smoothed_service() -> None:
    pytest.importorskip("foolbox")
    given, labels, images = stages._example("white_box")
    assert given.white_box is not None
    made = HardenedClassifier(given.white_box.network, 4, Noise("gaussian", 0.25), draws=30)
    found = made.certify(images, seed(1), first=30, samples=200)
    right = made.decide(images, seed(2)) == labels
    sure = float(np.median(found.radii["l2"]))
    assert right.all() and sure > 0, "nothing is certified, so that nothing could fall below it"
    view = replace(stages.example_view(None, 0), hardened=made, labels=labels, right=right)
    budgets = (0.9 * sure, 30 * sure)
    search = descend(made, "dodging", 6, 4, seed(3))
    changes = changes_by_budget(view, search, budgets, "dodging", 4, seed(4))
    left = []
    for b, budget in enumerate(budgets):
        changed = (view.floats() + torch.from_numpy(changes[b]).float()).clamp(0, 1)
        decided, surely = made.decide(changed, seed(5)), made.decide_surely(changed, 200, seed(6))
        norms = (changed - view.floats()).flatten(1).norm(dim=1).numpy()
        answer = {"surely": surely[None], "norms": norms[None]}
        assert not violations(answer, found.classes, found.radii["l2"]).any()
        left.append((decided == labels).mean())
        assert left[-1] >= certified_at(budget, found.classes, found.radii["l2"], labels).mean()
    assert left[1] < left[0], "the attack changes nothing at any budget, so that it shows nothing"


def test_violations_are_sure_other_decisions_within_the_radius() -> None:
    classes, radii = np.asarray([3, 3, 3, 3, -1]), np.asarray([1.0, 1.0, 1.0, 1.0, 0.0])
    answer = {
        "surely": np.asarray([[2, -1, 3, 2, 2]]),  # Another class; no decision; the same class; too far; uncertified.
        "norms": np.asarray([[0.5, 0.5, 0.5, 1.5, 0.0]]),
    }
    assert violations(answer, classes, radii).tolist() == [[True, False, False, False, False]]


def test_without_the_extra_an_attack_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    mounted = registry.build("attack", "projected_gradient_descent", {})
    mounted.fit(linear_view(0.5), seed())
    with pytest.raises(Unavailable, match="foolbox") as error:
        mounted.run(linear_view(0.5))
    assert error.value.hint == "pip install 'ppfr-bench[robustness]'"


def test_a_library_draws_from_the_seed_and_leaves_the_generator_of_the_process_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    found = []
    for _ in range(2):
        with seeded(seed(9)):
            found.append(torch.rand(3))
    assert torch.equal(*found) and torch.equal(torch.rand(3), expected)


# Membership --------------------------------------------------------------------------------------------------------


def test_likelihood_ratios_tell_members_by_photos_own_difficulty() -> None:
    rng = np.random.default_rng(0)
    m, shadows = 200, 40
    difficulty, gain = 5 * rng.standard_normal(m), 2.0
    seen = rng.random((shadows, m)) < 0.5
    confidence = difficulty + gain * seen + 0.5 * rng.standard_normal((shadows, m))
    members = rng.random(m) < 0.5
    found = difficulty + gain * members + 0.5 * rng.standard_normal(m)
    ratios = likelihood_ratios(found, confidence, seen)
    assert auc(found, members) < 0.75 < 0.95 < auc(ratios, members)
    assert not likelihood_ratios(np.full(m, 0.3), confidence, seen).any()  # Nothing is told: nothing is known.


# The contract ------------------------------------------------------------------------------------------------------


ROWS = [name for name in registry.names("defense") if registry.track_of(registry.load("defense", name)) == "robustness"]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_keeps_the_contract(name: str) -> None:
    assert stages.check(registry.build("defense", name, {}), 0) == []


def test_a_row_that_draws_from_elsewhere_or_has_another_architecture_is_found() -> None:
    floor = registry.load("defense", "always_abstains")

    class Careless(floor):  # type: ignore[misc, valid-type]
        def harden(self, given: Any, generator: torch.Generator) -> HardenedClassifier:
            made = super().harden(given, generator)
            made.network.logits += torch.rand(4)
            return made

    class Other(floor):  # type: ignore[misc, valid-type]
        def network(self, classes: int, white_box: Any) -> nn.Module:
            return nn.Linear(3, classes)

    assert [one.code for one in stages.check(Careless(), 0)] == ["seed"]
    assert [one.code for one in stages.check(Other(), 0)] == ["network"]


def test_a_black_box_row_is_given_no_weights_and_no_training_photo() -> None:
    for name in ROWS:
        row = registry.build("defense", name, {})
        given, _, _ = stages._example(row.access)
        assert (given.white_box is not None) == (row.access == "white_box")
        assert given.service.access == ("labels" if row.access == "labels" else "probabilities")


HOW_TO = Path(__file__).parents[2] / "docs" / "howto" / "submit_a_hardened_recognizer.md"


@pytest.mark.skipif(not HOW_TO.is_file(), reason="no checkout: no docs")
def test_the_row_of_the_how_to_keeps_the_contract_and_certifies(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, "my_hardening.py", "exec"), namespace)
    row = namespace["DEFENSE"]()
    assert stages.check(row, 0) == []
    given, labels, images = stages._example(row.access)
    made = row.harden(given, seed())
    found = made.certify(images, seed(), first=50, samples=200)
    assert given.service.queries == len(given.photos)
    assert (found.classes == labels).any() and found.radii["l2"].max() > 0
