"""dlib's network in torch against the package dlib, and the reader of its weights against damaged files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import device
from ppfr_bench.api import ByteArray, to_float
from ppfr_bench.assets import asset_path
from ppfr_bench.errors import UserError
from ppfr_bench.recognizers import load_recognizer
from ppfr_bench.recognizers._dlib_network import CHIP, DlibNetwork, read_weights
from ppfr_bench.recognizers.dlib_resnet import DlibResNet, chip
from ppfr_bench.testing import example_faces

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def content() -> bytes:
    return asset_path("dlib_resnet").read_bytes()


@pytest.fixture(scope="module")
def network(content: bytes) -> DlibNetwork:
    return DlibNetwork(read_weights(content))


def as_fed(chips: ByteArray) -> torch.Tensor:
    return torch.from_numpy(chips).permute(0, 3, 1, 2).to(torch.float32)


# The weights


def test_the_file_holds_29_convolutions_and_one_matrix(content: bytes) -> None:
    weights = read_weights(content)
    assert len(weights.convolutions) == 29 and weights.linear.shape == (128, 256)
    torch.testing.assert_close(weights.mean, torch.tensor([122.782, 117.001, 104.298]))
    assert all(bias.shape == filters.shape[:1] for filters, bias in weights.convolutions)
    assert sum(filters.numel() for filters, _ in weights.convolutions) == 5_571_168


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """With one occurrence of ``old`` replaced, the last one: the embedding's end of the file."""
    assert old in content
    place = content.rindex(old)
    return content[:place] + new + content[place + len(old) :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"", "at byte 0, the file ends there, 1 bytes too early"),
        (lambda content: content[:1], "at byte 1, the file ends there"),
        (lambda content: content[:1_000_000], "at byte 1000000, the file ends there"),
        (lambda content: content[:-1], "at byte 22466065, the file ends there, 1 bytes too early"),
        (lambda content: content + b"\0", "at byte 22466066, 1 bytes too many"),
        (lambda content: b"\x01\x02" + content[2:], "at byte 0, the version of the loss is 2 instead of 1"),
        (lambda content: b"\x09" + content[1:], "at byte 0, no integer has 9 bytes"),
        (lambda content: content.replace(b"loss_metric_2", b"loss_metric_1"), "'loss_metric_1' instead of"),
        (lambda content: replaced(content, b"con_4", b"con_5"), "'con_5' instead of 'con_4'"),
        (lambda content: replaced(content, b"affine_", b"\xffffine_"), r"'\\xffffine_' instead of 'affine_'"),
        (lambda content: replaced(content, b"\x05relu_", b"\x0abn_con2____"), "'bn_con2___' instead of 'relu_'"),
        (lambda content: replaced(content, b"fc_2\x01\x80", b"fc_2\x01\x40"), "the size of fc is 64, 256 instead of"),
        (lambda content: replaced(content, b"pool_2\x01\x02", b"pool_2\x01\x03"), "the geometry of avg_pool is 3"),
        (lambda content: content[:0x160] + b"\x00\x00\xc0\x7f" + content[0x164:], "not all values are finite"),
        (lambda content: content[:17] + b"\x01\x00\x02\x00\x7d" + content[23:], "threshold of the loss is not finite"),
        (lambda content: b"\x80\x04\x95" + content[3:], "no integer has 0 bytes"),  # how a pickle starts
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_the_place_named(content: bytes, damage: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_weights(damage(content))
    assert "not the weights of dlib's face recognition network" in caught.value.message
    assert caught.value.hint == "Type:  ppfr-bench assets fetch dlib_resnet"


def test_a_file_of_the_right_size_and_another_sha256_is_refused_where_no_other_can_be_had(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))
    path = tmp_path / "assets" / "dlib_resnet" / "dlib_face_recognition_resnet_model_v1.dat"
    path.parent.mkdir(parents=True)
    path.write_bytes(replaced(content, b"\x3c", b"\x3d"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(UserError, match=r"is damaged: it has another sha256.*\n.*assets fetch dlib_resnet"):
        DlibResNet()


# The network


def test_embeddings_are_those_of_the_package_dlib(content: bytes, network: DlibNetwork) -> None:
    dlib = pytest.importorskip("dlib")
    reference = dlib.face_recognition_model_v1(str(asset_path("dlib_resnet")))
    faces = [chip(face) for face in example_faces().load(range(12))]
    noise = np.random.default_rng(0).integers(0, 256, (4, CHIP, CHIP, 3), dtype=np.uint8)
    dark = [np.full((CHIP, CHIP, 3), level, np.uint8) for level in (0, 255)]
    chips = np.stack([*faces, *noise, *dark])
    expected = np.array([reference.compute_face_descriptor(one) for one in chips], np.float32)
    with torch.no_grad():
        found = network(as_fed(chips)).numpy()
    np.testing.assert_allclose(found[:16], expected[:16], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found[16:], expected[16:], rtol=0, atol=2e-5)  # far from all that it was trained on


def test_gradients_are_those_of_small_steps(content: bytes) -> None:
    exact = DlibNetwork(read_weights(content)).double()
    generator = torch.Generator().manual_seed(0)
    # Noise: where all pixels are alike, the largest of a window is any of them, and there is no slope.
    chips = (255 * torch.rand((2, 3, CHIP, CHIP), generator=generator, dtype=torch.float64)).requires_grad_()
    direction = torch.randn(chips.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(exact(chips)[:, :9].sum(), chips)
    with torch.no_grad():
        ahead, behind = (exact(chips + sign * 1e-5 * direction)[:, :9].sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - behind) / 2e-5, (gradient * direction).sum(), rtol=1e-5, atol=0)
    assert not any(parameter.requires_grad for parameter in exact.parameters())


# The recognizer


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_an_embedding_is_the_same_in_every_place_of_every_batch(count: int) -> None:
    recognizer = load_recognizer("dlib_resnet")
    image = to_float(example_faces().load([5]))
    alone = recognizer.embed(image)
    others = torch.rand((count, 3, 112, 112), generator=torch.Generator().manual_seed(count))
    for place in {0, count // 2, count - 1}:
        mixed = others.clone()
        mixed[place] = image[0]
        assert torch.equal(recognizer.embed(mixed)[place], alone[0])


def test_embedding_leaves_torch_its_threads_even_if_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, before = DlibResNet(), torch.get_num_threads()
    recognizer.embed(torch.rand(9, 3, 112, 112))
    assert torch.get_num_threads() == before
    monkeypatch.setattr("ppfr_bench.recognizers.dlib_resnet.chip", lambda crop: 1 / 0)
    for count in (1, 9):
        with pytest.raises(ZeroDivisionError):
            recognizer.embed(torch.rand(count, 3, 112, 112))
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("kind", ["faces", "noise", "between levels"])
def test_the_surrogate_sees_the_chips_of_pillow(kind: str) -> None:
    recognizer = load_recognizer("dlib_resnet")
    assert isinstance(recognizer, DlibResNet)
    generator = torch.Generator().manual_seed(0)
    images = {
        "faces": to_float(example_faces().load(range(4))),
        "noise": torch.randint(0, 256, (4, 3, 112, 112), generator=generator) / 255,
        "between levels": torch.rand((4, 3, 112, 112), generator=generator),
    }[kind]
    surrogate = recognizer.differentiable()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(recognizer.embed(images), dim=1)
        torch.testing.assert_close(surrogate(images), expected, rtol=0, atol=3e-4)


def test_a_step_along_the_surrogates_gradient_moves_the_recognizer() -> None:
    recognizer = load_recognizer("dlib_resnet")
    assert isinstance(recognizer, DlibResNet)
    surrogate = recognizer.differentiable()
    images = to_float(example_faces().load([0, 5, 10])).mul(0.8).add(0.1).requires_grad_()

    def unit(shown: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(recognizer.embed(shown.detach()), dim=1)

    target = unit(images)[[1, 2, 0]]
    (gradient,) = torch.autograd.grad((surrogate(images) * target).sum(), images)
    assert gradient.isfinite().all() and not any(p.requires_grad for p in surrogate.parameters())
    lengths = gradient.flatten(1).norm(dim=1)
    step = 0.3 * gradient / lengths[:, None, None, None]  # less is lost where embed rounds to 8 bits
    gain = ((unit(images + step) - unit(images - step)) * target).sum(dim=1) / (0.6 * lengths)
    assert (gain > 0.3).all() and (gain < 1.1).all()


def test_autocast_takes_no_levels_from_the_chips() -> None:
    recognizer = load_recognizer("dlib_resnet")
    assert isinstance(recognizer, DlibResNet)
    surrogate, images = recognizer.differentiable(), to_float(example_faces().load(range(4)))
    seen: list[torch.Tensor] = []
    surrogate.network.register_forward_pre_hook(lambda _, fed: seen.append(fed[0]))
    with torch.no_grad():
        surrogate(images)
        with torch.autocast(device.current().type, dtype=torch.bfloat16):
            answer = surrogate(images)
    assert torch.equal(*seen) and answer.dtype == torch.float32
