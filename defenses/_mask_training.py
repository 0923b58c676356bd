"""How ErasableMask learns: a protector that fools recognizers together, and an eraser that takes its change away.

Only the defender's synthetic identities, one surrogate and one auxiliary recognizer take part.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import SIZE, Config, Differentiable, Faces, to_bytes, to_float
from ppfr_bench.errors import UserError
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.unet import weights_from
from ppfr_bench.recognizers import load_recognizer

from ._mask_networks import Eraser, Protector, signs

_START = 0.05  # Spread of the weights of the protector's last layer: it begins with a change that can be followed.


class MaskTrainingConfig(Config):
    """Parameters of the training.

    Attributes:
        steps: in all; of these ``still`` (share) before recognizers are fooled, and ``robust`` (share) at the end, in
            which images are compressed, scaled or smoothed before they are erased.
        batch: images a step.
        width: channels of the first level of both networks, a multiple of 8.
        auxiliary: the recognizer that the surrogate takes turns with.
        inner: length of the inner update of the protector, against the auxiliary recognizer.
        dodging, likeness, erasing: weights of what is lost; the eraser alone loses by the last, and follows it at its
            own rate.
        lpips: LPIPS to the clear image up to which nothing is lost.
    """

    steps: int = Field(1000, ge=3)
    still: float = Field(0.03, gt=0, lt=0.5)
    robust: float = Field(0.2, gt=0, lt=0.5)
    batch: int = Field(8, ge=2)
    width: int = Field(16, ge=8, multiple_of=8)
    auxiliary: str = "dlib_resnet"
    learning_rate: float = Field(2e-3, gt=0)
    inner: float = Field(0.05, ge=0)
    dodging: float = Field(3.0, ge=0)
    likeness: float = Field(10.0, ge=0)
    erasing: float = Field(0.1, ge=0)
    lpips: float = Field(0.145, ge=0)


class MaskTraining:
    """Three stages: likeness alone; then dodging, ever more; then erasing what has been compressed on the way.

    In each step surrogate and auxiliary recognizer take turns as the primary one. The protector first takes a step
    against the other (inner update), and what it loses there against the primary one moves it (outer update, first
    order), beside what it loses against the other before that step: what it learns of one recognizer has to serve
    against the next.
    """

    Config = MaskTrainingConfig

    def __init__(self, config: MaskTrainingConfig, faces: Faces, surrogate: nn.Module, seed: int) -> None:
        auxiliary = load_recognizer(config.auxiliary)
        if not isinstance(auxiliary, Differentiable):
            raise UserError(f"the recognizer '{config.auxiliary}' has no gradients", "Choose dlib_resnet.")
        self.config, self.seed, self.faces = config, seed, faces
        self.recognizers = [device.to(one.eval()) for one in (surrogate, auxiliary.differentiable())]
        order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(seed))
        sample = to_float(faces.load(order[:64].numpy()))
        self.strangers: list[float] = []
        self.known: list[dict[int, torch.Tensor]] = [{}, {}]  # Embeddings by row, as they are first asked for.
        for recognizer in self.recognizers:
            with torch.no_grad():
                embedded = torch.cat([recognizer(part) for part in sample.split(16)])
            cosines = embedded @ embedded.T
            self.strangers.append(float((cosines.sum() - cosines.trace()) / (len(sample) * (len(sample) - 1))))
        with weights_from(torch.Generator().manual_seed(seed)):  # They are drawn on the CPU: the same ones everywhere.
            self.protector, self.eraser = device.to(Protector(config.width)), device.to(Eraser(config.width))
            nn.init.normal_(self.protector.network.out.weight, std=_START)
        self.modules = (self.protector, self.eraser)
        self.optimizers = [torch.optim.Adam(one.parameters(), lr=config.learning_rate) for one in self.modules]

    @property
    def steps(self) -> int:
        """Of all stages."""
        return self.config.steps

    def step(self, number: int) -> dict[str, float]:
        """One step, its randomness from the seed and its number alone: what is resumed goes on as if never stopped."""
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        c, done = self.config, number / self.config.steps
        rows = torch.randint(0, len(self.faces), (c.batch,), generator=draw).tolist()
        clear = to_float(self.faces.load(rows))
        key, other = (device.to(torch.cat([signs(draw) for _ in range(c.batch)])) for _ in range(2))
        other[: c.batch // 4] = 0  # Nobody's key.
        start, end = c.still, 1 - c.robust
        dodging = c.dodging * min(max((done - start) / (end - start) * 2, 0.0), 1.0)
        primary = number % 2
        values: dict[str, torch.Tensor] = {}
        before = self._inner(clear, rows, key, 1 - primary, draw, values) if dodging else None
        cloaked = self.protector(clear, key)
        if before is not None:
            values["dodged"] = self._recognised(cloaked, rows, primary, draw)
        values["lpips"] = perceptual_distance(cloaked, clear).mean()
        sent = _compressed(cloaked, draw) if done >= end else cloaked
        sent = sent + ((sent * 255).round() / 255 - sent).detach()
        erased = sent + self.eraser(sent, key)
        values["erased"] = (erased - clear).abs().mean() * 255 / 8
        if done >= end:
            values["unrecognised"] = 1 - self._recognised(erased, rows, primary, draw)
        values["untouched"] = (self.eraser(sent.detach(), other)).abs().mean() * 255 / 8
        loss = c.likeness * functional.relu(values["lpips"] - c.lpips)
        missed = [values[name] for name in ("erased", "untouched", "unrecognised") if name in values]
        loss = loss + c.erasing * torch.stack(missed).sum()
        if "dodged" in values:
            loss = loss + dodging * values["dodged"]
        self._move(loss, before, dodging, 0.5 * (1 + math.cos(math.pi * done)))
        return {name: float(value.detach()) for name, value in values.items()}

    def weights(self) -> dict[str, torch.Tensor]:
        """What ships, on the CPU, in half precision: the file has half the size."""
        return {
            f"{name}.{key}": tensor.detach().cpu().half()
            for name, module in zip(("protector", "eraser"), self.modules, strict=True)
            for key, tensor in module.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {"modules": [one.state_dict() for one in self.modules],
                "optimizers": [one.state_dict() for one in self.optimizers]}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        for module, kept in zip(self.modules, state["modules"], strict=True):
            module.load_state_dict(kept)
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)

    def _inner(
        self, clear: torch.Tensor, rows: list[int], key: torch.Tensor, which: int, draw: torch.Generator,
        values: dict[str, torch.Tensor],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
        """Move the protector a step against a recognizer; its weights before, and the gradients of that step."""
        weights = list(self.protector.parameters())
        values["auxiliary"] = self._recognised(self.protector(clear, key), rows, which, draw)
        gradients = list(torch.autograd.grad(values["auxiliary"], weights))
        length = float(torch.stack([one.norm() for one in gradients]).norm())
        kept = [one.detach().clone() for one in weights]
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(self.config.inner * gradient / max(length, 1e-12))
        return kept, gradients

    def _recognised(self, cloaked: torch.Tensor, rows: list[int], which: int, draw: torch.Generator) -> torch.Tensor:
        """How much of a person is left to a recognizer, a scalar: 1 as in the clear image, 0 as between strangers."""
        stranger, seen = self.strangers[which], self.recognizers[which](_as_seen(cloaked, draw))
        cosines = (seen * self._known(rows, which)).sum(1)
        return functional.relu((cosines - stranger) / (1 - stranger)).mean()

    def _known(self, rows: list[int], which: int) -> torch.Tensor:
        """Embeddings of the mirrored clear images: at that of an image itself no direction leads away."""
        kept = self.known[which]
        if new := [row for row in dict.fromkeys(rows) if row not in kept]:
            with torch.no_grad():
                kept |= zip(new, self.recognizers[which](to_float(self.faces.load(new)).flip(-1)), strict=True)
        return torch.stack([kept[row] for row in rows])

    def _move(
        self, loss: torch.Tensor, before: tuple[list[torch.Tensor], list[torch.Tensor]] | None, dodging: float,
        rate: float,
    ) -> None:  # fmt: skip
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if before is not None:
            with torch.no_grad():
                for weight, kept, gradient in zip(self.protector.parameters(), *before, strict=True):
                    weight.copy_(kept)
                    assert weight.grad is not None
                    weight.grad += dodging * gradient
        for module, optimizer in zip(self.modules, self.optimizers, strict=True):
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * rate
            optimizer.step()


def _as_seen(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """As another recognizer may get it: mirrored or not, up to two pixels off, softened or not."""
    mirrored, dy, dx, soft = (int(torch.randint(0, n, (1,), generator=draw)) for n in (2, 5, 5, 3))
    padded = functional.pad(images, (2, 2, 2, 2), mode="replicate")
    cut = padded[:, :, dy : dy + SIZE, dx : dx + SIZE]
    cut = cut.flip(-1) if mirrored else cut
    return resize(resize(cut, SIZE * 3 // 4), SIZE) if soft == 0 else cut


def _compressed(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """As it may come to whoever erases: as it is, as JPEG, at half the size and back, or smoothed."""
    kind = int(torch.randint(0, 5, (1,), generator=draw))
    if kind == 0:
        quality = int(torch.randint(60, 96, (1,), generator=draw))
        packed = np.stack([_jpeg(image, quality) for image in to_bytes(images.detach())])
        return images + (to_float(packed) - images).detach()  # Gradients pass as if nothing had been lost.
    if kind == 1:
        return resize(resize(images, SIZE * 3 // 4), SIZE)
    if kind == 2:
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        return (images + functional.avg_pool2d(padded, 3, 1)) / 2
    return images


def _jpeg(image: np.ndarray[Any, Any], quality: int) -> np.ndarray[Any, Any]:
    """uint8 (3, h, w) -> the same, once through JPEG."""
    packed = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed).convert("RGB")).transpose(2, 0, 1)
