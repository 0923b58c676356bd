"""Keys of a plan: each depends on all that determines an output, and on nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_plans import attack_of, changed, keys, new_stages, plan_of, slot

from ppfr_bench import registry
from ppfr_bench.errors import UserError
from ppfr_bench.metrics import psnr
from ppfr_bench.runner.choice import narrowed
from ppfr_bench.runner.graph import needed
from ppfr_bench.runner.plan import Plan
from ppfr_bench.stages.spec import Stage
from ppfr_bench.suites import Entry, Suite, load_suite

RECONSTRUCTIONS = ("reconstruction", "control", "template")  # scorers that compare images


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


def test_threads_are_part_of_what_attacks_learn_and_of_no_release_that_is_not_learnt(smoke: Plan) -> None:
    other = plan_of("smoke", "protocol.threads=1")
    assert {cell[1] for cell in changed(smoke, other)} == {"attack"}
    assert new_stages(smoke, other) == {"attack", "material", "compared"}


def test_threads_are_part_of_what_a_learned_defense_releases() -> None:
    """Its training may differ in the last bits, and what it releases with it. By default they are not said."""
    entries = tuple(Entry(name=name) for name in ("no_defense", "pixelate", "dctdp", "minusface"))
    suite = load_suite("smoke").model_copy(update={"defense": entries})
    plans = {
        threads: plan_of(suite.model_copy(update={"protocol": suite.protocol.model_copy(update={"threads": threads})}))
        for threads in (1, 2, 3)
    }

    def released(threads: int, learned: bool) -> set[str]:
        found = [stage for stage in plans[threads].stages if stage.kind == "protected"]
        return {one.key for one in found if (one.spec["defense"]["name"] in ("dctdp", "minusface")) == learned}

    assert released(1, False) == released(2, False) == released(3, False)
    learned = [released(threads, True) for threads in plans]
    assert all(learned) and len(set().union(*learned)) == sum(map(len, learned))
    assert not any("threads" in stage.spec for stage in plans[2].stages if stage.kind == "protected")
    utility = {(cell.defense.name, one): cell.key for one, plan in plans.items() for cell in plan.cells
               if cell.kind == "utility" and not cell.adapted}  # fmt: skip
    assert utility["pixelate", 1] == utility["pixelate", 2] and utility["dctdp", 1] != utility["dctdp", 2]


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
