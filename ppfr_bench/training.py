"""Trains what ships with weights: step by step, resumable, the weights as safetensors beside a log of how they came.

A plug-in that can be trained names its recipe: ``training = "module:class"`` in its class. A recipe is built from its
``Config``, the defender's faces, a surrogate recognizer with gradients and a seed, and trained by number of step. It
may ask for other synthetic people than the default by ``data``, parameters of that set.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import ValidationError

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.suites import explain

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ppfr_bench.api import Config, Faces

_EVERY = 60.0  # Seconds between two checkpoints.
_LOGGED = 50  # The log that is kept has at most so many points.


class Training(Protocol):
    """A recipe: what ``train`` needs of it."""

    Config: ClassVar[type[Config]]
    steps: int

    def __init__(self, config: Any, faces: Faces, surrogate: nn.Module, seed: int) -> None: ...

    def step(self, number: int) -> Mapping[str, float]:
        """Take step ``number``, its randomness from the seed and the number alone; what is to be shown of it."""
        ...

    def weights(self) -> Mapping[str, torch.Tensor]:
        """What ships."""
        ...

    def state(self) -> dict[str, Any]:
        """All that training goes on from; tensors, numbers and containers of them."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        ...


def recipe_of(name: str) -> type[Training]:
    """The recipe of a defense.

    Raises:
        UserError: it has none.
    """
    where = getattr(registry.load("defense", name), "training", "")
    if not where:
        trained = [
            other for other in registry.names("defense") if getattr(registry.load("defense", other), "training", "")
        ]
        raise UserError(f"defense '{name}' has no weights to train", f"Those that have: {', '.join(trained)}.")
    module, _, attribute = where.partition(":")
    found: type[Training] = getattr(import_module(module), attribute)
    return found


def people_of(recipe: type[Training]) -> dict[str, Any]:
    """Parameters of the synthetic set that it learns from: its ``data`` where it has one, otherwise the defaults."""
    return dict(getattr(recipe, "data", {}))


def configured(recipe: type[Training], params: dict[str, Any]) -> Config:
    """The recipe's parameters, checked.

    Raises:
        UserError: the first that is wrong.
    """
    try:
        return recipe.Config.model_validate(params)
    except ValidationError as error:
        raise UserError(
            f"training: {explain(error, recipe.Config)}",
            f"See the class {recipe.Config.__name__} in {recipe.__module__}.",
        ) from error


def train(
    training: Training, spec: Mapping[str, Any], folder: Path, tell: Callable[[int, Mapping[str, float]], None]
) -> tuple[Path, dict[str, Any]]:
    """Train to the end, or go on from where ``folder`` stands with the same ``spec``.

    Args:
        training: fresh, as built from ``spec``.
        spec: all that determines the weights; another one starts anew.
        folder: of the checkpoint, and of ``weights.safetensors`` and ``log.json`` in the end.
        tell: called after every step with its number, from 1, and its values.

    Returns:
        The weights' file, and the log: spec, seconds, steps, sha256 and a curve.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, key = folder / "checkpoint.pt", hashlib.sha256(canonical_json(spec).encode()).hexdigest()
    done, seconds, curve = 0, 0.0, []
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        if kept["key"] == key:
            training.restore(kept["state"])
            done, seconds, curve = kept["done"], kept["seconds"], json.loads(kept["curve"])
    start = saved = time.monotonic()

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        spent = seconds + time.monotonic() - start
        torch.save({"key": key, "done": done, "seconds": spent, "curve": json.dumps(curve), "state": training.state()},
                   temporary)  # fmt: skip
        temporary.replace(checkpoint)

    window: list[Mapping[str, float]] = []
    for number in range(done, training.steps):
        window.append(training.step(number))
        done = number + 1
        tell(done, window[-1])
        if done * _LOGGED // training.steps != number * _LOGGED // training.steps:
            names = window[-1].keys()
            means = {name: sum(values.get(name, 0.0) for values in window) / len(window) for name in names}
            curve.append([done, {name: round(value, 5) for name, value in means.items()}])
            window.clear()
            if time.monotonic() - saved > _EVERY:
                save()
                saved = time.monotonic()
    weights = folder / "weights.safetensors"
    temporary = weights.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in training.weights().items()}, temporary)
    temporary.replace(weights)
    log = dict(spec) | {
        "steps": training.steps, "seconds": round(seconds + time.monotonic() - start), "sha256": _sha256(weights),
        "torch": torch.__version__, "curve": curve,
    }  # fmt: skip
    (folder / "log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    save()
    return weights, log


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
