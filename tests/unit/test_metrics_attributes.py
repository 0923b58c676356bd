"""Attributes: known answers on painted faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ppfr_bench.metrics.attributes import ATTRIBUTES, _lab, read_attributes


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((1, 1, 1), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)  # fmt: skip
def test_lab_of_known_colours(colour: tuple[float, ...], expected: tuple[float, ...]) -> None:
    """CIELAB under D65 of the primaries, as any table of them has it."""
    image = torch.tensor(colour, dtype=torch.float32)[None, :, None, None]
    np.testing.assert_allclose(_lab(image).flatten().numpy(), expected, atol=0.05)


def face(
    cheeks: int = 180, crown: int = 180, chin: int = 180, mouth: tuple[int, int, int] = (180, 150, 120)
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """A painted face of warm skin; each argument a brightness."""
    warm = np.array([1.0, 0.83, 0.67])
    image = np.empty((3, 112, 112), np.uint8)
    image[:] = (cheeks * warm)[:, None, None]
    image[:, :12] = (crown * warm)[:, None, None]
    image[:, 78:88, 44:68] = image[:, 98:] = (chin * warm)[:, None, None]
    image[:, 88:97] = np.array(mouth)[:, None, None]
    return image


def test_each_attribute_follows_what_it_is_named_after() -> None:
    faces = np.stack([face(), face(cheeks=90, chin=90), face(crown=30), face(chin=90), face(mouth=(200, 60, 70))])
    found = dict(zip(ATTRIBUTES, read_attributes(faces).T, strict=True))
    assert found["skin_tone"][1] < found["skin_tone"][0] - 20  # darker: a smaller angle
    assert found["crown_tone"][2] < found["crown_tone"][0] - 30
    assert found["facial_hair"][3] > found["facial_hair"][0] + 20
    assert found["lip_colour"][4] > found["lip_colour"][0] + 20
    for name, changed in (("crown_tone", 1), ("facial_hair", 2), ("lip_colour", 3), ("skin_tone", 4)):
        assert found[name][changed] == pytest.approx(found[name][0], abs=1e-3), name
