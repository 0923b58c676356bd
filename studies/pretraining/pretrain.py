"""Train the U-Net that reconstruction starts from, and measure what its card says.

    python studies/pretraining/pretrain.py --lfw FOLDER --cfp FOLDER [--out FOLDER] [--ship]

It learns from CFP without the people who are in LFW too, and from synthetic people of another seed than any suite has;
one person of five is held out, by a hash of the name. It undoes random degradations of them (``degradations.py``), each
given as every attack is given a defense: what is observed, and the closed-form estimate. The same command goes on where
it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any, ClassVar

import numpy as np
import torch
from degradations import Degradation, drawn
from torch import nn

from ppfr_bench import training
from ppfr_bench.api import SIZE, Config, Faces, to_bytes, to_float
from ppfr_bench.datasets import load_dataset
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.face_prior import unseen_people
from ppfr_bench.learning.inversion import ESTIMATE_SIZE, as_bytes
from ppfr_bench.learning.inverter import enlarged, network_inputs, new_unet, rebuild
from ppfr_bench.learning.kernel_ridge import fit_best_kernel_ridge
from ppfr_bench.learning.likeness import measured, unlikeness
from ppfr_bench.learning.observations import Observations, observe_images
from ppfr_bench.learning.pretrained import WEIGHTS, WIDTH
from ppfr_bench.learning.resizing import shrink_faces
from ppfr_bench.learning.validation import HELD_OUT_SHARE, validation_mask

_SYNTHETIC_SEED = 20261128
_RELEASES = (1, 1, 1, 2, 4)  # Of each image, one of these for each degradation.


class PretrainingConfig(Config):
    """``degradations``: so many; ``fitted``: images that an estimate is fitted on; ``kept``: of these, learnt from."""

    steps: int = 16000
    batch: int = 8
    learning_rate: float = 1e-3
    warm: int = 400  # The learning rate rises for so many steps, and falls to 0 as a cosine.
    degradations: int = 72
    fitted: int = 900
    kept: int = 320


@dataclass(frozen=True)
class Examples:
    """Of n images: what is observed, the estimate uint8 (n, 3, 64, 64), and the clear image uint8 (n, 3, 112, 112)."""

    own: Observations
    estimates: torch.Tensor
    clear: torch.Tensor

    @staticmethod
    def together(parts: list[Examples]) -> Examples:
        """All rows of one or more parts, in order."""
        estimates, clear = (torch.cat([getattr(part, name) for part in parts]) for name in ("estimates", "clear"))
        return Examples(Observations.concatenated([part.own for part in parts]), estimates, clear)


def examples(faces: Faces, degradation: Degradation, fitted: int, kept: int, generator: torch.Generator) -> Examples:
    """``kept`` of ``fitted`` random images under a degradation, each estimated without its person."""
    rows = torch.randperm(len(faces), generator=generator)[:fitted].numpy()
    some = subset(faces, np.sort(rows))
    releases = _RELEASES[int(torch.randint(len(_RELEASES), (1,), generator=generator))]
    seen = []
    for batch in some.batches(128):
        clear = to_float(batch)
        seen.append(np.stack([to_bytes(degradation(clear, generator)) for _ in range(releases)]))
    own = Observations.concatenated([Observations(*observe_images(part, SIZE, None)) for part in seen])
    outputs = shrink_faces(some, ESTIMATE_SIZE).flatten(1).float() / 255
    held = validation_mask(some.identities, HELD_OUT_SHARE, generator)
    _, fit = fit_best_kernel_ridge(own.regression_inputs(ESTIMATE_SIZE), outputs, some.identities, held)
    chosen = torch.randperm(len(some), generator=generator)[:kept]
    clear = torch.from_numpy(some.load(chosen.numpy()))
    return Examples(own[chosen], as_bytes(fit.left_out, ESTIMATE_SIZE)[chosen], clear)


class Pretraining:
    """One network for all degradations, trained under the attacks' own loss."""

    Config: ClassVar[type[Config]] = PretrainingConfig

    def __init__(self, config: PretrainingConfig, faces: Faces, surrogate: nn.Module | None, seed: int) -> None:
        self.config, self.seed, self.steps = config, seed, config.steps
        self.network = new_unet(WIDTH, torch.Generator().manual_seed(seed))
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=1e-4, fused=True
        )
        self.examples: Examples | None = None

    def learn_from(self, groups: list[Faces]) -> None:
        """Make the examples; groups of faces take turns."""
        c, parts = self.config, []
        for number in range(c.degradations):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            degradation = drawn(generator)
            parts.append(examples(groups[number % len(groups)], degradation, c.fitted, c.kept, generator))
            print(f"degradation {number + 1} of {c.degradations}: {', '.join(degradation.names)}", file=sys.stderr,
                  flush=True)  # fmt: skip
        self.examples = Examples.together(parts)

    def step(self, number: int) -> Mapping[str, float]:
        """Take step ``number``, from 0."""
        c, given = self.config, self.examples
        assert given is not None, "there are examples"
        generator = torch.Generator().manual_seed(-1 - number)
        rows = torch.randint(len(given.clear), (c.batch,), generator=generator)
        estimates, clear = enlarged(given.estimates[rows], SIZE), given.clear[rows].float() / 255
        falls = 0.5 * (1 + np.cos(np.pi * number / c.steps))
        self.optimizer.param_groups[0]["lr"] = c.learning_rate * min((number + 1) / c.warm, falls)
        loss = unlikeness(estimates + self.network(network_inputs(given.own[rows], estimates)), clear)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return {"loss": float(loss.detach())}

    def weights(self) -> Mapping[str, torch.Tensor]:
        """In half precision."""
        return {name: tensor.half() for name, tensor in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _measured(made: Pretraining, groups: dict[str, Faces], count: int, seed: int) -> dict[str, Any]:
    """What the estimate and the network reach on people and degradations that were not learnt from, as means."""
    found: dict[str, Any] = {}
    for name, faces in groups.items():
        values: dict[str, list[dict[str, float]]] = {"estimate": [], "network": []}
        for number in range(count):
            generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 - 1 - number)
            given = examples(faces, drawn(generator), made.config.fitted, 48, generator)
            clear = given.clear.numpy()
            values["estimate"].append(measured(enlarged(given.estimates, SIZE), clear))
            values["network"].append(measured(rebuild(made.network, given.own, given.estimates), clear))
        found[name] = {
            of: {metric: round(float(np.mean([one[metric] for one in ones])), 4) for metric in ones[0]}
            for of, ones in values.items()
        }
    return found


def main() -> None:
    """Train, measure, and ship where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--cfp", required=True)
    parser.add_argument("--steps", type=int, default=PretrainingConfig().steps)
    parser.add_argument("--degradations", type=int, default=PretrainingConfig().degradations)
    parser.add_argument("--out", type=Path, default=Path(".bench/training/pretrained"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", action="store_true", help="put weights and card beside the model")
    given = parser.parse_args()
    torch.set_num_threads(2)  # Sums depend on how they are split.
    config = PretrainingConfig(steps=given.steps, degradations=given.degradations)
    photographs = load_dataset("lfw", {"root": given.lfw, "cfp_root": given.cfp})
    synthetic = load_dataset("synthetic", {"seed": _SYNTHETIC_SEED})
    faces = photographs.attacker
    of_cfp = np.array([name.startswith("cfp/") for name in faces.names])
    learnt, held_out = {}, {}
    for name, everyone, mine in (
        ("photographs", faces, of_cfp),
        ("synthetic", synthetic.attacker, np.ones(len(synthetic.attacker), dtype=np.bool_)),
    ):
        unseen = unseen_people(everyone.names)
        learnt[name] = subset(everyone, np.flatnonzero(mine & ~unseen))
        held_out[name] = subset(everyone, np.flatnonzero(mine & unseen))
    made = Pretraining(config, learnt["photographs"], None, given.seed)
    made.learn_from([learnt["photographs"], learnt["photographs"], learnt["synthetic"]])
    spec = {"model": "pretrained", "recipe": config.model_dump(mode="json"), "seed": given.seed,
            "datasets": {"photographs": photographs.revision, "synthetic": synthetic.revision}}  # fmt: skip

    def show(done: int, values: Mapping[str, float]) -> None:
        if done % 100 == 0:
            print(f"{done} of {made.steps}: loss {values['loss']:.3f}", file=sys.stderr, flush=True)

    weights, log = training.train(made, spec, given.out, show)
    made.network.load_state_dict({name: tensor.float() for name, tensor in made.weights().items()})
    card = {
        "model": "pretrained",
        "date": datetime.now(UTC).date().isoformat(),
        "data": "CFP without the 176 people who are in LFW (research use); synthetic people of a seed of their own",
        "not_in_it": "LFW, the synthetic people of every suite, and one person of five, by a hash of the name",
        "use": "start of the reconstruction attacks of this benchmark on images; never on CFP",
        "images": {name: len(some) for name, some in learnt.items()},
        "people": {name: len(np.unique(some.identities)) for name, some in learnt.items()},
        "parameters": sum(tensor.numel() for tensor in made.network.parameters()),
        "on_held_out_people_and_degradations": _measured(made, held_out, 12, given.seed),
        "log": log,
    }
    print(json.dumps({name: value for name, value in card.items() if name != "log"}, indent=1))
    (given.out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    if given.ship:
        copyfile(weights, WEIGHTS)
        WEIGHTS.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
