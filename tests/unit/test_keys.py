"""The axis of keys: who learnt under another key does not undo this one, and where there is none it is all the same."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench import registry
from ppfr_bench.api import Defense, to_bytes, to_float
from ppfr_bench.records.record import Component
from ppfr_bench.runner.graph import other_key
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


def test_without_a_secret_there_is_no_other_key() -> None:
    for name in ("gaussian_blur", "stochastic_local", "no_defense"):
        assert other_key(component(name)) == component(name)


def test_every_defense_of_a_key_names_it_secret() -> None:
    """Else the attacker under another key would quietly be given the same one. Systems of templates draw theirs."""
    for name in registry.names("defense"):
        plugin = registry.build("defense", name, {})
        if isinstance(plugin, Defense) and plugin.randomness in ("per_session_key", "per_user_key"):
            assert "secret" in type(plugin.config).model_fields, name
