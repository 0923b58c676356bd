"""What determines the output of a callable, as far as it can be seen: its code, its values, and the code it calls.

Two callables with one hash do the same. Where that cannot be told (a local module whose code may change, an
object that keeps its state out of sight, a file that is read), there is no hash, and what was measured is kept
for nobody.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import sysconfig
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path, PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from ppfr_bench.records.hashing import canonical_json, digest

__all__ = ["UnseenError", "code_hash", "installed"]

# Names under which code reaches what a hash does not hold: files, the network, the clock, other code.
_OUTSIDE = frozenset({
    "open", "eval", "exec", "compile", "globals", "locals", "vars", "__import__", "import_module", "input",
    "load", "loads", "load_file", "from_pretrained", "hub", "read_bytes", "read_text",
    "imread", "urlopen", "urlretrieve", "environ", "getenv", "system", "popen", "Popen", "run", "check_output",
    "time", "perf_counter", "now", "today", "urandom", "token_bytes",
})  # fmt: skip
# These say nothing of what a class does; the second set of a pydantic model follows from the rest of it.
_BOOKKEEPING = frozenset({
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__firstlineno__",
    "__static_attributes__", "__orig_bases__", "__parameters__", "__abstractmethods__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "_abc_impl",
})  # fmt: skip
_OF_MODELS = frozenset({
    "__class_vars__", "__private_attributes__", "__signature__", "model_fields", "model_computed_fields",
    "model_config",
})  # fmt: skip
_NOUNS = ("ppfr_bench.api", "ppfr_bench.cards")  # A defense derives from these.
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class statement made it, no extension.


class UnseenError(Exception):
    """Something that the output may depend on cannot be seen; the message names it."""


def code_hash(thing: Any) -> str:
    """64 hex digits that determine what a callable, or a class and its methods, does under this version of Python.

    Seen: bytecode, constants, defaults, closures, globals, functions of your own modules that are called by their
    own name, methods and attributes of objects of your own classes, weights of torch modules, arrays, tensors.
    Packages that are installed count by name and version.

    Raises:
        UnseenError: there is something that it cannot see.
    """
    return digest([sys.implementation.cache_tag, _Reader().describe(thing)])


class _Reader:
    """Turns a thing into JSON, each object once."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}
        self._kept: list[Any] = []  # An id means nothing once its object is gone.

    def describe(self, value: Any) -> Any:
        """What ``value`` is, as JSON."""
        if value is None or type(value) in (bool, int, str, float, complex, type(...)):
            return [type(value).__name__, repr(value)]
        if type(value) is bytes:
            return ["bytes", _sha256(value)]
        if isinstance(value, torch.dtype | torch.device | np.dtype | range | slice | PurePath):
            return [type(value).__name__, str(value)]
        if id(value) in self._met:
            return ["again", self._met[id(value)]]
        self._met[id(value)] = len(self._kept)
        self._kept.append(value)
        for kinds, read in self._readers():
            if isinstance(value, kinds):
                return read(value)
        return self._object(value)

    def _readers(self) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
        yield CodeType, self._code
        yield FunctionType, self._function
        yield MethodType, lambda m: ["method", self.describe(m.__func__), self.describe(m.__self__)]
        yield (staticmethod, classmethod), lambda m: [type(m).__name__, self.describe(m.__func__)]
        yield property, lambda p: ["property", *(self.describe(f) for f in (p.fget, p.fset, p.fdel))]
        yield functools.cached_property, lambda p: ["property", self.describe(p.func)]
        yield functools.partial, lambda p: ["partial", *(self.describe(x) for x in (p.func, p.args, p.keywords))]
        yield BuiltinFunctionType, self._builtin
        yield (MethodDescriptorType, WrapperDescriptorType), lambda d: [
            "descriptor", self.describe(d.__objclass__), d.__name__,
        ]  # fmt: skip
        yield np.ufunc, lambda f: ["ufunc", f.__name__, np.__version__]
        yield ModuleType, lambda m: ["module", m.__name__, self._library(m.__name__)]
        yield type, self._class
        yield Enum, lambda e: ["enum", self.describe(type(e)), e.name]
        yield BaseModel, lambda m: ["model", self.describe(type(m)), canonical_json(m.model_dump(mode="json"))]
        yield torch.Tensor, self._tensor
        yield np.ndarray, self._array
        yield np.generic, lambda x: ["scalar", str(x.dtype), repr(x.item())]
        yield (tuple, list, dict, set, frozenset), self._container

    def _container(self, value: Any) -> Any:
        if type(value) in (tuple, list, torch.Size):
            return [type(value).__name__, *(self.describe(item) for item in value)]
        if type(value) in (dict, OrderedDict):
            return [type(value).__name__, *([self.describe(k), self.describe(v)] for k, v in value.items())]
        if type(value) in (set, frozenset):
            # A member that is a container might stand for another by its place, so each is read anew.
            return [type(value).__name__, *sorted(canonical_json(_Reader().describe(item)) for item in value)]
        raise UnseenError(f"a {type(value).__qualname__}, which may hold more than its items")

    def _tensor(self, value: torch.Tensor) -> Any:
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout != torch.strided:
            raise UnseenError(f"a tensor of type {type(value).__qualname__}")
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return ["tensor", str(value.dtype), list(value.shape), _sha256(content)]

    def _array(self, value: np.ndarray[Any, Any]) -> Any:
        if type(value) not in (np.ndarray, np.memmap) or value.dtype.hasobject:
            raise UnseenError(f"an array of type {type(value).__qualname__}, {value.dtype}")
        return ["array", value.dtype.str, list(value.shape), _sha256(np.ascontiguousarray(value).tobytes())]

    def _builtin(self, value: Any) -> Any:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType | type):
            name = getattr(owner, "__name__", value.__module__)
            return ["builtin", name, value.__qualname__, torch.__version__]
        raise UnseenError(f"the method {value.__name__} of a {type(owner).__qualname__}, which may keep state")

    def _function(self, function: FunctionType) -> Any:
        if known := installed(function.__module__ or ""):
            return ["function", function.__module__, function.__qualname__, known]
        if hasattr(function, "__wrapped__"):
            self.describe(function.__wrapped__)
        code = function.__code__
        try:
            cells = [cell.cell_contents for cell in function.__closure__ or ()]
        except ValueError as error:
            raise UnseenError(f"{function.__name__}, of which a variable is not set yet") from error
        values = [self.describe(value) for value in (code, function.__defaults__, function.__kwdefaults__, cells)]
        scope = function.__globals__
        used = [[name, self.describe(scope[name])] for name in sorted(_names(code)) if name in scope]
        return ["function", *values, used, self.describe(vars(function))]

    def _code(self, code: CodeType) -> Any:
        if outside := sorted(_OUTSIDE & set(code.co_names)):
            raise UnseenError(f"{code.co_name} uses {outside[0]}, which reaches beyond its code")
        for step in dis.get_instructions(code):
            if step.opname == "IMPORT_NAME":
                self._library(str(step.argval))
        numbers = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        names = [list(part) for part in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)]
        return ["code", _sha256(code.co_code), _sha256(code.co_exceptiontable), numbers, names,
                [self.describe(constant) for constant in code.co_consts]]  # fmt: skip

    def _class(self, cls: type) -> Any:
        found: list[Any] = []
        for base in cls.__mro__:
            known = "a noun" if base.__module__ in _NOUNS else installed(base.__module__)
            if known:
                found.append(["class", base.__module__, base.__qualname__, known])
                continue
            members = {name: member for name, member in vars(base).items() if not _bookkeeping(base, name)}
            found.append(["members", *([name, self.describe(members[name])] for name in sorted(members))])
        return ["class", cls.__qualname__, *found, repr(getattr(cls, "__annotations__", {}))]

    def _object(self, value: Any) -> Any:
        cls = type(value)
        known = isinstance(value, torch.nn.Module) or all(_pure(base) for base in cls.__mro__)
        if not known or not hasattr(value, "__dict__"):
            raise UnseenError(f"a {cls.__module__}.{cls.__qualname__}, which may keep its state out of sight")
        return ["object", self.describe(cls), self.describe(dict(vars(value)))]

    def _library(self, name: str) -> str:
        if known := installed(name):
            return known
        raise UnseenError(f"the module {name or '(relative)'}, whose code may change")


def _names(code: CodeType) -> set[str]:
    """Every name that the code, and code within it, looks up."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _pure(cls: type) -> bool:
    """Whether objects of the class keep all they know in ``__dict__``: those of your own classes do."""
    if cls is object or cls.__module__ in (*_NOUNS, "abc"):
        return True
    return not installed(cls.__module__) and bool(cls.__flags__ & _HEAP) and "__slots__" not in vars(cls)


def _bookkeeping(cls: type, name: str) -> bool:
    if issubclass(cls, BaseModel) and (name in _OF_MODELS or name.startswith("__pydantic")):
        return True
    return name in _BOOKKEEPING


@functools.cache
def installed(module: str) -> str:
    """Package and version that a module comes from, or Python itself; empty if it lies anywhere else."""
    top = module.partition(".")[0]
    if top in ("", "__main__"):
        return ""
    try:
        spec = sys.modules[top].__spec__ if top in sys.modules else find_spec(top)
    except ValueError:
        return ""
    where = Path((spec and spec.origin) or "/")
    if top in sys.stdlib_module_names:  # A file of yours may have the name of one of Python's modules.
        inside = any(where.is_relative_to(sysconfig.get_path(part)) for part in ("stdlib", "platstdlib"))
        return "python" if spec and (inside or spec.origin in ("built-in", "frozen")) else ""
    packages = _distributions().get(top, [])
    if not packages or not {"site-packages", "dist-packages"} & set(where.parts):
        return ""
    return ", ".join(f"{package} {version(package)}" for package in sorted(set(packages)))


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return {top: list(packages) for top, packages in packages_distributions().items()}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
