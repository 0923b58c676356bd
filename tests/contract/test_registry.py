"""The registry lists without importing, lets a broken file fail alone, and says what is wrong with it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ppfr_bench import registry, testing
from ppfr_bench.api import Answers, Attack, AttackerView
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.datasets.faces import subset
from ppfr_bench.errors import UserError

DEFENSE = """
from ppfr_bench.api import Config, Defense, DefenseCard

class MyConfig(Config):
    strength: float = 0.5

class Mine(Defense):
    version = 1
    card = DefenseCard(title="Mine", family="test", reference="test", licence="MIT")
    Config = MyConfig

    def protect(self, images, generator):
        return images * self.config.strength

DEFENSE = Mine
"""


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()
    registry._added.clear()
    registry.run_here(False)
    for name in [name for name in sys.modules if name.startswith("ppfr_bench.plugins.")]:
        del sys.modules[name]


def plugin(folder: Path, name: str, code: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(code)
    return path


def test_listing_imports_no_plugin_and_no_torch() -> None:
    code = (
        "import sys; from ppfr_bench import registry; print(registry.names('defense'), registry.names('attack'), "
        "registry.source('defense', 'pixelate'));"
        "loaded = [m for m in sys.modules if m == 'torch' or m.startswith(('ppfr_bench.attacks.', "
        "'ppfr_bench.defenses.'))]; sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'pixelate'" in done.stdout and "'unet'" in done.stdout
    assert "ppfr_bench.defenses.pixelate:DEFENSE" in done.stdout
    assert "_filters" not in done.stdout


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown defense 'gausian_blur'\nDid you mean 'gaussian_blur'\?"):
        registry.load("defense", "gausian_blur")
    with pytest.raises(UserError, match=r"unknown attack 'zzz'\nKnown: .*linkage.*unet"):
        registry.load("attack", "zzz")


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"sigm": 3}, "gaussian_blur: unknown key 'sigm'. Did you mean 'sigma'?"),
        ({"sigma": "wide"}, "sigma: .*number.*got 'wide'"),
        ({"sigma": -1}, "sigma: .*greater than 0.*got -1"),
        ({"sigma": float("nan")}, "sigma: .*finite"),
    ],
)
def test_parameters_are_checked_before_anything_runs(params: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        registry.build("defense", "gaussian_blur", params)


def test_two_plugins_of_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("pixelate", "their_package.pixels:DEFENSE", "ppfr_bench.defenses")
    monkeypatch.setattr(registry, "entry_points", lambda group: [theirs] if group == theirs.group else [])
    with pytest.raises(UserError, match=r"ppfr_bench\.defenses\.pixelate:DEFENSE and their_package\.pixels:DEFENSE"):
        registry.names("defense")
    assert "unet" in registry.names("attack")


def test_a_third_party_entry_point_is_listed_and_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("theirs", "package_that_is_not_there:DEFENSE", "ppfr_bench.defenses")
    monkeypatch.setattr(registry, "entry_points", lambda group: [theirs] if group == theirs.group else [])
    assert {"theirs", "pixelate"} <= set(registry.names("defense"))
    assert registry.load("defense", "pixelate").version
    with pytest.raises(UserError, match=r"defense 'theirs' .*ModuleNotFoundError: No module named 'package_that"):
        registry.load("defense", "theirs")


def test_a_file_added_by_path_is_a_plugin_like_any_other(tmp_path: Path) -> None:
    path = plugin(tmp_path, "my_defense", DEFENSE)
    assert registry.add_plugin(path) == [("defense", "my_defense")]
    assert registry.add_plugin(path) == [("defense", "my_defense")], "adding it again changes nothing"
    assert "my_defense" in registry.names("defense")
    defense = registry.build("defense", "my_defense", {"strength": 0.25})
    out = defense.protect(torch.ones(1, 3, 4, 4), torch.Generator())
    np.testing.assert_allclose(out.numpy(), 0.25)
    with pytest.raises(UserError, match=r"unknown key 'strenth'\. Did you mean 'strength'"):
        registry.build("defense", "my_defense", {"strenth": 0.25})


def test_a_plugin_pickles_to_a_worker_that_added_it(tmp_path: Path) -> None:
    path = plugin(tmp_path, "my_defense", DEFENSE)
    registry.add_plugin(path)
    sent = tmp_path / "defense.pickle"
    sent.write_bytes(pickle.dumps(registry.build("defense", "my_defense", {"strength": 0.125})))
    code = (
        "import pickle, sys, pathlib; from ppfr_bench import registry; registry.add_plugin(pathlib.Path(sys.argv[1]));"
        "got = pickle.loads(pathlib.Path(sys.argv[2]).read_bytes());"
        "print(type(got).__module__, got.config.strength)"
    )
    done = subprocess.run([sys.executable, "-c", code, path, sent], capture_output=True, text=True)
    assert done.stdout.strip() == "ppfr_bench.plugins.my_defense 0.125", done.stderr


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("pixelate", DEFENSE, "defense 'pixelate' exists already .*ppfr_bench.defenses.pixelate"),
        ("My-Defense", DEFENSE, "lower-case letters.*My-Defense.py"),
        ("mine", "import not_installed_here\n" + DEFENSE, "mine.py cannot be imported: ModuleNotFoundError"),
        ("mine", "def broken(:\n", "mine.py cannot be imported: SyntaxError"),
        ("mine", "x = 1\n", "must end in DEFENSE = <class> or ATTACK = <class>"),
        ("mine", DEFENSE + "ATTACK = Mine\n", "attack 'mine': expected a subclass of ppfr_bench.api.Attack"),
        ("mine", "DEFENSE = 3\n", "subclass of ppfr_bench.api.Defense, or of the class of another track, got 3"),
        ("mine", DEFENSE.replace("DEFENSE = Mine", "ATTACK = Mine"), "subclass of ppfr_bench.api.Attack"),
        ("mine", DEFENSE.replace("version = 1", ""), "expected `version = 1`"),
        ("mine", DEFENSE.replace("version = 1", "version = '1'"), "expected `version = 1`"),
        ("mine", DEFENSE.replace("card = DefenseCard", "card = dict"), "expected `card = DefenseCard"),
        ("mine", DEFENSE.replace("def protect", "def hide"), "does not define protect"),
        ("mine", DEFENSE.replace("Config = MyConfig", "Config = dict"), "Config to be a subclass"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused(tmp_path: Path, name: str, code: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        registry.add_plugin(plugin(tmp_path, name, code))
    assert "mine" not in registry.names("defense") + registry.names("attack")
    assert "ppfr_bench.plugins.mine" not in sys.modules, "once it is mended, it is read anew"


METRIC = """
import numpy as np
from ppfr_bench.metrics.base import Metric, MetricInfo

class Far(Metric):
    info = MetricInfo("NAME", 1, (0.0, 1.0), "lower_is_better", "share", "test", "mean distance of two images")

    def values(self, images, references):
        return (images - references).abs().flatten(1).mean(1).double().numpy()

METRIC = Far
"""
ENGINE = """
from ppfr_bench.engines.base import Engine

class Nowhere(Engine):
    version = 1
    title = "carries out nothing"

    def run(self, packed, tasks, resources, limits, done):
        pass

ENGINE = Nowhere
"""


@pytest.mark.parametrize("code", [DEFENSE, METRIC.replace("NAME", "mine")], ids=["in its own process", "here"])
def test_a_file_that_has_changed_is_not_taken_for_the_one_that_was_added(tmp_path: Path, code: str) -> None:
    """In a notebook, say, where the process lives on."""
    path = plugin(tmp_path, "mine", code)
    registry.add_plugin(path)
    path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mine\.py has changed since it was added") as refused:
        registry.add_plugin(path)
    assert "restart its kernel" in refused.value.hint


def test_a_file_may_end_in_several_kinds_all_named_by_its_stem(tmp_path: Path) -> None:
    path = plugin(tmp_path, "mine", DEFENSE + METRIC.replace("NAME", "mine") + ENGINE)
    with pytest.raises(UserError, match=r"has a defense and something else: defense, metric, engine\n.*--trust"):
        registry.add_plugin(path)
    registry.run_here()
    assert registry.add_plugin(path) == [("defense", "mine"), ("metric", "mine"), ("engine", "mine")]
    for kind, name in (("defense", "Mine"), ("metric", "Far"), ("engine", "Nowhere")):
        assert "mine" in registry.names(kind)  # type: ignore[arg-type]
        assert registry.load(kind, "mine").__name__ == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (METRIC.replace("NAME", "other"), "metric 'mine': expected info.name to be the file's name, got 'other'"),
        (METRIC.replace("info =", "about ="), r"metric 'mine': expected `info = MetricInfo\(...\)`"),
        (METRIC.replace("def values", "def numbers"), "metric 'mine': it does not define values"),
        (ENGINE.replace("def run", "def walk"), "engine 'mine': it does not define run"),
        (ENGINE.replace("version = 1", ""), "engine 'mine': expected `version = 1`"),
        ("from ppfr_bench.scorers.base import Scorer\nSCORER = Scorer\n", "scorer 'mine': it does not define score"),
        ("RECOGNIZER = dict\n", "recognizer 'mine': expected a subclass of ppfr_bench.api.Recognizer"),
        ("DATASET = dict\n", "dataset 'mine': expected a subclass of ppfr_bench.api.FaceDataset"),
        ("TRACK = dict\n", "track 'mine': expected a subclass of ppfr_bench.tracks.base.Track"),
        ("PUBLISHER = dict\n", "publisher 'mine': expected a subclass of .*Publisher"),
    ],
)
def test_what_breaks_the_contract_of_its_kind_is_refused_with_all_else_in_its_file(
    code: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        registry.add_plugin(plugin(tmp_path, "mine", DEFENSE + code))
    assert not [kind for kind in registry.PACKAGES if "mine" in registry.names(kind)]
    mended = plugin(tmp_path, "mine", DEFENSE)
    assert registry.add_plugin(mended) == [("defense", "mine")]


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_each_kind_is_found_by_file_and_loads(kind: registry.Kind) -> None:
    """Nothing beside the files of a kind: no helper, no shared module."""
    found = registry.names(kind)
    assert found and not [name for name in found if name.startswith("_") or name in ("base", "__init__")]
    for name in found:
        assert registry.source(kind, name) == f"{registry.PACKAGES[kind]}.{name}:{kind.upper()}"
    assert {registry.load(kind, name).__module__ for name in found}


def test_a_package_may_bring_anything_of_any_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("slurm", "their_package.slurm:ENGINE", "ppfr_bench.engines")
    monkeypatch.setattr(registry, "entry_points", lambda group: [theirs] if group == theirs.group else [])
    assert {"slurm", "inline", "dask"} <= set(registry.names("engine"))


def test_a_class_without_a_file_is_there_for_the_life_of_the_process(tmp_path: Path) -> None:
    registry.add_plugin(plugin(tmp_path, "mine", ENGINE))
    engine = registry.load("engine", "mine")
    for other in (engine, type("Other", (engine,), {})):
        registry.add_class("engine", "elsewhere", other)
        assert registry.load("engine", "elsewhere") is other, "one that was added before gives way"
    for name, says in (
        ("mine", "engine 'mine' exists already"),
        ("inline", "exists already"),
        ("My-Own", "got 'My-Own'"),
    ):
        with pytest.raises(UserError, match=says):
            registry.add_class("engine", name, engine)
    with pytest.raises(UserError, match=r"expected a subclass of ppfr_bench\.engines\.base\.Engine"):
        registry.add_class("engine", "nowhere", dict)
    assert "nowhere" not in registry.names("engine")


def test_names_of_version_0_1_are_answered(tmp_path: Path) -> None:
    assert registry.current_name("scorer", "appearance") == "reconstruction"
    assert registry.load("scorer", "identity") is registry.load("scorer", "linkage")
    assert registry.load("track", "recognition") is registry.load("track", "image")
    assert registry.former("track", "image") == ["recognition"]
    assert registry.current_name("scorer", "nothing") == "nothing"
    assert registry.load("defense", "identity") is registry.load("defense", "no_defense")
    assert registry.build("defense", "identity", {}).card.title == "No defense"


def test_a_former_name_is_not_taken_by_another_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every ceiling would be measured on a file of a user's that happens to be called ``identity``."""
    path = tmp_path / "identity.py"
    path.write_text(DEFENSE)
    says = "that name is the former one of 'no_defense'"
    with pytest.raises(UserError, match=says):
        registry.add_plugin(path)
    with pytest.raises(UserError, match=says):
        registry.add_class("defense", "identity", registry.load("defense", "pixelate"))
    entry = EntryPoint("identity", "elsewhere:DEFENSE", "ppfr_bench.defenses")
    monkeypatch.setattr(registry, "_installed", lambda kind: (entry,) if kind == "defense" else ())
    with pytest.raises(UserError, match=says):
        registry.names("defense")


def test_no_such_file_and_two_files_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*missing.py"):
        registry.add_plugin(tmp_path / "missing.py")
    registry.add_plugin(plugin(tmp_path / "a", "mine", DEFENSE))
    with pytest.raises(UserError, match=r"two plug-ins would be named 'mine': .*a/mine.py and .*b/mine.py"):
        registry.add_plugin(plugin(tmp_path / "b", "mine", DEFENSE))


def test_doctests_of_plugins_hold() -> None:
    import doctest
    from importlib import import_module

    for kind in ("defense", "attack"):
        for name in registry.names(kind):  # type: ignore[arg-type]
            module = import_module(registry.source(kind, name).partition(":")[0])  # type: ignore[arg-type]
            assert doctest.testmod(module).failed == 0, name


OLD_ATTACK = """
import json
import numpy as np
import torch
from ppfr_bench.api import Attack, AttackCard, Config, to_bytes, to_float

class OldConfig(Config):
    other: bool = False

class Old(Attack):
    version = 1
    card = AttackCard(title="Old", family="linear", reference="0.1", licence="MIT", measures="appearance",
                      knowledge="aware", learned=True)
    Config = OldConfig

    @property
    def key(self):
        return "other" if self.config.other else "same"

    def fit(self, view, generator):
        protected = view.picture(np.asarray(view.auxiliary_protected))
        def compute(generator):
            assert isinstance(generator, torch.Generator)
            return {"mean": protected.mean(0), "note": np.array(json.dumps({"channels": view.representation}))}
        found = view.workbench.share("mean", {"version": 1}, compute)
        self.shift = view.auxiliary.load(range(len(view.auxiliary))).mean(0) - found["mean"]
        self.log |= {"training_images": len(protected)} | json.loads(str(found["note"]))

    def run(self, view):
        return (view.picture(view.targets[0]) + self.shift).round().clip(0, 255).astype(np.uint8)

ATTACK = Old
"""
OLD_DEFENSE = """
import torch
from ppfr_bench.api import Defense, DefenseCard

class Old(Defense):
    version = 1
    card = DefenseCard(title="Old", family="frequency", reference="0.1", licence="MIT", output="representation",
                       track="representation")

    def protect(self, images, generator):
        return torch.nn.functional.pixel_unshuffle(images, 4)

    def picture(self, released):
        return torch.nn.functional.pixel_shuffle(released, 4)

DEFENSE = Old
"""


def test_plug_ins_of_version_0_1_go_on_working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``key``, ``picture``, ``representation`` and ``view.workbench`` are read as what they are called now."""
    monkeypatch.setattr(registry, "_added", {})
    for name, text in (("old_attack", OLD_ATTACK), ("old_defense", OLD_DEFENSE)):
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        registry.add_plugin(file)
    for other in (False, True):
        assert registry.build("attack", "old_attack", {"other": other}).key_access == ("other" if other else "same")
    old = registry.build("defense", "old_defense", {})
    assert not old.releases_image() and old.render(torch.rand(1, 48, 28, 28)).shape == (1, 3, 112, 112)
    faces = testing.example_faces()
    mine = subset(faces, np.flatnonzero(faces.identities < 2))
    targets = faces.load(np.flatnonzero(faces.identities >= 2))

    def answer(attack: Attack, view: AttackerView) -> npt.NDArray[Any]:
        attack.fit(view, torch.Generator().manual_seed(0))
        return Answers.of(attack.run(view)).main

    for defense, representation in ((registry.build("defense", "pixelate", {}), False), (old, True)):
        attack = registry.build("attack", "old_attack", {})
        view = testing.attacker_view(attack, defense, mine, targets, targets[::4])
        assert answer(attack, view).shape == targets.shape
        assert attack.log == {"training_images": len(mine), "channels": representation}
    assert view.targets.shape == (2, len(targets), 48, 28, 28)
    ridge = registry.build("attack", "ridge", {"size": 16})
    assert answer(ridge, testing.attacker_view(ridge, old, mine, targets, targets[::4])).shape == targets.shape
    # The check may ask for the number of shots in the log, which version 0.1 did not.
    assert {finding.code for finding in check_plugin("attack", "old_attack")} <= {"log"}
