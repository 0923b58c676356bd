"""What a suite file holds, and what is said of one that holds something else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ppfr_bench import registry
from ppfr_bench.cards import Config
from ppfr_bench.errors import did_you_mean
from ppfr_bench.records.record import LABEL


class Entry(Config):
    """One plug-in in a suite: its name, its parameters, and a label where the name alone is not unique.

    ``variant_of``: the label that it has in the suite, where ``--set`` or ``--sweep`` changed it; no key of a file.
    """

    name: str
    label: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    recognizers: tuple[str, ...] = ()  # An attack that needs a recognizer runs with these alone.
    variant_of: str = ""

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

    def of_today(self, kind: registry.Kind) -> Entry:
        """The same by the plug-in's name of today, which is its label too where the former name was."""
        name = registry.current_name(kind, self.name)
        return self.model_copy(update={"name": name, "label": name if self.label == self.name else self.label})


class DatasetEntry(Entry):
    """The data set of a suite; ``drop_duplicates`` is the suite's own key of that name."""

    drop_duplicates: bool = False


class Protocol(Config):
    """How a suite measures, the same for every defense."""

    shots: int = Field(1, ge=1, le=64)  # The attacker holds so many independently protected versions of a target.
    replicates: int = Field(200, ge=20, le=10_000)  # Bootstrap draws of identities.
    threads: int = Field(2, ge=1)  # The protocol fixes a worker's threads, as sums depend on how they are split.
    timeout: float = Field(1800, gt=0)  # A stage may take so many seconds.
    memory: float | None = Field(None, gt=0)  # GiB a worker's process may take; None: its share of the machine's.
    samples: int = Field(4, ge=0, le=8)  # Faces in a record's sample strip (synthetic data only).
    batch: int = Field(64, ge=1)  # Images in memory at a time.
    # Training steps of a fine-tuned recognizer.
    adaptor: dict[str, int] = Field(default_factory=lambda: {"warm": 1200, "steps": 250, "draws": 1})


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
    for_tests: bool = False  # The numbers of this shipped suite mean nothing, and boards say so.
    seed: int = Field(0, ge=0, le=(1 << 63) - 1)
    surrogate: str = ""  # Learned defenses and attacks may train on this recognizer; they never see the others.
    recognizers: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = ()  # Image metrics beside those that every reconstruction is compared by.
    ceiling: str = "no_defense"  # The defense that protects nothing; leakage counts from the floor to it.
    floor: str = "blackout"  # The defense that releases nothing.
    protocol: Protocol = Protocol()
    # True: training copies of measured photographs are left out; else the data are refused.
    drop_duplicates: bool = False
    dataset: DatasetEntry
    defense: tuple[Entry, ...] = Field(min_length=1)
    ensemble: str = ""  # A fixed set of attacks comes before the suite's own.
    budget: Budget = "standard"
    attack: tuple[Entry, ...] = Field(min_length=1)

    @property
    def controls(self) -> tuple[str, str]:
        """The two ends of the scale, which stand on every board."""
        return self.ceiling, self.floor

    @field_validator("ceiling", "floor")
    @classmethod
    def _control_by_its_name_of_today(cls, name: str) -> str:
        return registry.current_name("defense", name)

    @field_validator("defense", "attack")
    @classmethod
    def _plugins_by_their_names_of_today(cls, entries: tuple[Entry, ...], info: ValidationInfo) -> tuple[Entry, ...]:
        kind: registry.Kind = "defense" if info.field_name == "defense" else "attack"
        return tuple(entry.of_today(kind) for entry in entries)

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

    def changed(self) -> set[str]:
        """Labels of the defenses and attacks that ``--set`` or ``--sweep`` has given labels of their own."""
        return {entry.label for entry in (*self.defense, *self.attack) if entry.variant_of}


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
