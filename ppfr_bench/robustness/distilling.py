"""Training of small networks under noise: by a teacher's probabilities, by labels, or on adversarial examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, ByteArray, Faces, to_float
from ppfr_bench.robustness.networks import SIDE, SmallNetwork
from ppfr_bench.robustness.smoothing import Noise

__all__ = ["BATCH", "distillation", "learn_faces", "mean_certified_radius", "small_images", "train"]

BATCH = 64
_SHIFT = 2  # Pixels by which a training image is moved at most.
_MOST = 2000  # Images of its own that a row learns from, at most.
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def small_images(images: ByteArray | Faces) -> Tensor:
    """The images averaged down, float32 (n, 3, 56, 56) in [0, 1]; of a split, at most 2,000 evenly spaced ones."""
    if isinstance(images, Faces):
        rows = own_rows(images)
        parts = [images.load(rows[i : i + 256]) for i in range(0, len(rows), 256)]
    else:
        parts = [images[i : i + 256] for i in range(0, len(images), 256)]
    return torch.cat([functional.avg_pool2d(to_float(part), SIZE // SIDE) for part in parts])


def own_rows(faces: Faces) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which images of a split a row learns from."""
    return np.linspace(0, len(faces) - 1, min(_MOST, len(faces))).astype(np.int64)


def train(
    network: nn.Module, images: Tensor, loss: Loss, steps: int, noise: Noise | Callable[[], Noise],
    generator: torch.Generator, rate: float,
) -> float:  # fmt: skip
    """Train in place on images that are mirrored, moved, made lighter or darker, and have noise.

    Args:
        images: float32 (n, 3, s, s).
        loss: (network, noisy images, their rows among ``images``) -> a number.
        noise: on each value; or what gives the noise of a step.

    Returns:
        The loss of the last step.
    """
    network = device.to(network).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=max(2, steps))
    last = float("nan")
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(images), (min(BATCH, 2 * len(images)),), generator=generator)
            changed = _varied(images[rows.to(images.device)], generator)
            drawn = (noise() if callable(noise) else noise).draw(tuple(changed.shape), generator)
            value = loss(network, changed + drawn.to(changed.device), rows)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            last = float(value.detach())
    network.eval().requires_grad_(False)
    return last


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    n, side = len(images), images.shape[-1]
    mirrored = torch.rand(n, 1, 1, 1, generator=generator).to(images.device) < 0.5
    light = 0.9 + 0.2 * torch.rand(n, 1, 1, 1, generator=generator).to(images.device)
    moves = torch.randint(0, 2 * _SHIFT + 1, (n, 2), generator=generator).tolist()
    padded = functional.pad(torch.where(mirrored, images.flip(3), images), (_SHIFT,) * 4, mode="replicate")
    return light * torch.stack([padded[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(moves)])


def distillation(answers: Tensor, temperature: float, share: float) -> Loss:
    """share KL(teacher || student) at a temperature, times its square, + (1 - share) cross-entropy to the top class.

    Hinton et al., 2015. Where a teacher answers with 0 and 1 the first part is a cross-entropy too.

    Args:
        answers: what the teacher answered, (n, classes), each row adding up to 1.
    """
    soft = device.to((answers.clamp_min(1e-6).log() / temperature).softmax(1))
    top = device.to(answers.argmax(1))

    def loss(network: nn.Module, images: Tensor, rows: Tensor) -> Tensor:
        at = rows.to(images.device)
        logits = _logits(network, images)
        near = functional.kl_div(functional.log_softmax(logits / temperature, dim=1), soft[at], reduction="batchmean")
        return share * temperature**2 * near + (1 - share) * functional.cross_entropy(logits, top[at])

    return loss


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    with device.autocast():
        found: Tensor = network(images)
    return found.float()


def learn_faces(
    network: SmallNetwork, own: Faces, images: Tensor, steps: int, noise: Callable[[], Noise],
    generator: torch.Generator, answers: Tensor | None = None, temperature: float = 4.0,
) -> float:  # fmt: skip
    """Learn from images of other people who is on them, by a head of its own, and what a teacher answers to them.

    Args:
        images: those of ``small_images(own)``.
        answers: the teacher's, (n, classes); None if it was not asked.
    """
    people, who = np.unique(own.identities[own_rows(own)], return_inverse=True)
    labels = device.to(torch.from_numpy(who))
    head = device.to(nn.Linear(network.head.in_features, len(people)))
    with torch.no_grad():
        head.weight.normal_(0, 0.05, generator=generator)
        head.bias.zero_()
    by_teacher = distillation(answers, temperature, 1.0) if answers is not None else None

    def loss(both: nn.Module, noisy: Tensor, rows: Tensor) -> Tensor:
        with device.autocast():
            named = head(torch.relu(network.features(noisy)))
        value = functional.cross_entropy(named.float(), labels[rows.to(noisy.device)])
        return value if by_teacher is None else value + by_teacher(network, noisy, rows)

    return train(nn.ModuleList([network, head]), images, loss, steps, noise, generator, 2e-3)


def mean_certified_radius(
    network: nn.Module, images: Tensor, labels: Tensor, noise: Noise, draws: int, generator: torch.Generator
) -> float:
    """The mean certified l2 radius of small images, 0 where the wrong class is voted for; a rough one, of few draws."""
    from ppfr_bench.robustness.smoothing import lower_bound

    network = network.eval()
    radii = []
    with torch.no_grad():
        for image, label in zip(images, labels.tolist(), strict=True):
            noisy = image + noise.draw((draws, *image.shape), generator).to(image.device)
            hits = int((network(noisy).argmax(1) == label).sum())
            radii.append(noise.radius(float(lower_bound([hits], draws, 0.01)[0]), "l2", image.numel()))
    return float(np.mean(radii))
