"""The plan of a shipped suite for a defense whose file is not imported: a stand-in has what the plan asks of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, ValidationError

from ppfr_bench import registry
from ppfr_bench.api import Config, Defense, DefenseCard, Guarantee, Randomness
from ppfr_bench.errors import UserError
from ppfr_bench.former_names import FORMER_NAMES
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.records.record import Record
from ppfr_bench.runner.request import Asked, Request, resolve
from ppfr_bench.stages.context import FRESH
from ppfr_bench.suites import Entry, load_suite

_OTHER: dict[bool, Randomness] = {True: "per_call", False: "deterministic"}


class AnyConfig(Config):
    """Parameters that nobody has described."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True)
class Facts:
    """What a plan asks of a defense under some parameters, and its card does not say.

    Attributes:
        fresh: whether two releases of one photo differ; the card's randomness, where the parameters do not change it.
    """

    fresh: bool
    guarantee: Guarantee | None


def stand_in_for(record: Record, facts: Mapping[str, Facts]) -> type[Defense]:
    """A class that plans are made with as with the defense of a record, and that protects nothing.

    Args:
        facts: by the canonical JSON of the parameters.

    Raises:
        UserError: its card is none.
    """
    try:
        card = DefenseCard.model_validate(record.defense_card)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"the card of '{record.defense.name}': {where}: {first['msg']}", "") from error

    def found(self: Defense) -> Facts | None:
        return facts.get(canonical_json(self.config.model_dump(mode="json")))

    def guaranteed(self: Defense) -> Guarantee | None:
        known = found(self)
        return known.guarantee if known else None

    def random(self: Defense) -> Randomness:
        known = found(self)
        return card.randomness if known is None or known.fresh == (card.randomness in FRESH) else _OTHER[known.fresh]

    members: dict[str, Any] = {
        "version": record.defense.version, "card": card, "Config": AnyConfig, "protect": _never,
        "guarantee": property(guaranteed), "randomness": property(random),
    }  # fmt: skip
    if record.track == "representation":
        members["render"] = _never
    if card.learned:
        members["fit"] = _never
    return type("StandIn", (Defense,), members)


def _never(self: Defense, *given: Any) -> Any:
    raise NotImplementedError("a stand-in computes nothing")


@contextmanager
def planned_without_import(suite: str, records: Sequence[Record]) -> Iterator[Request]:
    """The request of a shipped suite for the defense of some records, and for the one that protects nothing.

    While it lasts, the name of the defense stands for the stand-in.

    Args:
        records: all that there are of one defense and suite.

    Raises:
        UserError: the suite has other labels or parameters for it, or cannot be planned here.
    """
    first = records[0]
    name = first.defense.name
    if current := FORMER_NAMES.get(("defense", name)):
        raise UserError(f"'{name}' is a former name of '{current}'", "Give the defense another name.")
    loaded = load_suite(suite)
    if name in loaded.controls:
        raise UserError(f"'{name}' is an end of the scale of {suite}", "Give the defense another name.")
    entries = [entry for entry in loaded.defense if entry.name == name] or [Entry(name=name)]
    by_label = {record.defense.label: record for record in records}
    if by_label.keys() != {entry.label for entry in entries}:
        raise UserError(
            f"{suite} calls the rows of defense '{name}' {_listed(one.label for one in entries)}, the records "
            f"{_listed(by_label)}",
            f"Measure it as the suite has it:  ppfr-bench run {suite} --defense {name}",
        )
    planned = [
        entry.model_copy(update={"params": _checked(entry, by_label[entry.label].defense.config, suite)})
        for entry in entries
    ]
    ceiling = [entry for entry in loaded.defense if entry.name == loaded.ceiling] or [Entry(name=loaded.ceiling)]
    asked, card_fresh = Asked(only=(*ceiling[:1], *planned)), first.defense_card.get("randomness") in FRESH
    keys = {record.key for record in records}

    @contextmanager
    def planned_as(fresh: Mapping[str, bool]) -> Iterator[Request]:
        facts = {
            canonical_json(one.defense.config): Facts(fresh[label], one.guarantee) for label, one in by_label.items()
        }
        with registry.standing_in("defense", name, stand_in_for(first, facts)):
            yield resolve(suite, asked)

    def unknown(fresh: bool) -> Counter[str]:
        with planned_as(dict.fromkeys(by_label, fresh)) as request:
            return Counter(cell.defense.label for cell in request.plan.cells if cell.key not in keys)

    # Parameters may change whether a release is drawn anew: the keys tell, and measuring again checks it.
    here, other = unknown(card_fresh), unknown(not card_fresh)
    with planned_as({label: card_fresh == (here[label] <= other[label]) for label in by_label}) as request:
        yield request


def _checked(entry: Entry, config: Mapping[str, Any], suite: str) -> dict[str, Any]:
    """Raises:
    UserError: the suite sets a parameter that the records have otherwise.
    """
    for parameter, value in entry.params.items():
        if config.get(parameter) != value:
            raise UserError(
                f"{suite} has {parameter}={value!r} of {entry.label}, the records {config.get(parameter)!r}",
                f"Measure it as the suite has it:  ppfr-bench run {suite} --defense {entry.name}",
            )
    return dict(config)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
