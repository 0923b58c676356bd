"""Draw docs/face_renderer.webp: what both designs of the reference defense release of six synthetic people.

python studies/reference_defense/draw_faces.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from face_renderer import DEFENSE as RENDERER
from PIL import Image

from ppfr_bench import registry
from ppfr_bench.api import to_bytes, to_float
from ppfr_bench.datasets import load_dataset

PICTURE = Path(__file__).parents[2] / "docs" / "face_renderer.webp"
PEOPLE = 6


def main() -> None:
    faces = load_dataset("synthetic", {}).evaluation
    people = np.unique(faces.identities, return_index=True)[1][:PEOPLE]
    photos = to_float(faces.load(people))
    shown = [photos]
    for strength in (0.35, 1.0):
        defense = registry.build("defense", "stochastic_anonymizer", {"strength": strength})
        shown.append(defense.protect(photos, torch.Generator().manual_seed(0)))
    renderer = RENDERER(RENDERER.Config())
    shown += [renderer.protect(photos, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    rows = [np.concatenate([*to_bytes(row).transpose(0, 2, 3, 1)], axis=1) for row in shown]
    Image.fromarray(np.concatenate(rows)).save(PICTURE, quality=85, method=6)


if __name__ == "__main__":
    main()
