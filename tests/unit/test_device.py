"""The device of a process: what is there, what is moved, what is kept, and that draws are the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pretended_device import OTHERS, other_device, pretended

from ppfr_bench import device
from ppfr_bench.api import per_image_generators, to_bytes, to_float
from ppfr_bench.errors import UserError

ABSENT = [kind for kind in OTHERS if kind not in device.names()]
absent = pytest.mark.parametrize("kind", ABSENT)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    device.select("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Which one


def test_a_process_starts_on_the_cpu_which_is_always_there() -> None:
    assert device.current() == device.CPU and device.names()[0] == "cpu"
    assert device.select("cpu") == device.CPU


@absent
def test_a_device_that_is_not_there_is_refused_with_what_is(kind: str) -> None:
    with pytest.raises(UserError, match=f"'{kind}' is not on this machine") as caught:
        device.select(kind)
    assert "Here: cpu" in caught.value.hint and "--device" in caught.value.hint
    with pytest.raises(UserError), device.use(f"{kind}:1"):
        pass
    assert device.current() == device.CPU


@pytest.mark.parametrize("name", ["gpu", "cudda", "meta", "cuda:x", ""])
def test_a_device_that_does_not_exist_is_answered_with_the_nearest(name: str) -> None:
    for ask in (device.select, device.device_class):
        with pytest.raises(UserError, match=f"no device '{name}'") as caught:
            ask(name)
        assert "cuda" in caught.value.hint or "cpu" in caught.value.hint


def test_use_goes_back_even_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), other_device("cuda"):
        assert device.current().type == "cuda"
        device.to(torch.ones(2)).sum().item() / 0
    assert device.current() == device.CPU


def test_a_number_beyond_the_last_is_refused() -> None:
    if "cuda" in ABSENT:
        with pretended("cuda"):
            with pytest.raises(UserError, match="1 of that kind"):
                device.select("cuda:1")
            assert device.select("cuda:0").index == 0
    with pytest.raises(UserError, match="1 of that kind"):
        device.select("cpu:1")


def test_a_key_holds_the_class_alone() -> None:
    assert [device.device_class(name) for name in ("cpu", "cuda", "cuda:3", "mps")] == ["cpu", "cuda", "cuda", "mps"]
    assert device.device_class(torch.device("cuda", 1)) == "cuda" and device.device_class() == "cpu"
    with other_device("mps"):
        assert device.device_class() == device.device_class(device.to(torch.ones(1)).sum().device) == "mps"


# What is moved


def test_on_the_cpu_nothing_is_copied() -> None:
    values, network = torch.rand(3), torch.nn.Linear(2, 2)
    assert device.to(values) is values and device.to(network) is network
    assert device.double(values).dtype == torch.float64


@pytest.mark.parametrize("kind", OTHERS)
def test_tensors_and_modules_move_to_the_device_or_to_where_another_tensor_is(kind: str) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.BatchNorm1d(2))
    with other_device(kind):
        there = device.to(torch.rand(3, 4))
        assert device.to(network) is network
        assert {part.device.type for part in (*network.parameters(), *network.buffers())} == {kind}
        assert network(there).device.type == kind
        assert device.to(there, like=torch.ones(1)).device == device.CPU
        assert device.to(torch.ones(1), like=there).device.type == kind
        assert device.double(there).device.type == ("cpu" if kind == "mps" else kind)


def test_a_module_that_is_moved_while_gradients_are_off_serves_them_later() -> None:
    with other_device("cuda"):
        network = torch.nn.Linear(2, 1)
        with torch.inference_mode():
            device.to(network)
        network(device.to(torch.ones(1, 2))).sum().backward()
        assert network.weight.grad is not None and network.weight.grad.cpu().sum() == 2


@pytest.mark.parametrize("kind", OTHERS)
def test_images_go_to_the_device_and_bytes_come_back(kind: str) -> None:
    levels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    here = to_float(levels)
    with other_device(kind):
        there = to_float(levels)
        assert there.device.type == kind and to_float(torch.from_numpy(levels)).device.type == kind
        np.testing.assert_array_equal(there.cpu(), here)
        np.testing.assert_array_equal(to_bytes(there), levels)
        drawn = [torch.rand(2, generator=one) for one in per_image_generators(seeded(), 2)]
    assert torch.equal(
        torch.stack(drawn), torch.stack([torch.rand(2, generator=g) for g in per_image_generators(seeded(), 2)])
    )


# What is drawn


@pytest.mark.parametrize("kind", OTHERS)
def test_a_draw_has_the_same_bits_on_every_device(kind: str) -> None:
    expected = torch.randn(3, 4, generator=seeded()), torch.randint(0, 9, (5,), generator=seeded(), dtype=torch.int8)
    with other_device(kind):
        for like in (None, device.to(torch.ones(1))):
            normal = device.draw(torch.randn, seeded(), 3, 4, like=like)
            whole = device.draw(torch.randint, seeded(), 0, 9, (5,), like=like, dtype=torch.int8)
            assert normal.device.type == whole.device.type == kind
            assert torch.equal(normal.cpu(), expected[0]) and torch.equal(whole.cpu(), expected[1])
        assert device.draw(torch.rand, seeded(), 2, like=torch.ones(1)).device == device.CPU


# What is kept


def test_a_constant_is_computed_once_for_each_device_and_argument() -> None:
    calls: list[int] = []

    @device.per_device
    def ramp(count: int, step: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """A ramp and its end."""
        calls.append(count)
        values = torch.arange(count) * step
        return values, values[-1:]

    assert ramp.__doc__ == "A ramp and its end." and ramp(3)[0] is ramp(3)[0] and ramp(3, step=2.0)[1].item() == 4
    assert calls == [3, 3]
    with other_device("cuda"):
        there = ramp(3)
        assert [part.device.type for part in there] == ["cuda", "cuda"] and ramp(3)[0] is there[0]
        assert ramp.on(there[0].device, 3)[0] is there[0] and ramp.on(torch.device("cuda"), 3)[0] is there[0]
        assert ramp.on(device.CPU, 3)[0].device == device.CPU and calls == [3, 3, 3]
        ramp.cache_clear()
    assert ramp(3)[0].tolist() == [0, 1, 2] and len(calls) == 4


def test_a_constant_serves_gradients_whoever_asks_first() -> None:
    @device.per_device
    def weights() -> torch.Tensor:
        return torch.ones(3)

    with torch.inference_mode():
        weights()
    given = torch.ones(3, requires_grad=True)
    (given * weights()).sum().backward()
    assert given.grad is not None and not weights().is_inference()


def test_a_module_can_be_a_constant_too() -> None:
    @device.per_device
    def network() -> torch.nn.Linear:
        return torch.nn.Linear(2, 2).requires_grad_(False)

    with other_device("cuda"):
        assert network().weight.device.type == "cuda" and network.on(device.CPU).weight.device == device.CPU


# Half precision


def test_autocast_is_off_where_it_would_be_slower_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    network, values = torch.nn.Linear(4, 4), torch.rand(2, 4)
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda supported=supported: supported)
        with device.autocast():
            assert network(values).dtype == expected
    monkeypatch.setattr(device, "_current", torch.device("mps"))
    with device.autocast():
        assert network(values).dtype == torch.float32


# The pretended device notices what a real one would


MISTAKES: list[Callable[[torch.Tensor], Any]] = [
    lambda x: x + torch.ones(3),
    lambda x: torch.cat([x, torch.ones(3)]),
    lambda x: torch.nn.Linear(3, 1)(x),
    lambda x: x.numpy(),
    lambda x: np.asarray(x),
    lambda x: torch.from_numpy(np.ones(3)) * x,
    lambda x: torch.rand(3, generator=seeded(), device=x.device),
    lambda x: x.clone().uniform_(generator=seeded()),
    lambda x: torch.ones(3).mul_(x),
    lambda x: torch.ones(3)[x.long()],
    lambda x: x.gather(0, torch.zeros(1, dtype=torch.int64)),
    lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, 0.0),
]
FINE: list[Callable[[torch.Tensor], Any]] = [
    lambda x: (torch.tensor(2.0) * x + torch.tensor(1.0)) * x,
    lambda x: [*x[torch.tensor([0, 2])].tolist(), float(x[1])],
    lambda x: x.new_zeros(3) + torch.zeros_like(x) + torch.arange(3, device=x.device) + x.new_tensor([1, 2, 3]),
    lambda x: x.cpu().numpy(),
    lambda x: torch.empty(3, device=x.device).copy_(torch.ones(3)),
]


@absent
def test_the_pretended_device_fails_where_a_real_one_would_and_nowhere_else(kind: str) -> None:
    with pretended(kind) as mode:
        values = device.to(torch.rand(3))
        before = mode.operations
        for right in FINE:
            right(values)
        assert mode.operations > before
        for wrong in MISTAKES:
            with pytest.raises((RuntimeError, TypeError)):
                wrong(values)
        if kind == "mps":
            with pytest.raises(TypeError, match="float64"):
                values.double()
    with pytest.raises(AssertionError, match="outlived"):
        values + 1
    assert values.cpu().device == device.CPU
