"""Reads suites: those that ship with the package, and files of users."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.places import user_path
from ppfr_bench.suites.overrides import Changes, apply, check_known, varied
from ppfr_bench.suites.schema import Budget, Ensemble, Suite, explain
from ppfr_bench.text import SMALL, parse_toml, printable, read_text
from ppfr_bench.variants import read_sweep

_OF_ENSEMBLE = ("ensemble", "budget", "recognizers")  # Which attacks there are depends on these.


def suite_names() -> list[str]:
    """Names of the suites that ship with the package."""
    return sorted(Path(f.name).stem for f in resources.files(__package__).iterdir() if f.name.endswith(".toml"))


def load_suite(
    name: str, overrides: tuple[str, ...] = (), dataset: str | None = None, sweeps: tuple[str, ...] = ()
) -> Suite:
    """A shipped suite by name, or a suite file by path, with ``path=value`` overrides applied.

    ``dataset`` takes the place of the suite's data set, with its own defaults; overrides come after it. A defense or
    an attack that an override changes is labelled by the change (``pixelate_block_14``), unless other attacks start
    from it. Of a defense that ``sweeps`` name (``defense.pixelate.block=4,8``) there is one entry a value instead.

    Raises:
        UserError: no such suite, not TOML, an unknown key or a wrong type: named, with what was expected.
    """
    shown = printable(name)
    if name.endswith(".toml"):
        path, shipped = user_path(name, "the suite file"), f"Shipped suites: {', '.join(suite_names())}."
        text, stem = read_text(path, shipped, "suite file", SMALL), printable(path.stem)
    elif name in suite_names():
        text, stem = (resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise UserError(f"unknown suite '{shown}'", did_you_mean(name, suite_names()))
    data = parse_toml(text, shown, "See ppfr_bench/suites/quick.toml for an example.")
    data.setdefault("name", stem)
    changes: Changes = {}
    first = [override for override in overrides if override.partition("=")[0].strip() in _OF_ENSEMBLE]
    for override in first:
        apply(data, override, changes)
    if "ensemble" in data:
        own = data.get("attack", [])
        data["attack"] = _ensemble(data) + (own if isinstance(own, list) else [])
    if dataset is not None:
        data["dataset"] = {"name": dataset}
    for override in overrides:
        if override not in first:
            apply(data, override, changes)
    swept = [read_sweep(text) for text in sweeps]
    for sweep in swept:
        check_known(data, sweep.kind, sweep.label, f"--sweep {sweep.text}")
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"suite {shown}: {explain(error, Suite)}", "Keys are listed in docs/howto/write_a_suite.md."
        ) from error
    opened = suite.dataset.model_copy(update={"drop_duplicates": suite.drop_duplicates})
    return varied(suite.model_copy(update={"dataset": opened}), changes, swept)


def ensemble_names() -> list[str]:
    """Names of the ensembles that ship with the package."""
    folder = resources.files(__package__) / "ensembles"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def _ensemble(data: dict[str, Any]) -> list[dict[str, Any]]:
    name, budget = data["ensemble"], data.get("budget", "standard")
    if name not in ensemble_names():
        raise UserError(f"unknown ensemble {name!r}", did_you_mean(str(name), ensemble_names()))
    if budget not in get_args(Budget):
        raise UserError(f"unknown budget {budget!r}", did_you_mean(str(budget), list(get_args(Budget))))
    text = (resources.files(__package__) / "ensembles" / f"{name}.toml").read_text(encoding="utf-8")
    named = data.get("recognizers")
    return Ensemble.model_validate(tomllib.loads(text)).entries(budget, named if isinstance(named, list) else [])
