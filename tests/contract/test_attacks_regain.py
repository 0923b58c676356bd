"""What attacks regain: each undoes what it is made for, and none regains what is not released."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from attacked_faces import (
    MINE,
    SMALL,
    TINY,
    all_of,
    answer,
    answers_of,
    blind_error,
    mean_error,
    protected,
    seeded,
    view_of,
)
from torch.nn import functional

from ppfr_bench import registry, testing
from ppfr_bench.api import AttackerView, ByteArray, Faces, materialised, to_bytes, to_float
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.learning.decoding import LevelsDecoder, fit_decoder, read_decoder
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.learning.inverter import read_plain_unet
from ppfr_bench.learning.prior_inversion import HeldOut, Ways, held_out
from ppfr_bench.metrics.attributes import read_attributes

pytestmark = pytest.mark.usefixtures("one_thread")
LIGHT: dict[str, dict[str, Any]] = {"unet": TINY | {"steps": 20}, "ridge": {"size": 28}}


def test_visual_returns_the_first_shot() -> None:
    attack = registry.build("attack", "visual", {})
    view = view_of(attack, "stochastic_local")
    assert np.array_equal(answer(attack, view), view.targets[0])


@pytest.mark.parametrize("name", ["ridge", "unet"])
def test_on_a_black_image_a_learned_attack_answers_with_the_mean_face(
    name: str, crowd: tuple[Faces, ByteArray]
) -> None:
    mine, targets = crowd
    attack = registry.build("attack", name, LIGHT[name])
    rebuilt = answer(attack, view_of(attack, "blackout", mine, targets))
    assert np.array_equal(rebuilt[0], rebuilt[-1])
    assert mean_error(rebuilt, targets) < 1.1 * blind_error(crowd)


@pytest.mark.parametrize("defense", ["no_defense", "gaussian_blur", "pixelate", "block_permutation"])
@pytest.mark.parametrize("name", ["ridge", "unet"])
def test_known_weak_defenses_are_undone(name: str, defense: str, crowd: tuple[Faces, ByteArray]) -> None:
    mine, targets = crowd
    attack = registry.build("attack", name, LIGHT[name])
    rebuilt = answer(attack, view_of(attack, defense, mine, targets))
    assert mean_error(rebuilt, targets) < 0.15 * blind_error(crowd)


def test_unet_starts_at_the_ridge_answer_and_improves() -> None:
    """On a curve of mixed channels, over pictures too varied for a linear map to know them by heart.

    A table of levels undoes a curve of each channel alone.
    """
    pictures = to_bytes(functional.interpolate(torch.rand(240, 3, 14, 14, generator=seeded(2)), size=112))
    mine, targets = ArrayFaces(pictures[:220], np.arange(220), [str(i) for i in range(220)]), pictures[220:]
    mixed = [(to_float(images) + to_float(images).roll(1, 1)) / 2 for images in (pictures[:220], targets)]
    bent, bent_targets = (to_bytes(images**4) for images in mixed)
    view = AttackerView("aware", auxiliary=mine, targets=bent_targets[None], auxiliary_protected=bent)
    attack = registry.build("attack", "unet", LIGHT["unet"] | {"steps": 120})
    improved = mean_error(answer(attack, materialised(attack, view)), targets)
    ridge = registry.build("attack", "ridge", {"size": LIGHT["unet"]["size"]})
    curve = attack.log["validation"]
    assert curve[0][0] == 0 and curve[-1][0] == 120 == attack.log["steps"]
    assert curve[-1][1] < 0.8 * curve[0][1]
    assert improved < 0.8 * mean_error(answer(ridge, materialised(ridge, view)), targets)
    assert isinstance(attack.log["converged"], bool)


def _keyed(kind: str, images: ByteArray) -> ByteArray:
    rng = np.random.default_rng(7)
    key = rng.integers(0, 256, images.shape[1:], dtype=np.uint8)
    if kind == "added":
        return images + key
    if kind == "xored":
        return images ^ key
    if kind == "substituted":
        return np.stack([rng.permutation(256).astype(np.uint8)[images[:, channel]] for channel in range(3)], axis=1)
    noise = rng.integers(0, 16, images.shape, dtype=np.uint8)
    return (noise << 4) | (images >> 4)


@pytest.mark.parametrize("kind", ["added", "xored", "substituted", "low bits"])
def test_a_fixed_key_is_decoded(kind: str, crowd: tuple[Faces, ByteArray]) -> None:
    """Added modulo 256, xored, levels that change places, or hidden under random high bits: undone on faces unseen."""
    mine, targets = crowd
    decoder = fit_decoder(_keyed(kind, all_of(mine)), mine, mine.identities % 5 == 0)
    assert decoder is not None and isinstance(decoder, LevelsDecoder) == (kind in ("substituted", "low bits"))
    read = read_decoder(decoder.weights)
    assert read is not None and torch.equal(read(_keyed(kind, targets)), decoder(_keyed(kind, targets)))
    assert mean_error(decoder(_keyed(kind, targets)).numpy(), targets) < 0.3 * blind_error(crowd)


def test_nothing_is_decoded_where_values_speak_for_themselves(crowd: tuple[Faces, ByteArray]) -> None:
    mine, _ = crowd
    for defense in ("no_defense", "gaussian_blur", "blackout"):
        assert fit_decoder(protected(defense, all_of(mine)), mine, mine.identities % 5 == 0) is None


def test_averaging_undoes_loud_noise_the_better_the_more_releases(crowd: tuple[Faces, ByteArray]) -> None:
    mine, targets = crowd
    errors = []
    for releases in (1, 16):
        attack = registry.build("attack", "averaging", SMALL["averaging"] | {"releases": releases})
        view = view_of(attack, "gaussian_noise", mine, targets)
        shots = np.stack([protected("gaussian_noise", targets, seed) for seed in range(releases)])
        errors.append(mean_error(answer(attack, materialised(attack, replace(view, targets=shots))), targets))
        assert attack.shots == releases == attack.log["shots"]
    assert errors[1] < 0.6 * errors[0]


def test_adversarial_inversion_asks_the_live_defense_at_every_step() -> None:
    attack = registry.build("attack", "adversarial_inversion", SMALL["adversarial_inversion"])
    view = view_of(attack, "stochastic_local")
    answer(attack, view)
    assert view.oracle is not None and attack.log["shots"] == 2
    assert view.oracle.queries >= len(MINE) + 2 * attack.log["steps"] * attack.log["batch"]


def test_gradient_inversion_comes_nearer_where_it_can_and_says_where_it_cannot(crowd: tuple[Faces, ByteArray]) -> None:
    mine, targets = crowd
    expected = {"gaussian_blur": True, "block_permutation": True, "blackout": False, "dp_samp": False}
    for defense, differentiable in expected.items():
        attack = registry.build("attack", "gradient_inversion", SMALL["gradient_inversion"] | {"steps": 12})
        answer(attack, view_of(attack, defense, mine, targets))
        assert attack.log["differentiable"] is differentiable
        if differentiable:
            assert attack.log["objective"][-1] < attack.log["objective"][0]


def test_gradient_inversion_has_its_prior_on_photographs_and_takes_it_where_it_helps(
    crowd: tuple[Faces, ByteArray],
) -> None:
    mine, targets = crowd
    params = SMALL["gradient_inversion"] | {"levels": (0.2,), "denoisings": 2, "averaged": 2, "adapting": 2}
    for data, has_one in (("lfw", True), ("cfp", False), ("", False)):
        attack = registry.build("attack", "gradient_inversion", params)
        view = replace(view_of(attack, "gaussian_blur", mine, targets), photographs_of=data)
        assert answer(attack, view).shape == targets.shape
        assert ("prior" in attack.log) is has_one
        found = attack.log["compared"]
        ways = {"adapted", "sample 0.2", "mean of 2, 0.2"} if has_one else set()
        assert set(found) == {"start", "search"} | ways
        for measure, name in attack.log["answered_by"].items():
            values = [reached[measure] for reached in found.values()]
            assert found[name][measure] == (min(values) if measure == "lpips" else max(values))


def test_gradient_inversion_answers_with_its_start_where_the_search_is_worse(crowd: tuple[Faces, ByteArray]) -> None:
    """People held out say so. A search that is given noise ends in noise, and one under another key finds nothing."""
    mine, targets = crowd
    unet = registry.build("attack", "unet", TINY | {"steps": 2})
    for defense, best in (("gaussian_noise", "start"), ("block_permutation", "start"), ("downsample", "search")):
        attack = registry.build("attack", "gradient_inversion", SMALL["gradient_inversion"] | {"steps": 12})
        view = view_of(attack, defense, mine, targets)
        found, start = answers_of(attack, view).main, answers_of(unet, view).main
        assert set(attack.log["answered_by"].values()) == {best}, attack.log["compared"]
        assert np.array_equal(found, start) is (best == "start")


def test_held_out_people_are_released_as_often_as_targets(crowd: tuple[Faces, ByteArray]) -> None:
    """So what ways are compared on, and the error of a release, have the variance of what they are used on."""
    mine, targets = crowd
    attack = registry.build("attack", "gradient_inversion", SMALL["gradient_inversion"])
    sigma, spread = 0.05, {}
    for shots in (1, 4):
        defense = registry.build("defense", "gaussian_noise", {"sigma": sigma})
        view = testing.attacker_view(attack, defense, mine, targets, targets, shots=shots)
        data = read_inversion_data(view, attack.config.size, 1)
        network, _ = read_plain_unet(view, attack.config.plain)
        queries = view.oracle.queries if view.oracle else 0
        found = held_out(view, data, network)
        assert view.oracle is not None and view.oracle.queries - queries == (shots - 1) * len(found.clear)
        spread[shots] = float((found.released - to_float(found.clear)).square().mean())
    assert spread[1] == pytest.approx(sigma**2, rel=0.2) and spread[4] == pytest.approx(sigma**2 / 4, rel=0.2)


def test_each_measure_has_its_best_way() -> None:
    faces = all_of(MINE)
    clear = to_float(faces)
    found = Ways(HeldOut(faces, clear.flip(3), clear, by_prior=False), seeded())
    found.add("start", lambda start, released, generator: start)
    found.add("the same", lambda start, released, generator: start)
    assert set(found.chosen.values()) == {"start"}, "nothing is chosen that is not better"
    found.add("sharp", lambda start, released, generator: released)
    assert set(found.chosen.values()) == {"sharp"}
    found.reached["smooth"] = found.reached["sharp"] | {"ssim": 1.1}
    found.ways["smooth"] = found.ways["sharp"]
    assert found.chosen == {"lpips": "sharp", "ssim": "smooth", "ms_ssim": "sharp"}


def test_a_parrot_names_who_the_unadapted_recognizer_does_not(crowd: tuple[Faces, ByteArray]) -> None:
    """Under a fixed permutation: the recognizer is lost, the head that compares protected with protected is not."""
    mine, targets = crowd
    gallery = targets[:, :, :, ::-1].copy()
    hits = {}
    for name in ("linkage", "parrot"):
        attack = registry.build("attack", name, {})
        view = replace(view_of(attack, "block_permutation", mine, targets), gallery=gallery)
        hits[name] = float((answer(attack, view).argmax(1) == np.arange(len(targets))).mean())
    assert hits["parrot"] >= max(0.5, hits["linkage"])
    found = answers_of(attack, view)
    half = len(mine) // 2
    assert found.budget == "images" and half in found.at and not np.array_equal(found.at[half], found.main)


def test_a_face_is_rebuilt_from_what_a_recognizer_makes_of_it(crowd: tuple[Faces, ByteArray]) -> None:
    """People unseen, from their embeddings alone: nearer than the mean face, and not where nothing is released."""
    mine, targets = crowd
    params = SMALL["template"] | {"steps": 20}
    errors = {}
    for defense in ("no_defense", "gaussian_blur", "blackout"):
        attack = registry.build("attack", "template", params)
        rebuilt = answer(attack, view_of(attack, defense, mine, targets))
        errors[defense] = mean_error(rebuilt, targets) / blind_error(crowd)
        assert attack.log["shots"] == 1 and attack.log["pairs"] == len(mine) > attack.log["training_images"]
    assert np.array_equal(rebuilt[0], rebuilt[-1]), "a black image tells nothing"
    assert errors["no_defense"] < 0.5 and errors["gaussian_blur"] < 0.5 and errors["blackout"] > 0.9, errors


def test_attributes_are_read_off_a_blur_and_not_off_a_black_picture(crowd: tuple[Faces, ByteArray]) -> None:
    mine, targets = crowd
    truth = read_attributes(targets)
    errors = {}
    for defense in ("gaussian_blur", "blackout"):
        attack = registry.build("attack", "attributes", SMALL["attributes"])
        errors[defense] = ((answer(attack, view_of(attack, defense, mine, targets)) - truth) ** 2).mean(0) / truth.var(
            0
        )
    assert (errors["gaussian_blur"] < 0.5).all() and (errors["blackout"] > 0.9).all(), errors


def test_more_releases_bring_a_face_nearer_to_itself(crowd: tuple[Faces, ByteArray]) -> None:
    """Averaging what a recognizer sees in several draws takes away what differs between them."""
    mine, targets = crowd
    alike = []
    for releases in (1, 16):
        attack = registry.build("attack", "linkage", {"releases": releases})
        shots = np.stack([protected("stochastic_local", targets, seed) for seed in range(releases)])
        gallery = protected("stochastic_local", targets, seed=99)
        view = replace(view_of(attack, "stochastic_local", mine, targets), targets=shots, gallery=gallery)
        alike.append(float(answer(attack, view).diagonal().mean()))
        assert attack.log["shots"] == releases == attack.shots
    assert alike[1] > alike[0]


def test_linkage_compares_what_it_is_told_to() -> None:
    attack = registry.build("attack", "linkage", {})
    assert attack.sources == ()
    scores = answer(attack, view_of(attack, "no_defense"))
    assert scores.argmax(1).tolist() == [0] * 4 + [1] * 4
    np.testing.assert_allclose(scores[[0, 4], [0, 1]], 1, atol=1e-6)
    black = answer(attack, view_of(attack, "blackout"))
    assert not black.any(), "a constant probe is like nobody"
    rebuilt = registry.build("attack", "linkage", {"probe": "unet"})
    assert rebuilt.sources == ("unet",)
    np.testing.assert_allclose(answer(rebuilt, view_of(rebuilt, "blackout")), scores)


def test_a_shuffle_a_photo_is_read_by_what_it_leaves(crowd: tuple[Faces, ByteArray]) -> None:
    """Channels in a random order tell a regression nothing; what no mixture of them hides does."""
    mine, targets = crowd
    shuffled = registry.build("defense", "ppfr_fd", {"key": "image"})
    shuffled.fit(mine, seeded())
    view = testing.attacker_view(registry.build("attack", "ridge", {}), shuffled, mine, targets, targets)
    data = read_inversion_data(view, 64, 1)
    assert set(data.own.regression_inputs(56)) == {"picture", "channels", "by strength"}
    assert data.representation_channels == (2 * 36, 1) and data.estimated_from == "picture"
    assert data.log["read"] == "as mixed channels"
