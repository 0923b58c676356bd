"""Template attack: from the embedding of a protected image to that of the clear one, and from there to the face."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, ByteArray, FloatArray, Material, Scope
from ppfr_bench.learning.face_decoder import (
    FaceDecoder,
    FaceDecoderConfig,
    embed_faces,
    face_decoder,
    read_face_decoder,
)
from ppfr_bench.learning.heads import choose_embedding_map, unit_rows
from ppfr_bench.learning.inversion import JUDGED
from ppfr_bench.learning.likeness import measured
from ppfr_bench.learning.resizing import enlarge
from ppfr_bench.learning.validation import evenly_spaced
from ppfr_bench.metrics import LEAKING, is_better

AS_MAPPED, AT_UNIT, CLOSED_FORM = "as mapped", "at unit length", "closed form"


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

    version = 3
    card = AttackCard(
        title="Template attack",
        plain="Rebuilds the face from the list of numbers that a face recognizer computes of the protected image, "
        "and from nothing else of the image.",
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
        self._map, mapped, note = choose_embedding_map(protected, clear, held_out)
        some = evenly_spaced(np.arange(len(mapped)), JUDGED)
        judging = view.auxiliary.load(rows[held_out if held_out.any() else ~held_out][some])
        found = {name: measured(faces, judging) for name, faces in self._rebuilt(decoder, mapped[some]).items()}
        best = {metric: _best(metric, found) for metric in LEAKING}
        corrected = {name: values for name, values in found.items() if name != CLOSED_FORM}
        self._main, self._best = _best("lpips", corrected), best
        self.log |= {key: value for key, value in decoder.log.items() if key != "strength"}
        self.log |= {"shots": 1, "pairs": count, "map": note, "answered_by": {"main": self._main, **best}}

    def run(self, view: AttackerView) -> Answers:
        """Reconstructions uint8 (n, 3, 112, 112); by measure, others that held-out people say are better.

        Also the main answer of the decoder after each part of its training.
        """
        mapped, decoder = self._map(self._embed(view, np.asarray(view.targets[0]))), self._decoder
        rebuilt = self._rebuilt(decoder, mapped)
        main = enlarge(rebuilt[self._main])
        others = {metric: enlarge(rebuilt[name]) for metric, name in self._best.items() if name != self._main}
        at = {size: enlarge(self._rebuilt(decoder.after(size), mapped)[self._main]) for size in decoder.at}
        if at and others:
            at[self.config.steps] = main
        return Answers(main, others, at)

    def _embed(self, view: AttackerView, released: ByteArray) -> FloatArray:
        return embed_faces(self._surrogate, view.render(released)).double().numpy()

    def _rebuilt(self, decoder: FaceDecoder, mapped: FloatArray) -> dict[str, torch.Tensor]:
        """Mapped embeddings (n, d) -> faces (n, 3, s, s) on the current device, by how they are rebuilt.

        A mapped embedding is the shorter the less the protected one tells; at unit length, faces are bolder.
        """
        as_mapped, at_unit = (device.to(torch.from_numpy(rows).float()) for rows in (mapped, unit_rows(mapped)))
        return {AS_MAPPED: decoder(as_mapped), AT_UNIT: decoder(at_unit), CLOSED_FORM: decoder.linear(as_mapped)}


def _best(metric: str, found: Mapping[str, Mapping[str, float]]) -> str:
    """The name of what is best by a metric; the first of equal ones."""
    best = next(iter(found))
    for name, values in found.items():
        if is_better(metric, values[metric], found[best][metric]):
            best = name
    return best


ATTACK = Template
