"""Identity linkage: name the person on a protected, or a reconstructed, image from a clear gallery."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, ByteArray, Config, FloatArray


class LinkageConfig(Config):
    """``probe``: ``protected``, or the label of the attack whose reconstructions are linked; ``releases`` compared."""

    probe: str = Field("protected", pattern=r"^[a-z0-9_]+$")
    releases: int = Field(1, ge=1, le=64)


class Linkage(Attack):
    """Has clear photos of the people and an off-the-shelf recognizer, and compares: L1, or L4 on reconstructions.

    With several releases of each target it averages what the recognizer sees in them: L6.
    """

    version = 3
    card = AttackCard(
        title="Linkage to a clear gallery",
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
        rebuilt, probe, recognizer = view.reconstructions or {}, self.config.probe, view.recognizer
        released = view.targets[: self.config.releases]
        probes = [rebuilt[probe]] if self.sources else [view.render(shot) for shot in released]
        self.log["shots"] = len(probes)
        gallery = recognizer.embed(view.gallery)

        def scores(images: list[ByteArray]) -> FloatArray:
            mean = np.mean([recognizer.embed(np.asarray(one)) for one in images], axis=0)
            return recognizer.similarity_matrix(mean, gallery)

        parts = view.reconstructions_at.get(probe)
        if parts is None:
            return Answers(scores(probes))
        halves = [size for size in parts.at if size <= parts.whole / 2]
        at = {size: scores([parts.at[size]]) for size in sorted(halves)[-1:]}
        return Answers(scores(probes), at=at, budget=parts.budget, whole=parts.whole)


ATTACK = Linkage
