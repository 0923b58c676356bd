"""``ppfr-bench check``: the contract of one plug-in, on the faces that ship with the package."""

from __future__ import annotations

import numpy as np
import torch

from ppfr_bench import registry
from ppfr_bench.api import Attack, Defense, to_bytes, to_float
from ppfr_bench.conformance import Finding, check_defense, leaked_images
from ppfr_bench.datasets.faces import subset
from ppfr_bench.metrics.attributes import ATTRIBUTES
from ppfr_bench.testing import attacker_view, example_faces


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
        seen = to_bytes(defense.picture(to_float(released)))[..., : images.shape[2], : images.shape[3]]
    leaked = leaked_images(images, seen, names, defense.card.clear_share)
    if leaked:
        findings.append(Finding("clear_image", f"released clear or half clear: {', '.join(leaked)}", tuple(leaked)))
    return findings


def _check_attack(attack: Attack, seed: int) -> list[Finding]:
    """Run it twice against the test faces, half of them the attacker's, behind a mosaic."""
    faces = example_faces()
    middle = np.median(faces.identities)
    mine, others = (np.flatnonzero(side) for side in (faces.identities < middle, faces.identities >= middle))
    clear = faces.load(others)
    gallery = clear[np.unique(faces.identities[others], return_index=True)[1]]
    answers = []
    for _ in range(2):
        fresh = type(attack)(attack.config)
        view = attacker_view(fresh, registry.build("defense", "pixelate", {}), subset(faces, mine), clear, gallery)
        try:
            fresh.fit(view, torch.Generator().manual_seed(seed))
            answers.append(np.asarray(fresh.run(view)))
        except Exception as error:  # whatever a contributor's code raises is the finding
            return [Finding("raises", f"{type(error).__name__}: {error}", ())]
    findings = []
    images = attack.card.measures in ("appearance", "control")
    shape: tuple[int, ...] = (len(clear), len(gallery))
    if images:
        shape = clear.shape
    elif attack.card.measures == "attributes":
        shape = (len(clear), len(ATTRIBUTES))
    if answers[0].shape != shape or images != (answers[0].dtype == np.uint8):
        came = f"{answers[0].dtype} {answers[0].shape}"
        findings.append(Finding("answer", f"expected {'uint8' if images else 'float'} {shape}, got {came}", ()))
    if not np.array_equal(answers[0], answers[1]):
        findings.append(Finding("not_deterministic", "two runs with one seed differ", ()))
    return findings
