"""A defense that is given by file runs in a process of its own, reaches nothing, and cannot spoil a run."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hostile import SOURCE, write_plugin

from ppfr_bench import registry
from ppfr_bench.api import Defense, to_float
from ppfr_bench.assets import cache_dir
from ppfr_bench.contracts.check import check_plugin
from ppfr_bench.contracts.defense import check_defense
from ppfr_bench.contracts.findings import BreachError
from ppfr_bench.errors import UserError
from ppfr_bench.evaluation import evaluate
from ppfr_bench.sandbox import layers, process, stand_in
from ppfr_bench.sandbox.layers import Limits
from ppfr_bench.sandbox.process import PluginError, SandboxError
from ppfr_bench.sandbox.stand_in import StandIn
from ppfr_bench.stages.release import RejectedError, protect_once, release
from ppfr_bench.testing import example_faces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the layers are of Linux")
namespaces = pytest.mark.skipif(not layers.outer_layers(), reason="nobody may make namespaces here: doctor says so")
FACES = example_faces()
IMAGES = FACES.load(range(6))
TIGHT = Limits(import_seconds=20, call_seconds=3, memory_mib=256, processes=6)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    limits, added = stand_in.limits(), dict(registry._added)
    yield
    stand_in.set_limits(limits)
    registry.run_here(False)
    registry._added.clear()
    registry._added.update(added)


@pytest.fixture(scope="module")
def plug(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plugin(tmp_path_factory.mktemp("plugins"))


def build(path: Path, /, **params: Any) -> Any:
    registry.add_plugin(path)
    return registry.build("defense", path.stem, params)


def here(path: Path, /, **params: Any) -> Any:
    """The same in this process."""
    registry.run_here()
    try:
        return build(path, **params)
    finally:
        registry.run_here(False)


def attempt(path: Path, act: str, argument: object = "") -> str:
    """What comes of an act: the message of its failure."""
    with pytest.raises((RejectedError, UserError)) as caught:
        release(build(path, act=act, argument=str(argument)), IMAGES, torch.Generator().manual_seed(0))
    return caught.value.message


def family(path: Path) -> set[int]:
    """Processes that run a plug-in, those that it forked too; zombies are none."""
    found = set()
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(one.cmdline())
            if str(layers._CHILD) in words and str(path) in words and one.status() != psutil.STATUS_ZOMBIE:
                found.add(one.pid)
    return found


def test_it_releases_the_same_bytes_and_leaves_the_generator_the_same(plug: Path) -> None:
    apart, ours = build(plug, secret=5), here(plug, secret=5)
    assert isinstance(apart, StandIn) and not isinstance(ours, StandIn)
    generators = [torch.Generator().manual_seed(7) for _ in range(2)]
    for size in (4, 2):
        one, two = (release(each, IMAGES[:size], g) for each, g in zip((apart, ours), generators, strict=True))
        assert np.array_equal(one, two)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    direct = [each.protect(to_float(IMAGES), g) for each, g in zip((apart, ours), generators, strict=True)]
    assert torch.equal(*direct)
    assert apart.config.model_dump(mode="json") == ours.config.model_dump(mode="json")
    assert (apart.randomness, apart.guarantee, apart.card, type(apart).version) == (
        ours.randomness, ours.guarantee, ours.card, type(ours).version,
    )  # fmt: skip


def test_its_parameters_are_checked_in_its_own_process(plug: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'sceret'\. Did you mean 'secret'"):
        build(plug, sceret=1)
    with pytest.raises(UserError, match="secret"):
        build(plug, secret="many")


def test_gradients_come_through(plug: Path) -> None:
    found = []
    for defense in (build(plug), here(plug)):
        images = to_float(IMAGES[:2]).requires_grad_()
        out = defense.protect(images, torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad(out.square().sum(), images)
        found.append(gradient)
    assert torch.allclose(*found) and found[0].abs().sum() > 0


LEARNER = """
import torch
from ppfr_bench.api import Defense, DefenseCard


class Learner(Defense):
    version = 1
    card = DefenseCard(title="Learner", family="learned", reference="a test, 2026", licence="MIT", learned=True)

    def fit(self, faces, generator):
        count = len(set(faces.identities.tolist()))
        rows = torch.randperm(len(faces), generator=generator)[:4].tolist()
        assert all(name.startswith("image ") for name in faces.names), "names stay on the other side"
        self.mean = torch.as_tensor(faces.load(rows)).float().mean() / 255 + count / 100

    def protect(self, images, generator):
        return torch.nn.functional.avg_pool2d(images, 4) * self.mean

    def render(self, released):
        return torch.nn.functional.interpolate(released, scale_factor=4).clamp(0, 1)


DEFENSE = Learner
"""


def test_it_learns_from_images_that_are_sent_and_renders_what_it_releases(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "learner", LEARNER)
    apart, ours = build(path), here(path.rename(tmp_path / "learner_here.py"))
    path.write_text(LEARNER)
    assert not type(apart).releases_image() and type(apart).fit is not Defense.fit
    for each in (apart, ours):
        generator = torch.Generator().manual_seed(2)
        if each is apart:
            each.fit(FACES, generator)
        else:
            each.mean = torch.as_tensor(
                FACES.load(torch.randperm(len(FACES), generator=generator)[:4].tolist())
            ).float().mean() / 255 + len(set(FACES.identities.tolist())) / 100  # fmt: skip
    one, two = (release(each, IMAGES, torch.Generator()) for each in (apart, ours))
    assert one.shape == (6, 3, 28, 28) and np.array_equal(one, two)
    assert torch.equal(apart.render(to_float(one)), ours.render(to_float(one)))
    apart.plugin.end()
    with pytest.raises(UserError, match="no longer needed"):  # What it has learnt is gone with its process.
        release(apart, IMAGES, torch.Generator())


@pytest.mark.parametrize("act", ["nan", "double", "smaller", "nothing", "far", "in_place", "global"])
def test_a_breach_is_found_in_the_same_words(plug: Path, act: str) -> None:
    names = [f"somebody {i}" for i in range(len(IMAGES))]
    found = [check_defense(defense, IMAGES, names, 0) for defense in (build(plug, act=act), here(plug, act=act))]
    assert found[0] == found[1] != []


def test_check_passes_what_keeps_the_contract_and_names_what_does_not(plug: Path) -> None:
    build(plug)
    assert check_plugin("defense", "plug") == []


@namespaces
def test_it_sees_nothing_of_the_harness(plug: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    (cache_dir() / "stages").mkdir(parents=True, exist_ok=True)
    assert "A_TOKEN" not in attempt(plug, "environ")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "DONE" not in attempt(plug, "network", listener.getsockname()[1])
    repository = Path(layers.ppfr_bench.__file__).resolve().parents[1]
    for act, argument in (
        ("name", ""), ("read", secret), ("list", cache_dir()), ("list", Path.home() / ".cache"),
        ("list", repository / "tests"), ("read", "/etc/passwd"), ("write", secret), ("write", tmp_path / "new"),
        ("write", "/new"), ("write", plug), ("write", repository / "ppfr_bench/new.py"), ("write", "/dev/shm/new"),
        ("run", ""), ("kill", os.getpid()), ("trace", os.getpid()), ("mount", ""),
    ):  # fmt: skip
        assert "DONE" not in attempt(plug, act, argument), (act, argument)
    assert secret.read_text() == "secret" and not (tmp_path / "new").exists() and plug.read_text() == SOURCE
    assert len(attempt(plug, "processes").split()) < 10
    assert "DONE here" in attempt(plug, "write", "/tmp/mine"), "it has a place of its own to write in"


@pytest.mark.parametrize("outer", [None, ()])
def test_a_link_beside_it_opens_no_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: tuple[str, ...] | None
) -> None:
    if outer is not None:
        pytest.importorskip("landlock")
        monkeypatch.setattr(layers, "outer_layers", lambda: outer)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "secret").write_text("secret")
    folder = tmp_path / "sent"
    folder.mkdir()
    path = write_plugin(folder, "linked" if outer is None else "linked_under_landlock")
    path.with_suffix(".weights").write_text("its own")
    path.with_suffix(".txt").symlink_to(tmp_path / "mine" / "secret")
    inside = Path("/plugin") if "bubblewrap" in layers.outer_layers() else folder
    assert "DONE" not in attempt(path, "read", inside / f"{path.stem}.txt")
    assert "DONE b'its own'" in attempt(path, "read", inside / f"{path.stem}.weights")


ENDS = {
    "sys_exit": "raises SystemExit: it ends the program, with exit code 0",
    "interrupt": "raises KeyboardInterrupt",
    "os_exit": "its process died with exit code 0",
    "signal": "its process died of SIGKILL",
    "crash": "its process died of SIGSEGV",
    "fork_twice": "DONE None",
    "forks 30": "processes: more than 6 at a time",
    "hog": "memory: more than 0.25 GiB|can't allocate memory|MemoryError",
    "disk": "No space left|OSError|memory",
    "unlinked": "No space left|OSError|memory",
    "memory_of_nobody": "raises PermissionError",
    "pair": r"DONE \[1\]",
    "output": "output: more than 1048576 bytes",
    "endless": "timeout: more than 3 s in release",
    "kill_parent": "DONE|died",
    "no_json": "it sent a header that is no JSON",
    "huge_header": "it sent a header of 4294967295 bytes",
    "huge_tensor": "it sent tensors of 274877906944 bytes",
    "no_tensors": "names no tensors",
    "wrong_state": "it sent a state of its generator that is none",
    "wrong_release": "it sent a release of another shape or type",
    "no_release": "it sent an answer without its release",
    "wrong_load": "a request for images that it has none to ask for",
    "close": "it closed its connection",
}


@pytest.mark.parametrize("act", ENDS)
def test_whatever_it_does_to_its_process_is_the_reason_and_nothing_survives(plug: Path, act: str) -> None:
    stand_in.set_limits(TIGHT)
    name, _, argument = act.partition(" ")
    assert re.search(ENDS[act], said := attempt(plug, name, argument)), said
    plugin = registry.load("defense", "plug").plugin
    if act == "fork_twice":
        assert len(family(plug)) > 1, "the fork is still there, as the process is"
    plugin.end()
    assert family(plug) == set()
    assert len(release(build(plug), IMAGES, torch.Generator())) == len(IMAGES), "the next call has a new process"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("while True: pass\nDEFENSE = 1", "timeout: more than 5 s in describe"),
        ("import os; os._exit(7)\nDEFENSE = 1", "died with exit code 7"),
        ("import sys; sys.exit(0)\nDEFENSE = 1", "it ends the program, with exit code 0"),
        ("print('x' * (2 << 20)); import time; time.sleep(9)\nDEFENSE = 1", "output: more than"),
        ("DEFENSE = 1", "expected a subclass of ppfr_bench.api.Defense"),
        ("globals()['DEF' + 'ENSE'] = 1", "expected a subclass of ppfr_bench.api.Defense"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))\nDEFENSE = 1", "cannot be imported"),
        (SOURCE + "ATTACK = 1", "expected a subclass of ppfr_bench.api.Attack"),
    ],
)
def test_an_import_that_goes_wrong_is_an_error_and_leaves_nothing(tmp_path: Path, source: str, says: str) -> None:
    stand_in.set_limits(replace(TIGHT, import_seconds=5))
    path = write_plugin(tmp_path, "wrong", source)
    with pytest.raises(UserError, match=says):
        registry.add_plugin(path)
    assert ("defense", "wrong") not in registry._added
    assert family(path) == set()


def test_a_file_with_a_defense_and_something_else_is_refused(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "both", SOURCE + "\nfrom ppfr_bench.scorers.unlinkability import SCORER\n")
    with pytest.raises(UserError, match="a defense and something else: defense, scorer"):
        registry.add_plugin(path)
    assert "both" in {name for name in here_kinds(path)}


MARK = """
from pathlib import Path
try:
    Path(__file__).with_suffix(".mark").touch()
except OSError:
    pass
"""
HIDDEN = MARK + SOURCE.replace("DEFENSE = Plug", "")
DECOY = '"""\nMETRIC = what it was tuned on\n"""\n'
DISGUISES = {
    "folded_letters": DECOY + HIDDEN + "\U0001d403EFENSE = Plug\n",
    "put_together": DECOY + HIDDEN + "globals()['DEF' + 'ENSE'] = Plug\n",
    "another_encoding": "# coding: utf_7\n" + DECOY + HIDDEN.replace("+", "+-") + "+AEQ-EFENSE = Plug\n",
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_defense_in_disguise_runs_in_its_own_process_all_the_same(tmp_path: Path, disguise: str) -> None:
    path = write_plugin(tmp_path, disguise, DISGUISES[disguise])
    assert isinstance(build(path), StandIn)
    assert not path.with_suffix(".mark").exists(), "it was imported where it can write beside itself"


TWO_FACED = """
import os
from ppfr_bench.metrics.base import Metric, MetricInfo

class Far(Metric):
    info = MetricInfo("two_faced", 1, (0.0, 1.0), "lower_is_better", "share", "test", "mean distance of two images")

    def values(self, images, references):
        return (images - references).abs().flatten(1).mean(1).double().numpy()

METRIC = Far
"""


def test_what_speaks_of_no_defense_in_its_own_process_and_has_one_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_HARNESS", "1")
    path = write_plugin(tmp_path, "two_faced", TWO_FACED + "if 'OF_THE_HARNESS' in os.environ:\n    DEFENSE = 1\n")
    with pytest.raises(UserError, match="has a defense that it did not speak of"):
        registry.add_plugin(path)
    assert ("metric", "two_faced") not in registry._added


def test_where_a_defense_is_wanted_no_file_of_another_kind_is_imported_here(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "two_faced", MARK + TWO_FACED)
    with pytest.raises(UserError, match=r"expected a defense, two_faced\.py is of kind metric"):
        evaluate(path, "smoke")
    assert not path.with_suffix(".mark").exists() and ("metric", "two_faced") not in registry._added


def test_a_file_that_needs_more_for_its_import_says_what_helps(tmp_path: Path) -> None:
    (tmp_path / "weights").touch()
    needs = f"open({str(tmp_path / 'weights')!r}).close()\n"
    path = write_plugin(tmp_path, "needy", needs + TWO_FACED.replace("two_faced", "needy"))
    with pytest.raises(UserError, match="cannot be imported: FileNotFoundError") as refused:
        registry.add_plugin(path)
    assert "--trust" in refused.value.hint
    assert here_kinds(path) == ["needy"]


def here_kinds(path: Path) -> list[str]:
    registry.run_here()
    return [name for _, name in registry.add_plugin(path)]


def test_what_was_added_here_is_known_as_such(plug: Path, tmp_path: Path) -> None:
    registry.add_plugin(plug)
    assert "plug" not in registry.added_here()
    here(plug)
    assert "plug" in registry.added_here()
    assert isinstance(build(plug), StandIn), "and again in its own process, when it is no longer trusted"


def test_a_process_that_nobody_asks_is_let_go_and_the_next_call_has_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_plugin(tmp_path, "seldom_asked")
    defense = build(path)
    child = defense.plugin.child
    monkeypatch.setattr(process, "_IDLE_SECONDS", 0.0)
    child._ended.wait(20)
    monkeypatch.undo()
    assert child.ended and family(path) == set()
    assert len(release(defense, IMAGES, torch.Generator())) == len(IMAGES)
    assert defense.plugin.child is not child
    defense.plugin.end()
    path.write_text(SOURCE.replace("version = 4", "version = 5"))
    with pytest.raises(UserError, match="has changed since it was added"):
        release(defense, IMAGES, torch.Generator())


@pytest.mark.parametrize("outer", [("unshare",), ()])
def test_without_bubblewrap_the_next_best_layers_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: tuple[str, ...]
) -> None:
    pytest.importorskip("landlock")
    pytest.importorskip("pyseccomp")
    if outer and not layers._works([layers.shutil.which("unshare") or "unshare", *layers._NAMESPACES, "true"]):
        pytest.skip("this machine lets nobody make namespaces")
    monkeypatch.setattr(layers, "outer_layers", lambda: outer)
    path = write_plugin(tmp_path, f"next_best_{len(outer)}")
    defense = build(path)
    assert set(defense.held) == {*outer, "landlock", "seccomp", "rlimits"}
    assert defense.plugin.child.open_to == ([] if outer else ["other processes"])
    secret = tmp_path / "secret"
    secret.write_text("secret")
    shared = Path(f"/dev/shm/{path.stem}_{os.getpid()}")
    shared.write_text("what workers share")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as service,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mailbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        service.bind(f"{folder}/service")
        service.listen()
        mailbox.bind(f"{folder}/mailbox")
        for act, argument in (
            ("network", listener.getsockname()[1]), ("read", secret), ("write", secret), ("read", shared),
            ("list", Path.home() / ".cache"), ("write", "/tmp/new"), ("run", ""), ("mount", ""), ("list", "/dev"),
            ("service", f"{folder}/service"), ("datagram", f"{folder}/mailbox"), ("memory_of_nobody", ""),
        ):  # fmt: skip
            assert "DONE" not in attempt(path, act, argument), act
    shared.unlink()
    for act in ("disk", "unlinked"):
        assert "disk: more than 64 MiB in its own folder" in attempt(path, act)
    assert "DONE" in attempt(path, "fork_twice")
    assert len(family(path)) > 1
    scratch = Path(defense.plugin.child._scratch)
    defense.plugin.end()
    assert family(path) == set() and not scratch.exists()


def test_what_no_layer_closes_is_said() -> None:
    assert layers.lacking(["bubblewrap"]) == []
    assert layers.lacking(["unshare", "landlock", "seccomp"]) == []
    assert layers.lacking(["unshare", "landlock"]) == ["other processes"], "by sockets that have a file"
    assert layers.lacking(["seccomp", "rlimits"]) == ["files", "other processes"]
    assert layers.lacking([]) == ["files", "the network", "other processes"]


def test_a_defense_of_the_folder_that_is_not_our_own_runs_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = registry.build("defense", "pixelate", {"block": 8})
    monkeypatch.setattr(registry, "own_defenses", lambda: frozenset())
    registry._foreign_class.cache_clear()
    apart = registry.build("defense", "pixelate", {"block": 8})
    assert isinstance(apart, StandIn) and not isinstance(ours, StandIn)
    assert np.array_equal(*(release(one, IMAGES, torch.Generator()) for one in (apart, ours)))
    with pytest.raises(UserError, match="block"):
        registry.build("defense", "pixelate", {"block": -1})
    registry._foreign_class.cache_clear()


def test_the_list_of_our_own_defenses_names_files_that_are_there() -> None:
    assert registry.own_defenses() <= set(registry.names("defense"))
    assert "pixelate" in registry.own_defenses()


def test_a_process_ends_with_the_harness_that_is_killed(tmp_path: Path) -> None:
    path = write_plugin(tmp_path, "loops", "import os\nos.fork()\nwhile True: pass\nDEFENSE = 1")
    code = f"from pathlib import Path; from ppfr_bench import registry; registry.add_plugin(Path({str(path)!r}))"
    run = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    while len(family(path)) < 3 and run.poll() is None:  # bubblewrap, and two that loop.
        pass
    mine = [psutil.Process(pid) for pid in family(path)]
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(mine, timeout=10)
    assert mine and not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


# What it says --------------------------------------------------------------------------------------------------------


def test_what_it_says_may_hold_half_characters_and_nothing_else_that_it_sends(tmp_path: Path) -> None:
    said = SOURCE.replace('"ENVIRON "', r'"no weights at \udcff"')
    with pytest.raises(PluginError, match=r"no weights at \?"):
        build(write_plugin(tmp_path, "half_said", said), act="environ").protect(to_float(IMAGES), torch.Generator())
    for name, value in (("half_sent", r"str = '\ud800'"), ("infinite", "float = 1e999")):
        source = SOURCE.replace("    secret: int = 3\n", f"    secret: int = 3\n    more: {value}\n")
        with pytest.raises(UserError, match="a header that is no JSON"):
            build(write_plugin(tmp_path, name, source))


def test_errors_keep_their_names(plug: Path) -> None:
    with pytest.raises(BreachError, match="raises FileNotFoundError") as caught:
        protect_once(build(plug, act="read", argument="/nowhere"), IMAGES, torch.Generator(), list("abcdef"))
    assert caught.value.finding.names == tuple("abcdef")
    with pytest.raises(PluginError) as raised:
        build(plug, act="read", argument="/nowhere").protect(to_float(IMAGES), torch.Generator())
    assert type(raised.value).__name__ == "FileNotFoundError"
    with pytest.raises(RuntimeError, match="ENVIRON"):
        build(plug, act="environ").protect(to_float(IMAGES), torch.Generator())
    with pytest.raises(SandboxError, match="died"):
        build(plug, act="signal").protect(to_float(IMAGES), torch.Generator())
