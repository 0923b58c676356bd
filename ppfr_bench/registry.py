"""Finds what a kind has by file stem and by entry point; imports none of it to list it.

A kind is a package whose files each end in ``KIND = <class>``, such as ``DEFENSE = Pixelate``. Files of other packages
join by an entry point in the group of that package's name, and single files by ``--plugin``.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ppfr_bench.errors import UserError, did_you_mean, in_one_line
from ppfr_bench.former_names import FORMER_NAMES
from ppfr_bench.places import is_file, is_folder, resolved, user_path
from ppfr_bench.text import check_encoding, printable

Kind = Literal["defense", "attack", "recognizer", "dataset", "metric", "scorer", "track", "publisher", "engine"]
PACKAGES: dict[Kind, str] = {
    "defense": "ppfr_bench.defenses", "attack": "ppfr_bench.attacks", "recognizer": "ppfr_bench.recognizers",
    "dataset": "ppfr_bench.datasets", "metric": "ppfr_bench.metrics", "scorer": "ppfr_bench.scorers",
    "track": "ppfr_bench.tracks", "publisher": "ppfr_bench.leaderboard.publishers", "engine": "ppfr_bench.engines",
}  # fmt: skip
_BASES: dict[Kind, str] = {  # A plug-in of the kind derives from this class of this module.
    "defense": "ppfr_bench.api:Method", "attack": "ppfr_bench.api:Attack", "recognizer": "ppfr_bench.api:Recognizer",
    "dataset": "ppfr_bench.api:FaceDataset", "metric": "ppfr_bench.metrics.base:Metric",
    "scorer": "ppfr_bench.scorers.base:Scorer", "track": "ppfr_bench.tracks.base:Track",
    "publisher": "ppfr_bench.leaderboard.publishers.base:Publisher", "engine": "ppfr_bench.engines.base:Engine",
}  # fmt: skip
_CARDS: dict[Kind, str] = {"defense": "DefenseCard", "attack": "AttackCard", "recognizer": "RecognizerCard",
                           "dataset": "DatasetCard"}  # fmt: skip
_STEM = re.compile(r"[a-z0-9][a-z0-9_]*")
_FILES = "ppfr_bench.plugins."  # Modules of files are named so.
_CONTENT = "__content__"  # Of the module of a file that was added: the file as it was read.
_OWN = "_own.txt"  # In the folder of the defenses: those that the authors of this package answer for.
_added: dict[tuple[Kind, str], EntryPoint] = {}
_stand_ins: dict[tuple[Kind, str], type] = {}
_here = False  # Whether the code of files runs in this process.


def run_here(here: bool = True) -> None:
    """Let files that are loaded after this run in this process, with all that it may do; or again in their own."""
    global _here
    _here = here


def added_here() -> list[str]:
    """Names of the plug-ins among those that were added by file whose code runs in this process."""
    found = set()
    for (_, name), entry in _added.items():
        module = sys.modules.get(entry.value.partition(":")[0])
        if entry.value.startswith(_FILES) and module is not None and not _is_stand_in(module):
            found.add(name)
    return sorted(found)


def names(kind: Kind) -> list[str]:
    """Names of all that a kind has, sorted, none of it imported.

    Raises:
        UserError: two plug-ins have one name; both sources are named.
    """
    return sorted(_plugins(kind))


def source(kind: Kind, name: str) -> str:
    """Where a plug-in comes from: ``module:attribute``."""
    return _find(kind, name).value


def current_name(kind: Kind, name: str) -> str:
    """The name, or the one that took its place if it is a former one."""
    return name if name in _plugins(kind) else FORMER_NAMES.get((kind, name), name)


def load(kind: Kind, name: str) -> Any:
    """The plug-in's class, checked against the contract.

    Raises:
        UserError: unknown (the nearest name is given), fails to import (it alone), or breaks the contract.
    """
    if stand_in := _stand_ins.get((kind, name)):
        return stand_in
    plugin = _find(kind, name)
    if plugin is not _built_in(kind).get(plugin.name):
        return _class_of(kind, plugin)
    if kind == "defense" and not _here and plugin.name not in own_defenses():
        return _foreign_class(plugin.name)
    return _built_in_class(kind, plugin.name)


@cache
def own_defenses() -> frozenset[str]:
    """Names of the defenses whose code runs in this process; any other of the folder was taken from somebody."""
    folders = [Path(folder) for folder in import_module(PACKAGES["defense"]).__path__]
    lists = [folder / _OWN for folder in folders if (folder / _OWN).is_file()]
    lines = [line.strip() for path in lists for line in path.read_text(encoding="utf-8").splitlines()]
    return frozenset(line for line in lines if line and not line.startswith("#"))


@cache
def _foreign_class(name: str) -> Any:
    from ppfr_bench.sandbox.layers import Source
    from ppfr_bench.sandbox.stand_in import stand_in

    module = _built_in("defense")[name].module
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    made, _ = stand_in(Source("module", name, Path(spec.origin)), f"{module}.in_its_own_process")
    assert made is not None, "a file of the folder is asked for its defense alone"
    _stand_in_module(made.__module__, Path(spec.origin), made)
    _validate("defense", name, made)
    return made


@cache
def _built_in_class(kind: Kind, name: str) -> Any:
    """What a file of the package ends in: a plan asks for the same few thousands of times."""
    return _class_of(kind, _built_in(kind)[name])


def _class_of(kind: Kind, plugin: EntryPoint) -> Any:
    name = plugin.name
    try:
        loaded = plugin.load()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # A contributor's file may raise anything; it fails alone.
        raise UserError(
            f"{kind} '{name}' ({plugin.value}) cannot be imported: {in_one_line(error)}",
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
        raise UserError(
            f"{kind} {name}: {explain(error, plugin.Config)}", f"See the class Config in {source(kind, name)}."
        ) from error
    return plugin(config)


def add_plugin(path: Path, only: Kind | None = None) -> list[tuple[Kind, str]]:
    """Add one file as a plug-in under a module name of its own, the same in every process that adds it.

    A defense runs in a process of its own (``ppfr_bench.sandbox``), unless ``run_here`` was called. A file may end in
    several kinds, such as a ``SCORER`` and the ``ATTACK`` that it scores: all are named by its stem. Every file is
    asked in a process of its own what it has. What is no defense works with what the harness has, and is then
    imported in this process.

    Args:
        only: the kind that is wanted: a file without it is refused before it is imported here.

    Raises:
        UserError: no such file, a stem that is no name, a name that is taken, a file that does not load, that has
            changed since it was added, or that has a defense and something else.
    """
    path = resolved(user_path(path, "the plug-in"), "the plug-in")
    _check_file(path)
    if not _STEM.fullmatch(path.stem):
        raise UserError(
            f"expected a name of lower-case letters, digits and _, got {printable(path.name)}", "Rename the file."
        )
    module_name = f"{_FILES}{path.stem}"
    module = _loaded_file(module_name, path, only)
    try:
        kinds = _kinds_of(module, path)
        for kind in kinds:
            _check_not_former(kind, path.stem, printable(path))
            if (kind, path.stem) not in _added and path.stem in names(kind):
                taken = source(kind, path.stem)
                raise UserError(f"{kind} '{path.stem}' exists already ({taken})", f"Rename {path.name}.")
            _validate(kind, path.stem, getattr(module, kind.upper()))
    except BaseException:
        sys.modules.pop(module_name, None)  # A mended file is read anew.
        raise
    _check_wanted(path, kinds, only)
    for kind in kinds:
        _added[kind, path.stem] = EntryPoint(path.stem, f"{module_name}:{kind.upper()}", PACKAGES[kind])
    return [(kind, path.stem) for kind in kinds]


def _check_file(path: Path) -> None:
    """Raises:
    UserError: there is nothing, a folder, or a file of another kind.
    """
    shown = printable(path)
    if is_folder(path):
        raise UserError(f"expected a Python file, got the folder {shown}", f"Name a file in it:  {shown}/my_defense.py")
    if not is_file(path):
        raise UserError(
            f"no such file: {shown}", "Check the path, or write one to start from:  ppfr-bench new defense my_defense"
        )
    if path.suffix != ".py":
        raise UserError(f"expected a Python file, got {shown}", "For example:  --plugin my_defense.py")


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """What is said of a name that no plug-in has: the nearest one, and where the plug-ins in use are.

    Args:
        what: is unknown, such as ``defense``.
        known: names that are.
    """
    folder = plugin_folder("defense")
    hint = f"{did_you_mean(name, known)}\nThe plug-ins in use are those of {printable(folder)}."
    here = next((one for one in (Path("defenses", f"{name}.py"), Path("attacks", f"{name}.py")) if is_file(one)), None)
    if here is not None:
        hint += (
            f" {printable(here)} belongs to another checkout: use the ppfr-bench of that, after  pip install -e .\n"
            f"Or give the file:  --plugin {printable(here)}"
        )
    return UserError(f"unknown {what} '{name}'", hint)


def plugin_folder(kind: Kind) -> Path:
    """The folder of the plug-ins of a kind that come with the package: in a checkout, or where it is installed."""
    spec = importlib.util.find_spec(PACKAGES[kind])
    places = list((spec and spec.submodule_search_locations) or ())
    return Path(places[0]).resolve() if places else Path()


def add_class(kind: Kind, name: str, plugin: type) -> None:
    """Add a class that lies in no file of its own, for the life of this process; one added before gives way.

    Raises:
        UserError: a name that is none or is taken, or a class that breaks the contract.
    """
    if not _STEM.fullmatch(name):
        raise UserError(f"expected a name of lower-case letters, digits and _, got {name!r}", "Give it another name.")
    _check_not_former(kind, name, plugin.__name__)
    module_name = f"ppfr_bench.plugins_without_files.{name}"
    entry = EntryPoint(name, f"{module_name}:{kind.upper()}", PACKAGES[kind])
    if name in names(kind) and source(kind, name) != entry.value:
        raise UserError(f"{kind} '{name}' exists already ({source(kind, name)})", "Give yours another name.")
    _validate(kind, name, plugin)
    module = ModuleType(module_name)
    setattr(module, kind.upper(), plugin)
    sys.modules[module_name] = module
    _added[kind, name] = entry


@contextmanager
def standing_in(kind: Kind, name: str, plugin: type) -> Iterator[None]:
    """For as long as it is needed, ``load`` gives this class for a name, and imports no file of that name."""
    _stand_ins[kind, name] = plugin
    try:
        yield
    finally:
        del _stand_ins[kind, name]


@cache
def _built_in(kind: Kind) -> dict[str, EntryPoint]:
    group, attribute = PACKAGES[kind], kind.upper()
    package = importlib.util.find_spec(group)  # It is found and not imported.
    folders = [Path(folder) for folder in (package and package.submodule_search_locations) or ()]
    stems = [m.name for m in pkgutil.iter_modules(map(str, folders)) if not m.name.startswith("_")]
    if kind not in ("defense", "attack"):  # The packages of other kinds hold other modules too.
        ends = re.compile(rf"^{attribute}(: [^=]+)? = ", re.MULTILINE)
        stems = [stem for stem in stems if any(_ends_in(folder / f"{stem}.py", ends) for folder in folders)]
    return {stem: EntryPoint(stem, f"{group}.{stem}:{attribute}", group) for stem in stems}


def _ends_in(path: Path, pattern: re.Pattern[str]) -> bool:
    return path.is_file() and pattern.search(path.read_text(encoding="utf-8")) is not None


@cache
def _installed(kind: Kind) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=PACKAGES[kind]))


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    extra = [*_installed(kind), *(p for (k, _), p in _added.items() if k == kind)]
    if not extra:
        return _built_in(kind)
    found = dict(_built_in(kind))
    for plugin in extra:
        _check_not_former(kind, plugin.name, plugin.value)
        other = found.setdefault(plugin.name, plugin)
        if other.value != plugin.value:
            raise UserError(
                f"two {kind}s are named '{plugin.name}': {other.value} and {plugin.value}", "Rename or uninstall one."
            )
    return found


def _check_not_former(kind: Kind, name: str, where: str) -> None:
    """Raises:
    UserError: the name is answered for a plug-in that is called otherwise now, whose place this one would take.
    """
    if current := FORMER_NAMES.get((kind, name)):
        raise UserError(
            f"{kind} '{name}' ({where}): that name is the former one of '{current}', and still belongs to it",
            "Give yours another name.",
        )


def _find(kind: Kind, name: str) -> EntryPoint:
    plugins = _plugins(kind)
    name = current_name(kind, name)
    if name not in plugins:
        what = {"dataset": "data set"}.get(kind, kind)
        raise unknown(what, name, plugins)
    return plugins[name]


def _kinds_of(module: ModuleType, path: Path) -> list[Kind]:
    kinds: list[Kind] = [kind for kind in PACKAGES if hasattr(module, kind.upper())]
    if not kinds:
        wanted = " or ".join(f"{kind.upper()} = <class>" for kind in PACKAGES)
        raise UserError(f"{printable(path)} must end in {wanted}", "See CONTRIBUTING.md and docs/howto/add_a_kind.md.")
    return kinds


def _loaded_file(module_name: str, path: Path, only: Kind | None) -> ModuleType:
    """The module of a file, or one with a class that stands in for its defense."""
    if loaded := sys.modules.get(module_name):
        if loaded.__file__ != str(path):
            raise UserError(f"two plug-ins would be named '{path.stem}': {loaded.__file__} and {path}", "Rename one.")
        if vars(loaded)[_CONTENT] != path.read_bytes():
            raise UserError(
                f"{printable(path)} has changed since it was added",
                "Start Python anew (a notebook: restart its kernel), and the new file is read.",
            )
        if not (_is_stand_in(loaded) if _here else _holds_defense(loaded)):
            return loaded
    check_encoding(path)
    return _import_file(module_name, path) if _here else _file_that_was_asked(module_name, path, only)


def _file_that_was_asked(module_name: str, path: Path, only: Kind | None) -> ModuleType:
    """The module of a file that has said, in a process of its own, what it has: its text does not tell it surely.

    Raises:
        UserError: it does not load, has a defense and something else, is of another kind than wanted, or has a defense
            in this process that it did not speak of in its own.
    """
    from ppfr_bench.sandbox.layers import Source
    from ppfr_bench.sandbox.stand_in import forget, stand_in

    source = Source("file", path.stem, path)
    made, kinds = stand_in(source, module_name)
    if made is not None:
        return _stand_in_module(module_name, path, made)
    forget(source)
    if "defense" in kinds:
        raise UserError(
            f"{printable(path)} has a defense and something else: {', '.join(kinds)}",
            "A defense runs in a process of its own, all else in this one: give each a file.  Or, if you trust "
            "the file:  --trust",
        )
    _check_wanted(path, kinds, only)
    module = _import_file(module_name, path)
    if _holds_defense(module):
        sys.modules.pop(module_name, None)
        raise UserError(
            f"{printable(path)} has a defense that it did not speak of in a process of its own",
            "Read the file: it may have changed what it could reach.  Or, if you trust it:  --trust",
        )
    return module


def _check_wanted(path: Path, kinds: Iterable[str], only: Kind | None) -> None:
    """Raises:
    UserError: a file of one kind is wanted, and this one has others.
    """
    if only is not None and only not in kinds:
        raise UserError(
            f"expected a {only}, {path.name} is of kind {', '.join(kinds)}", "Give it to  ppfr-bench run --plugin"
        )


def _holds_defense(module: ModuleType) -> bool:
    return hasattr(module, "DEFENSE") and not _is_stand_in(module)


def _is_stand_in(module: ModuleType) -> bool:
    return bool(vars(module).get("__stand_in__", False))


def _stand_in_module(name: str, path: Path, defense: type) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(path)
    vars(module).update({"DEFENSE": defense, "__stand_in__": True, _CONTENT: path.read_bytes()})
    sys.modules[name] = module
    return module


def _import_file(module_name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module)[_CONTENT] = path.read_bytes()
    sys.modules[module_name] = module  # Its classes can be pickled by name only if it is there before it runs.
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # A contributor's file may raise anything.
        sys.modules.pop(module_name, None)
        raise UserError(
            f"{printable(path)} cannot be imported: {in_one_line(error)}", f"See where:  python {printable(path)}"
        ) from error
    return module


def _validate(kind: Kind, name: str, plugin: Any) -> None:
    module, _, attribute = _BASES[kind].partition(":")
    base: type = getattr(import_module(module), attribute)
    shown = f"ppfr_bench.api.{attribute}" if module == "ppfr_bench.api" else f"{module}.{attribute}"
    if kind == "defense":
        shown = "ppfr_bench.api.Defense, or of the class of another track"
    card = getattr(import_module("ppfr_bench.cards"), _CARDS[kind]) if kind in _CARDS else None
    wrong = ""
    given: Any = plugin  # Nothing is known of it yet.
    if not (isinstance(given, type) and issubclass(given, base)):
        wrong = f"expected a subclass of {shown}, got {plugin!r}"
    elif abstract := sorted(getattr(plugin, "__abstractmethods__", ())):
        wrong = f"it does not define {', '.join(abstract)}"
    elif kind != "metric" and type(getattr(plugin, "version", None)) is not int:
        wrong = "expected `version = 1` (an int)"
    elif card is not None and not isinstance(getattr(plugin, "card", None), card):
        wrong = f"expected `card = {card.__name__}(...)`"
    elif kind in ("defense", "attack", "dataset"):
        config = import_module("ppfr_bench.cards").Config
        if not (isinstance(plugin.Config, type) and issubclass(plugin.Config, config)):
            wrong = "expected its Config to be a subclass of ppfr_bench.api.Config"
    elif kind == "metric":
        wrong = plugin.wrong_info(name)
    if wrong:
        raise UserError(f"{kind} '{name}': {wrong}", "See CONTRIBUTING.md.")
    if kind == "defense":
        _check_declared(name, plugin)


def _check_declared(name: str, plugin: Any) -> None:
    """Raises:
    UserError: the card of version 0.1 says that something else is released than what its methods say.
    """
    from ppfr_bench.api import Defense

    if not issubclass(plugin, Defense):
        return
    output = "image" if plugin.releases_image() else "representation"
    if plugin.card.output not in (None, output):
        raise UserError(
            f"defense '{name}': its card says output {plugin.card.output!r}, but it releases an {output}",
            "Leave `output` out: a defense that defines `render` releases a representation, every other an image.",
        )
    if plugin.card.track is not None and plugin.card.track not in (track := track_of(plugin), *former("track", track)):
        raise UserError(
            f"defense '{name}': its card says track {plugin.card.track!r}, but what it releases belongs to '{track}'",
            "Leave `track` out: it follows from what is released.",
        )


def former(kind: Kind, name: str) -> list[str]:
    """Names that something had in earlier versions."""
    return [old for (of, old), new in FORMER_NAMES.items() if (of, new) == (kind, name)]


def track_of(defense: Any) -> str:
    """The track that accepts what a class of defenses releases; a general one only where no other does.

    Raises:
        UserError: none does, or more than one.
    """
    accepting = {name: track for name in names("track") if (track := load("track", name))().accepts(defense)}
    found = [name for name, track in accepting.items() if not track.general] or list(accepting)
    if len(found) != 1:
        which = ", ".join(found) or "none"
        raise UserError(f"what {defense.__name__} releases belongs to one track, got {which}",
                        "See docs/howto/add_a_kind.md.")  # fmt: skip
    return found[0]
