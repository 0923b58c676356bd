"""The defender's faces, as several defenses keep them: picked in ``fit``, never those of anyone who is evaluated.

What is picked and what is learnt of it lies on the current device, and follows the images to theirs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import Faces, IntArray, UserError


def one_each(faces: Faces, most: int, least: int, generator: torch.Generator) -> torch.Tensor:
    """uint8 (m, 3, h, w): a random image of each of at most ``most`` random identities.

    Raises:
        UserError: fewer than ``least`` identities.
    """
    order = torch.randperm(len(faces), generator=generator).numpy()
    people, first = np.unique(faces.identities[order], return_index=True)
    if len(people) < least:
        raise UserError(f"expected at least {least} identities of the defender, got {len(people)}", "Take a smaller k.")
    chosen: IntArray = order[np.sort(first)][:most]
    return loaded(faces, chosen)


def some(faces: Faces, most: int, generator: torch.Generator) -> torch.Tensor:
    """uint8 (m, 3, h, w): at most ``most`` random images, whoever they show."""
    order = torch.randperm(len(faces), generator=generator).numpy()
    return loaded(faces, order[:most])


def loaded(faces: Faces, rows: IntArray) -> torch.Tensor:
    """uint8 (m, 3, h, w): these images, on the current device."""
    return device.to(torch.from_numpy(faces.load(rows)))


def fitted(images: torch.Tensor, learnt: torch.Tensor | None) -> torch.Tensor:
    """What ``fit`` left, on the device of the images.

    Raises:
        UserError: it has not been called yet.
    """
    if learnt is None:
        raise UserError("this defense learns before it protects", "Call fit with the defender's faces first.")
    return learnt.to(images.device)


def like(faces: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """uint8 (m, 3, h, w) -> float32 (m, 3, h', w') in [0, 1], of the size and on the device of ``images``."""
    faces = faces.to(images.device).float() / 255
    if faces.shape[-2:] != images.shape[-2:]:
        faces = functional.interpolate(faces, size=images.shape[-2:], mode="bilinear", antialias=True).clamp(0, 1)
    return faces


def eigenfaces(vectors: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(m, d) -> mean (d,) and at most ``components`` orthonormal eigenfaces (c, d), the largest variance first.

    By way of the (m, m) Gram matrix in double precision; directions without variance are left out.
    """
    mean = vectors.mean(0)
    centred = vectors - mean
    values, left = torch.linalg.eigh(device.double(centred @ centred.T))
    values, left = values.flip(0)[:components], left.flip(1)[:, :components]
    kept = values > 1e-6 * values[0].clamp_min(1e-12)
    basis = left[:, kept].T.float().to(centred.device) @ centred
    return mean, basis / torch.linalg.vector_norm(basis, dim=1, keepdim=True).clamp_min(1e-12)
