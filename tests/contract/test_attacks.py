"""Every attack the registry knows answers in the right form, the same for one seed, and regains what it must."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pretended_device import OTHERS, assert_alike, other_device
from torch.nn import functional

from ppfr_bench import device, registry, testing
from ppfr_bench.api import (
    Answers,
    Attack,
    AttackerView,
    ByteArray,
    Faces,
    Material,
    Scope,
    TrainingLog,
    UserError,
    materialised,
    to_bytes,
    to_float,
)
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.datasets.faces import ArrayFaces, subset
from ppfr_bench.learning.adaptation import (
    StudentConfig,
    adapted,
    fine_tuned_embeddings,
    released_digest,
    released_scene,
    student_materials,
)
from ppfr_bench.learning.decoding import LevelsDecoder, fit_decoder, read_decoder
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.metrics.attributes import ATTRIBUTES, read_attributes
from ppfr_bench.metrics.soft_biometrics import WIDTH
from ppfr_bench.tracks.base import load_track

NAMES = [  # Those that look at images and representations.
    name for name in registry.names("attack")
    if (card := registry.load("attack", name).card).live and not any(load_track(track).stages for track in card.tracks)
]  # fmt: skip
TINY = {"size": 32, "width": 8, "batch": 4}
SMALL: dict[str, dict[str, Any]] = {
    "template": {"width": 8, "batch": 4, "steps": 2},
    "unet": TINY | {"steps": 3}, "attributes": TINY | {"steps": 3}, "ridge": {"size": 16},
    "soft_biometrics": TINY | {"steps": 3, "images": 2},
    "purifier": {"width": 8, "batch": 4, "steps": 3}, "outsider_eraser": {"batch": 4, "steps": 1},
} | {
    name: TINY | {"warm": 2, "steps": 2}
    for name in (
        "unet_perceptual", "pix2pix", "averaging", "adversarial_inversion", "gradient_inversion", "linkage_student",
    )
}  # fmt: skip
HEADS = ("parrot", "adapted_recognizer")  # Their heads are NumPy's, and slow.
OF_IMAGES = [name for name in NAMES if not registry.load("attack", name).card.tracks]
LIGHT: dict[str, dict[str, Any]] = {"unet": TINY | {"steps": 20}, "ridge": {"size": 28}}
FACES = testing.example_faces()
MINE = subset(FACES, np.flatnonzero(FACES.identities < 2))
TARGETS = FACES.load(np.flatnonzero(FACES.identities >= 2))
GALLERY = TARGETS[::4]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def protected(name: str, images: ByteArray, seed: int = 0, **params: Any) -> ByteArray:
    return to_bytes(registry.build("defense", name, params).protect(to_float(images), seeded(seed)))


def all_of(faces: Faces) -> ByteArray:
    return faces.load(range(len(faces)))


def view_of(attack: Attack, defense: str, mine: Faces = MINE, targets: ByteArray = TARGETS) -> AttackerView:
    return testing.attacker_view(attack, registry.build("defense", defense, {}), mine, targets, GALLERY)


def answer(attack: Attack, view: AttackerView, seed: int = 0) -> npt.NDArray[Any]:
    return answers_of(attack, view, seed).main


def answers_of(attack: Attack, view: AttackerView, seed: int = 0) -> Answers:
    attack.fit(view, seeded(seed))
    return Answers.of(attack.run(view))


def mean_error(images: ByteArray, originals: ByteArray) -> float:
    return float(np.square(images.astype(np.float64) - originals).mean())


def blind_error(crowd: tuple[Faces, ByteArray]) -> float:
    """Of the mean face of the auxiliary images."""
    mine, targets = crowd
    return mean_error(np.broadcast_to(all_of(mine).mean(0), targets.shape), targets)


def test_the_built_in_attacks_are_all_found() -> None:
    assert set(NAMES) >= {"visual", "nearest", "ridge", "unet", "unet_perceptual", "pix2pix", "averaging", "linkage"}
    assert set(NAMES) >= {"adversarial_inversion", "gradient_inversion", "parrot", "linkage_student", "unlinkability"}
    assert all(set(registry.load("attack", name).card.builds_on) <= set(NAMES) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_is_complete(name: str) -> None:
    attack = registry.load("attack", name)
    assert attack.version >= 1
    assert attack.card.title and attack.card.reference and attack.card.licence and attack.card.family
    assert (attack.__doc__ or "").strip(), "say what the attacker is assumed to know"
    assert set(attack.Config().model_dump()) == set(attack.Config.model_fields)


@pytest.mark.parametrize("defense", ["no_defense", "blackout", "stochastic_local"])
@pytest.mark.parametrize("name", NAMES)
def test_answer_has_the_right_form_and_repeats_under_its_seed(name: str, defense: str) -> None:
    torch_state = torch.get_rng_state()
    answers = []
    for _ in range(2):
        attack = registry.build("attack", name, SMALL.get(name, {}))
        view = view_of(attack, defense)
        given = view.targets.copy()
        answers.append(answers_of(attack, view).arrays)
        assert np.array_equal(view.targets, given), "the view is not to be written to"
    for one in answers[0].values():
        if attack.card.measures in ("appearance", "control", "template", "purification"):
            assert one.dtype == np.uint8 and one.shape == TARGETS.shape
        elif attack.card.measures == "attributes":
            assert one.shape == (len(TARGETS), len(ATTRIBUTES)) and np.isfinite(one).all()
        elif attack.card.measures == "soft_biometrics":
            assert one.shape == (len(TARGETS), WIDTH) and np.isfinite(one).all()
        else:
            assert one.shape == (len(TARGETS), len(GALLERY)) and np.isfinite(one).all()
    assert answers[0].keys() == answers[1].keys()
    assert all(np.array_equal(answers[0][key], answers[1][key]) for key in answers[0])
    assert torch.equal(torch_state, torch.get_rng_state()), "all randomness from the generator passed in"
    log = TrainingLog.of(attack.log)
    assert 1 <= log.shots <= len(view.targets)
    # Here no image has a key of its own to learn of, and no cloak an eraser.
    if attack.card.learned and name not in ("unshuffle", "outsider_eraser"):
        assert log.training_images > 0


def answer_in_full_precision(name: str) -> npt.NDArray[Any]:
    attack = registry.build("attack", name, SMALL.get(name, {}))
    with patch.object(device, "autocast", nullcontext):  # A device has bfloat16 of its own, or none.
        return answer(attack, view_of(attack, "pixelate"))


answer_of_the_cpu = cache(answer_in_full_precision)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in HEADS])
def test_an_answer_is_the_same_on_every_device(name: str, kind: str) -> None:
    here = answer_of_the_cpu(name)
    with other_device(kind) as exact:
        assert_alike(answer_in_full_precision(name), here, exact)


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
        if has_one:
            found = attack.log["prior"]["distances"]
            assert set(found) == {"start", "adapted", "search", "sample 0.2", "mean of 2, 0.2"}
            assert found[attack.log["prior"]["chosen"][-1]] == min(found.values()) <= found["start"]


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


def test_the_decoder_sees_nothing_that_was_protected(crowd: tuple[Faces, ByteArray]) -> None:
    """So it is the same for all defenses."""
    mine, targets = crowd
    attack = registry.build("attack", "template", SMALL["template"])
    (material,) = attack.starts_from(Scope(2))
    seen: list[AttackerView] = []

    def compute(view: AttackerView, generator: torch.Generator) -> dict[str, npt.NDArray[Any]]:
        seen.append(view)
        return dict(material.compute(view, generator))

    found = []
    for defense in ("no_defense", "pixelate"):
        with patch.object(type(attack), "starts_from", lambda self, scope: (replace(material, compute=compute),)):
            found.append(view_of(attack, defense, mine, targets).material(material))
    for view in seen:
        assert view.targets.shape[:2] == (2, 0) and view.surrogate is not None
        assert view.auxiliary_protected is view.oracle is view.gallery is view.defense is view.recognizer is None
    assert found[0].keys() == found[1].keys() and all(np.array_equal(found[0][key], found[1][key]) for key in found[0])


def test_what_is_of_clear_images_starts_from_nothing_else() -> None:
    other = Material("scene", {}, lambda view, generator: {})
    with pytest.raises(UserError, match="'faces' is of clear images"):
        Material("faces", {}, lambda view, generator: {}, (other,), of_clear_images=True)


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


def declared(materials: tuple[Material, ...]) -> dict[str, Material]:
    """All materials by their key, with those that they start from."""
    found = {material.key: material for material in materials}
    for material in materials:
        found |= declared(material.starts_from)
    return found


def test_students_of_other_material_share_nothing() -> None:
    keys: list[set[str]] = []
    for params in ({}, {"images": 4}, {"trained_on": "high_pass"}):
        attack = registry.build("attack", "linkage_student", SMALL["linkage_student"] | params)
        keys.append(set(declared(attack.starts_from(Scope(2)))))
        assert {key.split()[0] for key in keys[-1]} == {"undone", "scene", "unet", "student"}
    assert len(set.union(*keys)) == sum(map(len, keys)) == 12


def test_students_that_compare_more_releases_are_the_same() -> None:
    """They are trained once; only what they look at of the targets differs."""
    found = []
    for releases in (1, 4):
        attack = registry.build("attack", "linkage_student", SMALL["linkage_student"] | {"releases": releases})
        found.append(set(declared(attack.starts_from(Scope(4)))))
    one, four = found
    assert one < four and {key.split()[0] for key in four - one} == {"undone", "scene"}


@pytest.mark.parametrize("scope", [Scope(1), Scope(4), Scope(2, releases_image=False)])
@pytest.mark.parametrize("name", NAMES)
def test_what_an_attack_starts_from_can_be_planned(name: str, scope: Scope) -> None:
    """The same whoever asks, in an order that can be computed, and fit to be sent to a worker."""
    attack = registry.build("attack", name, SMALL.get(name, {}))
    found = declared(attack.starts_from(scope))
    assert found.keys() == declared(registry.build("attack", name, SMALL.get(name, {})).starts_from(scope)).keys()
    for material in found.values():
        sent = pickle.loads(pickle.dumps(material))  # noqa: S301 - It was pickled on this line.
        assert isinstance(material.spec["version"], int) and sent.key == material.key


@pytest.mark.parametrize("name", ["ridge", "unet", "pix2pix", "attributes", "gradient_inversion", "linkage_student"])
def test_an_attack_reads_nothing_that_it_did_not_declare(name: str) -> None:
    attack = registry.build("attack", name, SMALL[name])
    view = replace(view_of(attack, "pixelate"), materials={})
    with pytest.raises(UserError, match="does not declare"):
        attack.fit(view, seeded())


def test_attacks_read_what_another_has_computed() -> None:
    """With the same parameters, the attacks that start from the U-Net attack's network declare what it declares."""
    params = TINY | {"warm": 3, "steps": 2}
    unet = registry.build("attack", "unet", TINY | {"steps": 3})
    view = view_of(unet, "pixelate")
    for name, extra in (("pix2pix", {}), ("averaging", {"releases": 1}), ("gradient_inversion", {})):
        attack = registry.build("attack", name, params | extra)
        assert set(declared(attack.starts_from(view.scope))) == set(view.materials)
        whole = testing.attacker_view(attack, registry.build("defense", "pixelate", {}), MINE, TARGETS, GALLERY)
        assert len(answer(attack, replace(whole, materials=view.materials))) == len(TARGETS)


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


def test_one_auxiliary_person_is_enough_not_to_crash() -> None:
    alone = subset(MINE, [0, 1, 2])
    for name in NAMES:
        attack = registry.build("attack", name, SMALL.get(name, {}))
        assert len(answer(attack, view_of(attack, "pixelate", alone))) == len(TARGETS)


@pytest.mark.parametrize("name", ["visual", "nearest", "random_face", "ridge", "linkage", "parrot", "unlinkability"])
def test_check_runs_attacks_whatever_they_need(name: str) -> None:
    assert check_plugin("attack", name) == []


def test_check_names_an_answer_of_the_wrong_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recognizer's attack too: nothing is passed over for want of weights."""
    linkage = registry.load("attack", "linkage")

    def run(self: Attack, view: AttackerView) -> npt.NDArray[np.float64]:
        self.log["shots"] = 1
        return np.zeros((3, 4))

    monkeypatch.setattr(linkage, "run", run)
    (finding,) = check_plugin("attack", "linkage")
    assert finding.code == "answer" and "(3, 4)" in finding.message


REPRESENTATION = registry.build("defense", "duetface", {})
REPRESENTATION.fit(FACES, seeded())


@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name not in ("gradient_inversion", "pix2pix")])
def test_every_attack_takes_a_representation(name: str) -> None:
    """Learns from its channels, looks at what is rendered of it, and answers as it does of images."""
    attack = registry.build("attack", name, SMALL.get(name, {}))
    view = testing.attacker_view(attack, REPRESENTATION, MINE, TARGETS, GALLERY)
    found = answer(attack, view)
    assert len(found) == len(TARGETS) and np.isfinite(found).all()
    if name == "visual":
        rendered = to_bytes(REPRESENTATION.render(to_float(view.targets[0])))
        assert np.array_equal(found, rendered) and not np.array_equal(found, view.targets[0])


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


def test_a_recognizer_adapts_to_a_representation(crowd: tuple[Faces, ByteArray]) -> None:
    """The student is computed before, the scene of the released images with a generator of its own."""
    mine, targets = crowd
    config = StudentConfig(**(TINY | {"warm": 2, "steps": 2}))
    asked: list[Material] = []

    class OnStudent(Attack):
        card = registry.load("attack", "linkage_student").card

        def starts_from(self, scope: Scope) -> tuple[Material, ...]:
            return student_materials(scope, config)

        def run(self, view: AttackerView) -> npt.NDArray[Any]:
            raise NotImplementedError

    def generator_for(material: Material) -> torch.Generator:
        asked.append(material)
        return seeded()

    view = testing.attacker_view(OnStudent(), REPRESENTATION, mine, targets, targets, shots=1)
    found = adapted(view, view.targets[0], config, generator_for)
    *_, scene = asked
    assert scene.key == released_scene(view.scope, config.size, released_digest(view.targets[0])).key
    assert scene.spec["material"] == {"released": released_digest(view.targets[0])} and scene.key not in view.materials
    assert found.own.shape == (len(mine), 192) and found.released.shape == (len(targets), 192)
    np.testing.assert_allclose(np.linalg.norm(found.released, axis=1), 1, atol=1e-5)
    embeddings, log = fine_tuned_embeddings(found, mine.identities)
    assert embeddings.shape == found.released.shape and np.isfinite(embeddings).all()
    assert log["shots"] == 1 and 0 <= log["without_head_rank_1"] <= 1 and "shrinkage" in log["head"]
    assert log["given"] == min(log["tried"], key=log["tried"].get) and log["tried"].keys() == {"seen", "rebuilt"}
    with pytest.raises(UserError, match="student"):
        adapted(replace(view, materials={}), view.targets[0], config, generator_for)
