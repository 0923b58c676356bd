"""Draw docs/face_renderer.webp: what both designs of the reference defense release of six synthetic people.

python studies/reference_defense/draw_faces.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ppfr_bench import registry
from ppfr_bench.api import to_bytes, to_float
from ppfr_bench.datasets import load_dataset

PICTURE = Path(__file__).parents[2] / "docs" / "face_renderer.webp"
PEOPLE = 6
DESIGNS: tuple[tuple[str, dict[str, float]], ...] = (
    ("stochastic_anonymizer", {"strength": 0.35}), ("stochastic_anonymizer", {"strength": 1.0}),
    ("face_renderer", {"secret": 0}), ("face_renderer", {"secret": 1}),
)  # fmt: skip


def main() -> None:
    faces = load_dataset("synthetic", {}).evaluation
    people = np.unique(faces.identities, return_index=True)[1][:PEOPLE]
    photos = to_float(faces.load(people))
    shown = [photos]
    for name, params in DESIGNS:
        shown.append(registry.build("defense", name, params).protect(photos, torch.Generator()))
    rows = [np.concatenate([*to_bytes(row).transpose(0, 2, 3, 1)], axis=1) for row in shown]
    Image.fromarray(np.concatenate(rows)).save(PICTURE, quality=85, method=6)


if __name__ == "__main__":
    main()
