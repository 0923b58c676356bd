"""Suites: what a wrong file, key, type or override is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppfr_bench.errors import UserError
from ppfr_bench.suites import load_suite, suite_names


def test_shipped_suites_load() -> None:
    assert {"smoke", "quick", "lfw_quick"} <= set(suite_names())
    for name in suite_names():
        assert load_suite(name).name == name


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("protocol.shots=4", ("protocol", "shots"), 4),
        ("drop_duplicates=true", ("dataset", "drop_duplicates"), True),
        ("dataset.targets=7", ("dataset", "params", "targets"), 7),
    ],
)
def test_override(override: str, path: tuple[str, ...], value: object) -> None:
    found: object = load_suite("quick", (override,)).model_dump()
    for part in path:
        found = found[part]  # type: ignore[index]
    assert found == value


def test_a_setting_of_another_data_set_holds() -> None:
    suite = load_suite("quick", ("dataset.targets=7",), "lfw")
    assert (suite.dataset.label, suite.dataset.params) == ("lfw", {"targets": 7})


def test_override_of_a_labelled_plugin() -> None:
    suite = load_suite("quick", ("attack.unet.steps=3", "defense.block_permutation_per_image.block=28"))
    assert next(e for e in suite.attack if e.label == "unet").params["steps"] == 3
    changed = [e.params.get("block") for e in suite.defense if e.name == "block_permutation"]
    assert changed == [None, 28]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("seed=first",), "seed: Input should be a valid integer"),
        (("seed=99999999999999999999999",), "seed: Input should be less than or equal to 9223372036854775807"),
        (("protocol.shotz=2",), "Did you mean 'shots'"),
        (("attack.unett.steps=2",), "Did you mean 'unet'"),
        (("nonsense",), "expected path=value"),
        (("a.b.c.d=1",), "no such setting"),
        (("surrogate=arcface",), "surrogate 'arcface' is not among"),
        (("drop_duplicates=perhaps",), "drop_duplicates: Input should be a valid boolean"),
    ],
)
def test_wrong_override_is_explained(overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_suite("quick", overrides)


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'quick'"):
        load_suite("quik")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = ", "is not TOML"),
        ("title = 'x'", "recognizers: Field required"),
        ("titel = 'x'", "title: Field required|unknown key 'titel'"),
    ],
)
def test_wrong_file_is_explained(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=says):
        load_suite(str(path))


def test_two_defenses_of_one_label(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "title='x'\nrecognizers=['r']\n[dataset]\nname='synthetic'\n"
        "[[defense]]\nname='a'\n[[defense]]\nname='a'\n[[attack]]\nname='v'\n"
    )
    with pytest.raises(UserError, match="two defenses are labelled 'a'"):
        load_suite(str(path))


def test_a_label_cannot_leave_the_results_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "title='x'\nrecognizers=['r']\n[dataset]\nname='synthetic'\n"
        "[[defense]]\nname='a'\nlabel='../../etc'\n[[attack]]\nname='v'\n"
    )
    with pytest.raises(UserError, match="lower-case letters, digits and _"):
        load_suite(str(path))


def test_another_budget_brings_the_attacks_of_that_budget() -> None:
    """A budget that is set chooses from the ensemble, as one that the suite names does."""
    whole, set_here = load_suite("standard"), load_suite("quick", ("budget=standard",))
    assert [entry.label for entry in set_here.attack] == [entry.label for entry in whole.attack]
    assert next(e for e in set_here.attack if e.name == "unet").params == {"steps": 600}
    with pytest.raises(UserError, match="unknown budget"):
        load_suite("quick", ("budget=huge",))
