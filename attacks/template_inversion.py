"""Template inversion: from a stolen protected template to an embedding, and from there to a face."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray, Material, Scope
from ppfr_bench.learning.face_decoder import FaceDecoderConfig, face_decoder, read_face_decoder
from ppfr_bench.learning.resizing import enlarge
from ppfr_bench.template.api import TemplateView
from ppfr_bench.template.reading import ReadingConfig, choose_reading


class TemplateInversionConfig(FaceDecoderConfig):
    """The decoder's parameters and those of the map.

    Attributes:
        steps, identity: as of the decoder; fewer than its own, as what is judged is who is on a face, not how it looks.
        map_steps, map_width: of the network that maps templates; see ``ReadingConfig``.
        key: whether its own people are enrolled under the system's key, or under one of the attacker's.
    """

    steps: int = Field(100, ge=1)
    identity: float = Field(0.0, ge=0)
    map_steps: int = Field(300, ge=0)
    map_width: int = Field(768, ge=8)
    key: Literal["same", "other"] = "same"

    @property
    def decoder(self) -> FaceDecoderConfig:
        """Parameters of the decoder, which is the same for all rows."""
        return FaceDecoderConfig(**self.model_dump(exclude={"map_steps", "map_width", "key"}))


class TemplateInversion(Attack):
    """Steals the templates and what the matcher has of the key (the full disclosure of ISO/IEC 30136).

    It enrols its own people as the system does, learns the map from their templates to the surrogate's embeddings, and
    rebuilds faces by a decoder that was trained on its own clear images. Of an encrypted method it has the ciphertexts
    that the matcher is sent, and encrypts under the public key; the client's secret key is not the matcher's to lose.
    """

    version = 1
    card = AttackCard(
        title="Template inversion",
        plain="Steals protected face templates together with the key material of the system, learns how to undo the"
        " protection, and rebuilds a face from each template.",
        family="reconstruction",
        reference="Mai et al., IEEE TPAMI 2019 (NbNet); Shahreza and Marcel, 2023; ISO/IEC 30136:2018",
        licence="MIT",
        measures="rebuilt_identity",
        knowledge="aware",
        learned=True,
        needs_surrogate=True,
        needs_recognizer=True,
        tracks=("template",),
        deviations=("The decoder corrects the answer of a closed-form regression; it is a small one.",),
    )
    Config = TemplateInversionConfig

    @property
    def key_access(self) -> Literal["same", "other"]:
        """As its parameters say."""
        key: Literal["same", "other"] = self.config.key
        return key

    def starts_from(self, scope: Scope) -> tuple[Material, ...]:
        """The decoder, which is of clear images alone."""
        return (face_decoder(self.config.decoder),)

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Learn the map on its own people."""
        assert isinstance(view, TemplateView)
        self._decoder = read_face_decoder(view, self.config.decoder)
        clear = self._decoder.embeddings.double().numpy()
        clear = clear / np.linalg.norm(clear, axis=1, keepdims=True)
        held_out = self._decoder.validation if self._decoder.validation.any() else ~self._decoder.validation
        config = ReadingConfig(steps=self.config.map_steps, width=self.config.map_width)
        self._reading = choose_reading(view.own, clear, held_out, config, generator)
        self.log |= {"shots": 1, "training_images": int((~held_out).sum()), **self._reading.note}

    def run(self, view: AttackerView) -> ByteArray:
        """Faces uint8 (n, 3, 112, 112)."""
        assert isinstance(view, TemplateView)
        embeddings = torch.from_numpy(self._reading.map(view.released)).float()
        return enlarge(self._decoder(embeddings))


ATTACK = TemplateInversion
