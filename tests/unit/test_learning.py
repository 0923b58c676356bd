"""What attacks learn with: answers of kernel ridge regression, and the same results on every device."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench.learning.kernel_ridge import fit_kernel_ridge


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_left_out_answers_are_those_of_a_fit_without_that_person() -> None:
    """Against refitting with the person's rows away: the closed form must give the same, but for the mean's shift."""
    generator = seeded(1)
    inputs = (torch.rand(60, 3, 8, 8, generator=generator) * 255).to(torch.uint8)
    outputs = (inputs.float() * 0.5 + 40).flatten(1) / 255
    people = np.repeat(np.arange(20), 3)
    fitted = fit_kernel_ridge(inputs, outputs, people, people >= 18)
    assert fitted.name == "pixels"
    away = people == 4
    x = inputs.flatten(1).double()
    x, y = x - x.mean(0), outputs.double() - outputs.double().mean(0)
    kept = torch.from_numpy(~away)
    strength = fitted.strength * (x @ x.T).diagonal().mean()
    gram = x[kept] @ x[kept].T
    weights = torch.linalg.solve(gram + strength * torch.eye(len(gram), dtype=torch.float64), x[kept] @ x[~kept].T)
    expected = weights.T @ y[kept] + outputs.double().mean(0)
    np.testing.assert_allclose(fitted.left_out[~kept].numpy(), expected.numpy(), atol=1e-5)


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


def test_what_a_regression_is_given_stays_as_it_was() -> None:
    """Of single precision, too, where a flat view shares memory: the answers to bytes and to floats are the same."""
    pictures = (torch.rand(60, 3, 8, 8, generator=seeded(3)) * 255).to(torch.uint8)
    floats, outputs, people = pictures.float(), (pictures.flatten(1).float() / 90).sin(), np.arange(60)
    answers = [fit_kernel_ridge(given, outputs, people, people >= 50)(given) for given in (pictures, floats)]
    assert torch.equal(floats, pictures.float())
    torch.testing.assert_close(*answers)
