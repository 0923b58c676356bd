"""k-same-eigen: the mean of k faces in the space of eigenfaces, and nothing that lies outside it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from ppfr_bench.api import SIZE, Config, Defense, DefenseCard, Faces

from . import _background


class KSameEigenConfig(Config):
    """``k``: faces in the mean, the protected one among them; ``components``: eigenfaces; ``background``: faces."""

    k: int = Field(5, ge=2, le=100)
    components: int = Field(128, ge=1, le=1000)
    background: int = Field(1000, ge=2)


class KSameEigen(Defense):
    """Deterministic; of the face only a k-th of its eigenface coefficients is released."""

    version = 1
    card = DefenseCard(
        title="k-same-eigen",
        plain="Replaces the face by a mean of several faces, built only from the main patterns in which faces "
        "differ. All other detail of the photo is dropped.",
        family="k-anonymity",
        reference="Newton, Sweeney and Malin, Preserving Privacy by De-identifying Face Images, IEEE TKDE 2005",
        licence="MIT",
        learned=True,
        training_data="one face of each of at most 1,000 identities of the defender",
        deviations=(
            "The mean is of the image and k - 1 identities of the defender, each another person, not of a cluster of "
            "the images released: its members do not get one common face, so the paper's k-anonymity does not hold.",
            "Eigenfaces are of colour images at 112x112 and of the defender's faces only, 128 of them at most.",
            "k is 5, one of the paper's values; the defender needs k - 1 identities at least, and two.",
        ),
    )
    Config = KSameEigenConfig
    mean: torch.Tensor | None = None  # (3 * 112 * 112,)
    basis: torch.Tensor | None = None  # (c, 3 * 112 * 112), orthonormal rows
    codes: torch.Tensor | None = None  # (m, c), one an identity

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Eigenfaces and coefficients of one random face of each of the defender's identities."""
        chosen = _background.one_each(faces, self.config.background, max(2, self.config.k - 1), generator)
        vectors = _vectors(chosen.float() / 255)
        self.mean, self.basis = _background.eigenfaces(vectors, self.config.components)
        self.codes = (vectors - self.mean) @ self.basis.T

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c): coefficients of the images."""
        mean, basis = (_background.fitted(images, learnt) for learnt in (self.mean, self.basis))
        return (_vectors(images) - mean) @ basis.T

    def merged(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, c) -> (n, c): the mean of each and the k - 1 nearest of the background, each of another identity."""
        others = _background.fitted(codes, self.codes)
        # The image's own square is left out, as it ranks nothing.
        distances = (others**2).sum(1) - 2 * codes @ others.T
        nearest = distances.topk(self.config.k - 1, largest=False).indices
        total = codes + others[nearest].sum(1)
        return total.div_(self.config.k)

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The face that the mean coefficients describe."""
        mean, basis = (_background.fitted(images, learnt) for learnt in (self.mean, self.basis))
        faces = (mean + self.merged(self.encode(images)) @ basis).reshape(-1, 3, SIZE, SIZE)
        return _resized(faces, images.shape[-2], images.shape[-1]).clamp(0, 1)


def _resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return functional.interpolate(images, size=(height, width), mode="bilinear", antialias=True)


def _vectors(images: torch.Tensor) -> torch.Tensor:
    return _resized(images, SIZE, SIZE).flatten(1)


DEFENSE = KSameEigen
