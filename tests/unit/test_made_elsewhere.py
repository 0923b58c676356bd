"""An attack made elsewhere is given what an attacker sees, and its answers count for the row that they answer."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppfr_bench import registry, testing
from ppfr_bench.api import DatasetCard, FaceDataset, Pairs, Unavailable, UserError
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.datasets.faces import subset
from ppfr_bench.leaderboard import pages
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.table import build
from ppfr_bench.learning import made_elsewhere
from ppfr_bench.learning.made_elsewhere import Answers, same_releases
from ppfr_bench.records.plan_file import PlannedAttack
from ppfr_bench.records.record import Component, Record
from ppfr_bench.runner.elsewhere import Answered, check_releases, hand_out, take_answers
from ppfr_bench.runner.execution import Where
from ppfr_bench.runner.request import Asked, Request, resolve

FACES = testing.example_faces()  # Four people, four photos each.
HERE = Where("inline")
N, GALLERY = 6, 2
ELSEWHERE = [name for name in registry.names("attack") if not registry.load("attack", name).card.live]


class Halves(FaceDataset):
    """Two people are the attacker's, and two are measured."""

    version = 1
    card = DatasetCard(title="Halves", reference="test", licence="MIT", real_people=False)
    name, revision = "halves", "halves-1"

    def __init__(self) -> None:
        self.defender = self.attacker = subset(FACES, range(8))
        self.evaluation = subset(FACES, range(8, 16))
        left, right = np.triu_indices(8, 1)
        who = self.evaluation.identities
        self.pairs = Pairs(left, right, who[left] == who[right], np.zeros(len(left), np.int64))
        self.gallery, self.targets = np.array([0, 4]), np.array([1, 2, 3, 5, 6, 7])
        self.canary = self.evaluation, self.pairs


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path / "cache"))
    yield


def asked(defense: str = "pixelate", data: FaceDataset | None = None, **more: Any) -> Request:
    return resolve("smoke", Asked(defenses=(defense,), data=data or Halves(), **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is handed out of ``pixelate``, answered by the release itself."""
    made_here = tmp_path / "my_attack"
    hand_out(asked(), made_here, HERE)
    answer(made_here, load(made_here, "targets")[0])
    return made_here


def load(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def answer(folder: Path, array: Any) -> None:
    np.save(folder / "answers.npy", array)


# Out ---------------------------------------------------------------------------------------------------------------


def test_an_attacker_is_given_releases_and_its_own_images_and_no_original(folder: Path) -> None:
    data, arrays = Halves(), {path.stem: load(folder, path.stem) for path in folder.glob("*.npy")}
    assert arrays["targets"].shape == (1, N, 3, 112, 112) and arrays["gallery"].shape == (GALLERY, 3, 112, 112)
    assert np.array_equal(arrays["own_clear"], data.attacker.load(range(8)))
    assert np.array_equal(arrays["own_people"], data.attacker.identities)
    assert arrays["own_released"].shape == (8, 3, 112, 112) and not np.array_equal(
        arrays["own_released"], arrays["own_clear"]
    )
    handed = {image.tobytes() for name in ("targets", "own_clear", "own_released", "gallery")
              for image in arrays[name].reshape(-1, 3, 112, 112)}  # fmt: skip
    assert not handed & {image.tobytes() for image in data.evaluation.load(data.targets)}
    assert {image.tobytes() for image in arrays["gallery"]} == {
        image.tobytes() for image in data.evaluation.load(data.gallery)
    }
    text = (folder / "manifest.json").read_text()
    assert not any(name in text for name in data.evaluation.names)


def test_places_tell_nothing_and_releases_of_one_target_stand_at_one_place(tmp_path: Path) -> None:
    """In the data set targets and gallery are in the order of the people."""
    manifest = hand_out(asked("gaussian_noise"), tmp_path / "a", HERE)
    targets, gallery = manifest.places
    assert sorted(targets) == [*range(N)] != targets.tolist() and sorted(gallery) == [*range(GALLERY)]
    shots = load(tmp_path / "a", "targets").astype(float)
    assert len(shots) == 4, "as many as averaging_4 holds"
    blocks = shots.reshape(4, N, 3, 14, 8, 14, 8).mean(axis=(4, 6))  # Noise hides people in single pixels.
    apart = np.abs(blocks[0][:, None] - blocks[1][None]).mean(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(N)).all() and not np.array_equal(shots[0], shots[1])


def test_it_is_handed_out_again_and_another_row_beside_it_is_not(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    hand_out(asked(), folder, HERE)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="holds other releases: defense pixelate, expected gaussian_blur"):
        hand_out(asked("gaussian_blur"), folder, HERE)
    with pytest.raises(UserError, match="holds other releases: block 14, expected 10"):
        hand_out(asked(settings=("defense.pixelate.block=10",)), folder, HERE)
    with pytest.raises(UserError, match="holds other releases: seed 0, expected 3"):
        hand_out(asked(seed=3), folder, HERE)
    (tmp_path / "precomputed").mkdir()
    (tmp_path / "precomputed" / "manifest.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="holds no releases that were handed out\nChoose a new folder"):
        hand_out(asked(), tmp_path / "precomputed", HERE)


def test_a_control_several_rows_and_a_place_in_the_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a control"):
        hand_out(asked("no_defense"), tmp_path / "a", HERE)
    with pytest.raises(UserError, match="expected one defense, got 4"):
        hand_out(resolve("smoke", Asked(data=Halves())), tmp_path / "a", HERE)
    data: Any = Halves()
    data.root = tmp_path / "faces"
    with pytest.raises(UserError, match="lies in the data set"):
        hand_out(asked(data=data), tmp_path / "faces" / "a", HERE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        hand_out(asked(), tmp_path / "file", HERE)
    assert not (tmp_path / "a").exists()


# Back --------------------------------------------------------------------------------------------------------------


def view_of(taken: Answered, defense: str) -> tuple[Any, Any]:
    """The attack that hands on what was taken, and what it is shown of a defense."""
    attack = registry.build("attack", taken.entry.name, taken.entry.params)
    data = Halves()
    clear, gallery = data.evaluation.load(data.targets), data.evaluation.load(data.gallery)
    return attack, testing.attacker_view(attack, registry.build("defense", defense, {}), data.attacker, clear, gallery)


def test_answers_are_handed_on_where_their_releases_are_shown_in_the_order_of_the_data_set(folder: Path) -> None:
    taken = take_answers(folder)
    attack, view = view_of(taken, "pixelate")
    answer(folder, 255 - load(folder, "targets")[0])
    other, _ = view_of(take_answers(folder), "pixelate")
    assert np.array_equal(attack.run(view), view.targets[0])
    assert np.array_equal(other.run(view), 255 - view.targets[0]) and other.log["shots"] == 1
    _, elsewhere = view_of(taken, "gaussian_blur")
    assert np.array_equal(other.run(elsewhere), elsewhere.targets[0]), "the release as it is"


def test_similarities_are_in_the_order_of_targets_and_gallery(folder: Path) -> None:
    scores = np.arange(N * GALLERY, dtype=np.float32).reshape(N, GALLERY)
    answer(folder, scores)
    taken = take_answers(folder)
    attack, view = view_of(taken, "pixelate")
    targets, gallery = taken.manifest.places
    found = attack.run(view)
    assert found.dtype == np.float64 and np.array_equal(found[np.ix_(targets, gallery)], scores)
    _, elsewhere = view_of(taken, "no_defense")
    found = attack.run(elsewhere)
    assert found.shape == (N, GALLERY) and found.argmax(axis=1).tolist() == [0] * 3 + [1] * 3, "by the surrogate"


def test_what_is_said_of_them_is_read(folder: Path) -> None:
    assert take_answers(folder).entry.params | {"answers": ""} == {
        "title": "", "reference": "", "knowledge": "aware", "shots": 1, "artefact": "", "answers": "",
    }  # fmt: skip
    (folder / "evaluation.toml").write_text('title = "Diffusion"\nknowledge = "informed"\nshots = 1\n')
    attack, view = view_of(take_answers(folder), "pixelate")
    assert attack.knowledge == "informed" and attack.config.title == "Diffusion"
    assert attack.card.knowledge == view.knowledge == "oblivious", "it needs no more to hand on answers"


def test_the_digest_is_that_of_the_content(folder: Path) -> None:
    key = take_answers(folder).entry.params["answers"]
    assert take_answers(folder).entry.params["answers"] == key
    given = load(folder, "answers")
    given[0, 0, 0, 0] ^= 1
    answer(folder, given)
    assert take_answers(folder).entry.params["answers"] != key


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


BAD: dict[str, tuple[Any, str]] = {
    "none": (None, "no answers.npy in"),
    "text": (b"my answers", "is no array that can be read"),
    "empty": (b"", "is no array that can be read"),
    "objects": (np.array([{}], dtype=object), "is no array that can be read"),
    "huge": (header("(1000000000000, 3, 112, 112)"), "is no array that can be read"),
    "beyond any integer": (header(f"({10**40}, 3)"), "is no array that can be read"),
    "negative": (header("(-6, 3, 112, 112)"), "is no array that can be read|expected uint8"),
    "nested": (header("(" * 9000), "is no array that can be read"),
    "cut off": (header("(6, 3, 112, 112)") + b"\0" * 100, "is no array that can be read"),
    "a call": (header("__import__('os').getpid()"), "is no array that can be read"),
    "structure": (np.zeros(6, dtype=[("a", "u1")]), "expected uint8 images or float similarities"),
    "strings": (np.array(["a"] * 6), "expected uint8 images or float similarities"),
    "complex": (np.zeros((6, 2), complex), "expected uint8 images or float similarities"),
    "one too few": (np.zeros((5, 3, 112, 112), np.uint8), r"expected uint8 \(6, 3, 112, 112\), got uint8 \(5, 3"),
    "channels last": (np.zeros((6, 112, 112, 3), np.uint8), r"expected uint8 \(6, 3, 112, 112\)"),
    "floats": (np.zeros((6, 3, 112, 112), np.float32), r"expected uint8 \(6, 3, 112, 112\), got float32"),
    "other gallery": (np.zeros((6, 3)), r"or expected float \(6, 2\), got float64 \(6, 3\)"),
    "not a number": (np.full((6, 2), np.nan), "NaN or infinite"),
    "infinite": (np.full((6, 2), np.inf, np.float16), "NaN or infinite"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_answer_is_named(what: str, folder: Path) -> None:
    content, message = BAD[what]
    path = folder / "answers.npy"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        take_answers(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('titel = "x"', "unknown key 'titel'. Did you mean 'title'"),
        ('knowledge = "all"', "knowledge: Input should be 'oblivious', 'aware' or 'informed'"),
        ("shots = 2", "shots is 2, and 1 were handed out"),
        ("shots = 0", "shots"),
        ('artefact = "javascript:alert(1)"', "artefact"),
        (f'title = "{"x" * 200}"', "title"),
        ("title", "is not TOML"),
    ],
)
def test_what_is_wrong_with_what_is_said_is_named(text: str, message: str, folder: Path) -> None:
    (folder / "evaluation.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        take_answers(folder)


def change(folder: Path, function: Callable[[Any], None]) -> None:
    path = folder / "manifest.json"
    found = json.loads(path.read_text())
    function(found)
    path.write_text(json.dumps(found))


MANIFESTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "seed": (lambda found: found.update(seed=1), "seed 1, expected 0"),
    "revision": (lambda found: found.update(revision="r"), "revision of the data r, expected halves-1"),
    "parameter": (lambda found: found["spec"]["config"].update(block=10), "block 10, expected 14"),
    "version": (lambda found: found["spec"].update(version=0), "version of the defense 0, expected"),
    "defense": (lambda found: found["spec"].update(name="median"), "defense median, expected pixelate"),
    "gallery": (lambda found: found["shapes"].update(gallery=[3, 3, 112, 112]), "6 targets and 2 photos"),
    "shapes": (lambda found: found["shapes"].update(targets=[1, 7, 3, 112, 112]), "is not what was handed out"),
    "large": (lambda found: found["shapes"].update(gallery=[1 << 40, 3, 112, 112]), "shapes that no releases have"),
    "nothing": (lambda found: found["shapes"].clear(), "holds no releases that were handed out"),
    "another key": (lambda found: found.update(more=1), "holds no releases that were handed out"),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_answers_to_another_row_are_refused(what: str, folder: Path) -> None:
    function, message = MANIFESTS[what]
    change(folder, function)
    with pytest.raises(UserError, match=message):
        asked(answers=(folder,))


def test_a_row_its_answers_and_a_label_of_their_own_are_asked_for(folder: Path) -> None:
    request = asked(answers=(folder,))
    assert [*request.plan.attacks] == ["my_attack"], "no other attack is run again"
    assert [*asked(answers=(folder,), attacks=("visual",)).plan.attacks] == ["visual", "my_attack"]
    with pytest.raises(UserError, match=r"expected one defense, got 4.*\n.*--defense pixelate"):
        resolve("smoke", Asked(data=Halves(), answers=(folder,)))
    for name, message in (("visual", "is an attack's already"), ("Sharp 2", "lower-case letters")):
        other = folder.rename(folder.with_name(name))
        with pytest.raises(UserError, match=message):
            asked(answers=(other,))
        other.rename(folder)
    for name in ELSEWHERE:
        with pytest.raises(UserError, match=r"none were given\n.*--answers FOLDER"):
            asked(attacks=(name,))
    with pytest.raises(UserError, match=r"holds no releases that were handed out\n.*data releases"):
        asked(answers=(folder.parent,))


def test_releases_are_compared_with_what_is_released_here(folder: Path) -> None:
    check_releases(asked(answers=(folder,)), HERE)
    handed = load(folder, "targets")
    np.save(folder / "targets.npy", np.where(handed > 127, handed - 1, handed + 1))
    check_releases(asked(answers=(folder,)), HERE)
    for other in (np.roll(handed, 1, axis=1), handed[:, ::-1], handed // 2, np.zeros_like(handed), handed ^ 2):
        np.save(folder / "targets.npy", other)
        with pytest.raises(UserError, match=r"targets\.npy is not what 'pixelate' releases here"):
            check_releases(asked(answers=(folder,)), HERE)


@given(seed=st.integers(0, 1000), levels=st.integers(0, 40), contrast=st.integers(0, 255))
def test_releases_are_the_same_up_to_a_grey_level_and_a_tenth_of_what_they_differ_by(
    seed: int, levels: int, contrast: int
) -> None:
    random = np.random.default_rng(seed)
    answered = random.integers(0, contrast + 1, (5, 3, 8, 8)).astype(np.uint8)
    moved = np.clip(answered + random.integers(-levels, levels + 1, answered.shape), 0, 255).astype(np.uint8)
    off = np.abs(moved.astype(float) - answered).mean()
    apart = np.abs(answered.astype(float) - np.roll(answered, 1, axis=0)).mean()
    assert same_releases(moved, answered) == (off <= min(1, apart / 10))
    assert same_releases(answered, answered) and not same_releases(answered[:4], answered)


def test_a_nearly_black_release_is_not_taken_for_the_black_one() -> None:
    """Or an attack that reads it would be its own floor."""
    faint = np.random.default_rng(0).integers(0, 2, (6, 3, 112, 112)).astype(np.uint8)
    black = np.zeros_like(faint)
    assert not same_releases(black, faint) and same_releases(black, black) and not same_releases(faint, black)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_without_answers_it_says_what_to_type(name: str) -> None:
    attack = registry.build("attack", name, {})
    defense = registry.build("defense", "pixelate", {})
    view = testing.attacker_view(attack, defense, FACES, FACES.load(range(4)), FACES.load(range(4)))
    with pytest.raises(Unavailable, match="--answers FOLDER"):
        attack.run(view)
    assert check_plugin("attack", name) == []


def test_each_scorer_of_answers_has_one_attack_that_hands_them_on() -> None:
    measured = [registry.load("attack", name).card.measures for name in ELSEWHERE]
    assert sorted(measured) == ["linkage", "reconstruction"]


def test_answers_are_whole_or_absent() -> None:
    key = made_elsewhere.keep(Answers(np.zeros((1, 3, 2, 2), np.uint8), np.ones((1, 1))))
    targets, answer_file = made_elsewhere._paths(key)
    assert sorted(path.name for path in targets.parent.iterdir()) == sorted([targets.name, answer_file.name])
    answer_file.unlink()
    with pytest.raises(Unavailable):
        made_elsewhere.answers(key)


# On the board --------------------------------------------------------------------------------------------------------


def elsewhere(defense: str, leaked: float, **config: Any) -> Record:
    return made.appearance(
        defense, "sharp_guess", {"lpips": leaked}, draws={"lpips": made.around(leaked, 0.01, 5)},
        attack_name="rebuilt_elsewhere", attack_config={"answers": defense} | config,
    )  # fmt: skip


def board(*more: Record) -> dict[str, Row]:
    records = [*made.simple("a", 0.8, 0.2), *made.simple("b", 0.7, 0.3, seed=1), *more]
    return {row.defense: row for row in build(records, made.plan_of(records))}


def test_answers_count_for_their_row_and_for_no_other() -> None:
    without, found = board(), board(elsewhere("a", 0.9))
    assert all(row.complete and row.rank is not None for row in found.values())
    assert (found["a"].measured, found["b"].measured) == (3, 2) and found["b"].cells == without["b"].cells
    assert found["a"].privacies["appearance"].attack == "sharp_guess"
    assert found["a"].privacies["appearance"].estimate.value == pytest.approx(0.1)
    assert (without["a"].rank, found["a"].rank) == (1, 2)
    assert found["b"].privacies == without["b"].privacies


def test_an_attack_may_have_answered_two_rows() -> None:
    found = board(elsewhere("a", 0.9), elsewhere("b", 0.6, title="Again"))
    assert {row.measured for row in found.values()} == {3} and all(row.complete for row in found.values())


def test_answers_of_which_there_is_no_number_leave_their_row_incomplete() -> None:
    records = [*made.simple("a", 0.8, 0.2), *made.simple("b", 0.7, 0.3, seed=1), elsewhere("a", 0.9)]
    rows = {row.defense: row for row in build(records[:-1], made.plan_of(records))}
    assert not rows["a"].complete and rows["b"].complete


def test_pages_show_whose_answers_they_are(tmp_path: Path) -> None:
    records = [
        *made.simple("a", 0.8, 0.2), *made.simple("b", 0.7, 0.3, seed=1),
        elsewhere("a", 0.9, title="Sharp <guess>", reference="Somebody, 2026", artefact="https://example.org/a.zip"),
    ]  # fmt: skip
    results = made.write(tmp_path / "results", records)
    plan = json.loads((results / "quick" / "plan.json").read_text())
    attacks = plan["tables"]["synthetic"]["attacks"]
    assert attacks["sharp_guess"]["live"] is False and "live" not in attacks["unet"]
    pages.publish(results, "quick", tmp_path)
    page = (tmp_path / "quick" / "attacks" / "sharp_guess.html").read_text()
    for text in ("Sharp &lt;guess&gt;", "Somebody, 2026", "https://example.org/a.zip", "made elsewhere"):
        assert text in page, text
    assert "ppfr-bench run quick --defense a --answers FOLDER --rerun all" in page
    assert "made elsewhere" not in (tmp_path / "quick" / "attacks" / "unet.html").read_text()
    assert "another defense&#39;s releases" in (tmp_path / "quick" / "leaderboard.html").read_text()


def test_a_plan_without_them_is_written_as_before() -> None:
    planned = PlannedAttack(component=Component(label="unet", name="unet", version=1), scorer="reconstruction")
    assert "live" not in planned.model_dump(mode="json") and "live" not in planned.model_dump_json()
    assert PlannedAttack.model_validate(planned.model_dump(mode="json")) == planned
    other = planned.model_copy(update={"live": False})
    assert PlannedAttack.model_validate_json(other.model_dump_json()) == other
