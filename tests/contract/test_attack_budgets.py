"""Attacks that learn answer after parts of their budget, too, and those answers are what a smaller budget gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attacked_faces import MINE, TARGETS, TINY

from ppfr_bench import registry, testing
from ppfr_bench.api import Answers, Attack, ByteArray, Faces

pytestmark = pytest.mark.usefixtures("one_thread")
HALF, STEPS = 20, 40  # A quarter of so few steps is not worth a cycle.


def answered(
    name: str,
    defense: str,
    params: dict[str, Any],
    shots: int = 1,
    mine: Faces = MINE,
    targets: ByteArray = TARGETS,
    **protection: Any,
) -> tuple[Answers, Attack]:
    attack = registry.build("attack", name, params)
    protecting = registry.build("defense", defense, protection)
    view = testing.attacker_view(attack, protecting, mine, targets, targets[::4], shots=shots)
    attack.fit(view, torch.Generator().manual_seed(0))
    return Answers.of(attack.run(view)), attack


def test_the_template_attack_answers_with_a_decoder_that_was_trained_for_half(crowd: tuple[Faces, ByteArray]) -> None:
    """The whole is among the parts where measures are answered apart: a curve is of one kind of answer."""
    mine, targets = crowd
    params = {"width": 8, "batch": 4, "steps": STEPS}
    found, attack = answered("template", "gaussian_blur", params, mine=mine, targets=targets)
    assert [*found.at] == ([HALF, STEPS] if found.by_measure else [HALF]) and attack.log["steps"] == STEPS
    assert found.at[HALF].shape == found.main.shape and not np.array_equal(found.at[HALF], found.main)
    assert np.array_equal(found.at.get(STEPS, found.main), found.main)


def test_a_search_answers_with_where_it_was_after_half() -> None:
    params = TINY | {"warm": 2, "steps": STEPS}
    found, attack = answered("gradient_inversion", "gaussian_blur", params)
    assert attack.log["differentiable"] and [*found.at] == [HALF]
    assert found.at[HALF].shape == found.main.shape and not np.array_equal(found.at[HALF], found.main)
    nowhere, attack = answered("gradient_inversion", "dp_samp", params)
    assert not attack.log["differentiable"] and not nowhere.at


def test_a_student_of_many_releases_has_a_curve_by_four_of_them() -> None:
    params = TINY | {"warm": 2, "steps": STEPS}
    many, attack = answered("linkage_student", "gaussian_noise", params | {"releases": 6}, 6, sigma=0.02)
    assert attack.log["given"] == "seen" and attack.log["shots"] == 6 and [*many.at] == [HALF, STEPS]
    four, _ = answered("linkage_student", "gaussian_noise", params | {"releases": 4}, 6, sigma=0.02)
    assert [*four.at] == [HALF] and not np.array_equal(many.at[STEPS], many.main)
    # Not to the last digit: the oracle has been asked for other releases in between.
    np.testing.assert_allclose(many.at[HALF], four.at[HALF], atol=2e-3)
    np.testing.assert_allclose(many.at[STEPS], four.main, atol=2e-3)
