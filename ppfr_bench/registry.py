"""Finds plug-ins by file stem and by entry point; imports none of them to list them."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.places import is_file, resolved, user_path
from ppfr_bench.text import SMALL, decode_text, printable, read_bytes

Kind = Literal["defense", "attack"]
_STEM = re.compile(r"[a-z0-9][a-z0-9_]*")
_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # This is the pattern of the language reference.
_added: dict[tuple[Kind, str], EntryPoint] = {}


def names(kind: Kind) -> list[str]:
    """Names of all plug-ins of a kind, sorted, none of them imported.

    Raises:
        UserError: two plug-ins have one name; both sources are named.
    """
    return sorted(_plugins(kind))


def source(kind: Kind, name: str) -> str:
    """Where a plug-in comes from: ``module:attribute``."""
    return _find(kind, name).value


def load(kind: Kind, name: str) -> Any:
    """The plug-in's class, checked against the contract.

    Raises:
        UserError: unknown (the nearest name is given), fails to import (it alone), or breaks the contract.
    """
    plugin = _find(kind, name)
    try:
        loaded = plugin.load()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a contributor's file may raise anything; it fails alone
        raise UserError(
            f"{kind} '{name}' ({plugin.value}) cannot be imported: {_said(error)}",
            f"Its file must end in {kind.upper()} = <class>; see CONTRIBUTING.md.",
        ) from error
    _validate(kind, name, loaded)
    return loaded


def build(kind: Kind, name: str, params: dict[str, Any]) -> Any:
    """An instance of a plug-in, its parameters checked.

    Raises:
        UserError: as ``load``, or a parameter that the plug-in's Config refuses.
    """
    from pydantic import ValidationError

    from ppfr_bench.suites import explain

    plugin = load(kind, name)
    try:
        config = plugin.Config.model_validate(params)
    except ValidationError as error:
        raise UserError(f"{kind} {name}: {explain(error, plugin.Config)}", "") from error
    return plugin(config)


def add_plugin(path: Path) -> tuple[Kind, str]:
    """Add one file as a plug-in under a module name of its own, the same in every process that adds it.

    Raises:
        UserError: no such file, a stem that is no name, a name that is taken, or a file that does not load.
    """
    path = resolved(user_path(path, "the plug-in"), "the plug-in")
    if path.suffix != ".py" or not is_file(path):
        raise UserError(f"expected a Python file, got {printable(path)}", "For example:  --plugin my_defense.py")
    if not _STEM.fullmatch(path.stem):
        raise UserError(
            f"expected a name of lower-case letters, digits and _, got {printable(path.name)}", "Rename the file."
        )
    module_name = f"ppfr_bench.plugins.{path.stem}"
    module = _import_file(module_name, path)
    try:
        kind = _kind_of(module, path)
        if (kind, path.stem) not in _added:
            if path.stem in names(kind):
                taken = source(kind, path.stem)
                raise UserError(f"{kind} '{path.stem}' exists already ({taken})", f"Rename {path.name}.")
            _validate(kind, path.stem, getattr(module, kind.upper()))
            group = f"ppfr_bench.{kind}s"
            _added[kind, path.stem] = EntryPoint(path.stem, f"{module_name}:{kind.upper()}", group)
    except BaseException:
        sys.modules.pop(module_name, None)  # once it is mended, it is read anew
        raise
    return kind, path.stem


def add_class(kind: Kind, name: str, plugin: type) -> None:
    """Add a class that lies in no file of its own, for the life of this process; one added before gives way.

    Raises:
        UserError: a name that is none or is taken, or a class that breaks the contract.
    """
    if not _STEM.fullmatch(name):
        raise UserError(f"expected a name of lower-case letters, digits and _, got {name!r}", "Give it another name.")
    module_name = f"ppfr_bench.guests_here.{name}"
    entry = EntryPoint(name, f"{module_name}:{kind.upper()}", f"ppfr_bench.{kind}s")
    if name in names(kind) and source(kind, name) != entry.value:
        raise UserError(f"{kind} '{name}' exists already ({source(kind, name)})", "Give yours another name.")
    _validate(kind, name, plugin)
    module = ModuleType(module_name)
    setattr(module, kind.upper(), plugin)
    sys.modules[module_name] = module
    _added[kind, name] = entry


@cache
def _built_in(kind: Kind) -> dict[str, EntryPoint]:
    group = f"ppfr_bench.{kind}s"
    package = import_module(group)
    stems = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return {stem: EntryPoint(stem, f"{group}.{stem}:{kind.upper()}", group) for stem in stems}


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    found = dict(_built_in(kind))
    extra = [*entry_points(group=f"ppfr_bench.{kind}s"), *(p for (k, _), p in _added.items() if k == kind)]
    for plugin in extra:
        other = found.setdefault(plugin.name, plugin)
        if other.value != plugin.value:
            raise UserError(
                f"two {kind}s are named '{plugin.name}': {other.value} and {plugin.value}", "Rename or uninstall one."
            )
    return found


def _find(kind: Kind, name: str) -> EntryPoint:
    plugins = _plugins(kind)
    if name not in plugins:
        raise UserError(f"unknown {kind} '{name}'", did_you_mean(name, plugins))
    return plugins[name]


def _kind_of(module: ModuleType, path: Path) -> Kind:
    kinds: list[Kind] = [kind for kind in ("defense", "attack") if hasattr(module, kind.upper())]
    if len(kinds) != 1:
        raise UserError(f"{printable(path)} must end in DEFENSE = <class> or ATTACK = <class>", "See CONTRIBUTING.md.")
    return kinds[0]


def _import_file(module_name: str, path: Path) -> ModuleType:
    if loaded := sys.modules.get(module_name):
        if loaded.__file__ != str(path):
            raise UserError(f"two plug-ins would be named '{path.stem}': {loaded.__file__} and {path}", "Rename one.")
        return loaded
    _check_encoding(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # before it runs, so that its classes can be pickled by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a contributor's file may raise anything
        sys.modules.pop(module_name, None)
        raise UserError(
            f"{printable(path)} cannot be imported: {_said(error)}", f"See where:  python {printable(path)}"
        ) from error
    return module


def _check_encoding(path: Path) -> None:
    """Python's own words on text in another encoding name neither the encoding nor what to do.

    Raises:
        UserError: neither UTF-8 nor, by a comment in one of the first two lines, another encoding.
    """
    content = read_bytes(path, "Check its permissions.", "Python file", SMALL << 4)
    named = [found[1].lower() for line in content.split(b"\n", 2)[:2] if (found := _CODING.match(line))]
    if not named or named[0] in (b"utf-8", b"utf8", b"utf_8"):
        decode_text(content, printable(path))


def _said(error: BaseException) -> str:
    """An error in one line; of Python's grammar, with the line of the file."""
    if isinstance(error, SyntaxError) and error.lineno and error.text:
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}:  {error.text.strip()[:120]}"
    if isinstance(error, SystemExit):
        return f"it ends the program, with exit code {error.code}"
    return f"{type(error).__name__}: {error}"


def _validate(kind: Kind, name: str, plugin: Any) -> None:
    from ppfr_bench import api

    base, card = (api.Defense, api.DefenseCard) if kind == "defense" else (api.Attack, api.AttackCard)
    wrong = ""
    if not (isinstance(plugin, type) and issubclass(plugin, base)):
        wrong = f"expected a subclass of ppfr_bench.api.{base.__name__}, got {plugin!r}"
    elif getattr(plugin, "__abstractmethods__", None):
        wrong = f"it does not define {', '.join(sorted(plugin.__abstractmethods__))}"
    elif type(getattr(plugin, "version", None)) is not int:
        wrong = "expected `version = 1` (an int)"
    elif not isinstance(getattr(plugin, "card", None), card):
        wrong = f"expected `card = {card.__name__}(...)`"
    elif not (isinstance(plugin.Config, type) and issubclass(plugin.Config, api.Config)):
        wrong = "expected its Config to be a subclass of ppfr_bench.api.Config"
    if wrong:
        raise UserError(f"{kind} '{name}': {wrong}", "See CONTRIBUTING.md.")
