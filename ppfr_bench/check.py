"""``ppfr-bench check``: the contract of one plug-in, on the faces that ship with the package."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench import registry
from ppfr_bench.api import Attack, AttackerView, Defense, to_bytes, to_float
from ppfr_bench.conformance import Finding, check_defense, leaked_images
from ppfr_bench.testing import example_faces


def check_plugin(kind: registry.Kind, name: str, seed: int = 0) -> list[Finding]:
    """Every breach of the contract by a defense or an attack under its default parameters; none if it keeps it.

    Raises:
        UserError: the plug-in cannot be loaded.
    """
    plugin = registry.build(kind, name, {})
    return _check_attack(plugin, seed) if isinstance(plugin, Attack) else _check_defense(plugin, seed)


def _check_defense(defense: Defense, seed: int) -> list[Finding]:
    if not defense.card.live:
        return []  # has nothing to say to images that it was not prepared for
    faces = example_faces()
    images, names = faces.load(range(len(faces))), list(faces.names)
    if type(defense).fit is not Defense.fit:
        defense.fit(faces, torch.Generator().manual_seed(seed))
    findings = check_defense(defense, images, names, seed)
    if findings or defense.card.control:
        return findings
    with torch.no_grad():
        released = to_bytes(defense.protect(to_float(images), torch.Generator().manual_seed(seed)))
    leaked = leaked_images(images, released, names, defense.card.clear_share)
    if leaked:
        findings.append(Finding("clear_image", f"released clear or half clear: {', '.join(leaked)}", tuple(leaked)))
    return findings


def _check_attack(attack: Attack, seed: int) -> list[Finding]:
    """Run it twice against the test faces, half of them the attacker's, with a negative for a defense."""
    if attack.card.needs_recognizer or attack.card.needs_surrogate or attack.sources:
        return []  # needs weights or another attack: the suite `smoke` is its check
    faces = example_faces()
    mine = np.flatnonzero(faces.identities < np.median(faces.identities))
    others = np.flatnonzero(faces.identities >= np.median(faces.identities))
    from ppfr_bench.datasets.faces import subset

    auxiliary, clear = subset(faces, mine), faces.load(others)
    view = AttackerView(
        knowledge=attack.card.knowledge, auxiliary=auxiliary, targets=255 - clear[None],
        auxiliary_protected=255 - auxiliary.load(range(len(auxiliary))),
        gallery=clear if attack.card.needs_gallery else None,
    )  # fmt: skip
    answers = []
    for _ in range(2):
        fresh = type(attack)(attack.config)
        try:
            fresh.fit(view, torch.Generator().manual_seed(seed))
            answers.append(np.asarray(fresh.run(view)))
        except Exception as error:  # whatever a contributor's code raises is the finding
            return [Finding("raises", f"{type(error).__name__}: {error}", ())]
    findings = []
    if attack.card.measures == "appearance" and (answers[0].shape != clear.shape or answers[0].dtype != np.uint8):
        findings.append(
            Finding("answer", f"expected uint8 {clear.shape}, got {answers[0].dtype} {answers[0].shape}", ())
        )
    if not np.array_equal(answers[0], answers[1]):
        findings.append(Finding("not_deterministic", "two runs with one seed differ", ()))
    return findings
