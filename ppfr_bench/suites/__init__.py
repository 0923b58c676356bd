"""Suites: what to run, one TOML each, checked before anything runs."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from ppfr_bench.api import Config
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.results import LABEL


class Entry(Config):
    """One plug-in in a suite: its name, its parameters, and a label where the name alone is not unique."""

    name: str
    label: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    recognizers: tuple[str, ...] = ()  # of an attack: only with these, where it needs one at all

    @model_validator(mode="before")
    @classmethod
    def _label_defaults_to_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("label") and isinstance(data.get("name"), str):
            data = data | {"label": data["name"]}
        return data

    @model_validator(mode="after")
    def _label_is_safe(self) -> Entry:
        if not LABEL.fullmatch(self.label):
            raise ValueError(f"expected a label of lower-case letters, digits and _, got {self.label!r}")
        return self


class Protocol(Config):
    """How a suite measures, the same for every defense."""

    shots: int = Field(1, ge=1, le=64)  # independently protected versions of one target that the attacker holds
    replicates: int = Field(200, ge=20, le=10_000)  # bootstrap draws of identities
    threads: int = Field(2, ge=1)  # a worker's, part of the protocol: sums depend on how they are split
    timeout: float = Field(1800, gt=0)  # seconds a cell may take
    samples: int = Field(4, ge=0, le=8)  # faces in a record's sample strip (synthetic data only)
    batch: int = Field(64, ge=1)  # images in memory at a time
    adaptor: dict[str, int] = Field(default_factory=lambda: {"warm": 1200, "steps": 120})  # of a fine-tuned recognizer


Budget = Literal["smoke", "quick", "standard", "full"]


class EnsembleEntry(Entry):
    """One attack of an ensemble: the ``budgets`` it belongs to (all, if none is named), and what each adds."""

    budgets: tuple[Budget, ...] = ()
    budget: dict[Budget, dict[str, Any]] = Field(default_factory=dict)


class Ensemble(Config):
    """A fixed set of attacks: ``suites/ensembles/NAME.toml``."""

    attack: tuple[EnsembleEntry, ...] = Field(min_length=1)

    def entries(self, budget: Budget, recognizers: list[str]) -> list[dict[str, Any]]:
        """The attacks under a budget, as a suite would list them; only recognizers that the suite has."""
        return [
            {
                "name": entry.name, "label": entry.label, "params": entry.params | entry.budget.get(budget, {}),
                "recognizers": [name for name in entry.recognizers if name in recognizers],
            }
            for entry in self.attack if not entry.budgets or budget in entry.budgets
        ]  # fmt: skip


class Suite(Config):
    """A suite file."""

    name: str = Field(pattern=rf"^{LABEL.pattern}$")
    title: str
    description: str = ""
    seed: int = Field(0, ge=0)
    surrogate: str = ""  # the recognizer that learned defenses and attacks may train on; the others are unseen
    recognizers: tuple[str, ...] = Field(min_length=1)
    protocol: Protocol = Protocol()
    dataset: Entry
    defense: tuple[Entry, ...] = Field(min_length=1)
    ensemble: str = ""  # a fixed set of attacks, before those of the suite's own
    budget: Budget = "standard"
    attack: tuple[Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _labels_are_unique(self) -> Suite:
        for kind in ("defense", "attack"):
            labels = [entry.label for entry in getattr(self, kind)]
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                raise ValueError(f"two {kind}s are labelled {twice[0]!r}; give one of them another label")
        if self.surrogate and self.surrogate not in self.recognizers:
            raise ValueError(f"surrogate {self.surrogate!r} is not among the recognizers {list(self.recognizers)}")
        return self


def suite_names() -> list[str]:
    """Names of the suites that ship with the package."""
    return sorted(Path(f.name).stem for f in resources.files(__name__).iterdir() if f.name.endswith(".toml"))


def load_suite(name: str, overrides: tuple[str, ...] = (), dataset: str | None = None) -> Suite:
    """A shipped suite by name, or a suite file by path, with ``path=value`` overrides applied.

    ``dataset`` takes the place of the suite's data set, with its own defaults; overrides come after it.

    Raises:
        UserError: no such suite, not TOML, an unknown key or a wrong type: named, with what was expected.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"no suite file at {name}", f"Shipped suites: {', '.join(suite_names())}.")
        text, stem = path.read_text(encoding="utf-8"), path.stem
    elif name in suite_names():
        text, stem = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"), name
    else:
        raise UserError(f"unknown suite '{name}'", did_you_mean(name, suite_names()))
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name} is not TOML: {error}", "See ppfr_bench/suites/quick.toml for an example.") from error
    data.setdefault("name", stem)
    if "ensemble" in data:
        own = data.get("attack", [])
        data["attack"] = _ensemble(data) + (own if isinstance(own, list) else [])
    if dataset is not None:
        data["dataset"] = {"name": dataset}
    for override in overrides:
        _apply(data, override)
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"suite {name}: {explain(error, Suite)}", "Keys are listed in docs/howto/write_a_suite.md."
        ) from error


def ensemble_names() -> list[str]:
    """Names of the ensembles that ship with the package."""
    folder = resources.files(__name__) / "ensembles"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def _ensemble(data: dict[str, Any]) -> list[dict[str, Any]]:
    name, budget = data["ensemble"], data.get("budget", "standard")
    if name not in ensemble_names():
        raise UserError(f"unknown ensemble {name!r}", did_you_mean(str(name), ensemble_names()))
    if budget not in get_args(Budget):
        raise UserError(f"unknown budget {budget!r}", did_you_mean(str(budget), list(get_args(Budget))))
    text = (resources.files(__name__) / "ensembles" / f"{name}.toml").read_text(encoding="utf-8")
    return Ensemble.model_validate(tomllib.loads(text)).entries(budget, list(data.get("recognizers", [])))


def explain(error: ValidationError, model: type[Config]) -> str:
    """The first complaint of pydantic in one line: where, what was expected, what came, the nearest known key."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "(whole)"
    if first["type"] == "extra_forbidden":
        known: Any = model
        for part in first["loc"][:-1]:
            field = getattr(known, "model_fields", {}).get(part) if isinstance(part, str) else None
            annotation = field.annotation if field is not None else known
            arguments = getattr(annotation, "__args__", None)
            known = arguments[0] if arguments else annotation
        fields = list(getattr(known, "model_fields", {}))
        return f"unknown key '{where}'. {did_you_mean(str(first['loc'][-1]), fields) if fields else ''}".strip()
    came = "" if first["type"] == "missing" else f" (got {first.get('input')!r:.120})"
    return f"{where}: {first['msg']}{came}"


def _apply(data: dict[str, Any], override: str) -> None:
    """``dataset.x=1``, ``protocol.shots=4``, ``attack.unet.steps=50``, ``defense.LABEL.sigma=8``, ``seed=1``."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: expected path=value", "For example:  --set attack.unet.steps=300")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    parts = path.split(".")
    if parts[0] in ("defense", "attack") and len(parts) == 3:
        entries = [e for e in data.get(parts[0], []) if (e.get("label") or e.get("name")) == parts[1]]
        if not entries:
            known = [e.get("label") or e.get("name") for e in data.get(parts[0], [])]
            raise UserError(
                f"--set {override}: no {parts[0]} '{parts[1]}' in this suite", did_you_mean(parts[1], known)
            )
        entries[0].setdefault("params", {})[parts[2]] = value
    elif parts[0] == "dataset" and len(parts) == 2:
        data.setdefault("dataset", {}).setdefault("params", {})[parts[1]] = value
    elif parts[0] == "protocol" and len(parts) == 2:
        data.setdefault("protocol", {})[parts[1]] = value
    elif (
        len(parts) == 1
        and parts[0] in Suite.model_fields
        and parts[0] not in ("dataset", "defense", "attack", "protocol")
    ):
        data[parts[0]] = value
    else:
        raise UserError(
            f"--set {override}: no such setting",
            "Use dataset.KEY, protocol.KEY, defense.LABEL.KEY, attack.LABEL.KEY, seed, recognizers or surrogate.",
        )
