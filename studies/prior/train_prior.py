"""Train the prior that gradient inversion has on photographs, and measure what its card says.

    python studies/prior/train_prior.py --lfw FOLDER --cfp FOLDER [--steps N] [--out FOLDER] [--ship]

It learns from LFW's folds 1-5 and from CFP without the people who are in LFW too; nobody of LFW's folds 6-10 is in it,
and no photograph of theirs under another name. One person of five is held out, by a hash of the name, so that attacks
can choose on people whom the prior has not seen. The same command goes on where it was stopped; with more steps, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ppfr_bench import training
from ppfr_bench.api import SIZE, Config, Faces
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.disjoint_splits import DISTANCE, WithoutCopies, near_duplicates, perceptual_hashes
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.face_prior import SIDE, WEIGHTS, FacePrior, preconditioning, unseen_people
from ppfr_bench.learning.likeness import perceptual_distance
from ppfr_bench.learning.posterior import sample
from ppfr_bench.learning.resizing import resize, shrink_faces
from ppfr_bench.learning.unet import weights_from

_LOWEST, _HIGHEST = 0.02, 20.0  # Standard deviations of the noise that it learns to remove.
_MEASURED_AT = (0.1, 0.3, 1.0, 3.0)
_MEASURED = 256  # Images a side that its card's losses are of.
_SAMPLES = 64
_NOISES = 40  # Denoisings of a sample from nothing.


class PriorConfig(Config):
    """``middle`` and ``width``: mean and standard deviation of the noise level's logarithm; ``perception``: weight of
    LPIPS, of a half of the batch, beside the squared error."""

    steps: int = 3000
    batch: int = 8
    learning_rate: float = 2e-3
    warm: int = 200  # The learning rate rises for so many steps,
    steady: int = 1000  # and falls as one over the root of the steps from here on.
    middle: float = -0.7
    width: float = 1.0
    perception: float = 1.0
    averaged: float = 8.0  # Weights are averaged over the steps, each weighing as its number to the power of this.


class PriorTraining:
    """Denoising score matching, with LPIPS beside the squared error, as a blur is the best guess by the latter.

    Source: Karras et al., NeurIPS 2022 (loss and its weight over noise levels).
    """

    Config: ClassVar[type[Config]] = PriorConfig

    def __init__(self, config: PriorConfig, faces: Faces, surrogate: nn.Module | None, seed: int) -> None:
        self.config, self.seed, self.steps = config, seed, config.steps
        self.images = shrink_faces(faces, SIDE)
        with weights_from(torch.Generator().manual_seed(seed)):
            self.network = FacePrior().to(memory_format=torch.channels_last)
        self.average = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99),
                                           weight_decay=1e-4, fused=True)  # fmt: skip

    def step(self, number: int) -> Mapping[str, float]:
        """Take step ``number``, from 0."""
        c = self.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rows = torch.randint(len(self.images), (c.batch,), generator=generator)
        clear = self.images[rows].float() / 127.5 - 1
        mirrored = torch.rand(c.batch, generator=generator) < 0.5
        clear = torch.where(mirrored[:, None, None, None], clear.flip(-1), clear)
        sigma = (c.middle + c.width * torch.randn(c.batch, generator=generator)).exp().clamp(_LOWEST, _HIGHEST)
        noisy = clear + sigma[:, None, None, None] * torch.randn(clear.shape, generator=generator)
        skip, gain = preconditioning(sigma)
        found = self.network.residual(noisy, sigma)
        missed = (found - (clear - skip * noisy) / gain).square().mean()
        some = slice(0, c.batch // 2)
        # What noise hides has no one true texture: there it counts for less.
        distance = (skip[some].flatten() * _distance((skip * noisy + gain * found)[some], clear[some])).mean()
        self.optimizer.param_groups[0]["lr"] = (
            c.learning_rate * min(1.0, (number + 1) / c.warm) / max(1.0, number / c.steady) ** 0.5
        )
        self.optimizer.zero_grad(set_to_none=True)
        (missed + c.perception * distance).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        kept = (1 - 1 / (number + 1)) ** (c.averaged + 1)
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - kept)
        return {"missed": float(missed.detach()), "distance": float(distance.detach())}

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The averaged weights, in half precision."""
        return {name: tensor.half() for name, tensor in self.average.items()}

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {"network": self.network.state_dict(), "average": self.average, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])


def _distance(answer: torch.Tensor, clear: torch.Tensor) -> torch.Tensor:
    """LPIPS of images in [-1, 1], enlarged to what is measured: (n, 3, 64, 64) twice -> (n,)."""
    large, wanted = (resize((images.clamp(-1, 1) + 1) / 2, SIZE) for images in (answer, clear))
    return perceptual_distance(large, wanted)


def _losses(network: FacePrior, images: torch.Tensor) -> dict[str, dict[str, float]]:
    """Squared error, in units of what is not known, and LPIPS at each noise level, of images uint8 (n, 3, 64, 64)."""
    found = {}
    for level in _MEASURED_AT:
        generator, missed, distance = torch.Generator().manual_seed(0), [], []
        for part in images.split(32):
            clear, sigma = part.float() / 127.5 - 1, torch.full((len(part),), level)
            noisy = clear + level * torch.randn(clear.shape, generator=generator)
            with torch.no_grad():
                answer = network(noisy, sigma)
                missed.append(((answer - clear) / preconditioning(sigma)[1]).square().mean((1, 2, 3)))
                distance.append(_distance(answer, clear))
        means = {"missed": torch.cat(missed).mean(), "lpips": torch.cat(distance).mean()}
        found[str(level)] = {name: round(float(value), 4) for name, value in means.items()}
    return found


def _samples(network: FacePrior, seed: int) -> torch.Tensor:
    """Faces from noise alone, uint8 (64, 3, 64, 64)."""

    def denoise(noisy: torch.Tensor, level: float) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = network(noisy, torch.full((len(noisy),), level))
        return found

    levels = np.geomspace(_HIGHEST, _LOWEST, _NOISES).tolist()
    found = sample(denoise, torch.zeros(_SAMPLES, 3, SIDE, SIDE), levels, torch.Generator().manual_seed(seed))
    return ((found.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _nearest(images: torch.Tensor, known: torch.Tensor) -> dict[str, float]:
    """How many of 256 bits of each image's hash differ from those of the most similar of the known images."""
    hashes, others = perceptual_hashes([images.numpy()]), perceptual_hashes([known.numpy(), known.flip(-1).numpy()])
    bits = np.bitwise_count(hashes[:, None] ^ others[None]).sum(-1).min(1)
    return {"images": len(images), "least": int(bits.min()), "median": float(np.median(bits)),
            "copies": len({row for row, _ in near_duplicates(hashes, others)})}  # fmt: skip


def _card(network: FacePrior, learnt: Faces, held_out: Faces, seed: int) -> dict[str, Any]:
    """What there is to know of the weights; ``copies`` are within 16 of 256 bits of an image that was learnt from."""
    known, others = shrink_faces(learnt, SIDE), shrink_faces(held_out, SIDE)
    some, unknown = (x[torch.linspace(0, len(x) - 1, _MEASURED).long()] for x in (known, others))
    return {
        "model": "face_prior",
        "date": datetime.now(UTC).date().isoformat(),
        "data": "LFW folds 1-5 (research use) and CFP without the 176 people who are in LFW (research use), mirrored",
        "not_in_it": "LFW folds 6-10, copies of their photographs, and one person of five, by a hash of the name",
        "use": "attacks of this benchmark on photographs of people who are not in its data; never on CFP",
        "images": len(learnt), "people": len(np.unique(learnt.identities)),
        "held_out_images": len(held_out), "held_out_people": len(np.unique(held_out.identities)),
        "parameters": sum(tensor.numel() for tensor in network.parameters()),
        "loss_on_training_people": _losses(network, some),
        "loss_on_held_out_people": _losses(network, unknown),
        "hash_distance_to_training_images": {
            "copy": DISTANCE,
            "samples": _nearest(_samples(network, seed), known),
            "held_out_photographs": _nearest(unknown, known),
        },
    }  # fmt: skip


def main() -> None:
    """Train, measure, and ship where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--cfp", required=True)
    parser.add_argument("--steps", type=int, default=PriorConfig().steps)
    parser.add_argument("--out", type=Path, default=Path(".bench/training/face_prior"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put weights and card beside the model")
    given = parser.parse_args()
    torch.set_num_threads(1)  # Sums depend on how they are split.
    config = PriorConfig(steps=given.steps)
    data = WithoutCopies(load_dataset("lfw", {"root": given.lfw, "cfp_root": given.cfp}))
    faces = data.attacker
    unseen = unseen_people(faces.names)
    learnt, held_out = subset(faces, np.flatnonzero(~unseen)), subset(faces, np.flatnonzero(unseen))
    made = PriorTraining(config, learnt, None, given.seed)
    # Steps are no part of it, as the schedule does not depend on them: training can go on to more.
    spec = {"model": "face_prior", "recipe": config.model_dump(mode="json", exclude={"steps"}),
            "dataset": data.revision, "seed": given.seed}  # fmt: skip

    def show(done: int, values: Mapping[str, float]) -> None:
        if done % 100 == 0:
            said = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            print(f"{done} of {made.steps}: {said}", file=sys.stderr, flush=True)

    weights, log = training.train(made, spec, given.out, show)
    network = FacePrior()
    network.load_state_dict({name: tensor.float() for name, tensor in made.weights().items()})
    network.eval().requires_grad_(False)
    card = _card(network, learnt, held_out, given.seed) | {"log": log}
    print(json.dumps({name: value for name, value in card.items() if name != "log"}, indent=1))
    (given.out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    if given.ship:
        copyfile(weights, WEIGHTS)
        WEIGHTS.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
