"""Bring a data set as it is published into aligned 112x112 crops that the data sets of the benchmark take.

Restartable: every file is whole or absent, and all that is reported follows from the source and from what lies in the
destination. The same command after a kill finishes with the bytes that an undisturbed one would have written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ppfr_bench.console import Steps
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.faces import read_image
from ppfr_bench.datasets.preparation.align import KEPT, NO_FACE, Outcome, Task, work
from ppfr_bench.datasets.preparation.formats import Advice, CelebaFormat, CfpFormat, FolderFormat, Format, LfwFormat
from ppfr_bench.datasets.preparation.insightface import BinFormat, RecFormat
from ppfr_bench.errors import UserError, did_you_mean
from ppfr_bench.files import summary, write_atomic
from ppfr_bench.parallel import ordered
from ppfr_bench.records.hashing import digest
from ppfr_bench.text import parse_json, printable, read_text

VERSION = 2  # Raise it whenever the same source may give other crops.
FORMATS = ("lfw", "cfp", "celeba", "folder", "insightface-bin", "insightface-rec")
_STATE = ".prepare.json"
_TYPICAL = 100  # The faces of so many images say where a face mostly is.


@dataclass(frozen=True)
class Options:
    """``pairs`` is for lfw, ``identities`` and ``landmarks`` are for celeba, ``level`` is for folder.

    ``level``: which folder below the source names the person, from 1; where it cannot be told, it is asked for.
    """

    aligned: bool = False
    workers: int = 1
    pairs: Path | None = None
    identities: Path | None = None
    landmarks: Path | None = None
    level: int | None = None


def open_format(name: str, source: Path, options: Options) -> Format:
    """One of ``FORMATS``, opened.

    Raises:
        UserError: unknown, an option of another format, or a source that does not hold what the format says.
        Unavailable: what reads the format is not installed.
    """
    if name not in FORMATS:
        raise UserError(f"unknown format '{name}'", did_you_mean(name, FORMATS))
    for option, given, owner in (("--pairs", options.pairs, "lfw"), ("--identities", options.identities, "celeba"),
                                 ("--landmarks", options.landmarks, "celeba"),
                                 ("--person-level", options.level, "folder")):  # fmt: skip
        if given is not None and name != owner:
            raise UserError(f"{option} is for {owner}, not for {name}", "Leave it out.")
    made: dict[str, Callable[[], Format]] = {
        "lfw": lambda: LfwFormat(source, options.pairs),
        "cfp": lambda: CfpFormat(source),
        "celeba": lambda: CelebaFormat(source, options.identities, options.landmarks),
        "folder": lambda: FolderFormat(source, options.level),
        "insightface-bin": lambda: BinFormat(source),
        "insightface-rec": lambda: RecFormat(source),
    }
    return made[name]()


def prepare(name: str, source: Path, target: Path, options: Options = Options()) -> dict[str, Any]:
    """Write ``target/images/PERSON/photo.jpg``, the lists and pairs of the format, and ``target/report.json``.

    A list beside the images may be corrected between two runs: what is aligned already stays.

    Args:
        name: one of ``FORMATS``.
        source: a folder, an archive, or InsightFace's file.
        target: a folder that is new, empty, or left by the same command.

    Returns:
        The report: what was kept and dropped, and why; ``content`` is a digest of all crops. ``next``, what to type
        with the folder, is not in the file.

    Raises:
        UserError: a source that is not what the format says, a target that holds something else, or not one image was
            kept.
        Unavailable: dlib, its landmarks, or what reads the format is missing.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target} lies inside {source}", "Choose a folder outside it.")
    opened = open_format(name, source, options)
    aligned = options.aligned or opened.aligned
    job = _Job(opened, target, aligned, options.workers, _spec(name, opened, aligned))
    try:
        job.run()
    except UserError as error:
        done = f"{len(job.kept)} of {len(opened.items)} images are in {target} so far"
        raise type(error)(f"{error.message}. {done}; the same command goes on from there", error.hint) from error
    pairs = opened.finish(target, job.files())
    report = job.report(name, pairs)
    write_atomic(target / "report.json", (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    if not report["kept"]:
        reasons = "; ".join(summary(job.dropped)) or "no image"
        raise UserError(f"not one of {report['images']} images was kept: {reasons}", f"Each: {target}/report.json")
    return report | {"next": _next(opened.advice(target, pairs), report["people"])}


def _spec(name: str, opened: Format, aligned: bool) -> str:
    """What a folder is prepared from: not the list beside the images, where there is one, as it may be corrected."""
    listed = {} if opened.listed else _made(opened)
    return digest([VERSION, name, aligned, _plain(opened.fingerprint), listed])


def _made(opened: Format) -> dict[str, str]:
    """Target -> a digest of what decides its crop."""
    return {item.target: digest(_plain([name, *item.state]))[:16] for name, item in opened.items.items()}


def _plain(value: Any) -> Any:
    """Names that are not UTF-8 spelt out, anywhere in a value of lists and texts."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return printable(value) if isinstance(value, str) else value


def _next(advice: Advice, people: int) -> str:
    """A command that runs on what was written, tried as far as opening it; or why none does."""
    more: dict[str, Any] = {}
    measured = max(2, round(people * 0.5))
    if advice.dataset == "folder" and "pairs" not in advice.params and 4 <= measured < 20:
        more["folds"] = measured // 2
    try:
        load_dataset(advice.dataset, {"root": str(advice.root), **advice.params, **more})
    except UserError as error:
        return f"add to it, as it cannot be measured yet: {error.message}"
    return advice.command(more)


@dataclass
class _State:
    """What a folder was prepared from: ``made`` says what decides each crop, where a list does."""

    spec: str
    placed: list[str] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)


class _Job:
    """Of one format into one folder: what is there, what is missing, what was dropped."""

    def __init__(self, opened: Format, target: Path, aligned: bool, workers: int, spec: str) -> None:
        self.opened, self.target, self.aligned, self.workers, self.spec = opened, target, aligned, workers, spec
        self.dropped = dict(opened.left_out)
        self.kept: dict[str, tuple[str, str]] = {}  # Name in the source -> file below the target, sha256.
        self._planned = _made(opened) if opened.listed else {}
        self.placed = self._resume()

    def run(self) -> None:
        """Align all that is missing, then those without a face where the format knows where it must be."""
        self._look()
        missing = {name: None for name in self.opened.items if name not in self.kept}
        with Steps(len(missing), f"aligning {self.opened.label}", "images") as steps:
            for outcome in self._outcomes(missing):
                self._take(outcome)
                steps.advance()
        lost = [name for name in self.opened.items if self.dropped.get(name) == NO_FACE]
        if self.opened.placed and lost:
            self._place(lost)

    def files(self) -> dict[str, str]:
        """Target -> file below the folder, of what was kept."""
        return {self.opened.items[name].target: file for name, (file, _) in self.kept.items()}

    def report(self, name: str, pairs: dict[str, dict[str, int]]) -> dict[str, Any]:
        kept = sorted(self.kept.values())
        return {
            "format": name,
            "source": self.opened.label,
            "version": VERSION,
            "aligned_before": self.aligned,
            "images": len(self.opened.items),
            "kept": len(kept),
            "people": len({file.split("/")[1] for file, _ in kept}),
            "placed_without_a_face": [printable(name) for name in self.placed],
            "reasons": dict(sorted(Counter(self.dropped.values()).items())),
            "dropped": [{"what": printable(what), "why": why} for what, why in sorted(self.dropped.items())],
            "pairs": pairs,
            "content": digest(kept),
        }

    def _resume(self) -> list[str]:
        """The images placed without a face so far; the folder is ours from here on."""
        path = self.target / _STATE
        if path.is_file():
            state = self._read(path)
            if state.spec != self.spec:
                raise UserError(
                    f"{self.target} holds another preparation (another source, format, option or version)",
                    "Choose another folder, or remove it.",
                )
            for left in self.target.rglob(".*.tmp"):
                left.unlink()
            self._forget([target for target, made in state.made.items() if self._planned.get(target) != made])
            known = {printable(name): name for name in self.opened.items}
            kept = [known[name] for name in state.placed if name in known]
            self._save(kept)
            return kept
        if self.target.exists() and (not self.target.is_dir() or any(self.target.iterdir())):
            raise UserError(f"{self.target} is not empty", "Choose a new folder.")
        self._save([])
        return []

    @staticmethod
    def _read(path: Path) -> _State:
        try:
            found = parse_json(read_text(path), printable(path))
            return _State(str(found["spec"]), [str(name) for name in found["placed"]], dict(found.get("made", {})))
        except (UserError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read", f"Remove {path.parent} and start again.") from error

    def _forget(self, targets: list[str]) -> None:
        """Remove crops that a corrected list names no more, or names otherwise: they are made anew."""
        for target in targets:
            for suffix in KEPT.values():
                path = self.target / (target + suffix)
                if path.is_file():
                    path.unlink()
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()

    def _save(self, placed: list[str]) -> None:
        self.placed = placed
        state = {"spec": self.spec, "placed": [printable(name) for name in placed], "made": self._planned}
        write_atomic(self.target / _STATE, json.dumps(state, ensure_ascii=False).encode())

    def _look(self) -> None:
        """Take what an earlier run has written, if it is whole; what was placed is decided anew."""
        for name, item in self.opened.items.items():
            if name in self.placed:
                continue
            for suffix in KEPT.values() if self.aligned else (".jpg",):
                path = self.target / (item.target + suffix)
                try:
                    read_image(path, name)
                except UserError:
                    continue
                self.kept[name] = item.target + suffix, hashlib.sha256(path.read_bytes()).hexdigest()
                break

    def _outcomes(self, names: dict[str, None], **more: Any) -> Iterator[Outcome]:
        tasks = (
            replace(Task(name, content, self.aligned, self.opened.items[name].points), **more)
            for name, content in self.opened.read(names)
        )
        yield from ordered(work, tasks, self.workers)

    def _take(self, outcome: Outcome) -> None:
        if outcome.content is None:
            self.dropped[outcome.name] = outcome.reason
            return
        file = self.opened.items[outcome.name].target + outcome.suffix
        path = self.target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(outcome.content)
        temporary.replace(path)
        self.dropped.pop(outcome.name, None)
        self.kept[outcome.name] = file, hashlib.sha256(outcome.content).hexdigest()

    def _place(self, lost: list[str]) -> None:
        """Crop ``lost`` where the faces of the first images are in the median; the report names them."""
        first = dict.fromkeys(islice((n for n in self.opened.items if n not in lost), _TYPICAL))
        found = [outcome for outcome in self._outcomes(first) if outcome.points is not None]
        if not found:
            return
        size = Counter(outcome.size for outcome in found).most_common(1)[0][0]
        typical = np.median([o.points for o in found if o.points is not None and o.size == size], axis=0)
        outcomes = list(self._outcomes(dict.fromkeys(lost), placed=typical, placed_size=size))
        self._save([outcome.name for outcome in outcomes if outcome.content is not None])
        for outcome in outcomes:
            self._take(outcome)
