"""``ppfr-bench train``: the weights that ship, made again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from ppfr_bench.cli import options
from ppfr_bench.cli.options import Json
from ppfr_bench.console import err, tell
from ppfr_bench.errors import UserError
from ppfr_bench.text import neutral

_THREADS = 2  # Sums depend on how they are split, so a recipe fixes it, as a suite does.


def train(
    defense: Annotated[str, typer.Argument(help="A defense with weights of its own.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, weights and log.")] = Path(".bench/training"),
    seed: Annotated[int, typer.Option(min=0, max=options.LARGEST_SEED, help="The seed of all random draws.")] = 0,
    surrogate: Annotated[str, typer.Option(help="The recognizer that it learns from.")] = "faceplugin",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Train a defense on the defender's synthetic identities. The same command again goes on where it was stopped."""
    import torch
    from rich.progress import Progress

    from ppfr_bench import training
    from ppfr_bench.api import Differentiable
    from ppfr_bench.datasets import load_dataset
    from ppfr_bench.recognizers import load_recognizer

    recipe = training.recipe_of(defense)
    config = training.configured(recipe, options.params(settings))
    torch.set_num_threads(_THREADS)
    judge = load_recognizer(surrogate)
    if not isinstance(judge, Differentiable):
        raise UserError(f"{surrogate} has no gradients to learn from", "For example:  --surrogate faceplugin")
    data = load_dataset("synthetic", training.people_of(recipe))
    made = recipe(config, data.defender, judge.differentiable(), seed)
    spec = {"defense": defense, "recipe": config.model_dump(mode="json"), "dataset": data.revision,
            "surrogate": surrogate, "seed": seed}  # fmt: skip
    with Progress(console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(f"training {defense}", total=made.steps)

        def show(done: int, values: Mapping[str, float]) -> None:
            bar.update(task, completed=done)
            if not err.is_terminal and done % max(1, made.steps // 50) == 0:
                said = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
                print(neutral(f"training {defense}: {done} of {made.steps}: {said}"), flush=True, file=sys.stderr)

        weights, log = training.train(made, spec, out / defense, show)
    tell(
        f"{weights}: sha256 {log['sha256']}, {log['steps']} steps in {log['seconds']} s; the log is beside it.",
        as_json, weights=str(weights), sha256=log["sha256"], seconds=log["seconds"],
    )  # fmt: skip
