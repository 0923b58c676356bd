"""The tables of what each part of the attacks is worth are what the study has measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ablation import students
from ablation.ablation import DATA, DEFENSES, MEASURED, Room, _parts_of_the_prior, table
from torch import nn

from ppfr_bench import testing
from ppfr_bench.learning import adaptation, prior_inversion

PAGE = Path(__file__).parents[2] / "docs" / "threat_model.md"
FACES = testing.example_faces()
TINY = {"size": 32, "width": 8, "batch": 4, "warm": 2, "steps": 2}
STUDIED = "stochastic_anonymizer"


class _Teacher(nn.Module):
    """Unit embeddings by weights that can be trained, of the image at eight pixels."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(16, 192, generator=torch.Generator().manual_seed(0))
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = nn.functional.adaptive_avg_pool2d(images - 0.5, 8).flatten(1)
        return nn.functional.normalize(pixels @ self.weights.T, dim=1)


def test_the_page_shows_what_was_measured() -> None:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert list(measured["defenses"]) == list(DEFENSES)
    assert "\n".join(table(measured)) in PAGE.read_text(encoding="utf-8")


def test_the_page_shows_what_was_measured_of_students() -> None:
    """Nothing is said of them as long as nothing is measured."""
    page = PAGE.read_text(encoding="utf-8")
    if not students.MEASURED.is_file():
        assert students.HEADING not in page
        return
    measured = json.loads(students.MEASURED.read_text(encoding="utf-8"))
    assert list(measured["defenses"]) == list(students.DEFENSES)
    assert not any(students.missing(name, found) for name, found in measured["defenses"].items())
    assert students.section(measured) in page


def test_the_prior_is_switched_off_or_has_learnt_nothing() -> None:
    parts = {off: part for off, (part, _) in _parts_of_the_prior().items()}
    shipped = prior_inversion.face_prior.on(torch.device("cpu")).state_dict()
    with parts["training of the prior"]():
        untrained = [prior_inversion.face_prior.on(torch.device("cpu")).state_dict() for _ in range(2)]
    assert shipped.keys() == untrained[0].keys()
    assert all(torch.equal(one, untrained[1][name]) for name, one in untrained[0].items())
    assert not any(torch.equal(one, shipped[name]) for name, one in untrained[0].items())
    view: Any = SimpleNamespace(photographs_of=DATA)
    with parts["the prior"]():
        assert not len(prior_inversion.unseen_by_prior(view, SimpleNamespace(validation=torch.tensor([True]))))  # type: ignore[arg-type]


def test_images_that_are_not_mirrored_come_in_the_same_order() -> None:
    draws, wanted = [FACES.load(range(8)), FACES.load(range(8, 16))], torch.arange(8.0)
    mirrored = 0
    both = [
        make(draws, wanted, 3, torch.Generator().manual_seed(0)) for make in (adaptation._batches, students.unmirrored)
    ]
    for _ in range(5):
        (some, _, theirs), (plain, _, ours) = (next(batches) for batches in both)
        assert torch.equal(theirs, ours)
        for one, other in zip(some, plain, strict=True):
            assert torch.equal(one, other) or torch.equal(one, other.flip(2))
            mirrored += not torch.equal(one, other)
    assert mirrored


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def room() -> Room:
    """Of noise that a student sees through, in place of the defense; the same people on both sides."""
    first = np.arange(0, len(FACES), 4)
    data = SimpleNamespace(
        defender=FACES, attacker=FACES, evaluation=FACES, gallery=first, targets=first + 1, name="example"
    )
    return Room("gaussian_noise", {"sigma": 0.02}, data, testing.TinyRecognizer(), 0)


def _measured(room: Room, found: dict[str, Any], stop_after: int | None = None, **params: Any) -> dict[str, Any]:
    kept: list[str] = []

    def keep() -> None:
        kept.append(json.dumps(found))
        if len(kept) == stop_after:
            raise KeyboardInterrupt

    try:
        students.measure(STUDIED, room, _Teacher(), TINY | params, 0, found, keep)
    except KeyboardInterrupt:
        assert len(kept) == stop_after
    lines: dict[str, Any] = json.loads(kept[-1])
    return lines


def _without_time(found: dict[str, Any]) -> dict[str, Any]:
    return {
        attack: {off: {key: one for key, one in line.items() if key != "seconds"} for off, line in lines.items()}
        for attack, lines in found.items()
    }


def test_whoever_is_stopped_goes_on_to_the_same_lines(_one_thread: None, room: Room) -> None:
    whole = _measured(room, {})
    stopped = _measured(room, {}, stop_after=3)
    assert students.missing(STUDIED, stopped) and not students.missing(STUDIED, whole)
    assert _without_time(_measured(room, stopped)) == _without_time(whole)

    of_one = whole[students.ONE]
    assert of_one["nothing"]["given"] == "seen" and len(whole[students.SEVERAL]) == 3
    given = {off: line["given"] for off, line in of_one.items()}
    assert given.pop("the input that the trial prefers") != given["nothing"] and len(set(given.values())) == 1
    assert all(
        len(line["rank_1"]) == len(line["accuracy"]) == (3 if off == "nothing" else 6) for off, line in of_one.items()
    )

    measured = {
        "setting": {"steps": 2, "seed": 0, "attacker": 16, "targets": 4, "gallery": 4},
        "clear": of_one["nothing"], "defenses": {STUDIED: whole},
    }  # fmt: skip
    lines = students.section(measured).splitlines()
    assert lines[0] == students.HEADING
    assert sum(line.startswith(f"| `{STUDIED}`, ") for line in lines) == sum(len(off) for off in whole.values())


def test_fewer_steps_are_those_of_the_same_training(_one_thread: None, room: Room) -> None:
    """A quarter of so few steps is not worth a cycle."""
    (lines,) = _measured(room, {}, stop_after=1, steps=40).values()
    assert list(lines) == ["nothing", "half of the steps"]
