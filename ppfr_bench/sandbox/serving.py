"""What the process of a plug-in answers: it imports the file, builds defenses, fits them and lets them protect."""

from __future__ import annotations

import builtins
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppfr_bench import global_randomness, registry
from ppfr_bench.api import ByteArray, Defense, Faces, IntArray, Unavailable, UserError
from ppfr_bench.contracts.findings import BreachError, on
from ppfr_bench.sandbox import wire
from ppfr_bench.stages.release import protect_once

_MOST_LOADED = 1 << 32  # Bytes of images that one request brings.
_WORDS = 4000  # Characters of a message.
Answer = tuple[dict[str, Any], list[torch.Tensor]]


class Serving:
    """The calls, by name; none of them trusts what it is given less than the plug-in itself does."""

    def __init__(self, sock: Any, kind: str, name: str, plugin: str, graphs: int) -> None:
        self._sock, self._kind, self._name, self._plugin = sock, kind, name, plugin
        self._instances: dict[int, Defense] = {}
        self._graphs: OrderedDict[int, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._most_graphs = graphs
        registry.run_here()

    def answer(self, header: dict[str, Any], tensors: list[torch.Tensor]) -> Answer:
        """What a call gives, or how it fails."""
        try:
            called: Answer = getattr(self, f"_{header['call']}")(header, tensors)
            return called
        except BaseException as error:  # Also SystemExit and KeyboardInterrupt, which are the plug-in's as well.
            return {"error": _told(error)}, []

    def _describe(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        kinds = self._kinds() if self._kind == "file" else ["defense"]
        if kinds != ["defense"]:
            return {"kinds": kinds}, []
        cls = registry.load("defense", self._name)
        track = registry.track_of(cls)
        if not registry.load("track", track).general:
            return {"kinds": kinds, "other_track": track}, []
        return {
            "kinds": kinds, "class": cls.__name__, "version": cls.version,
            "card": cls.card.model_dump(mode="json") | {"plain": cls.card.plain},
            "learns": cls.learns(), "renders": not cls.releases_image(),
            "fields": list(cls.Config.model_fields),
        }, []  # fmt: skip

    def _kinds(self) -> list[registry.Kind]:
        """What the file has; a file of an attack may need more for its import than there is in here."""
        try:
            return [kind for kind, _ in registry.add_plugin(Path(self._plugin))]
        except UserError as error:
            if error.__cause__ is None:  # It was imported, and says something else that is wrong.
                raise
            raise UserError(error.message, f"{error.hint}    or, if it needs more than a process of its own has, and "
                            "you trust it:  --trust") from error  # fmt: skip

    def _configure(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        defense: Defense = registry.build("defense", self._name, header["params"])
        guarantee = defense.guarantee
        return {
            "config": defense.config.model_dump(mode="json"), "randomness": defense.randomness,
            "guarantee": None if guarantee is None else guarantee.model_dump(mode="json"),
        }, []  # fmt: skip

    def _fit(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        identities, state = tensors
        generator = _generator(state)
        self._instance(header).fit(_SentFaces(self._sock, identities.numpy()), generator)
        return {}, [generator.get_state()]

    def _protect(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        images, state = tensors
        generator, defense = _generator(state), self._instance(header)
        given, before = images.clone(), global_randomness.state()
        wants_gradient = bool(header["gradient"])
        if wants_gradient:
            images = images.requires_grad_()
        with torch.set_grad_enabled(wants_gradient):
            # A defense that changes what it is given may: whoever asked is told, and cannot be changed from here.
            out = defense.protect(images.clone() if wants_gradient else images, generator)
        if not isinstance(out, torch.Tensor):
            return {"type": type(out).__name__}, [generator.get_state()]
        reply: dict[str, Any] = {"global_random": global_randomness.state() != before, "gradient": False}
        if wants_gradient and out.requires_grad:
            self._graphs[header["token"]] = images, out
            reply["gradient"] = True
            while len(self._graphs) > self._most_graphs:
                self._graphs.popitem(last=False)
        changed = [] if wants_gradient or torch.equal(images, given) else [images]
        return reply, [generator.get_state(), out, *changed]

    def _release(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        """One batch in 8 bits, held to the contract where it is made: what crosses is a quarter of the size."""
        levels, state = tensors
        generator, before = _generator(state), global_randomness.state()
        places = [str(i) for i in range(len(levels))]
        try:
            out = protect_once(self._instance(header), levels.numpy(), generator, places)
        except BreachError as breach:
            found, cause = breach.finding, breach.__cause__
            bare = found.message.removesuffix(on(found.names))
            return {
                "code": found.code, "message": _words(bare), "images": [int(place) for place in found.names],
                "named": bare != found.message, "user": _told(cause) if isinstance(cause, UserError) else None,
            }, [generator.get_state()]  # fmt: skip
        return {"global_random": global_randomness.state() != before}, [generator.get_state(), torch.from_numpy(out)]

    def _gradient(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        if header["token"] not in self._graphs:
            raise UserError(
                f"expected a gradient of one of the last {self._most_graphs} results, got one of an earlier result",
                "Call backward before further results are computed.",
            )
        images, out = self._graphs.pop(header["token"])
        (gradient,) = torch.autograd.grad(out, images, tensors[0], allow_unused=True)
        return {}, [torch.zeros_like(images) if gradient is None else gradient]

    def _render(self, header: dict[str, Any], tensors: Sequence[torch.Tensor]) -> Answer:
        with torch.no_grad():
            out = self._instance(header).render(tensors[0])
        return ({}, [out]) if isinstance(out, torch.Tensor) else ({"type": type(out).__name__}, [])

    def _instance(self, header: dict[str, Any]) -> Defense:
        number = header["instance"]
        if number not in self._instances:
            self._instances[number] = registry.build("defense", self._name, header["params"])
        return self._instances[number]


class _SentFaces(Faces):
    """The defender's images, each sent when it is asked for; their names stay on the other side."""

    def __init__(self, sock: Any, identities: IntArray) -> None:
        self._sock = sock
        self.identities = identities
        self.names = [f"image {i}" for i in range(len(identities))]

    def load(self, indices: Sequence[int] | IntArray) -> ByteArray:
        """Images uint8 (len(indices), 3, 112, 112), in the order asked for."""
        wanted = np.arange(len(self.identities))[np.asarray(indices, dtype=np.int64)]
        wire.send(self._sock, {"load": len(wanted)}, [torch.from_numpy(wanted)])
        _, (images,) = wire.receive(self._sock, _MOST_LOADED)
        return images.numpy()


def _generator(state: torch.Tensor) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _told(error: BaseException) -> dict[str, Any]:
    if isinstance(error, UserError):
        found = {"message": _words(error.message), "hint": _words(error.hint)}
        return found | {"type": "Unavailable" if isinstance(error, Unavailable) else "UserError"}
    name = type(error).__name__
    if isinstance(error, SystemExit):
        return {"type": name, "message": f"it ends the program, with exit code {error.code!r:.100}"}
    base = next((one.__name__ for one in type(error).__mro__ if vars(builtins).get(one.__name__) is one), "Exception")
    return {"type": name, "base": base, "message": _words(str(error))}


def _words(text: str) -> str:
    """As much of a message as crosses; a name of a file that is no text has half characters, which do not."""
    return text[:_WORDS].encode("utf-8", "replace").decode()
