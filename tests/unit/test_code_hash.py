"""A code hash is the same for what does the same, differs for what does not, and is refused where nobody can tell."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from ppfr_bench.api import Config, Defense, DefenseCard, per_image_generators
from ppfr_bench.code_hash import UnseenError, code_hash

STRENGTH = 4
SHARED = torch.Generator()


def made(strength: float) -> Callable[..., Any]:
    return lambda images: images * strength


def helper(images: torch.Tensor) -> torch.Tensor:
    return images / 2


def calls_helper(images: torch.Tensor) -> torch.Tensor:
    return helper(images)


def reads_global(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(images, STRENGTH)


def noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.stack([torch.rand(3, 8, 8, generator=one) for one in per_image_generators(generator, len(images))])


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.by


class Mine(Defense):
    version = 1
    card = DefenseCard(title="Mine", family="test", reference="test", licence="MIT")

    class Config(Config):
        strength: float = 0.5

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images * self.config.strength


def net(bias: float) -> torch.nn.Module:
    layer = torch.nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        layer.weight.fill_(1)
        assert layer.bias is not None
        layer.bias.fill_(bias)
    return torch.nn.Sequential(layer, torch.nn.Sigmoid())


SEEN: list[Any] = [
    made(1.0), calls_helper, reads_global, noise, Scale(1.0), Scale(1.0).__call__, Mine, net(0.0), torch.clamp,
    functools.partial(F.avg_pool2d, kernel_size=4), torchvision.transforms.GaussianBlur(5),
    lambda images: np.sin(images.numpy()),
]  # fmt: skip


@pytest.mark.parametrize("thing", SEEN)
def test_the_same_thing_has_one_hash(thing: Any) -> None:
    assert code_hash(thing) == code_hash(thing)


def test_different_things_have_different_hashes() -> None:
    more = [made(2.0), made(1), Scale(2.0), net(1.0), functools.partial(F.avg_pool2d, kernel_size=8), helper]
    found = [code_hash(thing) for thing in SEEN + more]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("name", "value"), [("STRENGTH", 8), ("helper", lambda images: images / 3)])
def test_what_a_function_reads_and_calls_is_part_of_it(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    thing = reads_global if name == "STRENGTH" else calls_helper
    before = code_hash(thing)
    monkeypatch.setitem(globals(), name, value)
    assert code_hash(thing) != before


def test_a_method_changed_is_another_class() -> None:
    class Other(Mine):
        def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return images * self.config.strength / 2

    assert code_hash(Other) != code_hash(Mine)


def test_weights_trained_further_are_another_network() -> None:
    network = net(0.0)
    before = code_hash(network)
    with torch.no_grad():
        next(network.parameters()).add_(1e-6)
    assert code_hash(network) != before


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Whatever the order of its sets, and by code alone, not by where that stands."""
    code = "OFTEN = {'a', 'b', 'c', 'd'}\ndef f(x, k=3):\n    return [x * k for _ in OFTEN if _ in ('a', 'b')]\n"
    show = "from ppfr_bench.code_hash import code_hash; print(code_hash(f))\n"
    found = set()
    for seed in ("1", "2"):
        path = tmp_path / f"script_{seed}.py"
        path.write_text("\n" * int(seed) + code + show)
        done = subprocess.run([sys.executable, path], env=os.environ | {"PYTHONHASHSEED": seed}, text=True,
                              capture_output=True)  # fmt: skip
        found.add(done.stdout)
        assert done.returncode == 0, done.stderr
    assert len(found) == 1


LOCAL = types.ModuleType("beside_the_notebook")


class Counter:
    __slots__ = ("n",)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return images


def imports_a_local_module(images: torch.Tensor) -> torch.Tensor:
    import beside_the_notebook  # type: ignore[import-not-found]

    return beside_the_notebook.blur(images)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (lambda images: LOCAL.blur(images), "module beside_the_notebook"),
        (imports_a_local_module, "module beside_the_notebook"),
        (lambda images: images + torch.rand(images.shape, generator=SHARED), "Generator"),
        (lambda images: images * torch.load("weights.pt"), "uses load"),
        (lambda images: eval("images"), "uses eval"),
        (Counter(), "Counter"),
        ([].append, "keep state"),
        (torchvision.transforms.Compose([]), "Compose"),
    ],
)
def test_what_cannot_be_seen_has_none(thing: Any, says: str) -> None:
    with pytest.raises(UnseenError, match=says):
        code_hash(thing)


def test_a_file_called_as_one_of_pythons_is_no_part_of_python(tmp_path: Path) -> None:
    """Two versions of ``colorsys.py`` beside a script are two, though Python has a module of that name."""
    found = set()
    for factor in (2, 3):
        (tmp_path / "colorsys.py").write_text(f"def scale(images):\n    return images * {factor}\n")
        (tmp_path / "main.py").write_text(
            "from colorsys import scale\nfrom ppfr_bench.code_hash import code_hash\n"
            "print(code_hash(lambda images: scale(images)))\n"
        )
        done = subprocess.run([sys.executable, tmp_path / "main.py"], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 2
