"""The graph of a plan: each stage is there once, what is the same is shared, and attackers see what they may."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_plans import answer_of, attack_of, keys, plan_of, slot

from ppfr_bench.runner.choice import narrowed
from ppfr_bench.runner.graph import needed
from ppfr_bench.runner.plan import Plan, make_plan
from ppfr_bench.stages.floor import FACES, SIGMAS
from ppfr_bench.stages.spec import Stage
from ppfr_bench.stages.store import FORMAT
from ppfr_bench.suites import Entry, load_suite

ROOT = Path(__file__).parents[2]


class Index:
    """Face images of which there is a list only: whoever asks for more than their number fails."""

    def __init__(self, images: int) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images


def test_a_million_images_take_no_more_memory_to_plan_than_a_thousand() -> None:
    suite = load_suite("standard")  # Every attack, on a few defenses: all of them take a minute to trace.
    some = {"no_defense", "blackout", "stochastic_local", "block_permutation_per_image", "minusface", "partialface_8x"}
    suite = suite.model_copy(update={"defense": tuple(one for one in suite.defense if one.label in some)})
    assert len(suite.defense) == len(some)

    def peak(images: int) -> int:
        faces = Index(images)
        data: Any = SimpleNamespace(
            version=1, revision="r", card=SimpleNamespace(real_people=False), attacker=faces, evaluation=faces
        )
        tracemalloc.start()
        make_plan(suite, data)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # What is loaded once.
    assert peak(1_000_000) < 1.1 * peak(1_000)


@pytest.fixture(scope="module")
def smoke() -> Plan:
    return plan_of("smoke")


@pytest.fixture(scope="module")
def quick() -> Plan:
    return plan_of("quick")


@pytest.fixture(scope="module")
def standard() -> Plan:
    """With every attack of the ensemble, and defenses of each track."""
    return plan_of("standard")


# What there is -------------------------------------------------------------------------------------------------------


def test_the_suites_have_as_many_cells_as_they_are_documented_to_have(smoke: Plan, quick: Plan) -> None:
    assert len(smoke.cells) == len({cell.key for cell in smoke.cells}) == 58
    assert len(quick.cells) == len({cell.key for cell in quick.cells}) == 279
    assert Counter(cell.kind for cell in smoke.cells) == {"canary": 2, "utility": 4 * 2, "attack": 4 * 12}


def test_a_cell_needs_the_stages_that_its_description_lists(smoke: Plan) -> None:
    """``docs/architecture.md`` follows one cell, of the attack unet on images."""
    page = ROOT / "docs" / "architecture.md"
    if not page.is_file():
        pytest.skip("no checkout: no docs")
    text = page.read_text(encoding="utf-8")
    (cell,) = [one for one in smoke.cells if slot(one) == ("stochastic_local", "attack", "unet", "")]
    stages = needed(cell.inputs.values())
    assert f"Our cell needs {len(stages)} stages:" in text
    assert f"–{len(stages)} | `compared` |" in text
    assert f"CACHE/stages/{FORMAT}/" in text


def test_each_stage_is_there_once_and_after_all_that_it_needs(smoke: Plan, quick: Plan, standard: Plan) -> None:
    for plan in (smoke, quick, standard):
        places = {stage.key: at for at, stage in enumerate(plan.stages)}
        assert len(places) == len(plan.stages)
        for stage in plan.stages:
            assert all(places[earlier.key] < places[stage.key] for earlier in (*stage.upstream.values(), *stage.gates))
        asked = {stage.key for cell in plan.cells for stage in cell.inputs.values()}
        reached = {one.key for stage in plan.stages if stage.key in asked for one in stage.before()}
        assert asked <= reached == set(places), "and nothing that no cell needs"


def test_every_release_is_made_once_behind_the_check_of_its_defense(smoke: Plan) -> None:
    """Four defenses: all that is measured and the attacker's own images, and three more shots of the random one."""
    kinds = Counter(stage.kind for stage in smoke.stages)
    assert (kinds["protected"], kinds["check"]) == (4 * 2 + 3, 4)
    for stage in smoke.stages:
        if stage.kind == "protected":
            (gate,) = stage.gates
            assert gate.kind == "check" and gate.spec["defense"] == stage.spec["defense"]
    shots = {stage.spec["defense"]["name"] for stage in smoke.stages if stage.spec.get("split") == "targets"}
    assert shots == {"stochastic_local"}, "a defense that always releases the same has one release of each target"


def test_targets_are_rows_of_the_release_that_utility_is_measured_on(standard: Plan) -> None:
    released = {cell.defense.label: cell.inputs["protected"].upstream.get("released") for cell in standard.cells
                if cell.kind == "utility" and not cell.adapted}  # fmt: skip
    for cell in standard.cells:
        if cell.attack is not None and (found := released.get(cell.defense.label)) is not None:
            assert cell.inputs["attack"].upstream["evaluation"].key == found.key


# What is shared ------------------------------------------------------------------------------------------------------


def materials(stage: Stage) -> dict[str, Stage]:
    return {name: one for name, one in stage.upstream.items() if name.startswith("material ")}


def test_attacks_that_start_from_the_same_share_one_stage(quick: Plan) -> None:
    """Of each defense there is one scene of eyes and one U-Net, whichever of its attacks start from them."""
    unet, averaging, ridge, nearest = (
        materials(answer_of(quick, "pixelate", attack)) for attack in ("unet", "averaging_4", "ridge", "nearest")
    )
    assert ridge.keys() & nearest.keys() and unet.keys() & averaging.keys()
    for some, others in ((ridge, nearest), (unet, averaging), (ridge, unet)):
        for name in some.keys() & others.keys():
            assert some[name].key == others[name].key
    of_pixelate = [stage for stage in quick.stages if stage.kind == "material"
                   and stage.spec.get("defense", {}).get("name") == "pixelate"]  # fmt: skip
    assert Counter(stage.spec["name"] for stage in of_pixelate) == {"undone": 1, "scene": 1, "unet": 1}


def test_materials_that_look_alike_are_one_only_of_one_defense(quick: Plan) -> None:
    """Of a defense whose releases differ, attackers with one release and with four start from other scenes."""
    seen: dict[str, set[str]] = {}
    for stage in quick.stages:
        if stage.kind == "material":
            seen.setdefault(f"{stage.spec.get('defense')} {stage.spec['name']} {stage.spec['spec']}", set()).add(
                stage.key
            )
    assert all(len(same) == 1 for same in seen.values())
    shots = {stage.spec["spec"]["shots"] for stage in quick.stages if stage.kind == "material"
             and stage.spec["name"] == "scene" and stage.spec["defense"]["name"] == "stochastic_local"}  # fmt: skip
    assert shots == {1, 4}


def test_what_is_learnt_of_clear_images_is_learnt_once_for_all_defenses(quick: Plan, standard: Plan) -> None:
    for plan in (quick, standard):
        started = [materials(answer_of(plan, defense.label, "template")) for defense in plan.defenses]
        assert len({stage.key for stages in started for stage in stages.values()}) == 1
        (decoder,) = started[0].values()
        assert not decoder.upstream and not decoder.gates and "defense" not in decoder.spec
        assert decoder.spec["surrogate"] == plan.setting.surrogate


def test_a_student_that_knows_nothing_of_the_defense_is_trained_once_for_all(standard: Plan) -> None:
    labels = [defense.label for defense in standard.defenses]
    attacks = [answer_of(standard, label, "linkage_student_blind") for label in labels]
    trained = [
        {stage.key for stage in materials(attack).values() if stage.spec["name"] in ("unet", "student")}
        for attack in attacks
    ]
    assert len(set.union(*trained)) == 2 == len(trained[0])
    assert len({attack.key for attack in attacks}) == len(labels), "what it is shown is the defense's"


def test_a_student_may_be_given_the_answers_of_the_network_that_is_measured(standard: Plan) -> None:
    """One U-Net serves all attacks on a defense that take as many steps; a student's own took a quarter of a row."""
    for defense in standard.defenses:
        (mine,), (others,) = (
            {stage.key for stage in materials(answer_of(standard, defense.label, attack)).values()
             if stage.spec["name"] == "unet"}
            for attack in ("linkage_student", "unet")
        )  # fmt: skip
        assert mine == others


def test_where_releases_are_alike_attacks_on_several_are_one(standard: Plan) -> None:
    alike = [("averaging_4", "averaging_16", "averaging_64"),
             ("linkage_student", "linkage_student_4", "linkage_student_16", "linkage_student_64")]  # fmt: skip
    for defense, answers in (("no_defense", 1), ("pixelate", 1), ("block_permutation", 1), ("stochastic_local", 0)):
        for labels in alike:
            found = {answer_of(standard, defense, label).key for label in labels}
            assert len(found) == (answers or len(labels)), (defense, labels)
    everything = [cell.key for cell in standard.cells]
    assert len(everything) == len(set(everything)), "each has a record of its own"
    students = ("linkage_student", "linkage_student_256", "linkage_student_blind")
    full = plan_of("full")
    assert len({answer_of(full, "no_defense", label).key for label in students}) == len(students)


def test_an_attack_that_starts_from_reconstructions_takes_those_that_are_measured(quick: Plan) -> None:
    source = answer_of(quick, "pixelate", "linkage_unet").upstream["source unet"]
    assert source.key == answer_of(quick, "pixelate", "unet").key


def test_answers_that_ignore_the_target_are_compared_once_for_all_attacks(quick: Plan) -> None:
    faces = [stage for stage in quick.stages if stage.kind == "mean_faces"]
    compared = {
        stage.key for stage in quick.stages if stage.kind == "compared"
        and stage.upstream["answer"].key == faces[0].key and stage.spec["scorer"] == "reconstruction"
    }  # fmt: skip
    assert len(faces) == 1 and len(compared) == len(SIGMAS) + FACES
    for cell in quick.cells:
        if cell.scorer == "reconstruction":
            assert {cell.inputs[f"mean_face_{row}"].key for row in range(len(SIGMAS) + FACES)} == compared
            mine, other = cell.inputs["answer"], cell.inputs["another"]
            assert mine.upstream == other.upstream and other.spec == mine.spec | {"another": True}


@pytest.mark.parametrize("suite", ["smoke", "quick", "standard"])
def test_whichever_attacks_run_their_keys_are_those_of_the_whole_suite(
    suite: str, request: pytest.FixtureRequest
) -> None:
    """Each attack alone, with those that it starts from, on defenses of every kind."""
    whole, loaded = keys(request.getfixturevalue(suite)), load_suite(suite)
    some = [one.label for one in loaded.defense if one.name in ("stochastic_local", "block_permutation", "minusface")]
    for entry in loaded.attack:
        few = plan_of(narrowed(loaded, some, [entry.label], []), named=loaded.attack)
        assert {label for label in few.attacks} >= {entry.label} and len(few.cells) < len(whole)
        assert {cell: whole[cell] for cell in keys(few)} == keys(few), entry.label


def test_fewer_recognizers_leave_the_keys_of_the_others(smoke: Plan) -> None:
    few = plan_of(load_suite("smoke").model_copy(update={"recognizers": ("faceplugin",)}))
    assert {cell: keys(smoke)[cell] for cell in keys(few)} == keys(few) and len(few.cells) < 58


def test_an_attack_that_joins_the_suite_changes_none_before_it(smoke: Plan) -> None:
    suite = load_suite("smoke")
    more = Entry(name="unet", label="unet_longer", params={"steps": 5})
    joined = keys(plan_of(suite.model_copy(update={"attack": (*suite.attack, more)})))
    assert {cell: joined[cell] for cell in keys(smoke)} == keys(smoke) and len(joined) == 58 + 4


# Who sees what -------------------------------------------------------------------------------------------------------


def test_an_attacker_under_another_key_learns_from_another_release(standard: Plan) -> None:
    """What it is measured on are the targets under their own key all the same."""
    same, other = (answer_of(standard, "block_permutation", label) for label in ("ridge", "ridge_other_key"))
    own, theirs = same.upstream["own"], other.upstream["own"]
    secrets = [stage.spec["defense"]["config"]["secret"] for stage in (own, theirs)]
    assert secrets == [0, 1] and own.key != theirs.key
    assert own.spec | {"defense": 0} == theirs.spec | {"defense": 0}
    assert same.upstream["evaluation"].key == other.upstream["evaluation"].key
    for stage in materials(other).values():
        assert stage.spec["known"]["config"]["secret"] == 1 and stage.upstream["own"].key == theirs.key
    assert not {one.key for one in materials(same).values()} & {one.key for one in materials(other).values()}


def test_where_there_is_no_key_both_learn_from_the_same_release(standard: Plan) -> None:
    same, other = (answer_of(standard, "gaussian_blur", label) for label in ("ridge", "ridge_other_key"))
    assert same.upstream["own"].key == other.upstream["own"].key
    assert {one.key for one in materials(same).values()} == {one.key for one in materials(other).values()}


def test_an_oblivious_attacker_gets_no_release_of_its_own_images(standard: Plan) -> None:
    seen = set()
    for cell in standard.cells:
        if cell.attack is None:
            continue
        mounted = attack_of(cell.attack.spec)
        stage, oblivious = cell.inputs["attack"], mounted.card.knowledge == "oblivious"
        assert ("own" in stage.upstream) != oblivious, cell.title
        assert ("gallery" in stage.upstream) == mounted.card.needs_protected_gallery
        assert ("surrogate" in stage.spec) == mounted.card.needs_surrogate
        if oblivious:
            assert not materials(stage)
            seen.add(cell.attack.name)
    assert {"visual", "linkage", "unlinkability", "random_face"} <= seen


def test_no_stage_but_those_of_scorers_is_told_of_originals(standard: Plan) -> None:
    """An attack starts from releases, from what the attacker's own images gave, and from other attacks' answers."""
    for stage in standard.stages:
        if stage.kind in ("attack", "material", "adapt"):
            assert {one.kind for one in stage.upstream.values()} <= {"protected", "material", "attack"}
        if stage.kind == "protected":
            assert not stage.upstream
