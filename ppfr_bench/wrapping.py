"""Defenses and data that no file holds: a function of a notebook, a class of a script, made at home in every worker.

What travels to a worker is pickled here, from objects that the caller already has in hand, and read by processes that
this one starts: it is never written down, and nothing from elsewhere is ever read this way.
"""

from __future__ import annotations

import inspect
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cloudpickle
import torch
from pydantic import create_model

from ppfr_bench import registry
from ppfr_bench.api import Config, Defense, DefenseCard, FaceDataset, UserError
from ppfr_bench.cards import Randomness
from ppfr_bench.code_hash import UnseenError, code_hash, installed
from ppfr_bench.records.hashing import digest

__all__ = ["PickledDataset", "WrappedDefense", "main_left_alone", "name_of", "registered", "wrapped_defense"]

Callables = Callable[..., torch.Tensor]
_SAYS_LITTLE = ("title", "reference", "licence", "code_url", "deviations")  # These fields of a card move no number.


@dataclass(frozen=True)
class WrappedDefense:
    """A defense without a file: a callable or a class, pickled, and what identifies it.

    The payload is what ``wrapped_defense`` pickled in the process that started this run; it never comes from a file.
    ``identity`` is the hash of its code or, where it has none (``unseen`` says why), a name that is never used again.
    """

    name: str
    payload: bytes
    identity: str
    version: int
    card: DefenseCard
    unseen: str = ""

    def adopt(self) -> None:
        """Make it a defense of this process. One that cannot be read here fails cell by cell, with the reason."""
        try:
            # _pickled made it and the parent sent it; it is never read from a file.
            loaded = cloudpickle.loads(self.payload)
            is_class = isinstance(loaded, type)
            plugin = _from_class(loaded, self.identity) if is_class else self._from_callable(loaded)
        except Exception as error:  # Unpickling a user's object may raise anything.
            plugin = self._from_callable(_raising(f"{self.name} cannot be read by a worker: {error!r}"), Extra)
        registry.add_class("defense", self.name, plugin)

    def _from_callable(self, function: Callables, config: type[Config] | None = None) -> type[Defense]:
        takes_generator = _takes_generator(function)

        class Called(Defense):
            """A callable that is a defense."""

            version = self.version
            card = self.card
            Config = config or _with_identity(Config, self.identity)

            def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
                return function(images, generator) if takes_generator else function(images)

        return Called


class Extra(Config, extra="allow"):
    """Takes any parameter: for a defense that only says why it cannot run."""


@dataclass(frozen=True)
class PickledDataset:
    """A data set that no name and parameters open, pickled by the process that started this run and by nobody else."""

    payload: bytes

    @classmethod
    def pack(cls, dataset: FaceDataset) -> PickledDataset:
        """Raises:
        UserError: it cannot be pickled.
        """
        return cls(_pickled(dataset, f"the data set {dataset.name}"))

    def unpack(self) -> FaceDataset:
        """The data set again."""
        dataset: FaceDataset = cloudpickle.loads(self.payload)  # The parent packed it, as above.
        return dataset


def wrapped_defense(
    thing: Callables | type[Defense], name: str, version: int, randomness: Randomness, clear_share: float
) -> WrappedDefense:
    """A defense made of a callable ``(images, generator) -> images`` or ``images -> images``, or of a Defense class.

    A class brings its own version and card; ``version``, ``randomness`` and ``clear_share`` are those of a callable.

    Raises:
        UserError: another number of arguments, or something that cannot be pickled.
    """
    if isinstance(thing, type) and issubclass(thing, Defense):
        card, version = thing.card, thing.version
    else:
        assert not isinstance(thing, type)
        _takes_generator(thing)
        card = DefenseCard(
            title=name, family="callable", reference="given to ppfr_bench.evaluate", licence="the caller's",
            randomness=randomness, clear_share=clear_share,
        )  # fmt: skip
    payload = _pickled(thing, name)
    unseen, identity = "", ""
    try:
        identity = digest([code_hash(thing), card.model_dump(mode="json", exclude=set(_SAYS_LITTLE))])
    except (UnseenError, RecursionError) as error:
        unseen, identity = str(error) or "it nests too deeply", f"once-{uuid.uuid4().hex}"
    return WrappedDefense(name, payload, identity, version, card, unseen)


def registered(cls: type[Defense]) -> str | None:
    """The name under which the registry knows a class, or None."""
    for name in registry.names("defense"):
        module, _, _ = registry.source("defense", name).partition(":")
        if module == cls.__module__ and registry.load("defense", name) is cls:
            return name
    return None


def name_of(thing: Any) -> str:
    """``half_grey`` for HalfGrey, half_grey and functools.partial(half_grey); ``callable`` for what has no name."""
    thing = getattr(thing, "func", thing)
    words = getattr(thing, "__name__", None) or type(thing).__name__
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words).lower()
    found = re.sub(r"[^a-z0-9]+", "_", words).strip("_")
    return found if found and found != "lambda" else "callable"


@contextmanager
def main_left_alone() -> Iterator[None]:
    """Workers that start in here do not run the caller's script again: what they need of it they were given.

    So a script needs no ``if __name__ == "__main__"``. multiprocessing looks for these two attributes.
    """
    main = sys.modules["__main__"]
    before = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        main.__spec__ = None
        vars(main).pop("__file__", None)
        yield
    finally:
        vars(main).update(before)


def _from_class(cls: type[Defense], identity: str) -> type[Defense]:
    """The class with its identity among its parameters, so that it is part of every key."""
    return type(cls.__name__, (cls,), {"Config": _with_identity(cls.Config, identity), "__module__": cls.__module__})


def _with_identity(config: type[Config], identity: str) -> type[Config]:
    if "code_hash" in config.model_fields:
        raise UserError("a parameter named 'code_hash' would stand in the way of the harness's own", "Rename it.")
    made: type[Config] = create_model("Config", __base__=config, code_hash=(str, identity))
    return made


def _takes_generator(function: Callables) -> bool:
    """Whether it is called with a generator: its second argument, if that is required or named so.

    Raises:
        UserError: it takes no images, or wants more than the two.
    """
    asked = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        parameters = list(inspect.signature(asked).parameters.values())
    except (TypeError, ValueError):  # A builtin may have no signature.
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [one for one in parameters if one.kind in kinds]
    needed = [one for one in places if one.default is one.empty]
    needed += [one for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
    several = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    if len(needed) > 2 or not (places or several) or any(one.kind is one.KEYWORD_ONLY for one in needed):
        raise UserError(
            f"expected a callable (images, generator) -> images or images -> images, got {inspect.signature(asked)}",
            "Bind the other arguments:  functools.partial(my_defense, strength=0.5)",
        )
    return len(needed) == 2 or (len(places) > 1 and places[1].name == "generator")


def _pickled(thing: Any, name: str) -> bytes:
    """Raises:
    UserError: it cannot be.
    """
    module = sys.modules.get(getattr(thing, "__module__", None) or type(thing).__module__)
    # A module that a worker may not find, such as a test's or one beside a notebook, travels along.
    beside = module is not None and _travels(module.__name__) and module.__name__ != "__main__"
    if beside:
        cloudpickle.register_pickle_by_value(module)
    try:
        payload: bytes = cloudpickle.dumps(thing)
        return payload
    except Exception as error:  # Pickling a user's object may raise anything.
        raise UserError(
            f"{name} cannot be sent to a worker process: {error}",
            "Build what it needs inside it, or write it as a plug-in file:  ppfr-bench new defense NAME",
        ) from error
    finally:
        if beside:
            cloudpickle.unregister_pickle_by_value(module)


def _travels(module: str) -> bool:
    return not installed(module) and module.partition(".")[0] != "ppfr_bench"


def _raising(message: str) -> Callables:
    def protect(images: torch.Tensor) -> torch.Tensor:
        raise UserError(message, "Write it as a plug-in file:  ppfr-bench new defense NAME")

    return protect
