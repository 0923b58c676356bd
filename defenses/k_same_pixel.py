"""k-same-pixel: the mean of the face and the k - 1 nearest faces of other people."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import Config, Defense, DefenseCard, Faces

from . import _background

_SIDE = 56  # Faces are compared at this side, in pixels.


class KSamePixelConfig(Config):
    """``k``: faces in the mean, the protected one among them; ``background``: identities to choose from at most."""

    k: int = Field(5, ge=2, le=100)
    background: int = Field(1000, ge=1)


class KSamePixel(Defense):
    """Deterministic; a k-th of the face is in the mean, beside faces an informed attacker may subtract."""

    version = 1
    card = DefenseCard(
        title="k-same-pixel",
        plain="Replaces the face by the mean of itself and the most similar faces of other people.",
        family="k-anonymity",
        reference="Newton, Sweeney and Malin, Preserving Privacy by De-identifying Face Images, IEEE TKDE 2005",
        licence="MIT",
        training_data="one face of each of at most 1,000 identities of the defender",
        deviations=(
            "The mean is of the image and k - 1 identities of the defender, each another person, not of a cluster of "
            "the images released: its members do not get one common face, so the paper's k-anonymity does not hold.",
            "Nearness is Euclidean over 56x56 colour means, the mean itself over all pixels.",
            "k is 5, one of the paper's values; the defender needs k - 1 identities at least.",
        ),
    )
    Config = KSamePixelConfig
    faces: torch.Tensor | None = None  # uint8 (m, 3, h, w), one an identity
    _small: torch.Tensor | None = None  # (m, 3 * 56 * 56)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Keep one random face of each of the defender's identities."""
        self.faces = _background.one_each(faces, self.config.background, self.config.k - 1, generator)
        self._small = torch.cat([_reduced(part.float() / 255) for part in self.faces.split(64)])

    def nearest(self, images: torch.Tensor) -> torch.Tensor:
        """int64 (n, k - 1): the nearest faces of the background, each of another identity."""
        small = _background.fitted(images, self._small)
        # The image's own square is left out, as it ranks nothing.
        distances = (small**2).sum(1) - 2 * _reduced(images) @ small.T
        return distances.topk(self.config.k - 1, largest=False).indices

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The mean of each image and its k - 1 nearest faces."""
        faces = _background.fitted(images, self.faces)
        total = images.clone()
        for column in self.nearest(images).T:
            total += _background.like(faces[column], images)
        return total.div_(self.config.k).clamp_(0, 1)


def _reduced(images: torch.Tensor) -> torch.Tensor:
    return functional.adaptive_avg_pool2d(images, _SIDE).flatten(1)


DEFENSE = KSamePixel
