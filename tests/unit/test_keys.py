"""The axis of keys: who learnt under another key does not undo this one, and where there is none it is all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_plans import plan_of

from ppfr_bench import registry, testing
from ppfr_bench.api import DatasetCard, Defense, to_bytes, to_float
from ppfr_bench.records.record import Component
from ppfr_bench.runner.graph import other_key
from ppfr_bench.stages.attack import attacker_view
from ppfr_bench.stages.context import Context
from ppfr_bench.testing import example_faces


def component(name: str, **config: object) -> Component:
    full = registry.build("defense", name, dict(config)).config.model_dump(mode="json")
    return Component(label="mine", name=name, version=1, config=full)


def released(defense: Component) -> np.ndarray:  # type: ignore[type-arg]
    plugin = registry.build("defense", defense.name, defense.config)
    return to_bytes(plugin.protect(to_float(example_faces().load(range(4))), torch.Generator().manual_seed(0)))


def test_another_key_is_another_transform_of_the_same_defense() -> None:
    defense = component("block_permutation", secret=5)
    other = other_key(defense)
    assert other.label == defense.label and other.name == defense.name
    assert {k for k in defense.config if defense.config[k] != other.config[k]} == {"secret"}
    assert not np.array_equal(released(defense), released(other))


def context() -> Context:
    faces = example_faces()
    card = DatasetCard(title="Faces", reference="a test", licence="MIT", real_people=False)
    data: Any = SimpleNamespace(
        name="somewhere", card=card, revision="r", defender=faces, attacker=faces, evaluation=faces,
        targets=np.arange(2), gallery=np.arange(2),
    )  # fmt: skip
    return Context(plan_of("smoke").setting, data)


def test_code_and_weights_are_had_under_another_key() -> None:
    here = context()
    for name in ("block_permutation", "ppfr_fd"):
        spec = component(name, secret=5).spec
        known, own = here.code_of(spec), here.defense(spec)
        assert (known.config.secret, own.config.secret) == (6, 5) and here.code_of(spec) is known
        images = to_float(example_faces().load(range(4)))
        one, other = (one.protect(images, torch.Generator().manual_seed(0)) for one in (known, own))
        assert not torch.equal(one, other)
        if name == "ppfr_fd":
            assert torch.equal(known.kept, own.kept), "the weights are those of the defense"  # type: ignore[attr-defined]
    for name in ("gaussian_blur", "partialface"):  # No key, and one that has no part in what is drawn anew.
        spec = component(name).spec
        assert here.code_of(spec) is here.defense(spec)


@pytest.mark.parametrize("name", ["gradient_inversion", "outsider_eraser", "erasure"])
def test_an_informed_attacker_does_not_hold_the_key_unless_it_says_so(name: str) -> None:
    attack = registry.build("attack", name, {})
    spec = component("block_permutation", secret=5).spec
    job: Any = SimpleNamespace(spec={"defense": spec, "known": spec})
    released: Any = {part: {"images": example_faces().load(range(4))} for part in ("evaluation", "own")}
    card = attack.card.model_copy(update={"needs_surrogate": False})
    view = attacker_view(card, job, released, context(), None, attack.key_access)
    assert view.defense is not None and (view.defense.config.secret == 5) is (name == "erasure")
    assert (attack.key_access == "held") is (name == "erasure")


def test_neither_does_it_where_no_suite_runs() -> None:
    attack = registry.build("attack", "gradient_inversion", {"size": 32, "width": 8, "warm": 1})
    faces, defense = example_faces(), registry.build("defense", "block_permutation", {"secret": 5})
    images = faces.load(range(2))
    view = testing.attacker_view(attack, defense, faces, images, images)
    assert view.defense is not None and view.defense.config.secret != defense.config.secret == 5
    assert np.array_equal(view.targets[0], to_bytes(defense.protect(to_float(images), torch.Generator()))), (
        "the targets"
    )


def test_without_a_secret_there_is_no_other_key() -> None:
    for name in ("gaussian_blur", "stochastic_local", "no_defense"):
        assert other_key(component(name)) == component(name)


def test_every_defense_of_a_key_names_it_secret() -> None:
    """Else the attacker under another key would quietly be given the same one. Systems of templates draw theirs."""
    for name in registry.names("defense"):
        plugin = registry.build("defense", name, {})
        if isinstance(plugin, Defense) and plugin.randomness in ("per_session_key", "per_user_key"):
            assert "secret" in type(plugin.config).model_fields, name
