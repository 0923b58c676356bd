"""What attacks that change a photo share: libraries that search for the change, and the budgets that it is kept to.

foolbox draws from torch's generator of the whole process. That is seeded for a search from the generator that is given,
and left as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from ppfr_bench.api import IntArray
from ppfr_bench.recognizers._runtime import require
from ppfr_bench.robustness.api import HardenedClassifier, RobustnessView, impersonated

__all__ = ["EXTRA", "AveragedOverNoise", "Search", "changes_by_budget", "descend", "seeded"]

EXTRA = "robustness"
Goal = Literal["dodging", "impersonation"]
Search = Callable[[Tensor, IntArray, float], Tensor]  # Images, classes, l2 budget -> changed images.
_SHORTER = 1 - 5e-4  # Changes are kept in 16 bits, which may make one longer.


class AveragedOverNoise(nn.Module):
    """The logarithm of the mean probabilities over draws of noise: expectation over transformation.

    Athalye et al., ICML 2018; for smoothed classifiers Salman et al., NeurIPS 2019.
    """

    def __init__(self, hardened: HardenedClassifier, draws: int, generator: Generator) -> None:
        super().__init__()
        self._hardened, self._generator = hardened, generator
        self._draws = draws if hardened.random else 1
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """float32 (n, 3, 112, 112) -> (n, classes); gradients reach the images."""
        return self._hardened.probabilities(images, self._draws, self._generator).clamp_min(1e-12).log()


def changes_by_budget(
    view: RobustnessView, search: Search, budgets: tuple[float, ...], goal: Goal, batch: int, generator: Generator
) -> npt.NDArray[np.float16]:
    """The changes of all images by budget, float16 (budgets, n, 3, 112, 112).

    A photo for which a smaller budget was enough keeps the change that was. A photo that is decided wrong as it is
    needs none to be dodged by, and stays as it is.

    Args:
        budgets: l2 norms, rising.
        batch: photos that are changed at once.
    """
    wanted = impersonated(view.labels, view.hardened.classes)
    aims = wanted if goal == "impersonation" else view.labels
    found = np.zeros((len(budgets), *view.images.shape), dtype=np.float16)
    clear = view.floats()
    for start in range(0, len(clear), batch):
        rows = np.arange(start, min(start + batch, len(clear)))
        images, best = clear[rows], torch.zeros_like(clear[rows])
        done = ~view.right[rows] if goal == "dodging" else np.zeros(len(rows), dtype=bool)
        for b, budget in enumerate(budgets):
            open_, aim = np.flatnonzero(~done), aims[rows]
            if len(open_):
                changed = search(images[open_], aim[open_], budget)
                change = _within(changed - images[open_], budget)
                best[open_] = change
                decided = view.hardened.decide((images[open_] + change).clamp(0, 1), generator)
                done[open_] = decided == aim[open_] if goal == "impersonation" else decided != aim[open_]
            found[b, rows] = best.cpu().numpy().astype(np.float16)
    return found


def _within(change: Tensor, budget: float) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(change, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return change * (budget * _SHORTER / norms).clamp(max=1)


def descend(
    hardened: HardenedClassifier, goal: Goal, steps: int, draws: int, generator: Generator
) -> Search:  # fmt: skip
    """Projected gradient descent in the l2 ball, by foolbox (Madry et al., ICLR 2018).

    Raises:
        Unavailable: foolbox is not installed; with the line to type.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # It imports scipy under a name that scipy gives up.
        foolbox: Any = require("foolbox", EXTRA)
    model = foolbox.PyTorchModel(AveragedOverNoise(hardened, draws, generator), bounds=(0, 1))
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack(rel_stepsize=2.5 / steps, steps=steps, random_start=True)
    criterion = foolbox.criteria.TargetedMisclassification if goal == "impersonation" else (
        foolbox.criteria.Misclassification
    )  # fmt: skip

    def search(images: Tensor, classes: IntArray, budget: float) -> Tensor:
        aim = criterion(torch.from_numpy(classes).to(images.device))
        with seeded(generator), torch.enable_grad():
            changed: Tensor = attack.run(model, images, aim, epsilon=budget)
        return changed.detach()

    return search


@contextmanager
def seeded(generator: Generator) -> Iterator[None]:
    """The generator of the process starts from a draw of the given one, and goes on afterwards as it would have."""
    seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
