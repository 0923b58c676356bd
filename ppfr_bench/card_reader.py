"""What the card of a plug-in says, read from its source file: nothing of the file runs, and torch is not loaded."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ppfr_bench import registry
from ppfr_bench.cards import LONGEST_PLAIN, Card
from ppfr_bench.errors import UserError

__all__ = ["described", "source_file"]

_LARGEST = 1 << 20  # Bytes of a source file that is read.
_CLAIM = "stored_in_clear"
_TEXTS = ("title", "description", "plain", "family", "reference", "licence", "code_url", "measures", "knowledge")


def described(kind: registry.Kind, name: str) -> Mapping[str, Any]:
    """The fields of a plug-in's card that are written out as values, and ``docstring``, ``version`` and, of a template
    method, ``stored_in_clear`` of its class.

    Of a plug-in without a card: ``title`` and ``description`` of its class as well. Empty of one that is not here or
    whose file cannot be read. A field that the source computes is missing.
    """
    try:
        path = source_file(kind, registry.current_name(kind, name))
        found = _of_file(path, kind.upper()) if path else _of_class(kind, name)
    except UserError:  # No such plug-in: the records of its rows are all there is.
        return {}
    return dict(found)


def source_file(kind: registry.Kind, name: str) -> Path | None:
    """The source file of a plug-in; None of one that lies in no file.

    Raises:
        UserError: there is no such plug-in.
    """
    module = registry.source(kind, name).partition(":")[0]
    if module in sys.modules:
        origin = getattr(sys.modules[module], "__file__", None)
        return Path(origin) if origin else None
    package, _, stem = module.rpartition(".")
    try:
        spec = importlib.util.find_spec(package or module)
    except ModuleNotFoundError:  # An entry point names a package that is gone.
        return None
    if spec is None or not package:
        return Path(spec.origin) if spec and spec.origin else None
    places = [Path(folder) / f"{stem}.py" for folder in spec.submodule_search_locations or ()]
    return next((place for place in places if place.is_file()), None)


def _of_class(kind: registry.Kind, name: str) -> Mapping[str, Any]:
    """Of a class that this process was given, and that no file holds."""
    plugin = registry.load(kind, name)
    card = getattr(plugin, "card", None)
    said = card.model_dump() | {"plain": card.plain} if isinstance(card, Card) else {}
    titled: dict[str, Any] = {
        key: value for key in ("title", "description") if isinstance(value := getattr(plugin, key, None), str)
    }
    if getattr(plugin, _CLAIM, False) is True:
        titled[_CLAIM] = True
    return titled | said | _version(getattr(plugin, "version", None)) | {"docstring": plugin.__doc__ or ""}


@cache
def _of_file(path: Path, attribute: str) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    assigned = dict(_assigned(tree.body))
    named = assigned.get(attribute)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    cls = next((node for node in classes if isinstance(named, ast.Name) and node.name == named.id), None)
    if cls is None:
        return {}
    members = dict(_assigned(cls.body))
    said = {name: _value(members[name]) for name in ("title", "description", _CLAIM) if name in members}
    known = {name: value for name, value in (said | _card_of(members.get("card"))).items() if _is_plain(name, value)}
    known.pop("version", None)  # That of the class counts, whatever its card says.
    version = _version(_value(members["version"])) if "version" in members else {}
    return known | version | {"docstring": ast.get_docstring(cls) or ""}


def _version(found: Any) -> dict[str, Any]:
    return {"version": found} if type(found) is int else {}


def _value(node: ast.expr) -> Any:
    """What is written out; None of what is computed."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _is_plain(name: str, value: Any) -> bool:
    """Whether a card may hold it, as the file of a stranger may say anything: texts, numbers, lists of texts."""
    if name in _TEXTS:
        return isinstance(value, str) and (name != "plain" or len(value) <= LONGEST_PLAIN)
    if isinstance(value, list | tuple):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, str | bool | int | float) and name != "deviations"


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _card_of(call: ast.expr | None) -> dict[str, Any]:
    """The values in ``AttackCard(title="...")``."""
    found: dict[str, Any] = {}
    for keyword in call.keywords if isinstance(call, ast.Call) else ():
        found[str(keyword.arg)] = _value(keyword.value)
    # A card that is another's with changes: ``Other.card.model_copy(update={...})``.
    if isinstance(changes := found.pop("update", None), dict):
        found |= {str(key): value for key, value in changes.items()}
    return found
