"""Classes that look like a defense of a file, and send every call to the process that the file runs in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field, ValidationError

from ppfr_bench import device
from ppfr_bench.api import ByteArray, Config, Defense, DefenseCard, Faces, Guarantee, Randomness
from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import canonical_json
from ppfr_bench.registry import Kind
from ppfr_bench.sandbox.layers import Limits, Source
from ppfr_bench.sandbox.process import Child
from ppfr_bench.sandbox.wire import MalformedError

_GROWTH = 256  # A release has at most so many times the bytes of the images.
_RENDERED = 16  # And an image that is made of it at most so many times its bytes.
_ASKED = 4096  # Images that ``fit`` may ask for at once, or as many as there are, if they are more.
_numbers = itertools.count()
_tokens = itertools.count()
_limits = Limits()
_plugins: dict[tuple[str, str], Plugin] = {}


class _Described(Config):
    """What a process says of its file, believed no further than these types."""

    kinds: tuple[Kind, ...] = Field(min_length=1)
    other_track: str = Field("", pattern=r"^[a-z0-9_]{0,40}$")  # It releases neither images nor representations alone.
    class_: str = Field("", alias="class", pattern=r"^\w{0,100}$")
    version: int = 0
    card: DefenseCard | None = None
    learns: bool = False
    renders: bool = False
    fields: tuple[str, ...] = Field((), max_length=1000)


class _Configured(Config):
    """What it says of a set of parameters."""

    config: dict[Annotated[str, Field(pattern=r"^[A-Za-z]\w{0,100}$")], Any]
    randomness: Randomness
    guarantee: Guarantee | None


class Breach(Config):
    """How the plug-in broke its contract, and on which ``images`` by their places: ``named`` in the message or not."""

    code: str = Field(pattern=r"^[a-z_]{1,40}$")
    message: str
    images: tuple[int, ...] = ()
    named: bool = False
    user: dict[str, str] | None = None  # What it says to its user, if that is why.


class Plugin:
    """A file, or a defense that is not the package's own, and the process that runs it; started anew if it has ended.

    Raises:
        UserError: the file does not load.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._child: Child | None = None
        self._content = source.path.read_bytes()
        self._known: dict[str, _Configured] = {}
        try:
            self.described = _Described.model_validate(self._ask("describe", {}))
        except ValidationError as error:
            self.end()
            raise self._nonsense(error) from error
        except UserError:
            self.end()
            raise
        if track := self.described.other_track:
            self.end()
            raise UserError(
                f"{source.path} is of track {track}: only what releases images or representations can run in a process "
                "of its own",
                "If you trust the file, let it run in the harness's process:  --trust",
            )

    @property
    def child(self) -> Child:
        """Its process."""
        if self._child is None or not self._child.ready():
            if self.source.path.read_bytes() != self._content:
                raise UserError(f"{self.source.path} has changed since it was added", "Start anew, with the new file.")
            self._child = Child(self.source, _limits)
            if self.source.kind == "file" and hasattr(self, "described"):
                self._child.call("describe", _limits.import_seconds)  # Its import comes before all else.
        return self._child

    def configured(self, params: Mapping[str, Any]) -> _Configured:
        """What is known of the plug-in under some parameters.

        Raises:
            UserError: the plug-in refuses them.
        """
        key = canonical_json(dict(params))
        if key not in self._known:
            try:
                found = _Configured.model_validate(self._ask("configure", {"params": dict(params)}))
            except ValidationError as error:
                raise self._nonsense(error) from error
            self._known[key] = self._known[canonical_json(found.config)] = found
        return self._known[key]

    def end(self) -> None:
        """End its process."""
        if self._child is not None:
            self._child.end()

    def _ask(self, name: str, header: dict[str, Any]) -> dict[str, Any]:
        try:
            answer, _ = self.child.call(name, _limits.import_seconds, **header)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"defense '{self.source.name}' ({self.source.path}) cannot be used: {type(error).__name__}: {error}",
                "See CONTRIBUTING.md.",
            ) from error
        return {key: value for key, value in answer.items() if key != "tensors"}

    def _nonsense(self, error: ValidationError) -> UserError:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return UserError(
            f"the process of {self.source.name} describes the defense wrongly: {where}: {first['msg']}",
            f"Read {self.source.path}: it may interfere with the harness.",
        )


def plugin_of(source: Source) -> Plugin:
    """The plug-in of a source; one process for all who ask.

    Raises:
        UserError: it does not load.
    """
    key = (source.kind, str(source.path))
    if key not in _plugins:
        _plugins[key] = Plugin(source)
    return _plugins[key]


def forget(source: Source) -> None:
    """End the process of a file that is no plug-in: a mended one is read anew."""
    found = _plugins.pop((source.kind, str(source.path)), None)
    if found is not None:
        found.end()


def set_limits(limits: Limits) -> None:
    """What processes may take that start after this, and how long a call may last from now on."""
    global _limits
    _limits = limits


def limits() -> Limits:
    """What processes may take."""
    return _limits


class StandIn(Defense):
    """A defense whose code runs in another process."""

    plugin: ClassVar[Plugin]

    def __init__(self, config: Any = None) -> None:
        super().__init__(config if config is not None else type(self).Config.model_validate({}))
        self._params = self.config.model_dump(mode="json")
        self._number = next(_numbers)
        self._fitted_in: Child | None = None

    def __reduce__(self) -> Any:
        """A process that has added the same file has the same plug-in; what it has learnt does not travel."""
        return rebuilt, (self.plugin.source.name, self._params)

    @property
    def randomness(self) -> Randomness:
        """As the plug-in says under these parameters."""
        return self.plugin.configured(self._params).randomness

    @property
    def guarantee(self) -> Guarantee | None:
        """As the plug-in says under these parameters."""
        return self.plugin.configured(self._params).guarantee

    @property
    def held(self) -> tuple[str, ...]:
        """The layers that close the process in."""
        return self.plugin.child.held

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What the plug-in makes of images, with gradients where they are wanted and the plug-in has them."""
        gradient, token = torch.is_grad_enabled() and images.requires_grad, next(_tokens)
        child = self._child()
        answer, found = child.call(
            "protect", _limits.call_seconds, _GROWTH * images.numel() * images.element_size() + _STATE,
            [images, generator.get_state()], instance=self._number, params=self._params, gradient=gradient, token=token,
        )  # fmt: skip
        if not 1 <= len(found) <= 3:
            child.end("it sent an answer without its tensors")
            raise child.gone()
        self._adopt_state(generator, found[0], child)
        if len(found) == 1:
            made: torch.Tensor = _something_else(answer)
            return made
        if answer.get("global_random"):
            torch.rand(())  # The contract is checked by looking at the global state of this process.
        if len(found) == 3 and found[2].shape == images.shape and found[2].dtype == images.dtype:
            images.copy_(found[2])  # As it would have changed them here: the contract is checked by looking at them.
        out = device.to(found[1])
        if gradient and answer.get("gradient") is True and out.is_floating_point():
            child.keeps_state = True
            out = _Remote.apply(images, out, child, token)
        return out

    def released(self, images: ByteArray, generator: torch.Generator) -> ByteArray | Breach:
        """What the plug-in releases of uint8 (n, 3, h, w), held to its contract in its own process.

        Raises:
            SandboxError, PluginError: the process has ended, or the plug-in tried to end it.
        """
        child = self._child()
        answer, found = child.call(
            "release", _limits.call_seconds, _GROWTH * images.size + _STATE,
            [torch.from_numpy(np.ascontiguousarray(images)), generator.get_state()], instance=self._number,
            params=self._params,
        )  # fmt: skip
        if not found:
            child.end("it sent an answer without its tensors")
            raise child.gone()
        self._adopt_state(generator, found[0], child)
        if len(found) == 1:
            try:
                return Breach.model_validate(answer)
            except ValidationError:
                child.end("it sent an answer without its release")
                raise child.gone() from None
        if answer.get("global_random"):
            torch.rand(())  # The contract is checked by looking at the global state of this process.
        out, image = found[1], type(self).releases_image()
        fits = list(out.shape) == list(images.shape) if image else out.ndim == 4 and len(out) == len(images)
        if out.dtype != torch.uint8 or not fits:
            child.end("it sent a release of another shape or type")
            raise child.gone()
        made: ByteArray = out.numpy()
        return made

    def _child(self) -> Child:
        """Its process.

        Raises:
            UserError: it was fitted in one that has ended.
        """
        if self._fitted_in is not None and self._fitted_in.ended:
            raise self._fitted_in.gone()
        return self.plugin.child

    @staticmethod
    def _adopt_state(generator: torch.Generator, state: torch.Tensor, child: Child) -> None:
        try:
            generator.set_state(state)  # It refuses what is no state.
        except (RuntimeError, TypeError):
            child.end("it sent a state of its generator that is none")
            raise child.gone() from None


_STATE = 1 << 16  # Bytes for the state of a generator.


class _Remote(torch.autograd.Function):
    """Gradients of a result that was computed in the other process."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, out: torch.Tensor, *where: Any) -> torch.Tensor:
        ctx.where = where
        ctx.shape, ctx.dtype = images.shape, images.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        child, token = ctx.where
        size = ctx.shape.numel() * ctx.dtype.itemsize
        _, found = child.call("gradient", _limits.call_seconds, size, [gradients[0]], token=token)
        if len(found) != 1 or found[0].shape != ctx.shape or found[0].dtype != ctx.dtype:
            child.end("it sent a gradient of another shape or type")
            raise child.gone()
        return device.to(found[0]), None, None, None


def _fit(self: StandIn, faces: Faces, generator: torch.Generator) -> None:
    """Let the plug-in learn from images, which are sent as it asks for them."""
    child = self.plugin.child

    def load(indices: torch.Tensor) -> torch.Tensor:
        wanted = indices.tolist() if indices.dtype == torch.int64 and indices.ndim == 1 else [-1]
        if not all(0 <= one < len(faces) for one in wanted):
            raise MalformedError(f"a request for images that are not among the {len(faces)}")
        return torch.as_tensor(faces.load(wanted))

    _, found = child.call(
        "fit", _limits.fit_seconds, _STATE + 8 * max(len(faces), _ASKED),
        [torch.as_tensor(faces.identities), generator.get_state()], load, instance=self._number, params=self._params,
    )  # fmt: skip
    if len(found) != 1:
        child.end("it sent an answer without its tensors")
        raise child.gone()
    self._adopt_state(generator, found[0], child)
    self._fitted_in, child.keeps_state = child, True


def _render(self: StandIn, released: torch.Tensor) -> torch.Tensor:
    """The image that the plug-in makes of a representation."""
    child = self._child()
    most = max(_RENDERED * released.numel() * released.element_size(), 1 << 26)
    answer, found = child.call(
        "render", _limits.call_seconds, most, [released], instance=self._number, params=self._params
    )
    return device.to(found[0]) if len(found) == 1 else _something_else(answer)


def _something_else(answer: Mapping[str, Any]) -> Any:
    """An object that is no tensor, of a class of the same name: the message about it is the same."""
    name = answer.get("type")
    return type(name if isinstance(name, str) and name.isidentifier() else "object", (), {})()


def stand_in(source: Source, module: str) -> tuple[type[StandIn] | None, tuple[Kind, ...]]:
    """A class that stands in for the defense of a file, and the kinds of what the file has.

    There is no class if the file has anything beside a defense.

    Raises:
        UserError: the file does not load.
    """
    plugin = plugin_of(source)
    found = plugin.described
    if found.kinds != ("defense",) or found.card is None:
        return None, found.kinds
    parts: dict[str, Any] = {
        "__module__": module, "__doc__": StandIn.__doc__, "plugin": plugin, "version": found.version,
        "card": found.card, "Config": _parameters(plugin),
    }  # fmt: skip
    if found.learns:
        parts["fit"] = _fit
    if found.renders:
        parts["render"] = _render
    return type(found.class_ or "Plugin", (StandIn,), parts), found.kinds


def _parameters(plugin: Plugin) -> type[Config]:
    """A Config that asks the plug-in whether its values are right."""

    class Parameters(Config, extra="allow"):
        """Checked in the other process."""

        @classmethod
        def model_validate(cls, obj: Any, **_: Any) -> Any:
            """The parameters with their defaults.

            Raises:
                UserError: the plug-in refuses them.
            """
            given = obj.model_dump(mode="json") if isinstance(obj, Config) else obj
            return cls.model_construct(**plugin.configured(given).config)

    return Parameters


def rebuilt(name: str, params: dict[str, Any]) -> Any:
    """A stand-in for a plug-in that this process has added."""
    from ppfr_bench import registry

    return registry.build("defense", name, params)


def held_by(defense: Defense) -> str:
    """The layers that close a defense's process in, such as ``bubblewrap+seccomp+rlimits``; empty if it has none."""
    return "+".join(defense.held) if isinstance(defense, StandIn) else ""
