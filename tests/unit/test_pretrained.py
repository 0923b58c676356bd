"""The U-Net that reconstruction starts from: its weights, where they are used, and what it was trained to undo."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pretraining.degradations import _KINDS, Degradation, drawn
from torch.nn import functional

from ppfr_bench import registry, testing
from ppfr_bench.api import SIZE, AttackerView, to_bytes, to_float
from ppfr_bench.learning.inverter import new_unet, rebuild
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.observations import Observations, observe_images
from ppfr_bench.learning.pretrained import WEIGHTS, WIDTH, has_pretrained, pretrained_weights
from ppfr_bench.learning.resizing import resize, shrink

FACES = testing.example_faces()
IMAGES = FACES.load(range(len(FACES)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_weights_are_those_of_their_card() -> None:
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == card["log"]["sha256"]
    assert sum(weight.numel() for weight in pretrained_weights().values()) == card["parameters"]
    for found in card["on_held_out_people_and_degradations"].values():
        assert (
            found["network"]["lpips"] < found["estimate"]["lpips"]
            and found["network"]["ssim"] > found["estimate"]["ssim"]
        )


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_it_undoes_a_blur_of_people_whom_it_has_not_seen(sigma: float) -> None:
    """Given the blurred image for an estimate, before any training on that blur."""
    from torchvision.transforms.functional import gaussian_blur

    blurred = gaussian_blur(to_float(IMAGES), [21, 21], [sigma, sigma])
    network = new_unet(WIDTH, seeded())
    network.load_state_dict(pretrained_weights())
    seen = Observations(*observe_images(to_bytes(blurred)[None], SIZE, None))
    answer = rebuild(network, seen, shrink(to_bytes(blurred), 64))
    clear = to_float(IMAGES)
    assert unlikeness(answer, clear) < 0.8 * unlikeness(resize(resize(blurred, 64), SIZE), clear)


def test_it_starts_where_images_are_released_of_people_whom_it_has_not_seen() -> None:
    view = AttackerView("aware", FACES, IMAGES[None], auxiliary_protected=IMAGES)
    assert has_pretrained(view, WIDTH) and has_pretrained(replace(view, photographs_of="lfw"), WIDTH)
    assert not has_pretrained(replace(view, photographs_of="cfp"), WIDTH)
    assert not has_pretrained(replace(view, releases_image=False), WIDTH)
    assert not has_pretrained(view, WIDTH + 8)


def test_an_attack_starts_from_it_unless_told_otherwise() -> None:
    """Before its first step: what it answers, and what it notes."""
    answers = {}
    for pretrained in (True, False):
        attack = registry.build("attack", "unet", {"pretrained": pretrained})
        attack.data = None  # type: ignore[attr-defined]
        network = _start(attack)
        answers[pretrained] = network.state_dict()["out.weight"]
        assert attack.log.get("pretrained", False) is pretrained
    assert torch.equal(answers[True], pretrained_weights()["out.weight"])
    assert not answers[False].any(), "a new one corrects nothing"


def _start(attack: Any) -> torch.nn.Module:
    class Data:
        representation_channels = (0, 1)

    attack.data = Data()
    view = AttackerView("aware", FACES, IMAGES[None], auxiliary_protected=IMAGES)
    network: torch.nn.Module = attack.start(view, seeded())
    return network


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_every_degradation_spoils_images_and_repeats(kind: str) -> None:
    operation = _KINDS[kind](seeded(3))
    degradation = Degradation((kind,), (operation,))
    clear = to_float(IMAGES)
    found, again = (degradation(clear, seeded(1)) for _ in range(2))
    assert found.shape == clear.shape and found.isfinite().all() and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, again)
    assert functional.mse_loss(found, clear) > 1e-5, "it does something"


def test_degradations_are_drawn_of_all_kinds_and_none_is_a_defense() -> None:
    names = [drawn(seeded(seed)).names for seed in range(200)]
    assert set().union(*map(set, names)) == set(_KINDS)
    assert {len(one) for one in names} == {1, 2, 3} and all(len(set(one)) == len(one) for one in names)
    assert not set(_KINDS) & set(registry.names("defense"))
    assert np.mean([drawn(seeded(seed)).names == drawn(seeded(seed)).names for seed in range(20)]) == 1
