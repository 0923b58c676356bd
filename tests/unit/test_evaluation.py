"""What ``ppfr_bench.evaluate`` takes and refuses, before anything runs; records as a table."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_records as made
import pytest
import torch
import torch.nn.functional as F

import ppfr_bench as pb
from ppfr_bench import registry, wrapping
from ppfr_bench.api import Config, Defense, DefenseCard, UserError
from ppfr_bench.datasets.synthetic import Synthetic, SyntheticConfig
from ppfr_bench.evaluation import Evaluation, _entry
from ppfr_bench.records.estimate import column
from ppfr_bench.records.store import ResultStore
from ppfr_bench.suites import load_suite


@pytest.fixture(autouse=True)
def _forget_guests() -> Iterator[None]:
    yield
    registry._added.clear()


def mosaic(images: torch.Tensor) -> torch.Tensor:
    return F.interpolate(F.avg_pool2d(images, 16), scale_factor=16)


class GreyNoise(Defense):
    version = 3
    card = DefenseCard(title="Grey", family="test", reference="test", licence="MIT", randomness="per_call")

    class Config(Config):
        strength: float = 0.5

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images * self.config.strength


def guest(
    thing: Any, name: str = "mine", version: int = 1, randomness: Any = "deterministic"
) -> wrapping.WrappedDefense:
    return wrapping.wrapped_defense(thing, name, version, randomness, 0.0)


def test_importing_the_package_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, ppfr_bench as pb; assert 'evaluate' in dir(pb); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "pandas", "numpy", "pydantic", "typer"} & set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        pb.evalute  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("thing", "name"),
    [(mosaic, "mosaic"), (GreyNoise, "grey_noise"), (functools.partial(mosaic), "mosaic"), (lambda x: x, "callable"),
     (torch.nn.Identity(), "identity"), (F.avg_pool2d, "avg_pool2d")],
)  # fmt: skip
def test_a_name_is_made_of_what_it_is_called(thing: Any, name: str) -> None:
    assert wrapping.name_of(thing) == name


def test_a_guest_is_a_defense_with_its_identity_among_its_parameters() -> None:
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    one = guest(mosaic)
    one.adopt()
    built = registry.build("defense", "mine", {})
    assert built.config.model_dump() == {"code_hash": one.identity} and not one.unseen
    torch.testing.assert_close(built.protect(images, torch.Generator()), mosaic(images))
    other = guest(lambda images: mosaic(images) / 2)
    other.adopt()  # a function defined again takes the place of the first
    assert registry.build("defense", "mine", {}).config.code_hash == other.identity != one.identity


def test_identity_follows_what_moves_numbers_and_nothing_else() -> None:
    assert guest(mosaic).identity == guest(mosaic, name="other_name").identity
    assert guest(mosaic).identity != guest(mosaic, randomness="per_call").identity
    state = torch.Generator()
    unseen = [guest(lambda images: images + torch.rand(images.shape, generator=state)) for _ in range(2)]
    assert unseen[0].identity != unseen[1].identity and "Generator" in unseen[0].unseen


def test_a_class_keeps_its_version_card_and_parameters() -> None:
    entry, mine = _entry(GreyNoise(GreyNoise.Config(strength=0.25)), "", 1, "deterministic", 0, load_suite("smoke"))
    assert (entry.name, entry.params) == ("grey_noise", {"strength": 0.25})
    built = registry.build("defense", "grey_noise", entry.params)
    assert (type(built).version, built.randomness, built.config.strength) == (3, "per_call", 0.25)
    assert mine is not None and built.config.code_hash == mine.identity


def test_a_plugin_is_known_by_its_name_however_it_is_given() -> None:
    suite = load_suite("smoke")
    plugin = registry.load("defense", "pixelate")
    for thing in ("pixelate", plugin, plugin()):
        entry, mine = _entry(thing, "", 1, "deterministic", 0.0, suite)
        assert (entry.name, entry.label, mine) == ("pixelate", "pixelate", None)
    assert pb.evaluate.__doc__ and "randomness" in pb.evaluate.__doc__


def test_a_parameter_that_is_set_is_in_the_label_unless_a_name_is_given(tmp_path: Path) -> None:
    suite = load_suite("smoke", ("defense.pixelate.block=8",))
    for name, label in (("", "pixelate_block_8"), ("mine", "mine")):
        entry, _ = _entry("pixelate", name, 1, "deterministic", 0.0, suite)
        assert (entry.name, entry.label, entry.params) == ("pixelate", label, {"block": 8})
    path = tmp_path / "my_shade.py"
    path.write_text(
        "from ppfr_bench.api import Config, Defense, DefenseCard\n"
        "class Shade(Defense):\n"
        "    version = 1\n"
        "    card = DefenseCard(title='Shade', family='test', reference='none', licence='MIT')\n"
        "    class Config(Config):\n"
        "        share: float = 0.5\n"
        "    def protect(self, images, generator):\n"
        "        return images * self.config.share\n"
        "DEFENSE = Shade\n"
    )
    registry.add_plugin(path)
    entry, _ = _entry(path, "", 1, "deterministic", 0.0, load_suite("smoke", ("defense.my_shade.share=0.2",)))
    assert (entry.label, entry.params) == ("my_shade_share_0p2", {"share": 0.2})


def test_a_setting_of_data_that_are_open_is_refused() -> None:
    data = Synthetic(SyntheticConfig())
    with pytest.raises(UserError, match=r"dataset.targets has no effect: data is open already"):
        pb.evaluate(mosaic, "smoke", data=data, settings={"dataset.targets": 4})


def test_a_worker_that_cannot_read_a_guest_says_so() -> None:
    broken = wrapping.WrappedDefense("mine", b"no pickle", "0" * 64, 1, guest(mosaic).card)
    broken.adopt()
    with pytest.raises(UserError, match="mine cannot be read by a worker"):
        registry.build("defense", "mine", {"code_hash": "0"}).protect(torch.zeros(1, 3, 4, 4), torch.Generator())


def random_undeclared(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(images.shape, generator=generator)


def three(images: torch.Tensor, generator: torch.Generator, strength: float) -> torch.Tensor:
    return images


fitted = GreyNoise()
fitted.mean = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("thing", "options", "says"),
    [
        ("pixelat", {}, "Did you mean 'pixelate'"),
        (3, {}, "expected a callable, a Defense or a name, got int"),
        (dict, {}, "expected a Defense, got the class dict"),
        (three, {}, "functools.partial"),
        (fitted, {}, "GreyNoise holds mean beside its config"),
        (mosaic, {"name": "My-Defense"}, "lower-case letters"),
        (mosaic, {"name": "pixelate"}, "defense 'pixelate' exists already"),
        (mosaic, {"suite": "smok"}, "Did you mean 'smoke'"),
        (mosaic, {"data": 3}, "expected the name of a data set or a FaceDataset, got int"),
        (mosaic, {"settings": {"protocol.shotz": 2}}, "shotz"),
        (mosaic, {"attacks": ["vizual"]}, "Did you mean 'visual'"),
        ("pixelate", {"settings": {"defense.pixelate.blok": 8}}, "Did you mean 'block'"),
        (
            "pixelate",
            {"settings": {"defense.gaussian_blur.sigma": 8}},
            "setting of defense 'gaussian_blur' has no effect",
        ),
        (mosaic, {"settings": {"defense.pixelate.block": 8}}, "setting of defense 'pixelate' has no effect"),
        (mosaic, {"data": "folder", "settings": {"dataset.root": "/nowhere"}}, "got /nowhere"),
        (mosaic, {"data": "fold"}, "Did you mean 'folder'"),
        (mosaic, {"recognizers": ["dlib"]}, "Did you mean 'dlib_resnet'"),
        (lambda images: images, {}, "clear_image: .*clear_share"),
        (lambda images: images[:, :, :50], {}, r"shape: expected float32 images of shape .*, got \(16, 3, 50, 112\)"),
        (lambda images: images.numpy(), {}, "shape: expected float32 images"),
        (lambda images: 1 / 0, {}, "raises: raises ZeroDivisionError"),
        (random_undeclared, {}, "randomness.*randomness='per_call'"),
        (lambda images: torch.rand_like(images), {}, "global"),
        (mosaic, {"randomness": "per_call"}, "breaks the contract"),
    ],
)
def test_what_is_refused_says_why_and_runs_nothing(
    thing: Any, options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        pb.evaluate(thing, **{"suite": "smoke", "results": tmp_path / "r"} | options)
    assert re.search(says, str(refused.value), re.DOTALL), str(refused.value)
    assert not (tmp_path / "r").exists()


# Records as tables ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path)
    gap = made.record(
        "pixelate", "attack", attack="averaging", measures="appearance", status="failed", reason="timeout"
    )
    for record in (*made.quick()[0], gap):
        store.write(record)
    return store


def test_results_are_a_tidy_table(store: ResultStore) -> None:
    found = pb.load_results(store.root)
    assert len(found[["key", "metric"]].drop_duplicates()) == len(found)
    assert found["value"].dtype == found["low"].dtype == "float64"
    records = {record.key: record for record in store.records()}
    for row in found[found["metric"] != ""].itertuples():
        record = records[str(row.key)]
        numbers = {column(name, part): one for name, found in record.metrics.items() for part, one in found.parts()}
        value = numbers[str(row.metric)].value
        assert row.value == value or (value is None and row.value != row.value)
        assert json.loads(str(row.parameters)) == record.defense.config and row.defense_name == record.defense.name
    with pytest.raises(UserError, match="no results at"):
        pb.load_results(store.root / "nowhere")


def test_an_evaluation_prints_on_a_terminal_and_in_a_notebook(store: ResultStore) -> None:
    records = tuple(store.records())
    label = next(r.defense.label for r in records if r.status == "failed")
    plan = made.plan_of(records)
    store.write_plan(plan)
    found = Evaluation(label, records[0].suite, store, records, plan, note="Measured anew: <b>why</b>.")
    assert label in str(found) and "failed" in str(found)
    page = found._repr_html_()
    assert "<table" in page and "&lt;b&gt;why" in page and "<img" not in page
    assert set(found.table["defense"]) == {record.defense.label for record in records if record.cell != "canary"}
    assert "Appearance privacy" in found.explain()
    assert len(found.beside(store.root)) == len(found.table)
