"""Scored elsewhere: similarities that an attack outside this benchmark has computed from the releases of one row."""

from __future__ import annotations

import numpy as np
from torch import nn

from ppfr_bench import device
from ppfr_bench.api import AttackCard, AttackerView, ByteArray, FloatArray, to_float
from ppfr_bench.learning.adaptation import embed_with
from ppfr_bench.learning.made_elsewhere import MadeElsewhere

_BATCH = 64


class ScoredElsewhere(MadeElsewhere):
    """Knows what its author knew; it compares another row's releases with the gallery by the suite's surrogate."""

    version = 1
    card = AttackCard(
        title="Scored elsewhere",
        plain="Similarity scores that an attack outside this benchmark has computed between the protected images of"
        " one defense and known people. The benchmark only evaluates them.",
        family="adapter",
        reference="similarities that another tool computed",
        licence="that of the tool",
        measures="linkage",
        knowledge="oblivious",
        needs_gallery=True,
        needs_surrogate=True,
        live=False,
    )

    def without_answers(self, view: AttackerView) -> FloatArray:
        """Cosine similarities of embeddings, (n_targets, n_gallery)."""
        assert view.surrogate is not None and view.gallery is not None, "the card asks for both"
        network = device.to(view.surrogate)
        probes = _embed(network, view.render(np.asarray(view.targets[0])))
        return np.asarray(probes @ _embed(network, view.gallery).T, dtype=np.float64)


def _embed(network: nn.Module, images: ByteArray) -> FloatArray:
    """uint8 (n, 3, 112, 112) -> unit (n, d)."""
    parts = [to_float(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate([embed_with(network, part).cpu().double().numpy() for part in parts])


ATTACK = ScoredElsewhere
