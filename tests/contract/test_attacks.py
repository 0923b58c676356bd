"""Every attack the registry knows answers in the right form, the same for one seed, and reads what it declares."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from attacked_faces import FACES, GALLERY, MINE, SMALL, TARGETS, TINY, answer, answers_of, declared, seeded, view_of
from pretended_device import OTHERS, assert_alike, other_device

from ppfr_bench import device, registry, testing
from ppfr_bench.api import (
    Attack,
    AttackerView,
    ByteArray,
    Faces,
    Material,
    Scope,
    TrainingLog,
    UserError,
    to_bytes,
    to_float,
)
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.adaptation import (
    StudentConfig,
    adapted,
    fine_tuned_embeddings,
    released_digest,
    released_scene,
    student_materials,
)
from ppfr_bench.learning.inverter import Inverter
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.validation import held_out_people
from ppfr_bench.metrics.attributes import ATTRIBUTES
from ppfr_bench.metrics.soft_biometrics import WIDTH
from ppfr_bench.tracks.base import load_track

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = [  # Those that look at images and representations.
    name for name in registry.names("attack")
    if (card := registry.load("attack", name).card).live and not any(load_track(track).stages for track in card.tracks)
]  # fmt: skip
HEADS = ("parrot", "adapted_recognizer")  # Their heads are NumPy's, and slow.
OF_IMAGES = [name for name in NAMES if not registry.load("attack", name).card.tracks]


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


def test_students_of_other_material_share_nothing_but_the_people_held_out() -> None:
    held_out = held_out_people().key
    keys: list[set[str]] = []
    for params in ({}, {"images": 4}, {"trained_on": "high_pass"}):
        attack = registry.build("attack", "linkage_student", SMALL["linkage_student"] | params)
        found = set(declared(attack.starts_from(Scope(2))))
        assert {key.split()[0] for key in found} == {"held_out", "undone", "scene", "unet", "student"}
        keys.append({key for key in found if not key.startswith("held_out")})
        assert (held_out in found) == (not params), "in a view that is cut down, other people are held out"
    # On a high-pass filter it learns from clear images alone, and looks at the targets in another view.
    assert [len(some) for some in keys] == [4, 4, 4 + 2] and len(set.union(*keys)) == sum(map(len, keys))


def test_a_student_may_learn_from_few_images_on_a_filter_of_its_own() -> None:
    """What it learns from is made of clear images alone, of which no release is there to be cut down."""
    attack = registry.build(
        "attack", "linkage_student", SMALL["linkage_student"] | {"images": 4, "trained_on": "high_pass"}
    )
    assert answer(attack, view_of(attack, "pixelate")).shape == (len(TARGETS), len(GALLERY))
    assert attack.log["training_images"] <= 4


def test_a_gan_is_chosen_by_lpips_at_the_size_that_is_judged() -> None:
    """A representation is rebuilt at another."""
    attack = registry.build("attack", "pix2pix", SMALL["pix2pix"])
    attack.prepare(view_of(attack, "no_defense"))
    answers, clear = (resize(to_float(images), 56) for images in (TARGETS[::-1].copy(), TARGETS))
    judged = perceptual_distance(resize(answers, 112), resize(clear, 112)).mean()
    torch.testing.assert_close(attack.validation_loss(answers, clear), judged, atol=1e-3, rtol=1e-2)


def test_students_that_compare_more_releases_are_the_same() -> None:
    """They are trained once; only what they look at of the targets differs."""
    found = []
    for releases in (1, 4):
        attack = registry.build("attack", "linkage_student", SMALL["linkage_student"] | {"releases": releases})
        found.append(set(declared(attack.starts_from(Scope(4)))))
    one, four = found
    assert one < four and {key.split()[0] for key in four - one} == {"undone", "scene"}


@pytest.mark.parametrize("name", ["averaging", "linkage_student"])
def test_attacks_of_which_one_runs_for_all_answer_the_same(name: str) -> None:
    few, many = (registry.build("attack", name, SMALL[name] | {"releases": releases}) for releases in (2, 5))
    for shots, alike in ((1, True), (5, False)):
        assert (few.decided_by(Scope(shots)) == many.decided_by(Scope(shots))) is alike
        answers = [
            answers_of(attack, testing.attacker_view(
                attack, registry.build("defense", "stochastic_local", {}), MINE, TARGETS, GALLERY, shots=shots
            )).arrays
            for attack in (few, many)
        ]  # fmt: skip
        one, other = answers
        same = one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
        assert same is alike, f"{shots} releases"


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


@pytest.mark.parametrize("name", ["averaging", "adversarial_inversion"])
def test_an_attack_on_several_releases_holds_out_the_people_of_its_start(
    name: str, crowd: tuple[Faces, ByteArray]
) -> None:
    """The weights that it starts from have learnt from all others."""
    mine, targets = crowd
    attack = registry.build("attack", name, SMALL[name])
    view = testing.attacker_view(attack, registry.build("defense", "gaussian_noise", {}), mine, targets, targets)
    scenes = [key for key in view.materials if key.startswith("scene")]
    several, one = (view.materials[key]["held"] for key in sorted(scenes, key=lambda key: '"shots": 1' in key))
    assert len(scenes) == 2 and 0 < several.sum() < len(mine)
    np.testing.assert_array_equal(several, one)


def test_averaging_answers_from_one_release_where_that_is_better(
    crowd: tuple[Faces, ByteArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where held-out people say so, which is decided for them here, measure by measure."""
    chosen = Inverter.chosen

    def decided(self: Inverter, view: AttackerView) -> dict[str, str]:
        found = chosen(self, view)
        self.log["held_out"] = {"lpips": 0.3, "ssim": 0.6} if type(self) is Inverter else {"lpips": 0.4, "ssim": 0.7}
        return found

    mine, targets = crowd
    attack = registry.build("attack", "averaging", SMALL["averaging"])
    view = testing.attacker_view(attack, registry.build("defense", "gaussian_noise", {}), mine, targets, targets)
    unet = registry.build("attack", "unet", attack.config.plain.model_dump())
    alone = answers_of(unet, replace(view, targets=view.targets[:1]))
    monkeypatch.setattr(Inverter, "chosen", decided)
    answers = answers_of(attack, view)
    np.testing.assert_array_equal(answers.by_measure["lpips"], alone.by_measure.get("lpips", alone.main))
    assert attack.log["answered_by"]["lpips"] == "one release" != attack.log["answered_by"]["ssim"]
    assert attack.log["held_out"] == {"lpips": 0.3, "ssim": 0.7}
    assert not np.array_equal(answers.main, answers.by_measure["lpips"])
    assert not answers.at, "so few steps have no parts"


def test_a_parrot_of_people_with_one_photo_each_still_compares() -> None:
    """Nobody held out can be named, so that nothing is known of how far to trust each score."""
    mine = subset(FACES, [0, 4])
    attack = registry.build("attack", "parrot", {})
    assert answer(attack, view_of(attack, "pixelate", mine)).std() > 0


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
    held_out = view.materials[held_out_people().key]["held_out"]
    np.testing.assert_array_equal(found.validation, held_out[found.rows], "those whom the student has not learnt from")
    embeddings, log = fine_tuned_embeddings(found, mine.identities)
    assert embeddings.shape == found.released.shape and np.isfinite(embeddings).all()
    assert log["shots"] == 1 and 0 <= log["without_head_rank_1"] <= 1 and "shrinkage" in log["head"]
    assert log["given"] == min(log["tried"], key=log["tried"].get) and log["tried"].keys() == {"seen", "rebuilt"}
    with pytest.raises(UserError, match="student"):
        adapted(replace(view, materials={}), view.targets[0], config, generator_for)
