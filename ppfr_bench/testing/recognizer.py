"""A recognizer without weights, good enough to tell the sixteen faces apart."""

from __future__ import annotations

import math

import torch

from ppfr_bench import device
from ppfr_bench.api import SIZE, Recognizer, RecognizerCard

_FREQUENCIES = 12  # The lowest ones, in each direction.


class TinyRecognizer(Recognizer):
    """The lowest 12x12 DCT coefficients of the luma but the mean, damped by frequency, at unit length: 143-d.

    Deterministic, a millisecond an image, blind to brightness and contrast. For tests, not for scores.
    """

    version = 1
    card = RecognizerCard(
        title="Tiny (tests only)",
        reference="low-frequency DCT features; Hafed and Levine, Face Recognition Using the DCT, 2001",
        licence="MIT",
        dimension=_FREQUENCIES**2 - 1,
        metric="cosine",
        training_data="none",
    )

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> float32 (n, 143) of unit length; zeros for a constant image.

        Raises:
            ValueError: another shape.
        """
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"expected images (n, 3, {SIZE}, {SIZE}), got {tuple(images.shape)}")
        weights, basis, damping = _constants.on(images.device)
        luma = torch.einsum("nchw,c->nhw", images, weights)
        # The mean goes first, so that a constant image is exactly zero.
        centred = luma - luma.mean((1, 2), keepdim=True)
        features = (basis @ centred @ basis.T * damping / SIZE).flatten(1)[:, 1:]
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return torch.where(length > 1e-5, features / length.clamp_min(1e-5), torch.zeros_like(features))


@device.per_device
def _constants() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(3,): weights of the luma; (12, 112): the cosines; (12, 12): the damping."""
    order = torch.arange(_FREQUENCIES, dtype=torch.float32)
    cosines = torch.cos(math.pi / SIZE * (torch.arange(SIZE) + 0.5) * order[:, None])
    return torch.tensor((0.299, 0.587, 0.114)), cosines, 1 / (1 + order[:, None] + order[None, :])
