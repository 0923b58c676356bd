"""What a cloak is: an image with a small change that recognizers fail on, and that a key holder may take away again."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from ppfr_bench.api import Defense
from ppfr_bench.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

__all__ = ["Cloak", "check_cloaked"]

_ROUNDING = 1e-4  # Float32 sums may exceed a budget by so much, in [0, 1].


class Cloak(Defense):
    """Releases images that look like the clear ones: ``cloak`` is what a row defines.

    A cloak may be trained on the recognizers that ``seen`` names: what they still recognise tells nothing of the
    recognizers that it never saw.

    Attributes:
        erasable: whether ``erase`` brings the clear image back; its key is then ``Config.secret``, an int.
    """

    erasable: ClassVar[bool] = False

    @property
    def budget(self) -> float:
        """The largest change of a channel of a pixel, in [0, 1]. Default: no limit."""
        return 1.0

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the recognizers whose gradients it uses or was trained with. Default: none."""
        return ()

    @abstractmethod
    def cloak(self, images: Tensor, generator: Generator) -> Tensor:
        """float32 (n, 3, h, w) in [0, 1] -> the same shape and range, within ``budget`` of the images."""

    def protect(self, images: Tensor, generator: Generator) -> Tensor:
        """What ``cloak`` makes of the images.

        Raises:
            UserError: it leaves [0, 1], or changes a pixel by more than the budget.
        """
        cloaked = self.cloak(images, generator)
        check_cloaked(images, cloaked, self.budget, type(self).card.title)
        return cloaked

    def erase(self, images: Tensor, key: int | None) -> Tensor:
        """The clear images, as far as they can be had from cloaked ones.

        Args:
            images: float32 (n, 3, h, w) in [0, 1], as released.
            key: of whoever erases; None for nobody's.

        Returns:
            float32 of the same shape and range.

        Raises:
            UserError: the cloak cannot be erased.
        """
        raise UserError(
            f"{type(self).card.title}: this cloak cannot be erased",
            "Only a class with `erasable = True` and an `erase` of its own can be.",
        )

    def eraser(self, key: int) -> nn.Module | None:
        """The eraser's network under a key: what an outsider who has the method's files but not its key starts from.

        It takes released images float32 (n, 3, h, w) in [0, 1] and gives the change that it would add to them. Its
        weights are a copy that may be trained. Default: there is none.
        """
        return None


def check_cloaked(images: Tensor, cloaked: Tensor, budget: float, title: str) -> None:
    """Whether a cloak keeps to the range and the budget.

    Args:
        images, cloaked: float32 (n, 3, h, w).
        budget: the largest change of a channel of a pixel, in [0, 1].
        title: of the cloak, for messages.

    Raises:
        UserError: another shape, a value outside of [0, 1] or none at all, or a change beyond the budget.
    """
    if cloaked.shape != images.shape:
        raise UserError(
            f"{title}: expected cloaked images of shape {tuple(images.shape)}, got {tuple(cloaked.shape)}",
            "A cloak changes the pixels of an image, never its size.",
        )
    if not images.numel():
        return
    low, high = float(cloaked.min()), float(cloaked.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # NaN fails both comparisons.
        raise UserError(
            f"{title}: expected cloaked pixels in [0, 1], got {low:.4g} to {high:.4g}",
            "Clamp what the cloak adds up:  (images + change).clamp(0, 1)",
        )
    change = float((cloaked - images).abs().max())
    if change > budget + _ROUNDING:
        raise UserError(
            f"{title}: expected a change of at most {budget:.4g} a pixel, got {change:.4g}",
            "Clamp the change:  change.clamp(-budget, budget), or raise the budget among the parameters.",
        )
