"""Cloaks: their contract, the numbers of their track, and what the trained ones must and must not do."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ppfr_bench.attacks.erasure import Erasure as ErasureAttack
from ppfr_bench.attacks.recognition import filtered
from ppfr_bench.defenses._mask_networks import MARK, evidence, key_pattern

from ppfr_bench import registry, testing
from ppfr_bench.api import ByteArray, Config, DefenseCard, UserError, to_bytes, to_float
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.cloak.purifying import PurifierConfig, new_purifier, purified, train_purifier
from ppfr_bench.datasets.faces import ArrayFaces, subset
from ppfr_bench.records.plan_file import PlannedDefense
from ppfr_bench.records.record import Component
from ppfr_bench.scorers.adapted_recognition import AdaptedRecognition
from ppfr_bench.scorers.base import Truth
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.erasure import Erasure
from ppfr_bench.scorers.likeness import Likeness
from ppfr_bench.scorers.purification import Purification
from ppfr_bench.scorers.recognition import Recognition
from ppfr_bench.stages.release import release
from ppfr_bench.testing.attacker import TinySurrogate
from ppfr_bench.tracks.base import load_track

FACES = testing.example_faces()
IMAGES = FACES.load(range(len(FACES)))
CARD = DefenseCard(title="Additive mask", family="test", reference="this test", licence="MIT", clear_share=1.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class MaskConfig(Config):
    """``secret``: the key; ``levels`` of 255 that are added or taken; ``budget`` that is claimed, in levels."""

    secret: int = 3
    levels: int = 4
    budget: float = 4.0


class AdditiveMask(Cloak):
    """Adds the signs of its key to whatever leaves room for them: what was added can be taken away to the last bit."""

    version = 1
    card = CARD
    Config = MaskConfig
    erasable = True

    @property
    def budget(self) -> float:
        return float(self.config.budget) / 255

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images + self._mask(self.config.secret)

    def erase(self, images: torch.Tensor, key: int | None) -> torch.Tensor:
        return images if key is None else (images - self._mask(key)).clamp(0, 1)

    def _mask(self, key: int) -> torch.Tensor:
        return key_pattern(key) * self.config.levels / 255


def roomy(images: ByteArray = IMAGES) -> ByteArray:
    """Images that a few levels can be added to and taken from."""
    return np.clip(images, 8, 247)


# The contract ----------------------------------------------------------------------------------------------


def test_a_cloak_within_its_budget_is_released() -> None:
    clear = roomy()
    released = release(AdditiveMask(), clear, seeded())
    assert np.abs(released.astype(int) - clear).max() == 4


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"levels": 300, "budget": 255.0}, r"in \[0, 1\], got"),
        ({"levels": 5}, r"a change of at most 0\.01569.*0\.0196"),
    ],
)
def test_a_cloak_out_of_range_or_budget_is_an_error_that_says_so(params: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"Additive mask.*{said}") as error:
        release(AdditiveMask(MaskConfig(**params)), roomy(), seeded())
    assert "Clamp" in error.value.hint


@pytest.mark.parametrize("made", ["nan", "shape"])
def test_a_cloak_that_is_no_image_is_an_error(made: str) -> None:
    class Wrong(AdditiveMask):
        def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return images * float("nan") if made == "nan" else images[..., 1:]

    with pytest.raises(UserError, match="got nan" if made == "nan" else r"of shape \(16, 3, 112, 112\), got"):
        release(Wrong(), roomy(), seeded())


def test_what_cannot_be_erased_says_so() -> None:
    with pytest.raises(UserError, match="PGD cloak: this cloak cannot be erased"):
        registry.build("defense", "pgd_cloak", {}).erase(to_float(IMAGES), 1)


def test_cloaks_have_a_track_of_their_own() -> None:
    track = load_track("cloak")
    for name in ("no_cloak", "no_face", "pgd_cloak", "mi_di_ti_cloak", "lowkey_cloak", "erasable_mask"):
        assert registry.track_of(registry.load("defense", name)) == "cloak"
    assert not track.accepts(registry.load("defense", "no_defense"))
    assert track.utilities([], None) == [None]
    assert track.accepts_attack("cloak", ("cloak",)) and not load_track("image").accepts_attack("image", ("cloak",))


# Recognition ----------------------------------------------------------------------------------------------

PEOPLE = np.arange(40)


def truth_of(images: ByteArray | None = None) -> Truth:
    """Forty people with one target and one gallery photo each."""
    pixels = np.zeros((80, 3, 112, 112), np.uint8) if images is None else images
    who = np.tile(np.arange(len(pixels) // 2), 2)
    faces = ArrayFaces(pixels, who, tuple(map(str, range(len(who)))))
    half = len(who) // 2
    data: Any = SimpleNamespace(evaluation=faces, targets=np.arange(half), gallery=np.arange(half, 2 * half))
    return Truth(data, 16)


def clear_scores(seed: int = 0) -> np.ndarray[Any, Any]:
    """Similarities of a recognizer that tells all people apart."""
    random = np.random.default_rng(seed)
    return np.eye(40) * 0.8 + random.normal(0, 0.05, (40, 40))


def scored(answer: np.ndarray[Any, Any], scorer: Any = Recognition) -> dict[str, Any]:
    inputs = {"answer": {"answer": answer}, "ceiling": {"answer": clear_scores()}}
    found: dict[str, Any] = scorer().score(inputs, truth_of(), Bootstrap(30, 0, PEOPLE))
    return found


def test_no_cloak_leaks_all_and_no_face_nothing() -> None:
    for scorer in (Recognition, AdaptedRecognition):
        whole = scored(clear_scores(), scorer)
        assert whole["rank_1"].leakage.value == whole["tar_at_far_1e-2"].leakage.value == 1
        nothing = scored(np.zeros((40, 40)), scorer)
        assert nothing["rank_1"].leakage.value == nothing["tar_at_far_1e-2"].leakage.value == 0


def test_thresholds_are_those_of_clear_pairs() -> None:
    """A cloak that lowers all similarities is rejected by a deployed recognizer; one that is adapted is not fooled."""
    lowered = clear_scores(1) - 0.75
    frozen, adapted = scored(lowered), scored(lowered, AdaptedRecognition)
    assert frozen["tar_at_far_1e-2"].value.value < 0.2 and frozen["rank_1"].leakage.value == 1
    assert adapted["tar_at_far_1e-2"].value.value == adapted["tar_at_far_1e-2"].leakage.value == 1


def test_half_of_the_people_are_lost() -> None:
    """Known answer: 20 of 40 are recognised, chance is 1 in 100, so (0.5 - 0.01) / (1 - 0.01) leaks."""
    answer = clear_scores()
    answer[::2] = 0
    found = scored(answer)
    assert found["tar_at_far_1e-2"].value.value == 0.5
    assert found["tar_at_far_1e-2"].leakage.value == pytest.approx(0.49 / 0.99, rel=1e-4)


def test_impersonation_is_told_apart() -> None:
    """Everybody is taken for the first three people: three of 39 or 40 strangers are accepted beside each."""
    answer = np.zeros((40, 40))
    answer[:, :3] = 1
    found = scored(answer)
    assert found["impersonation"].value.value == pytest.approx((37 * 3 + 3 * 2) / (40 * 39), rel=1e-4)
    assert found["impersonation"].leakage is None


def test_too_few_pairs_are_no_number() -> None:
    found = scored(clear_scores())["tar_at_far_1e-3"]
    assert found.value.value is None and "10,000" in found.value.reason and found.leakage is None


def test_erasure_is_measured_beside_clear_images_and_sets_no_privacy() -> None:
    answer = clear_scores()
    answer[:10] = 0
    found = scored(answer, Erasure)["erasure_success"]
    assert found.value.value == pytest.approx(0.75) and found.leakage is None and Erasure.sets == ""


# Likeness ----------------------------------------------------------------------------------------------


def likeness(released: ByteArray, images: ByteArray) -> dict[str, Any]:
    inputs = {"released": {"images": released}, "floor": {"images": np.zeros_like(released)}}
    found, _ = Likeness().utility(inputs, None, truth_of(images), Bootstrap(30, 0, np.arange(len(images) // 2)))
    return found


@pytest.mark.assets
def test_likeness_is_1_of_the_image_itself_and_0_of_none() -> None:
    itself, black = likeness(IMAGES, IMAGES), likeness(np.zeros_like(IMAGES), IMAGES)
    assert itself["retention"].value.value == itself["ssim"].value.value == 1 and itself["lpips"].value.value == 0
    assert black["retention"].value.value == 0 and black["still_detected"].value.value == 0
    noise = np.random.default_rng(0).integers(-12, 13, IMAGES.shape)
    between = likeness(np.clip(IMAGES + noise, 0, 255).astype(np.uint8), IMAGES)["retention"].value
    assert 0.2 < between.value < 0.95 and len(between.draws) == 30


@pytest.mark.assets
def test_a_purified_image_is_compared_with_the_clear_one() -> None:
    half = IMAGES[: len(IMAGES) // 2]
    inputs = {"answer": {"answer": 255 - half}, "ceiling": {"answer": half}}
    found = Purification().score(inputs, truth_of(IMAGES), Bootstrap(20, 0, np.arange(len(half))))
    assert found["lpips"].ceiling is not None and found["lpips"].ceiling.value == 0
    assert found["lpips"].value.value is not None and found["lpips"].value.value > 0.2
    assert found["lpips"].leakage is None


# Attacks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "resize", "blur", "median"])
def test_a_filter_changes_fine_detail_and_no_flat_image(kind: Any) -> None:
    flat = np.full((2, 3, 112, 112), 96, np.uint8)
    assert np.abs(filtered(flat, kind).astype(int) - flat).max() <= 1
    noisy = np.clip(IMAGES + np.random.default_rng(0).integers(-20, 21, IMAGES.shape), 0, 255).astype(np.uint8)
    before, after = (np.abs(found.astype(int) - IMAGES).mean() for found in (noisy, filtered(noisy, kind)))
    assert after < before
    assert filtered(noisy, "none") is noisy


def test_a_filter_is_of_what_is_released() -> None:
    with pytest.raises(UserError, match="a filter of what is released"):
        registry.build("attack", "recognition", {"probe": "purifier", "filter": "jpeg"})


def test_the_right_key_erases_an_additive_mask_to_the_last_bit() -> None:
    """Known answer; and a wrong key, or none, brings no clear image back."""
    clear, defense = roomy(), AdditiveMask()
    attacks = {key: registry.build("attack", "erasure", {"key": key}) for key in ("right", "wrong", "none")}
    released = release(defense, clear, seeded())
    erased = {key: attack._erased(defense, released) for key, attack in attacks.items()}
    assert np.array_equal(erased["right"], clear) and np.array_equal(erased["none"], released)
    assert np.abs(erased["wrong"].astype(int) - clear).max() == 8
    untouched = ErasureAttack()._erased(registry.build("defense", "no_cloak", {}), released)
    assert np.array_equal(untouched, released), "what cannot be erased is compared as it is released"


@pytest.mark.assets
def test_a_purifier_learns_a_mask_that_all_images_bear() -> None:
    """The pairs' mean difference is the mask itself: little training is needed to take it away."""
    attack = registry.build("attack", "purifier", {})
    clear = ArrayFaces(roomy(), FACES.identities, FACES.names)
    mine = subset(clear, np.flatnonzero(FACES.identities < 3))
    targets = clear.load(np.flatnonzero(FACES.identities == 3))
    view = testing.attacker_view(attack, AdditiveMask(), mine, targets, targets)
    config = PurifierConfig(steps=60, batch=4, width=8, perception=0.0, identity=0.0)
    network = new_purifier(view, config.width, seeded())
    assert np.abs(purified(network, view.targets[0]).astype(int) - view.targets[0]).max() <= 1, "it begins as it is"
    log = train_purifier(network, view, config, seeded())
    before, after = (
        np.abs(found.astype(int) - targets).mean() for found in (view.targets[0], purified(network, view.targets[0]))
    )
    assert log["training_images"] <= len(mine) and before == 4 and after < before / 2


# Rows ----------------------------------------------------------------------------------------------


@pytest.mark.assets
@pytest.mark.parametrize("name", ["pgd_cloak", "mi_di_ti_cloak", "lowkey_cloak"])
def test_gradients_lead_away_from_the_person(name: str) -> None:
    """After two steps: within the budget, the same bytes in any batch, and the surrogate no longer sure."""
    pytest.importorskip("torchattack")
    from ppfr_bench.recognizers.ensemble import ensemble

    defense = registry.build("defense", name, {"steps": 2, "recognizers": ["faceplugin"]})
    images = to_float(IMAGES[:3])
    with torch.no_grad():
        cloaked = defense.protect(images, seeded())
        assert torch.equal(defense.protect(images[2:], seeded(1)), cloaked[2:])
        network = ensemble(("faceplugin",))
        cosines = (network(cloaked) * network(images)).sum(1)
    assert float((cloaked - images).abs().max()) <= defense.budget + 1e-6
    assert float(cosines.max()) < 0.7
    assert defense.seen == ("faceplugin",)


def test_the_track_tells_which_recognizers_a_defense_has_seen() -> None:
    track = load_track("cloak")

    def seen(name: str, config: dict[str, Any]) -> tuple[str, ...]:
        return track.seen(registry.load("defense", name), config)

    assert seen("lowkey_cloak", {}) == seen("erasable_mask", {}) == ("faceplugin", "dlib_resnet")
    assert seen("pgd_cloak", {"recognizers": ["dlib_resnet"]}) == ("dlib_resnet",)
    assert seen("no_cloak", {}) == ()
    track = load_track("image")
    assert seen("pixelate", {}) == () and seen("stochastic_anonymizer", {}) == ("faceplugin",)
    assert seen("face_renderer", {}) == ("faceplugin", "dlib_resnet")


def test_a_plan_says_what_was_seen_and_plans_without_it_stay_as_they_were() -> None:
    component = Component(label="cloak", name="cloak", version=1, config={})
    told = PlannedDefense(component=component, track="cloak", seen=("faceplugin",))
    assert PlannedDefense.model_validate(told.model_dump(mode="json")) == told
    assert "seen" not in PlannedDefense(component=component, track="image").model_dump(mode="json")


def test_a_stronger_mask_changes_more_within_its_budget() -> None:
    images = to_float(IMAGES[:2])
    trained, stronger = (registry.build("defense", "erasable_mask", params) for params in ({}, {"strength": 1.2}))
    changes = [float((one.protect(images, seeded()) - images).abs().mean()) for one in (trained, stronger)]
    assert 1.05 * changes[0] < changes[1] < 1.2 * changes[0] + 1e-6
    assert stronger.budget == pytest.approx((1.2 * 10.5 + 1.5) / 255)


def test_a_recognizer_without_gradients_is_refused() -> None:
    defense = registry.build("defense", "pgd_cloak", {"recognizers": ["mobilefacenet"]})
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(UserError, match="'mobilefacenet' has none"):
        defense.protect(to_float(IMAGES[:1]), seeded())


@pytest.fixture(scope="module")
def masked() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """ErasableMask, clear images, and what it releases of them."""
    defense, clear = registry.build("defense", "erasable_mask", {}), to_float(IMAGES)
    with torch.no_grad():
        return defense, clear, to_float(to_bytes(defense.protect(clear, seeded())))


def test_a_key_is_read_in_what_it_has_marked(masked: tuple[Any, torch.Tensor, torch.Tensor]) -> None:
    defense, clear, released = masked
    right, wrong = (key_pattern(key) for key in (defense.config.secret, defense.config.secret + 1))
    assert float(evidence(released, right).min()) > 0.5 > float(evidence(released, wrong).max())
    assert float(evidence(clear, right).abs().max()) < 0.5
    assert set(key_pattern(5).unique().tolist()) == {-1.0, 1.0} and not key_pattern(None).any()
    read = float(evidence(0.5 + MARK * right, right))
    assert read == pytest.approx(1 - 16 / 81, abs=0.02), "the mean over 9x9 pixels takes its share of a block of 4x4"


def test_the_right_key_erases_and_a_wrong_one_changes_nothing(masked: tuple[Any, torch.Tensor, torch.Tensor]) -> None:
    defense, clear, released = masked
    assert float((released - clear).abs().mean()) > 1 / 255 and float((released - clear).abs().max()) <= 12.6 / 255
    with torch.no_grad():
        right, wrong, none = (defense.erase(released, key) for key in (defense.config.secret, 1, None))
    away = float((released - clear).abs().mean())
    assert float((right - clear).abs().mean()) < away / 2
    for other in (wrong, none):
        assert float((other - released).abs().mean()) < away / 8


def test_an_outsider_is_given_a_copy_of_the_eraser(masked: tuple[Any, torch.Tensor, torch.Tensor]) -> None:
    defense, _, released = masked
    network = defense.eraser(1)
    with torch.no_grad():
        before = defense.erase(released[:2], 1)
        assert torch.equal((released[:2] + network(released[:2])).clamp(0, 1), before)
        for parameter in network.parameters():
            assert parameter.requires_grad
            parameter.zero_()
        assert torch.equal(defense.erase(released[:2], 1), before)


@pytest.mark.assets
def test_the_training_of_a_mask_goes_on_as_if_never_stopped() -> None:
    """All three stages, of networks that are as small as they can be."""
    recipe = import_module("ppfr_bench.defenses._mask_training").MaskTraining
    config = recipe.Config(steps=4, still=0.2, robust=0.4, batch=2, width=8)
    whole, stopped = (recipe(config, FACES, TinySurrogate(), seed=5) for _ in range(2))
    told = [whole.step(number) for number in range(config.steps)]
    assert "dodged" not in told[0] and {"dodged", "auxiliary"} <= set(told[1]) and "unrecognised" in told[3]
    assert all(np.isfinite(value) for values in told for value in values.values())
    for number in range(2):
        stopped.step(number)
    resumed = recipe(config, FACES, TinySurrogate(), seed=5)
    resumed.restore(stopped.state())
    for number in range(2, config.steps):
        resumed.step(number)
    for name, value in whole.weights().items():  # Embeddings are kept as first asked for: in batches of other sizes.
        assert torch.allclose(value.float(), resumed.weights()[name].float(), atol=2e-3), name


def test_an_auxiliary_recognizer_without_gradients_is_refused() -> None:
    pytest.importorskip("ai_edge_litert")
    recipe = import_module("ppfr_bench.defenses._mask_training").MaskTraining
    with pytest.raises(UserError, match="'mobilefacenet' has no gradients"):
        recipe(recipe.Config(auxiliary="mobilefacenet"), FACES, TinySurrogate(), seed=0)
