"""What attacks learn with: answers of kernel ridge regression, and the same results on every device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from pretended_device import OTHERS, assert_alike, other_device

from ppfr_bench import device, registry, testing
from ppfr_bench.api import ByteArray, FloatArray
from ppfr_bench.datasets.faces import ArrayFaces, subset
from ppfr_bench.learning import kernel_ridge
from ppfr_bench.learning.decoding import fit_decoder
from ppfr_bench.learning.face_decoder import STRENGTHS, fit_linear_faces
from ppfr_bench.learning.heads import MAP_STRENGTHS, choose_embedding_map, fit_embedding_map
from ppfr_bench.learning.inversion import read_inversion_data
from ppfr_bench.learning.kernel_ridge import KERNELS, KernelRidge, _kernels, fit_kernel_ridge
from ppfr_bench.learning.kernel_ridge import STRENGTHS as STRENGTHS_OF_KERNELS
from ppfr_bench.learning.resizing import shrink_faces
from ppfr_bench.learning.validation import evenly_spaced


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Matrices this small only wait for each other on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def refitted(fitted: KernelRidge, outputs: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Answers on the rows that are not kept, by a fit on the others with a constant, solved as one system."""
    kernel, _ = _kernels(fitted._inputs, [fitted.name])[fitted.name]
    gram = kernel(fitted._inputs, fitted._inputs)
    n, penalty = int(kept.sum()), fitted.strength * gram.diagonal().mean()
    system = torch.ones(n + 1, n + 1, dtype=torch.float64)
    system[:n, :n] = gram[kept][:, kept] + penalty * torch.eye(n, dtype=torch.float64)
    system[n, n] = 0
    solved = torch.linalg.solve(system, torch.cat([outputs[kept].double(), torch.zeros(1, outputs.shape[1])]).double())
    return gram[~kept][:, kept] @ solved[:n] + solved[n]


@pytest.mark.parametrize("strength", STRENGTHS_OF_KERNELS)
@pytest.mark.parametrize("name", KERNELS)
def test_left_out_answers_are_those_of_a_fit_without_that_person(name: str, strength: float) -> None:
    """Against refitting with the person's rows away, at every strength: neither inputs nor outputs tell of them.

    Under weak penalties, a fit that is centred on all images tells of the person: there are fewer images than pixels.
    """
    generator = seeded(1)
    inputs = (torch.rand(60, 3, 8, 8, generator=generator) * 255).to(torch.uint8)
    outputs = (inputs.float() * 0.5 + 40 + 60 * torch.randn(60, 1, 1, 1, generator=generator)).flatten(1) / 255
    people = np.repeat(np.arange(20), 3)
    with mock.patch.multiple(kernel_ridge, STRENGTHS=(strength,), KERNELS=(name,)):
        fitted = fit_kernel_ridge(inputs, outputs, people, people >= 18)
    assert (fitted.name, fitted.strength) == (name, strength)
    kept = torch.from_numpy(people != 4)
    expected = refitted(fitted, outputs, kept)
    np.testing.assert_allclose(fitted.left_out[~kept].numpy(), expected.numpy(), atol=2e-4)


def test_a_person_alone_is_left_out_as_the_mean_face() -> None:
    inputs, people = torch.rand(6, 3, 8, 8, generator=seeded(1)), np.zeros(6, dtype=np.int64)
    fitted = fit_kernel_ridge(inputs, inputs.flatten(1), people, np.zeros(6, dtype=bool))
    torch.testing.assert_close(fitted.left_out, inputs.flatten(1).mean(0).expand(6, -1))


def test_answers_do_not_depend_on_where_outputs_are_centred() -> None:
    """Of a part of the images, too: an answer that leaves images out knows nothing of them."""
    inputs, people = torch.rand(40, 3, 6, 6, generator=seeded(6)), np.arange(40)
    outputs = torch.rand(40, 5, generator=seeded(7))
    changed = outputs.clone()
    changed[20:] += 1000
    fits = [fit_kernel_ridge(inputs, given, people, people >= 36) for given in (outputs, changed)]
    first, second = (replace(fit, strength=1e-3).of_part(people[:20], inputs[20:]) for fit in fits)
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)


def test_of_kernels_that_do_as_well_the_simplest_is_taken() -> None:
    """On inputs that tell nothing, all answer with the mean; the best by a hair may be one that knows no places."""
    inputs, outputs = (torch.rand(300, 3, 6, 6, generator=seeded(seed)) for seed in (8, 9))
    people = np.arange(300)
    fitted = fit_kernel_ridge(inputs, outputs.flatten(1), people, people >= 240)
    assert min(fitted.error, key=lambda name: fitted.error[name]) != fitted.name == "pixels"


def test_evenly_spaced_rows_are_of_as_many_people_as_there_are() -> None:
    people, rows = np.repeat(np.arange(50), 4), np.arange(200)
    some = evenly_spaced(rows, 24)
    assert len(set(some.tolist())) == len(set(people[some].tolist())) == 24 and (some[0], some[-1]) == (0, 199)
    assert evenly_spaced(rows[:24], 24).tolist() == list(range(24)) and evenly_spaced(rows[:0], 24).size == 0


def test_the_kernel_is_chosen_by_what_rebuilds_strangers() -> None:
    """Amplitudes where positions are random, the curved one where the answer bends, pixels where it is linear."""
    generator = seeded(2)
    pictures = torch.rand(200, 3, 4, 4, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    rolled = torch.stack([p.roll((int(i) % 8, int(i) // 8 % 8), (1, 2)) for i, p in enumerate(pictures)])
    people = np.arange(200)
    amplitudes = torch.fft.rfft2(pictures.mean(1)).abs().flatten(1)
    for inputs, outputs, name in (
        (pictures, pictures.flatten(1), "pixels"),
        (rolled, amplitudes, "spectrum"),
        (pictures[:, :, ::8, ::8].repeat(1, 1, 8, 8), (pictures[:, :, 0, 0] * 6).sin(), "curved"),
    ):
        assert fit_kernel_ridge(inputs, outputs, people, people >= 160).name == name


def test_a_regression_on_a_part_of_its_images_knows_less() -> None:
    """On all of them it is the whole; on fewer it is a fit of those alone, which held-out images tell."""
    generator = seeded(4)
    inputs = torch.rand(240, 3, 6, 6, generator=generator)
    outputs = (inputs.flatten(1) @ torch.randn(108, 108, generator=generator)) / 108
    people = np.arange(200)
    fitted = fit_kernel_ridge(inputs[:200], outputs[:200], people, people >= 180)
    np.testing.assert_allclose(fitted.of_part(people, inputs[200:]), fitted(inputs[200:]), atol=1e-4)
    errors = [
        float((fitted.of_part(np.arange(count), inputs[200:]) - outputs[200:]).square().mean())
        for count in (25, 50, 100, 200)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_what_a_regression_is_given_stays_as_it_was() -> None:
    """Of single precision, too, where a flat view shares memory: the answers to bytes and to floats are the same."""
    pictures = (torch.rand(60, 3, 8, 8, generator=seeded(3)) * 255).to(torch.uint8)
    floats, outputs, people = pictures.float(), (pictures.flatten(1).float() / 90).sin(), np.arange(60)
    answers = [fit_kernel_ridge(given, outputs, people, people >= 50)(given) for given in (pictures, floats)]
    assert torch.equal(floats, pictures.float())
    torch.testing.assert_close(*answers)


# Other devices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
def test_a_regression_answers_the_same_on_every_device(kind: str) -> None:
    pictures, people = torch.rand(60, 3, 8, 8, generator=seeded(3)), np.arange(60) // 2

    def answered() -> list[torch.Tensor]:
        fitted = fit_kernel_ridge(pictures, pictures.flatten(1).sin(), people, people >= 25)
        return [fitted(pictures[:5]).cpu(), fitted.left_out.cpu()]

    here = answered()
    with other_device(kind) as exact:
        for theirs, ours in zip(answered(), here, strict=True):
            assert_alike(theirs, ours, exact)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_key_is_decoded_to_the_same_on_every_device(kind: str) -> None:
    """Smooth pictures, of which every value is xored with a key."""
    rng = np.random.default_rng(7)
    clear = np.repeat(np.repeat(rng.integers(0, 256, (160, 3, 2, 2), dtype=np.uint8), 8, 2), 8, 3)
    released = clear ^ rng.integers(0, 256, clear.shape[1:], dtype=np.uint8)
    faces = ArrayFaces(clear, np.arange(160), [str(i) for i in range(160)])

    def decoded() -> ByteArray:
        decoder = fit_decoder(released, faces, faces.identities >= 120)
        assert decoder is not None
        return decoder(released[:8]).cpu().numpy()

    here = decoded()
    with other_device(kind) as exact:
        assert_alike(decoded(), here, exact)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_learnt_of_a_representation_is_the_same_on_every_device(kind: str) -> None:
    faces = testing.example_faces()
    mine, targets = subset(faces, [0, 1, 4, 5]), faces.load([8, 12])

    def learnt() -> list[torch.Tensor]:
        defense = registry.build("defense", "duetface", {})
        defense.fit(faces, seeded())
        view = testing.attacker_view(registry.build("attack", "ridge", {"size": 16}), defense, mine, targets, targets)
        data = read_inversion_data(view, 16, 1)
        assert data.own.channels is not None
        return [part.cpu() for part in (data.own.images, data.own.channels, data.own_estimates, data.target_estimates)]

    here = learnt()
    with other_device(kind) as exact:
        for theirs, ours in zip(learnt(), here, strict=True):
            assert_alike(theirs, ours, exact)


@pytest.mark.parametrize("kind", OTHERS)
def test_shrunk_faces_are_kept_for_the_device_that_computed_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faces, asked = testing.example_faces(), []
    whole = type(faces).batches

    def counted(self: object, size: int) -> object:
        asked.append(str(device.current()))
        return whole(faces, size)

    monkeypatch.setattr(type(faces), "batches", counted)
    here = shrink_faces(faces, 56)
    assert shrink_faces(faces, 56) is here and asked == ["cpu"]
    with other_device(kind) as exact:
        assert_alike(shrink_faces(faces, 56), here, exact)
    assert len(asked) == 2 and asked[1].startswith(kind)


# Embeddings ----------------------------------------------------------------------------------------------------------


def unit_embeddings(count: int, dimension: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_where_nothing_is_protected_the_map_of_embeddings_is_the_identity() -> None:
    clear = unit_embeddings(40, 64, 0)  # Fewer than dimensions: nothing else determines it.
    found, _, note = choose_embedding_map(clear, clear, np.arange(40) % 5 == 0)
    fresh = unit_embeddings(10, 64, 1)
    assert np.allclose(found(fresh), fresh, atol=1e-9) and note["held_out_cosine"] == 1


def test_a_map_of_embeddings_undoes_what_a_defense_does_to_them_and_keeps_what_it_leaves() -> None:
    random = np.random.default_rng(2)
    clear, fresh = unit_embeddings(400, 32, 3), unit_embeddings(50, 32, 4)
    rotation, _ = np.linalg.qr(random.normal(size=(32, 32)))
    held_out = np.arange(400) % 5 == 0

    def cosine(found: FloatArray) -> float:
        return float(((found / np.linalg.norm(found, axis=1, keepdims=True)) * fresh).sum(1).mean())

    found, _, _ = choose_embedding_map(clear @ rotation, clear, held_out)
    assert cosine(found(fresh @ rotation)) > 0.9 > 0.3 > cosine(fresh @ rotation)
    noise = [0.5 * unit_embeddings(len(rows), 32, 5 + i) for i, rows in enumerate((clear, fresh))]
    found, _, note = choose_embedding_map((clear + noise[0])[:30], clear[:30], held_out[:30])
    assert cosine(found(fresh + noise[1])) > 0.95 * cosine(fresh + noise[1]), "thirty pairs do no harm"
    assert note["strength"] > min(MAP_STRENGTHS)


def test_an_embedding_that_tells_nothing_is_mapped_to_the_mean() -> None:
    clear = unit_embeddings(200, 16, 6)
    found = fit_embedding_map(np.ones_like(clear), clear, 1.0)
    assert np.allclose(found(np.ones((3, 16))), clear.mean(0))


def test_closed_form_faces_left_out_are_those_of_a_fit_without_that_person() -> None:
    """Against refitting with the person's rows away, but for the shift of the means."""
    embeddings = torch.from_numpy(unit_embeddings(90, 12, 7)).float()
    weights, noise = (torch.rand(n, 3 * 64 * 64, generator=seeded(n)) - 0.5 for n in (12, 90))
    rows = (0.4 * embeddings @ weights + 0.3 * noise + 0.5).clamp(0, 1)
    faces = (rows * 255).to(torch.uint8).reshape(-1, 3, 64, 64)
    people = np.repeat(np.arange(30), 3)
    linear, left_out, strength = fit_linear_faces(embeddings, faces, people, people >= 27)
    mine = people == 4
    others, _, same = fit_linear_faces(embeddings[~mine], faces[~mine], people[~mine], people[~mine] >= 27)
    assert same == strength in STRENGTHS
    with_them, without = ((one(embeddings[mine]) - left_out[mine]).square().mean().sqrt() for one in (linear, others))
    assert without < 0.2 * with_them
