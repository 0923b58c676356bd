"""Attacks that are mounted elsewhere: hand out what an attacker sees of one row, take back what it answers.

A folder holds arrays, which ``hand_out`` writes, and ``answers.npy``, which the attack's author writes. Targets and
gallery are shuffled: in the data set both are in the order of the people, which would tell who is who.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from ppfr_bench import registry
from ppfr_bench.api import SIZE, Config, FaceDataset, IntArray
from ppfr_bench.errors import UserError
from ppfr_bench.files import write_atomic
from ppfr_bench.learning import made_elsewhere
from ppfr_bench.learning.made_elsewhere import Answers, Evaluation, same_releases
from ppfr_bench.places import folder_at, is_file, reason
from ppfr_bench.records.hashing import digest
from ppfr_bench.records.record import Component
from ppfr_bench.runner.execution import Where, compute
from ppfr_bench.runner.graph import Graph
from ppfr_bench.runner.plan import Plan
from ppfr_bench.suites import Entry, explain
from ppfr_bench.text import SMALL, parse_json, parse_toml, printable, read_text

if TYPE_CHECKING:
    from ppfr_bench.runner.request import Request

_BATCH = 64
_MOST, _LARGEST = 1 << 16, 1 << 34  # Of targets, and of bytes of all releases: what others hand in may claim anything.
_WRITTEN = ("targets", "own_clear", "own_released", "own_people", "gallery")
Shape = tuple[int, ...]


class Spec(Config):
    """A plug-in under its parameters, as ``Component.spec`` has it."""

    name: str
    version: int
    config: dict[str, Any]


class Manifest(Config):
    """What ``hand_out`` has written, and of which row; ``manifest.json`` is written last, so the arrays are whole.

    Attributes:
        defense: label of the row; ``spec``: its plug-in, version and parameters.
        revision: of the data set; ``seed``: of the suite.
        shapes: of each array, by name of its file.
    """

    suite: str
    dataset: str
    revision: str
    seed: int = Field(ge=0)
    defense: str
    spec: Spec
    shapes: dict[str, Shape]

    @property
    def places(self) -> tuple[IntArray, IntArray]:
        """Which target and which photo of the gallery, counted as in the data set, stands at each place."""
        counts = {"targets": self.shapes["targets"][1], "gallery": self.shapes["gallery"][0]}
        targets, gallery = (
            np.random.RandomState(int(digest([name, self.revision, self.seed])[:8], 16)).permutation(count)
            for name, count in counts.items()
        )
        return targets, gallery

    @property
    def again(self) -> str:
        """What to do where something else was handed out."""
        return f"Answer what is handed out now:  ppfr-bench data releases {self.suite} {self.defense} NEW_FOLDER"


@dataclass(frozen=True)
class Answered:
    """A folder with answers: the attack that hands them on, as an entry of a suite, and what they are answers to."""

    folder: Path
    entry: Entry
    manifest: Manifest


# Out ---------------------------------------------------------------------------------------------------------------


def hand_out(request: Request, folder: Path, where: Where | None = None) -> Manifest:
    """Write what an attacker sees of the one row of a request: releases and its own images, no original of a target.

    Of each target there are as many releases as the attack of the suite holds that holds most.

    Raises:
        UserError: not one row, a control, a release that fails, or a folder that holds another row's releases, lies in
            the data set or cannot be written.
    """
    plan, dataset = request.plan, request.dataset
    defense, graph = _row(plan), Graph(plan.setting, plan.ceiling, plan.floor, plan.attacks, plan.attacks)
    built = [registry.build("attack", one.name, one.config) for one in plan.attacks.values()]
    shots = max(graph.shots(defense, attack) for attack in built)
    stages = [
        graph.release(defense, "attacker"), graph.release(defense, "evaluation"),
        *(graph.release(defense, "targets", shot) for shot in range(1, shots)),
    ]  # fmt: skip
    _check_folder(folder, dataset, plan, defense)
    own, first, *more = (output["images"] for output in compute(plan, stages, where))
    image = (3, SIZE, SIZE)
    shapes: dict[str, Shape] = {
        "targets": (shots, len(dataset.targets), *own.shape[1:]), "gallery": (len(dataset.gallery), *image),
        "own_clear": (len(own), *image), "own_released": own.shape, "own_people": (len(own),),
    }  # fmt: skip
    manifest = Manifest(
        suite=plan.suite, dataset=plan.dataset.label, revision=plan.setting.dataset_revision, seed=plan.seed,
        defense=defense.label, spec=Spec.model_validate(defense.spec), shapes=shapes,
    )  # fmt: skip
    targets, gallery = manifest.places
    rows = [(first, dataset.targets[targets]), *((images, targets) for images in more)]
    arrays: dict[str, Iterable[npt.NDArray[Any]]] = {
        "targets": (images[part] for images, places in rows for part in _parts(places)),
        "own_released": (own[part] for part in _parts(np.arange(len(own)))),
        "own_clear": dataset.attacker.batches(_BATCH),
        "own_people": [np.asarray(dataset.attacker.identities, dtype=np.int64)],
        "gallery": (dataset.evaluation.load(part) for part in _parts(dataset.gallery[gallery])),
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").unlink(missing_ok=True)
        for name in _WRITTEN:
            _write(folder / f"{name}.npy", shapes[name], "<i8" if name == "own_people" else "|u1", arrays[name])
    except OSError as error:
        raise UserError(f"cannot write {printable(folder)}: {reason(error)}", "Choose another folder.") from error
    write_atomic(folder / "manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())
    return manifest


def _row(plan: Plan, hint: str = "Name one row.") -> Component:
    """The one defense of a plan, which is no control."""
    labels = [one.label for one in plan.defenses]
    if len(plan.defenses) != 1:
        raise UserError(f"expected one defense, got {len(labels)}: {', '.join(labels)}", hint)
    (defense,) = plan.defenses
    if registry.load("defense", defense.name).card.control:
        raise UserError(
            f"'{defense.label}' is a control, an end of the scale, which no attack can break", "Name another."
        )
    return defense


def _check_folder(folder: Path, dataset: FaceDataset, plan: Plan, defense: Component) -> None:
    """Raises:
    UserError: it lies in the data set, or holds the releases of another row.
    """
    root: Path | None = getattr(dataset, "root", None)
    if root is not None and folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{printable(folder)} lies in the data set, {root}", "Choose a folder outside it.")
    folder_at(folder, "the folder", "Choose a new folder.")
    if not is_file(folder / "manifest.json"):
        return
    if wrong := _unlike(_manifest(folder, "Choose a new folder."), plan, defense):
        raise UserError(f"{printable(folder)} holds other releases: {wrong}", "Choose a new folder.")


def _parts(places: IntArray) -> Iterable[IntArray]:
    return (places[start : start + _BATCH] for start in range(0, len(places), _BATCH))


def _write(path: Path, shape: Shape, descr: str, parts: Iterable[npt.NDArray[Any]]) -> None:
    """An array as ``np.save`` has it, a part at a time; a full disk is an error, which it would not be of a map."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())


# Back --------------------------------------------------------------------------------------------------------------


def take_answers(folder: Path) -> Answered:
    """Keep the answers of a folder in the cache; which attack hands them on follows from what they are.

    Raises:
        UserError: nothing was handed out here, or ``answers.npy`` or ``evaluation.toml`` is not what it should be.
    """
    manifest = _manifest(folder)
    shots, n = manifest.shapes["targets"][:2]
    released = _map(folder / "targets.npy", manifest.again)
    if released.shape != manifest.shapes["targets"] or released.dtype != np.uint8:
        raise UserError(f"{printable(folder)}/targets.npy is not what was handed out", manifest.again)
    given = _map(folder / "answers.npy", "Write it there:  numpy.save('answers.npy', array)")
    name = _plugin_for(given, n, manifest.shapes["gallery"][0], folder)
    evaluation = _evaluation(folder, shots)
    targets, gallery = manifest.places
    answer = np.empty(given.shape, np.uint8 if given.dtype == np.uint8 else np.float64)
    answer[targets if given.ndim != 2 else np.ix_(targets, gallery)] = given
    first = np.empty(released.shape[1:], np.uint8)
    first[targets] = released[0]
    try:
        key = made_elsewhere.keep(Answers(first, answer))
    except OSError as error:
        raise UserError(f"cannot keep the answers: {reason(error)}", "Free some space.") from error
    try:
        entry = Entry(name=name, label=folder.resolve().name, params=evaluation | {"answers": key})
    except ValidationError as error:
        raise UserError(
            f"{printable(folder)}: its name becomes the label: expected lower-case letters, digits and _", "Rename it."
        ) from error
    return Answered(folder, entry, manifest)


def check_entries(answered: Sequence[Answered], entries: Sequence[Entry], running: Sequence[Entry]) -> None:
    """Args:
        entries: attacks of the suite; ``running``: those that were chosen.

    Raises:
        UserError: a folder has the name of an attack, whose records would be mixed with those of the answers, or an
            attack that hands on answers is chosen and has none.
    """
    taken = {*registry.names("attack"), *(entry.label for entry in entries)}
    for one in answered:
        if one.entry.label in taken:
            raise UserError(
                f"{printable(one.folder)}: its name becomes the label, and '{one.entry.label}' is an attack's already",
                "Rename the folder.",
            )
    for entry in running:
        if entry not in [one.entry for one in answered] and not registry.load("attack", entry.name).card.live:
            raise UserError(
                f"attack '{entry.label}' passes on answers that were made elsewhere, and none were given",
                "Give their folder:  ppfr-bench run SUITE --defense DEFENSE --answers FOLDER",
            )


def check_row(answered: Sequence[Answered], plan: Plan, dataset: FaceDataset) -> None:
    """Raises:
    UserError: a plan is not of the one row whose releases were answered.
    """
    for one in answered:
        manifest = one.manifest
        defense = _row(plan, f"The answers are to one row's releases:  --defense {manifest.defense}")
        counts = (len(dataset.targets), len(dataset.gallery))
        wrong = _unlike(manifest, plan, defense)
        if not wrong and (manifest.shapes["targets"][1], manifest.shapes["gallery"][0]) != counts:
            wrong = f"expected {counts[0]} targets and {counts[1]} photos in the gallery"
        if wrong:
            raise UserError(f"{printable(one.folder)} holds answers to other releases: {wrong}", manifest.again)


def check_releases(request: Request, where: Where | None = None) -> None:
    """Compare what was handed out with what the defense releases here.

    Raises:
        UserError: they are not the same, up to what another machine rounds otherwise.
    """
    if not request.answered:
        return
    plan = request.plan
    graph = Graph(plan.setting, plan.ceiling, plan.floor, plan.attacks, plan.attacks)
    (output,) = compute(plan, [graph.release(_row(plan), "evaluation")], where)
    released = output["images"][request.dataset.targets]
    for one in request.answered:
        if not same_releases(released, made_elsewhere.answers(one.entry.params["answers"]).targets):
            raise UserError(
                f"{printable(one.folder)}/targets.npy is not what '{one.manifest.defense}' releases here: "
                "expected a mean difference of at most one grey level",
                one.manifest.again,
            )


def _unlike(manifest: Manifest, plan: Plan, defense: Component) -> str:
    """In what a row differs from the one that was handed out; empty if in nothing."""
    then, now = manifest.spec, Spec.model_validate(defense.spec)
    pairs = [
        ("revision of the data", manifest.revision, plan.setting.dataset_revision),
        ("seed", manifest.seed, plan.seed),
        ("defense", then.name, now.name),
        ("version of the defense", then.version, now.version),
        *((key, then.config.get(key), now.config.get(key)) for key in sorted({*then.config, *now.config})),
    ]
    return next((f"{what} {one}, expected {other}" for what, one, other in pairs if one != other), "")


def _manifest(folder: Path, hint: str = "First:  ppfr-bench data releases SUITE DEFENSE FOLDER") -> Manifest:
    """Raises:
    UserError: there is none, or one of something else, or of more than there can be.
    """
    try:
        path = folder / "manifest.json"
        found = Manifest.model_validate(parse_json(read_text(path, limit=SMALL), printable(path)))
        targets, gallery = found.shapes["targets"], found.shapes["gallery"]
    except (UserError, ValidationError, KeyError) as error:
        raise UserError(f"{printable(folder)} holds no releases that were handed out", hint) from error
    sizes = (*targets, *gallery)
    if (
        (len(targets), len(gallery)) != (5, 4)
        or not all(0 < size <= _MOST for size in sizes)
        or prod(targets) > _LARGEST
    ):
        raise UserError(f"{printable(folder)}/manifest.json has shapes that no releases have", hint)
    return found


def _map(path: Path, hint: str) -> npt.NDArray[Any]:
    """An array of a file that may hold anything, memory-mapped.

    Raises:
        UserError: no regular file, or not one that ``np.save`` writes of numbers.
    """
    shown = printable(path)
    if not is_file(path):
        raise UserError(f"no {path.name} in {printable(path.parent)}", hint)
    try:
        found: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # A header that somebody made up may raise anything.
        raise UserError(f"{shown} is no array that can be read: {str(error)[:200]}", hint) from error
    if found.dtype.kind not in "uif":
        raise UserError(f"{shown}: expected uint8 images or float similarities, got {found.dtype}", hint)
    return found


def _plugin_for(given: npt.NDArray[Any], targets: int, gallery: int, folder: Path) -> str:
    """The attack that hands on what its scorer can read."""
    wrong = {}
    for name in registry.names("attack"):
        card = registry.load("attack", name).card
        if not card.live:
            wrong[name] = registry.load("scorer", registry.current_name("scorer", card.measures))().wrong_answer(
                given, targets, gallery
            )
            if not wrong[name]:
                return name
    raise UserError(
        f"{printable(folder)}/answers.npy: {'; or '.join(wrong.values())}",
        "One answer for each target, in their order.",
    )


def _evaluation(folder: Path, shots: int) -> dict[str, Any]:
    """What ``evaluation.toml`` says, if it is there; all releases were made use of where it does not say."""
    path = folder / "evaluation.toml"
    keys = f"Its keys: {', '.join(Evaluation.model_fields)}."
    said = parse_toml(read_text(path, keys, limit=SMALL), printable(path), keys) if path.exists() else {}
    try:
        found = Evaluation.model_validate({"shots": shots} | said)
    except ValidationError as error:
        raise UserError(f"{printable(path)}: {explain(error, Evaluation)}", keys) from error
    if found.shots > shots:
        raise UserError(f"{printable(path)}: shots is {found.shots}, and {shots} were handed out", keys)
    return found.model_dump(mode="json")
