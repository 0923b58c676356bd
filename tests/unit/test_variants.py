"""Labels made of changed parameters, and sweeps: what they are called, what is run, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.errors import UserError
from ppfr_bench.records.record import LABEL
from ppfr_bench.runner import choice
from ppfr_bench.suites import Entry, Suite, load_suite
from ppfr_bench.variants import LONGEST, again, described, origin, read_sweep, variant_label


def defenses(suite: Suite) -> dict[str, dict[str, Any]]:
    return {entry.label: entry.params for entry in suite.defense}


# Labels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"block": 14}, "x_block_14"),
        ({"strength": 0.35}, "x_strength_0p35"),
        ({"sigma": 8.0}, "x_sigma_8"),
        ({"shift": -0.5}, "x_shift_m0p5"),
        ({"rate": 1e-05}, "x_rate_1em05"),
        ({"size": 1e20}, "x_size_1e20"),
        ({"key": "image"}, "x_key_image"),
        ({"live": False, "mask": None}, "x_live_false_mask_none"),
        ({"b": 2, "a": 1}, "x_a_1_b_2"),
        ({"Big": 1}, "x_big_1"),
    ],
)
def test_a_label_says_what_was_changed(changes: dict[str, Any], label: str) -> None:
    assert variant_label("x", changes) == label


def test_what_is_no_word_ends_in_its_digest() -> None:
    (one, two) = (variant_label("x", {"bands": value}) for value in ([1, 2], [12]))
    assert re.fullmatch(r"x_bands_1_2_[0-9a-f]{8}", one) and re.fullmatch(r"x_bands_12_[0-9a-f]{8}", two)
    assert re.fullmatch(r"x_name_a_b_[0-9a-f]{8}", variant_label("x", {"name": "A b!"}))
    assert variant_label("x", {"name": "é"}) != variant_label("x", {"name": "è"})
    long = variant_label("x", {f"parameter_{i}": i for i in range(20)})
    assert len(long) == LONGEST and long != variant_label("x", {f"parameter_{i}": i + (i == 19) for i in range(20)})


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=40),
    st.lists(st.integers(), max_size=4),
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), VALUES, min_size=1, max_size=3))
def test_every_label_is_one_and_tells_what_it_was_made_of(changes: dict[str, Any]) -> None:
    label = variant_label("pixelate", changes)
    assert LABEL.fullmatch(label) and len(label) <= LONGEST and label == variant_label("pixelate", dict(changes))
    found = origin(label, "pixelate", {"zz": 3, **changes})
    if len(label) < LONGEST:
        assert found is not None
        assert variant_label(*found) == label


def test_the_origin_of_a_label() -> None:
    config = {"block": 28, "key": "image", "secret": 0}
    assert origin("block_permutation_block_28", "block_permutation", config) == ("block_permutation", {"block": 28})
    base = "block_permutation_per_image"
    assert origin(f"{base}_block_28", "block_permutation", config) == (base, {"block": 28})
    assert origin("block_permutation_block_28_key_image", "block_permutation", config) == (
        "block_permutation", {"block": 28, "key": "image"},
    )  # fmt: skip
    for label in ("block_permutation", base, "block_permutation_block_14", "soft_block_28"):
        assert origin(label, "block_permutation", config) is None
    assert origin("stochastic_anonymizer_70", "stochastic_anonymizer", {"strength": 0.7}) is None
    assert described({"key": "image", "block": 28, "sigma": 0.5}) == "block = 28, key = image, sigma = 0.5"


@pytest.mark.parametrize(
    ("label", "config", "words"),
    [
        ("pixelate", {"block": 14}, "--defense pixelate"),
        ("pixelate_block_8", {"block": 8}, "--defense pixelate --set defense.pixelate.block=8"),
        ("pixelate_word_true", {"word": "true"}, """--defense pixelate --set 'defense.pixelate.word="true"'"""),
        ("pixelate_word_image", {"word": "image"}, "--defense pixelate --set defense.pixelate.word=image"),
    ],
)
def test_how_a_label_is_run_again(label: str, config: dict[str, Any], words: str) -> None:
    assert again("defense", label, "pixelate", config) == words


# One setting ---------------------------------------------------------------------------------------------------------


def test_a_changed_defense_has_a_label_of_its_own_and_one_that_is_not_changed_keeps_its() -> None:
    suite = load_suite("quick", ("defense.pixelate.block=8", "defense.gaussian_blur.sigma=4"))
    assert {"pixelate_block_8", "gaussian_blur"} <= set(defenses(suite)) and "pixelate" not in defenses(suite)
    assert suite.changed() == {"pixelate_block_8"}
    labels = [entry.label for entry in suite.defense]
    assert labels.index("pixelate_block_8") == [entry.label for entry in load_suite("quick").defense].index("pixelate")


def test_several_settings_of_one_defense_make_one_label() -> None:
    suite = load_suite("quick", ("defense.stochastic_local.gain=0.3", "defense.stochastic_local.warp=0"))
    assert "stochastic_local_gain_0p3_warp_0" in defenses(suite)


def test_a_setting_that_the_suite_lists_goes_by_its_label() -> None:
    suite = load_suite("quick", ("defense.stochastic_anonymizer.strength=0.7",))
    assert [label for label in defenses(suite) if "anonymizer" in label] == [
        "stochastic_anonymizer_70", "stochastic_anonymizer_100",
    ]  # fmt: skip
    chosen = choice.choose("defense", ["stochastic_anonymizer"], suite.defense)
    assert [entry.label for entry in chosen] == ["stochastic_anonymizer_70"]


def test_a_plugin_that_the_suite_does_not_list_joins_it() -> None:
    assert "pixelate" not in defenses(load_suite("smoke"))
    assert defenses(load_suite("smoke", ("defense.pixelate.block=8",)))["pixelate_block_8"] == {"block": 8}
    assert defenses(load_suite("smoke", ("defense.pixelate.block=14",)))["pixelate"] == {"block": 14}


def test_an_attack_that_others_start_from_keeps_its_label() -> None:
    suite = load_suite(
        "smoke", ("attack.unet.steps=3", "attack.averaging_4.steps=3", "attack.linkage_unet.probe=ridge")
    )
    labels = {entry.label: entry.params for entry in suite.attack}
    assert labels["unet"]["steps"] == 3 and labels["averaging_4_steps_3"]["steps"] == 3
    assert "linkage_unet_probe_ridge" in labels and not {"averaging_4", "linkage_unet"} & set(labels)


def test_what_is_chosen_by_its_own_name_is_the_changed_one() -> None:
    suite = load_suite("quick", ("defense.stochastic_anonymizer_70.strength=0.6",))
    for name in ("stochastic_anonymizer_70", "stochastic_anonymizer_70_strength_0p6"):
        (entry,) = choice.choose("defense", [name], suite.defense)
        assert entry.params == {"strength": 0.6}


def test_a_setting_without_effect_is_refused() -> None:
    suite = load_suite("quick", ("defense.pixelate.block=8",))
    with pytest.raises(UserError, match="a setting of defense 'pixelate' has no effect") as error:
        choice.narrowed(suite, ["gaussian_blur"], [], [])
    assert "--defense pixelate" in error.value.hint
    assert "pixelate_block_8" in defenses(choice.narrowed(suite, ["pixelate"], [], []))
    suite = load_suite("quick", ("attack.averaging_4.steps=3",))
    with pytest.raises(UserError, match="a setting of attack 'averaging_4' has no effect"):
        choice.narrowed(suite, [], ["visual"], [])


# Sweeps --------------------------------------------------------------------------------------------------------------


def test_a_sweep_runs_each_value_beside_the_rest_and_the_own_one_only_if_it_is_named() -> None:
    before = set(defenses(load_suite("quick")))
    suite = load_suite("quick", (), None, ("defense.pixelate.block=4,8",))
    assert set(defenses(suite)) == before - {"pixelate"} | {"pixelate_block_4", "pixelate_block_8"}
    suite = load_suite("quick", (), None, ("defense.pixelate.block=4,14",))
    assert set(defenses(suite)) == before | {"pixelate_block_4"}


@pytest.mark.parametrize(
    ("sweep", "values"),
    [
        ("defense.x.y=4,8,14", (4, 8, 14)),
        ("defense.x.y=0.35, 0.7", (0.35, 0.7)),
        ("attack.x.y=true,false", (True, False)),
        ("defense.x.y=image,session", ("image", "session")),
        ('defense.x.y="a,b","c"', ("a,b", "c")),
        ("defense.x.y=[1,2],[3]", ([1, 2], [3])),
        ("defense.x.y=4", (4,)),
    ],
)
def test_values_are_toml_or_bare_words(sweep: str, values: tuple[Any, ...]) -> None:
    found = read_sweep(sweep)
    assert (found.label, found.key, found.values) == ("x", "y", values)


def test_sweeps_go_together_with_settings_choices_and_each_other() -> None:
    sweeps = ("defense.stochastic_local.gain=0.1,0.16", "defense.stochastic_local.warp=0,1")
    suite = load_suite("quick", (), None, sweeps)
    assert [label for label in defenses(suite) if label.startswith("stochastic_local")] == [
        "stochastic_local_gain_0p1", "stochastic_local", "stochastic_local_warp_0",
    ]  # fmt: skip
    suite = load_suite("quick", ("defense.stochastic_local.warp=0",), None, sweeps[:1])
    assert [label for label in defenses(suite) if label.startswith("stochastic_local")] == [
        "stochastic_local_gain_0p1_warp_0", "stochastic_local_warp_0",
    ]  # fmt: skip
    swept = ["defense.pixelate.block=4,8"]
    suite = load_suite("smoke", (), None, tuple(swept))
    for chosen in (["pixelate"], ["no_defense"]):
        labels = set(defenses(choice.narrowed(suite, chosen, [], swept)))
        assert labels == {"pixelate_block_4", "pixelate_block_8"} | (set(chosen) - {"pixelate"})


def test_a_sweep_over_what_the_suite_lists_goes_by_its_labels() -> None:
    sweeps = ["defense.stochastic_anonymizer.strength=0.1,0.35,0.7"]
    suite = load_suite("quick", (), None, tuple(sweeps))
    chosen = choice.narrowed(suite, ["stochastic_anonymizer"], [], sweeps)
    assert set(defenses(chosen)) == {
        "stochastic_anonymizer_strength_0p1", "stochastic_anonymizer", "stochastic_anonymizer_70",
    }  # fmt: skip


def test_attacks_are_swept_unless_others_start_from_them() -> None:
    suite = load_suite("quick", (), None, ("attack.averaging_4.releases=2,4",))
    assert {"averaging_4", "averaging_4_releases_2"} <= {entry.label for entry in suite.attack}
    with pytest.raises(UserError, match="'linkage_unet' starts from 'unet'"):
        load_suite("quick", (), None, ("attack.unet.steps=3,4",))


@pytest.mark.parametrize(
    ("sweeps", "says"),
    [
        (["defense.pixelat.block=4"], "no defense 'pixelat' in this suite\nDid you mean 'pixelate'"),
        (["attack.unett.steps=4"], "no attack 'unett' in this suite\nDid you mean 'unet'"),
        (["defense.pixelate.blok=4"], "unknown key 'blok'. Did you mean 'block'"),
        (["defense.pixelate.block=4,many"], r"block: .*got 'many'"),
        (["defense.pixelate.block=4,1"], r"block: .*got 1\)"),
        (["defense.pixelate.block=4,4"], "block = 4 is given twice"),
        (["defense.gaussian_blur.sigma=8,8.0"], "sigma = 8.0 is given twice"),
        (["defense.pixelate.block=4", "defense.pixelate.block=8"], "block is set twice"),
        (["defense.pixelate.block="], "no value"),
        (["defense.pixelate.block=4,,8"], "an empty value"),
        (["defense.pixelate=4"], "expected defense.LABEL.KEY=VALUE,VALUE"),
        (["protocol.shots=1,2"], "expected defense.LABEL.KEY=VALUE,VALUE"),
        (["defense.pixelate.block"], "expected defense.LABEL.KEY=VALUE,VALUE"),
    ],
)
def test_a_wrong_sweep_is_explained(sweeps: list[str], says: str) -> None:
    with pytest.raises(UserError) as error:
        load_suite("quick", (), None, tuple(sweeps))
    assert re.search(says, str(error.value)), str(error.value)
    assert f"--sweep {sweeps[-1]}" in str(error.value)


def test_a_value_that_is_set_and_swept_is_refused() -> None:
    with pytest.raises(UserError, match="block is set twice"):
        load_suite("quick", ("defense.pixelate.block=6",), None, ("defense.pixelate.block=4,8",))


def test_a_dry_run_shows_the_cells_of_a_sweep(tmp_path: Path) -> None:
    words = ["run", "smoke", "--defense", "pixelate", "--sweep", "defense.pixelate.block=4,8", "--attack", "visual",
             "--recognizer", "faceplugin", "--results", str(tmp_path / "r"), "--dry-run", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    titles = [cell["cell"] for cell in json.loads(done.stdout)["cells"]]
    assert titles == [
        "no_defense / canary / faceplugin",
        "pixelate_block_4 / utility / faceplugin", "pixelate_block_4 / visual",
        "pixelate_block_8 / utility / faceplugin", "pixelate_block_8 / visual",
    ]  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_every_shipped_defense_can_be_labelled_by_each_of_its_parameters() -> None:
    """A label longer than a submission takes, or with a letter that none has, would be refused late."""
    for name in registry.names("defense"):
        for key, value in registry.build("defense", name, {}).config.model_dump(mode="json").items():
            label = variant_label(name, {key: value})
            assert LABEL.fullmatch(label) and len(label) <= LONGEST
            assert origin(label, name, {key: value}) == (name, {key: value})


def test_two_entries_never_share_a_label() -> None:
    entries = tuple(Entry(name="precomputed", label="mine", params={"images": digit * 64}) for digit in "ab")
    with pytest.raises(UserError, match="two defenses would be labelled 'mine', and their records mixed"):
        choice.narrowed(load_suite("smoke"), ["identity"], [], [], entries)
