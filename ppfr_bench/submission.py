"""Submissions: a defense's file and its records in one archive, checked by who packs it and again by who takes it.

Taking one writes files and runs none of them: what came from outside is read by a person before it is imported.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppfr_bench import registry
from ppfr_bench.check import check_plugin
from ppfr_bench.errors import UserError
from ppfr_bench.nightly import compare, empty_cache
from ppfr_bench.results import Record, ResultStore, write_atomic
from ppfr_bench.runner.execute import execute
from ppfr_bench.runner.plan import Cell, Plan

LIMITS = {".py": 200_000, ".json": 200_000, ".jpg": 500_000}  # bytes of one file, unpacked
MOST = 2_000  # files
UNFILLED = ("", "yours, with its year", "Paper, venue, year")  # of a card that nobody filled in
_SOURCE = re.compile(r"defenses/([a-z][a-z0-9_]{0,63})\.py")
_RESULT = re.compile(
    r"results/[a-z0-9_]{1,64}/[a-z0-9_]{1,64}/[a-z0-9_]{1,64}/[a-z0-9_]{1,64}/[0-9a-f]{64}\.(json|jpg)"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in an archive: the same content gives the same bytes


def pack(name: str, plan: Plan, store: ResultStore, target: Path) -> int:
    """Write the archive of a defense and of all its cells of a plan; the number of records.

    Args:
        plan: of one suite, with this defense alone, under the suite's own seed and settings.

    Raises:
        UserError: the file is no plug-in of ``defenses/``, its card is not filled in, it breaks the contract, or a cell
            is not recorded, failed, was skipped, or was measured with changed code.
    """
    source = Path(inspect.getsourcefile(registry.load("defense", name)) or "")
    if source.parent.name != "defenses" or source.stem != name:
        raise UserError(f"defense '{name}' comes from {source}", f"Move it to defenses/{name}.py and run it again.")
    _check_card(name)
    if findings := check_plugin("defense", name):
        raise UserError(f"defense '{name}' breaks the contract: {findings[0].message}", f"ppfr-bench check {name}")
    records = [_whole(plan, store, cell, name) for cell in plan.cells if cell.defense.name == name]
    files = {f"defenses/{name}.py": source.read_bytes()}
    for record in records:
        path = store.locate(record.folder, record.key) or store.path(record)  # it may have been set aside
        files[f"results/{record.folder.as_posix()}/{path.name}"] = path.read_bytes()
        if record.samples:
            picture = path.parent / record.samples
            files[f"results/{record.folder.as_posix()}/{record.samples}"] = picture.read_bytes()
    temporary = target.with_name(f".{target.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path_, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(path_, _EPOCH), content, zipfile.ZIP_DEFLATED)
    try:
        read(temporary)  # whoever takes it will ask the same
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return len(records)


def _check_card(name: str) -> None:
    card = registry.load("defense", name).card
    for field in ("title", "family", "reference", "licence"):
        if getattr(card, field) in UNFILLED:
            raise UserError(f"the card of '{name}' leaves its {field} open", f"Fill it in, in defenses/{name}.py.")


def _whole(plan: Plan, store: ResultStore, cell: Cell, name: str) -> Record:
    """The record of a cell, if it may be published."""
    title = " / ".join(part.label for part in (cell.attack, cell.recognizer) if part) or cell.kind
    again = f"ppfr-bench run {plan.suite} --defense {name}"
    record = store.find(plan.folder(cell), cell.key)
    if record is None:
        raise UserError(
            f"{title}: not recorded under the settings and seed of {plan.suite}, version {cell.defense.version}",
            f"{again} --results {store.root}",
        )
    if record.status != "ok":
        raise UserError(f"{title} {record.status}: {record.reason}", f"Mend that, then:  {again} --rerun failed")
    if record.environment.dirty is not False or not record.environment.commit:
        raise UserError(
            f"{title} was measured with changes that no commit has",
            f"Commit, then:  {again} --rerun all",
        )
    return record


@dataclass(frozen=True)
class Submission:
    """What an archive holds, checked: ``files`` by path, of which ``records`` are parsed."""

    name: str
    files: dict[str, bytes]
    records: tuple[Record, ...]


def read(path: Path) -> Submission:
    """An archive, if there is nothing in it but one defense and its good records.

    Raises:
        UserError: what is wrong with it, by file.
    """
    files = _files(path)
    sources = [name for name in files if _SOURCE.fullmatch(name)]
    if len(sources) != 1:
        raise UserError(f"{path}: expected one defenses/NAME.py, got {len(sources)}", _ASK)
    name = Path(sources[0]).stem
    records = []
    named = set(sources)
    for place, content in files.items():
        if place.endswith(".json"):
            record = _record(path, place, content, name)
            named.add(place)
            if record.samples:
                picture = f"{Path(place).parent.as_posix()}/{record.samples}"
                if record.real_people:
                    raise UserError(f"{path}: {place} comes with a picture of real people", _ASK)
                if hashlib.sha256(files.get(picture, b"")).hexdigest() != record.samples_sha256:
                    raise UserError(f"{path}: {picture} is not the picture that its record names", _ASK)
                named.add(picture)
            records.append(record)
    if extra := sorted(set(files) - named):
        raise UserError(f"{path}: {extra[0]} belongs to no record", _ASK)
    if not records:
        raise UserError(f"{path} holds no record", _ASK)
    return Submission(name, files, tuple(records))


_ASK = "Nothing was taken. Ask for one that ppfr-bench submit has made."


def _files(path: Path) -> dict[str, bytes]:
    """The files of an archive by path, none of them large, none of them elsewhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST:
                raise UserError(f"{path}: {len(members)} files, at most {MOST} are taken", _ASK)
            files = {}
            for member in members:
                place = member.filename
                if not (_SOURCE.fullmatch(place) or _RESULT.fullmatch(place)) or place in files:
                    raise UserError(f"{path}: {place[:200]!r} is no place of a defense or a record", _ASK)
                limit = LIMITS[Path(place).suffix]
                with archive.open(member) as opened:
                    files[place] = opened.read(limit + 1)  # never more, whatever the archive says of its size
                if len(files[place]) > limit:
                    raise UserError(f"{path}: {place} is larger than {limit:,} bytes", _ASK)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path} is not an archive that can be read: {error}", _ASK) from error
    return files


def _record(path: Path, place: str, content: bytes, name: str) -> Record:
    def refuse(why: str) -> UserError:
        return UserError(f"{path}: {place}: {why}", _ASK)

    try:
        record = Record.model_validate(json.loads(content, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise refuse(f"not a record: {str(error)[:300]}") from error
    if f"results/{record.folder.as_posix()}/{record.key}.json" != place:
        raise refuse("its content belongs elsewhere")
    if record.samples and record.samples != f"{record.key}.jpg":
        raise refuse("its picture is named otherwise than itself")
    if record.defense.name != name:
        raise refuse(f"it is of defense '{record.defense.name}', not of '{name}'")
    if record.status != "ok" or record.environment.dirty is not False or not record.environment.commit:
        raise refuse(f"{record.status}, {'clean' if record.environment.dirty is False else 'changed'} code")
    if record.attack is not None and record.attack.name not in registry.names("attack"):
        raise refuse(f"attack '{record.attack.name}' is not known here")
    return record


def _no_constant(value: str) -> float:
    raise ValueError(f"{value} is not a number")


def take(path: Path, root: Path) -> Submission:
    """Write what an archive holds below ``root``, a checkout: nothing of it runs, and no other file is touched.

    Raises:
        UserError: as ``read``; or a file of the same name holds something else.
    """
    found = read(path)
    for place, content in found.files.items():
        there = root / place
        if there.is_file() and there.read_bytes() != content:
            raise UserError(f"{there} holds something else", "Nothing was taken. Move that file away first.")
    for place, content in found.files.items():
        write_atomic(root / place, content)
    return found


@dataclass(frozen=True)
class Score:
    """What measuring recorded cells again came to: cells by outcome, and what left its interval."""

    same: int
    within: int
    outside: tuple[str, ...]


def score(plan: Plan, store: ResultStore, cells: Sequence[Cell], anew: bool = False, workers: int = 1) -> Score:
    """Measure recorded cells again, beside the records.

    Args:
        anew: with an empty cache, instead of from the releases and the reconstructions that the cache holds.
    """
    from contextlib import nullcontext
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    same, within, outside = 0, 0, []
    with TemporaryDirectory(prefix="ppfr-bench-score-") as folder, empty_cache() if anew else nullcontext():
        fresh = ResultStore(Path(folder))
        execute(replace(plan, cells=tuple(cells)), fresh, workers=workers)
        for cell in cells:
            then, now = store.find(plan.folder(cell), cell.key), fresh.find(plan.folder(cell), cell.key)
            if then is None or now is None:
                continue
            moved = [finding.line for finding in compare("moved", then, now)]
            outside += moved
            same += not moved and then.metrics == now.metrics
            within += not moved and then.metrics != now.metrics
    return Score(same, within, tuple(outside))
