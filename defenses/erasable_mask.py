"""ErasableMask: a cloak that recognizers fail on, and that whoever has the key can erase."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, DefenseCard
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.learning.unet import weights_from

from ._mask_networks import Eraser, Protector, UnderKey, key_pattern, most

WEIGHTS = Path(__file__).with_suffix(".safetensors")
WIDTH = 16
_BATCH = 16


class ErasableMaskConfig(Config):
    """``secret``: the key, which whoever is to erase the cloak has as well.

    ``strength``: of the change; 1 is what was trained. 1.15 hides more, and shows more.
    """

    secret: int = Field(20, ge=0, lt=2**63 - 2**20)
    strength: float = Field(1.0, gt=0, le=1.5)


class ErasableMask(Cloak):
    """A trained protector adds a change that fools recognizers; a trained eraser takes it away under the same key.

    The protector was trained against two recognizers in turn, each time after a step against the other, so that its
    change is not made for one of them alone. The key is a pattern of signs: the protector's change depends on it and
    bears it faintly, and the eraser was taught to change nothing where it does not find it.
    """

    version = 1
    training = "ppfr_bench.defenses._mask_training:MaskTraining"
    erasable = True
    card = DefenseCard(
        title="ErasableMask",
        plain="Adds a change to the photo that keeps face recognizers from recognising the person. Whoever has the "
        "key can remove the change again.",
        family="learned cloak",
        reference="Shen et al., ErasableMask: A Robust and Erasable Privacy Protection Scheme against Black-box Face "
        "Recognition Models, arXiv 2412.17038, 2024",
        licence="MIT",
        learned=True,
        clear_share=1.0,
        training_data="2,000 images of 500 synthetic identities of the defender (DigiFace GAN); no real person",
        weights_sha256="8017cbc2c4ff0fd8638749425a4828373619704ec40efc3daa0310f2553c5a5f",
        deviations=(
            "No code of the paper is public: losses, weights and the key are built from its abstract.",
            "It was trained on faceplugin and dlib_resnet, which count as seen; mobilefacenet is left out.",
            "It dodges; the paper also impersonates.",
        ),
    )
    Config = ErasableMaskConfig

    @property
    def budget(self) -> float:
        return most(self.config.strength)

    @property
    def seen(self) -> tuple[str, ...]:
        return "faceplugin", "dlib_resnet"

    def cloak(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """float32 (n, 3, 112, 112) in [0, 1] -> the same, no pixel further away than 12 levels at strength 1."""
        protector, _ = _networks(images.device)
        pattern, strength = key_pattern.on(images.device, self.config.secret), self.config.strength
        return _changed(images, lambda part: protector(part, pattern, strength) - part)

    def erase(self, images: torch.Tensor, key: int | None) -> torch.Tensor:
        """What the eraser makes of released images under a key, float32 (n, 3, 112, 112) in [0, 1]."""
        _, eraser = _networks(images.device)
        pattern = key_pattern.on(images.device, key)
        return _changed(images, lambda part: eraser(part, pattern))

    def eraser(self, key: int) -> nn.Module:
        """A copy of the eraser under a key, to be trained further."""
        _, eraser = _networks(device.current())
        return device.to(UnderKey(copy.deepcopy(eraser).requires_grad_(True), key))


def _changed(images: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Images and a change, which is found at 112 pixels a side: float32 (n, 3, h, w) in [0, 1] -> the same."""
    found, size = [], images.shape[-2:]
    for part in images.split(_BATCH):
        if size == (SIZE, SIZE):
            added = change(part)
        else:
            seen = functional.interpolate(part, (SIZE, SIZE), mode="bilinear", align_corners=False)
            added = functional.interpolate(change(seen), size, mode="bilinear", align_corners=False)
        found.append((part + added).clamp(0, 1))
    return torch.cat(found) if found else images.clone()


def _networks(where: torch.device) -> tuple[Protector, Eraser]:
    protector, eraser = _loaded.on(where)
    assert isinstance(protector, Protector) and isinstance(eraser, Eraser)
    return protector, eraser


@device.per_device
def _loaded() -> nn.ModuleList:
    with weights_from(torch.Generator().manual_seed(0)):  # Layers draw weights before theirs are filled in.
        both = nn.ModuleList([Protector(WIDTH), Eraser(WIDTH)])
    weights = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    for name, network in zip(("protector", "eraser"), both, strict=True):
        mine = {key.removeprefix(f"{name}."): tensor for key, tensor in weights.items() if key.startswith(f"{name}.")}
        network.load_state_dict(mine)
    return both.eval().requires_grad_(False)


DEFENSE = ErasableMask
