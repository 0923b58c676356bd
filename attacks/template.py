"""Template attack: from the embedding of a protected image to that of the clear one, and from there to the face."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray, FloatArray, Material, Scope, to_float
from ppfr_bench.learning.face_decoder import FaceDecoderConfig, embed_faces, face_decoder, read_face_decoder
from ppfr_bench.learning.heads import choose_embedding_map, unit_rows
from ppfr_bench.learning.likeness import unlikeness
from ppfr_bench.learning.resizing import enlarge

_VALIDATED = 32  # At most so many of the images that are held out choose the length of embeddings.


class TemplateConfig(FaceDecoderConfig):
    """``images``: protected images of its own that the map is learnt from, 0 for all; the rest is the decoder's."""

    images: int = Field(0, ge=0)

    @property
    def decoder(self) -> FaceDecoderConfig:
        """Parameters of the decoder, which is the same whatever the map is learnt from."""
        return FaceDecoderConfig(**self.model_dump(exclude={"images"}))


class Template(Attack):
    """Rebuilds a face from what a recognizer makes of the protected image, and from nothing else of it.

    A decoder from embeddings to faces is trained on its own clear images, once for all defenses. A map from embeddings
    of protected images to those of clear ones is fitted in closed form on its own pairs, and is the identity where
    nothing is protected: what it rebuilds there is the price of utility, which any defense must give away that leaves
    recognizers what they need.
    """

    version = 1
    card = AttackCard(
        title="Template attack",
        family="reconstruction",
        reference="Mai et al., IEEE TPAMI 2019 (NbNet); price of utility: ppfr-bench",
        licence="MIT",
        measures="template",
        knowledge="aware",
        learned=True,
        needs_surrogate=True,
        deviations=("The decoder corrects the answer of a closed-form regression; it is a small one.",),
    )
    Config = TemplateConfig

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The decoder, which is of clear images alone."""
        return (face_decoder(self.config.decoder),)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Learn the map on evenly spaced images of its own, most of them of other people than decide on it."""
        assert view.surrogate is not None and view.auxiliary_protected is not None, "the card asks for both"
        self._surrogate = view.surrogate
        self._decoder = decoder = read_face_decoder(view, self.config.decoder)
        count = min(self.config.images or len(view.auxiliary), len(view.auxiliary))
        rows = np.linspace(0, len(view.auxiliary) - 1, count).astype(np.int64)
        protected = self._embed(view, np.asarray(view.auxiliary_protected[rows]))
        clear, held_out = decoder.embeddings[rows].double().numpy(), decoder.validation[rows]
        self._map, note = choose_embedding_map(protected, clear, held_out)
        chosen = np.flatnonzero(held_out if held_out.any() else ~held_out)[:_VALIDATED]
        wanted = to_float(view.auxiliary.load(rows[chosen]))
        self._unit = False
        losses = []
        for self._unit in (False, True):
            with torch.no_grad():
                losses.append(float(unlikeness(self._rebuilt(protected[chosen]), wanted)))
        self._unit = losses[1] < losses[0]
        self.log |= {key: value for key, value in decoder.log.items() if key != "strength"}
        self.log |= {"shots": 1, "pairs": count, "map": note | {"unit_length": self._unit}}

    def run(self, view: AttackerView) -> ByteArray:
        """Reconstructions uint8 (n, 3, 112, 112)."""
        return enlarge(self._rebuilt(self._embed(view, np.asarray(view.targets[0]))))

    def _embed(self, view: AttackerView, released: ByteArray) -> FloatArray:
        return embed_faces(self._surrogate, view.render(released)).double().numpy()

    def _rebuilt(self, protected: FloatArray) -> torch.Tensor:
        """Embeddings of protected images (n, d) -> faces (n, 3, 112, 112), on the current device."""
        mapped = self._map(protected)
        if self._unit:
            mapped = unit_rows(mapped)
        return self._decoder(device.to(torch.from_numpy(mapped).float()))


ATTACK = Template
