"""The graph of a plan: a key depends on all that determines an output and on nothing else, and work is shared."""

from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ppfr_bench import registry
from ppfr_bench.api import Attack
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import psnr
from ppfr_bench.runner.choice import narrowed
from ppfr_bench.runner.graph import needed
from ppfr_bench.runner.plan import Cell, Plan, make_plan
from ppfr_bench.stages.floor import FACES, SIGMAS
from ppfr_bench.stages.spec import Stage
from ppfr_bench.stages.store import FORMAT
from ppfr_bench.suites import Entry, Suite, load_suite

RECONSTRUCTIONS = ("reconstruction", "control", "template")  # scorers that compare images
ROOT = Path(__file__).parents[2]


def plan_of(suite: str | Suite, *overrides: str, revision: str = "r", **options: Any) -> Plan:
    """The plan of a suite on data of which only the revision is known."""
    loaded = load_suite(suite, overrides) if isinstance(suite, str) else suite
    data: Any = SimpleNamespace(version=1, revision=revision, card=SimpleNamespace(real_people=False))
    return make_plan(loaded, data, **options)


Slot = tuple[str, str, str, str]


def slot(cell: Cell) -> Slot:
    parts = (cell.attack.label if cell.attack else "", cell.recognizer.label if cell.recognizer else "")
    return cell.defense.label, cell.kind, *parts


def keys(plan: Plan) -> dict[Slot, str]:
    """The key of each cell."""
    found = {slot(cell): cell.key for cell in plan.cells}
    assert len(found) == len(plan.cells)
    return found


def changed(before: Plan, now: Plan) -> set[Slot]:
    """The cells whose keys are others; both plans have the same cells."""
    then, new = keys(before), keys(now)
    assert then.keys() == new.keys()
    return {cell for cell in then if then[cell] != new[cell]}


def new_stages(before: Plan, now: Plan) -> set[str]:
    """Kinds of the stages that the first plan does not have."""
    known = {stage.key for stage in before.stages}
    return {stage.kind for stage in now.stages if stage.key not in known}


def answer_of(plan: Plan, defense: str, attack: str) -> Stage:
    """The stage in which an attack answers."""
    found = [cell for cell in plan.cells if (cell.defense.label, slot(cell)[2]) == (defense, attack)]
    return found[0].inputs["attack"]


def attack_of(spec: Mapping[str, Any]) -> Attack:
    """The attack of a stage's spec."""
    found: Attack = registry.build("attack", spec["name"], spec["config"])
    return found


class Index:
    """Face images of which there is a list only: whoever asks for more than their number fails."""

    def __init__(self, images: int) -> None:
        self.images = images

    def __len__(self) -> int:
        return self.images


def test_a_million_images_take_no_more_memory_to_plan_than_a_thousand() -> None:
    def peak(images: int) -> int:
        faces = Index(images)
        data: Any = SimpleNamespace(
            version=1, revision="r", card=SimpleNamespace(real_people=False), attacker=faces, evaluation=faces
        )
        tracemalloc.start()
        make_plan(load_suite("standard"), data)
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
    assert len(quick.cells) == len({cell.key for cell in quick.cells}) == 256
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


# What a key depends on -----------------------------------------------------------------------------------------------


def relabelled(suite: Suite) -> Suite:
    """All labels that may be chosen are others: of the suite, the data set, the defenses and the attacks."""
    starts_from = {source for entry in suite.attack
                   for source in registry.build("attack", entry.name, entry.params).sources}  # fmt: skip
    names: Mapping[str, Any] = {
        "name": "mine", "title": "Mine", "description": "mine",
        "dataset": suite.dataset.model_copy(update={"label": "faces"}),
        "defense": tuple(one.model_copy(update={"label": f"my_{one.label}"}) for one in suite.defense),
        "attack": tuple(one if one.label in starts_from else one.model_copy(update={"label": f"my_{one.label}"})
                        for one in suite.attack),
    }  # fmt: skip
    return suite.model_copy(update=names)


def test_no_label_is_part_of_a_key(quick: Plan) -> None:
    mine = plan_of(relabelled(load_suite("quick")))
    assert [cell.key for cell in mine.cells] == [cell.key for cell in quick.cells]
    assert [stage.key for stage in mine.stages] == [stage.key for stage in quick.stages]
    labels = ({cell.defense.label for cell in plan.cells if cell.kind != "canary"} for plan in (mine, quick))
    assert not set.intersection(*labels)


@pytest.mark.parametrize(
    "overrides",
    [("protocol.batch=7",), ("protocol.timeout=9",), ("protocol.samples=0",), ("dataset.root=/elsewhere",),
     ("dataset.train_root=/elsewhere",), ("protocol.adaptor={warm=3,steps=2}",)],
)  # fmt: skip
def test_what_determines_no_number_of_the_suite_is_part_of_no_key(overrides: tuple[str, ...], smoke: Plan) -> None:
    """No recognizer is fine-tuned in smoke."""
    other = plan_of("smoke", *overrides)
    assert not changed(smoke, other) and not new_stages(smoke, other)


def test_files_of_plugins_are_no_part_of_a_key(smoke: Plan, tmp_path: Path) -> None:
    assert not changed(smoke, plan_of("smoke", plugins=(tmp_path / "mine.py",)))


def test_the_class_of_a_device_is_part_of_every_key_and_its_number_of_none(smoke: Plan) -> None:
    first, second, other = (plan_of("smoke", device=name) for name in ("cuda:0", "cuda:1", "mps"))
    assert keys(first) == keys(second) == keys(plan_of("smoke", device="cuda"))
    assert [stage.key for stage in first.stages] == [stage.key for stage in second.stages]
    for one, two in ((smoke, first), (smoke, other), (first, other)):
        assert len(changed(one, two)) == 58
        assert not {stage.key for stage in one.stages} & {stage.key for stage in two.stages}


def test_another_revision_or_seed_measures_everything_anew(smoke: Plan) -> None:
    for other in (plan_of("smoke", revision="s"), plan_of("smoke", "seed=1")):
        assert len(changed(smoke, other)) == 58
    seed = plan_of("smoke", "seed=1")
    assert new_stages(smoke, seed) == {"check", "protected", "embed", "material", "attack", "compared"}
    clear = {stage.key for stage in smoke.stages if stage.kind == "embed" and "of" in stage.spec}
    assert clear <= {stage.key for stage in seed.stages}, "embeddings of clear images hold no randomness"


def test_more_draws_score_every_cell_anew_and_compute_no_stage(smoke: Plan) -> None:
    other = plan_of("smoke", "protocol.replicates=60")
    assert len(changed(smoke, other)) == 58 and not new_stages(smoke, other)


def test_threads_are_part_of_what_learns_and_of_no_release(smoke: Plan) -> None:
    other = plan_of("smoke", "protocol.threads=1")
    assert {cell[1] for cell in changed(smoke, other)} == {"attack"}
    assert new_stages(smoke, other) == {"attack", "material", "compared"}


def test_more_shots_change_only_attacks_on_what_is_never_released_twice_alike(smoke: Plan) -> None:
    other = plan_of("smoke", "protocol.shots=4")
    assert {cell[:2] for cell in changed(smoke, other)} == {("stochastic_local", "attack")}
    assert "protected" not in new_stages(smoke, other), "three more shots are there for averaging_4 already"


def test_a_setting_of_a_defense_changes_its_cells_alone(smoke: Plan) -> None:
    suite = load_suite("smoke")
    softer = tuple(entry if entry.name != "stochastic_local" else entry.model_copy(update={"params": {"gain": 0.3}})
                   for entry in suite.defense)  # fmt: skip
    other = plan_of(suite.model_copy(update={"defense": softer}))
    assert changed(smoke, other) == {cell for cell in keys(smoke) if cell[0] == "stochastic_local"}


def test_a_setting_of_an_attack_changes_it_and_what_starts_from_it(smoke: Plan) -> None:
    """The U-Net of unet is where averaging_4 and attributes may start, and linkage_unet names whom unet rebuilt."""
    cells = changed(smoke, plan_of("smoke", "attack.unet.steps=3"))
    assert {cell[2] for cell in cells} == {"unet", "averaging_4", "attributes", "linkage_unet"}
    ceiling_and_all = {one.label for one in smoke.defenses}
    assert {cell[0] for cell in cells} == ceiling_and_all


def test_the_adaptor_is_part_of_fine_tuned_recognizers_alone(standard: Plan) -> None:
    other = plan_of("standard", "protocol.adaptor={warm=3,steps=2}")
    assert changed(standard, other) == {slot(cell) for cell in standard.cells if cell.adapted}
    tracks = {cell.track for cell in standard.cells if cell.adapted}
    assert tracks == {"representation"}


def under_another_surrogate() -> Plan:
    return plan_of(load_suite("standard").model_copy(update={"surrogate": "mobilefacenet"}))


def test_the_surrogate_is_part_of_what_learns_from_it_alone(standard: Plan) -> None:
    """Those attacks, those that start from their answers, and fine-tuned recognizers, which are labelled by it."""
    before, now = keys(standard), keys(under_another_surrogate())
    learning = {
        slot(cell) for cell in standard.cells if cell.attack is not None
        and any(attack_of(stage.spec["attack"]).card.needs_surrogate
                for stage in cell.inputs["attack"].before() if stage.kind == "attack")
    }  # fmt: skip
    assert {cell[2] for cell in learning} >= {"unet_perceptual", "linkage_unet_perceptual", "linkage_student"}
    assert {cell for cell in before.keys() & now.keys() if before[cell] != now[cell]} == learning
    assert before.keys() - now.keys() == {slot(cell) for cell in standard.cells if cell.adapted}


def test_what_is_taught_by_the_surrogate_has_it_in_its_key(standard: Plan) -> None:
    """Else another surrogate's suite takes the student of the first out of the cache."""
    taught, others = (
        {stage.key for stage in plan.stages if stage.kind == "material" and stage.spec["name"] == "student"}
        for plan in (standard, under_another_surrogate())
    )
    assert taught and others and not taught & others


def test_a_defense_under_its_former_name_is_the_same_row_under_the_same_keys(tmp_path: Path) -> None:
    """Keys and draws are made from the first name that it had, so renaming it made no record stale."""
    text = (Path(sys.modules[load_suite.__module__].__file__ or "").parent / "smoke.toml").read_text()
    (tmp_path / "smoke.toml").write_text(text.replace('"no_defense"', '"identity"'))
    former = load_suite(str(tmp_path / "smoke.toml"))
    assert former == load_suite("smoke") and '"identity"' in (tmp_path / "smoke.toml").read_text()
    chosen = narrowed(load_suite("smoke"), ["identity"], ["visual"], [])
    assert [entry.label for entry in chosen.defense] == ["no_defense"]
    checks = {stage.key for stage in plan_of(chosen).stages if stage.kind == "check"}
    spec = {"defense": {"name": "identity", "version": 1, "config": {}}, "dataset": "r", "seed": 0}
    assert Stage("check", spec).key in checks


VERSIONS = [
    ("defense", "stochastic_local", lambda cell: cell.defense.name == "stochastic_local"),
    ("attack", "ridge", lambda cell: slot(cell)[2] == "ridge"),
    ("scorer", "linkage", lambda cell: cell.scorer == "linkage"),
    ("scorer", "verification", lambda cell: cell.scorer == "verification"),
    ("scorer", "control", lambda cell: cell.scorer == "control"),
]


@pytest.mark.parametrize(("kind", "name", "mine"), VERSIONS, ids=[" ".join(one[:2]) for one in VERSIONS])
def test_a_raised_version_changes_what_it_is_about_alone(
    kind: registry.Kind, name: str, mine: Any, smoke: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.load(kind, name), "version", 99)
    assert changed(smoke, plan_of("smoke")) == {slot(cell) for cell in smoke.cells if mine(cell)}


def test_a_raised_version_of_a_recognizer_changes_what_it_embeds(smoke: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from ppfr_bench.recognizers import recognizer_class

    monkeypatch.setattr(recognizer_class("dlib_resnet"), "version", 99)
    assert changed(smoke, plan_of("smoke")) == {cell for cell in keys(smoke) if cell[3] == "dlib_resnet"}


def test_a_raised_version_of_a_metric_scores_what_computes_it_anew(
    smoke: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psnr.METRIC, "info", replace(psnr.METRIC.info, version=99))
    other = plan_of("smoke")
    assert changed(smoke, other) == {slot(cell) for cell in smoke.cells if cell.scorer in RECONSTRUCTIONS}
    assert new_stages(smoke, other) == {"compared"}


def test_the_key_of_a_stage_follows_from_its_spec_its_upstream_and_its_device() -> None:
    """Gates and how to go about it are no part of it; their output is none of the stage's."""
    first = Stage("embed", {"of": "canary"})
    upstream = {"released": first}
    one = Stage("embed", {"of": "evaluation"}, upstream)
    same = Stage("embed", {"of": "evaluation"}, upstream, (first,), how={"label": "mine"})
    assert one.key == same.key
    others = [
        Stage("protected", {"of": "evaluation"}, upstream), Stage("embed", {"of": "canary"}, upstream),
        Stage("embed", {"of": "evaluation"}), Stage("embed", {"of": "evaluation"}, {"other": first}),
        Stage("embed", {"of": "evaluation"}, {"released": one}),
        Stage("embed", {"of": "evaluation"}, upstream, device="cuda"),
    ]  # fmt: skip
    assert len({stage.key for stage in (one, *others)}) == 1 + len(others)
    assert (
        [stage.key for stage in same.before()] == [first.key, one.key] == [stage.key for stage in needed([same, one])]
    )
    assert same.job.upstream == {"released": ("embed", first.key)} and same.job.how == {"label": "mine"}


# Metrics -------------------------------------------------------------------------------------------------------------

WARMTH = """
from ppfr_bench.metrics.base import Metric, MetricInfo

class Warmth(Metric):
    info = MetricInfo("warmth", 1, (0.0, 1.0), "lower_is_better", "share", "test", "mean difference of the reds")

    def values(self, images, references):
        return (images - references)[:, 0].abs().flatten(1).mean(1).double().numpy()

METRIC = Warmth
"""


@pytest.fixture
def warmth(tmp_path: Path) -> Iterator[str]:
    """A metric that a file has brought."""
    path = tmp_path / "warmth.py"
    path.write_text(WARMTH, encoding="utf-8")
    registry.add_plugin(path)
    yield "warmth"
    registry._added.clear()
    sys.modules.pop("ppfr_bench.plugins.warmth")


def test_a_new_metric_changes_no_key_until_a_suite_asks_for_it(smoke: Plan, warmth: str) -> None:
    assert not changed(smoke, plan_of("smoke")) and not new_stages(smoke, plan_of("smoke"))
    asking = plan_of(load_suite("smoke").model_copy(update={"metrics": (warmth,)}))
    assert changed(smoke, asking) == {slot(cell) for cell in smoke.cells if cell.scorer in RECONSTRUCTIONS}
    assert new_stages(smoke, asking) == {"compared"}, "nothing is protected, attacked or learnt again"
    table = asking.published().tables["synthetic"]
    assert table.metrics[warmth] == 1 and warmth not in smoke.published().tables["synthetic"].metrics


def test_a_metric_that_nobody_has_is_named_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"unknown metric 'warmt'"):
        plan_of(load_suite("smoke").model_copy(update={"metrics": ("warmt",)}))


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
