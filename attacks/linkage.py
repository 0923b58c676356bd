"""Identity linkage: name the person on a protected, or a reconstructed, image from a clear gallery."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, ByteArray, Config, Embedder, FloatArray


class LinkageConfig(Config):
    """``probe``: ``protected``, or the label of the attack whose reconstructions are linked; ``releases`` compared."""

    probe: str = Field("protected", pattern=r"^[a-z0-9_]+$")
    releases: int = Field(1, ge=1, le=64)


class Linkage(Attack):
    """Has clear photos of the people and an off-the-shelf recognizer, and compares: L1, or L4 on reconstructions.

    What the recognizer sees of an image and of its mirror image is averaged, and so it is over several releases of a
    target (L6), and over all answers that an attack rebuilt it with: each is right in another way.
    """

    version = 4
    card = AttackCard(
        title="Linkage to a clear gallery",
        plain="Takes clear photos of known people and an ordinary face recognizer, and names the person on the "
        "protected image.",
        family="linkage",
        reference="ladder L1, L4 and L6 of the threat model; McPherson et al. 2016, SEBA (Fantomas) 2024",
        licence="MIT",
        measures="identity",
        knowledge="oblivious",
        needs_gallery=True,
        needs_recognizer=True,
    )
    Config = LinkageConfig

    @property
    def sources(self) -> tuple[str, ...]:
        """The attack that rebuilt the probes, if one did."""
        return () if self.config.probe == "protected" else (self.config.probe,)

    @property
    def shots(self) -> int:
        """As many releases as are compared."""
        return int(self.config.releases)

    def run(self, view: AttackerView) -> Answers:
        """Similarities (n_targets, n_gallery); also of what was rebuilt with half of the budget, if that is known."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        recognizer, gallery = view.recognizer, seen([view.gallery], view.recognizer)

        def scores(probes: Sequence[ByteArray]) -> FloatArray:
            return recognizer.similarity_matrix(seen(probes, recognizer), gallery)

        released = view.targets[: self.config.releases]
        self.log["shots"] = len(released)
        if not self.sources:
            return Answers(scores([view.render(shot) for shot in released]))
        rebuilt = view.source_answers[self.config.probe]
        halves = [size for size in rebuilt.at if size <= rebuilt.whole / 2]
        at = {size: scores([rebuilt.at[size]]) for size in sorted(halves)[-1:]}
        return Answers(scores(rebuilt.different), at=at, budget=rebuilt.budget, whole=rebuilt.whole)


def seen(versions: Sequence[ByteArray], recognizer: Embedder) -> FloatArray:
    """Embeddings (n, d) of n images: the mean of several versions, uint8 (n, 3, 112, 112), and of their mirror images.

    A mean is shorter than what it is made of, the more so the less alike; it is brought to the mean length.
    """
    both = [one for image in map(np.asarray, versions) for one in (image, image[..., ::-1])]
    embedded = np.stack([recognizer.embed(one) for one in both])
    mean, lengths = embedded.mean(axis=0), np.linalg.norm(embedded, axis=2).mean(axis=0)
    scaled: FloatArray = mean * (lengths / np.maximum(np.linalg.norm(mean, axis=1), 1e-12))[:, None]
    return scaled


ATTACK = Linkage
