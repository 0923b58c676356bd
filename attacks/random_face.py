"""Random face: a control that guesses."""

from __future__ import annotations

from torch import Generator, randint

from ppfr_bench.api import Attack, AttackCard, AttackerView, ByteArray


class RandomFace(Attack):
    """Answers every target with one of its own faces, drawn blindly, as a mark to beat."""

    version = 1
    card = AttackCard(
        title="Random auxiliary face",
        plain="Not a real attack. It answers every protected image with a face that it draws blindly from the "
        "attacker's own photos. Any attack that learns something must do better.",
        family="retrieval",
        reference="control of the threat model: a guess",
        licence="MIT",
        measures="control",
        knowledge="oblivious",
    )

    def fit(self, view: AttackerView, generator: Generator) -> None:
        """Draw."""
        self._chosen = randint(len(view.auxiliary), (view.targets.shape[1],), generator=generator).numpy()
        self.log["shots"] = 1

    def run(self, view: AttackerView) -> ByteArray:
        """The auxiliary images, uint8 (n, 3, 112, 112)."""
        return view.auxiliary.load(self._chosen)


ATTACK = RandomFace
