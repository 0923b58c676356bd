"""The one door by which anything leaves a defense.

The benchmark, ``protect``, ``check``, ``submit``, ``nightly`` and the tests all take their protected images from here.
What is no release, or shows a clear image, is refused, and nothing of it leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from ppfr_bench.api import ByteArray, Defense, to_bytes, to_float
from ppfr_bench.contracts.clear_images import leaked_images
from ppfr_bench.contracts.findings import BreachError, Finding, on, where
from ppfr_bench.contracts.weights import check_weights
from ppfr_bench.errors import UserError
from ppfr_bench.records.hashing import digest
from ppfr_bench.sandbox.process import said_to_user
from ppfr_bench.sandbox.stand_in import Breach, StandIn

RANGE_SLACK = 1e-4  # Float rounding, which is gone once the image is 8 bits.
_NAMED = 8  # Images are named one by one up to this many.


class RejectedError(UserError):
    """A defense broke its contract or let clear images out: what it made is refused.

    ``leaked`` names the images that it let out clear, if that is why.
    """

    def __init__(self, message: str, hint: str = "", leaked: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.leaked = list(leaked)


def release(
    defense: Defense, images: ByteArray, generator: torch.Generator, names: Sequence[str] = (), *,
    may_be_clear: bool = False,
) -> ByteArray:  # fmt: skip
    """What a defense releases of some images, or nothing at all.

    Args:
        images: uint8 (n, 3, h, w).
        generator: all randomness comes from it.
        names: n labels for messages.
        may_be_clear: of a control, whose release is measured and never given to anybody, and of images that an attacker
            sends in: clear regions are let pass.

    Returns:
        uint8 of the same shape; of a defense that releases a representation, (n, c, rows, columns).

    Raises:
        RejectedError: the defense fails, returns something of another type, shape or range or NaN, changes its input,
            or lets an image out clear, as a whole or beyond what its card says that it leaves.
        UserError: what the defense itself says to its user.
    """
    labels = list(names) or [f"image {i}" for i in range(len(images))]
    card = type(defense).card
    try:
        released = protect_once(defense, images, generator, labels)
    except BreachError as breach:
        if isinstance(breach.__cause__, UserError):
            raise breach.__cause__ from None
        raise RejectedError(f"{card.title}: {breach.finding.message}", "Nothing of it is released.") from breach
    if not may_be_clear:
        leaked = leaked_images(images, render(defense, released, images.shape), labels, card.clear_share)
        if leaked:
            some = ", ".join(leaked[:_NAMED]) + (f" and {len(leaked) - _NAMED} more" if len(leaked) > _NAMED else "")
            raise RejectedError(
                f"{card.title} lets clear images out: {some}",
                "Nothing of them is released. On failure a defense must raise, never release its input. A part that it"
                " leaves clear by design, or by the chance of its draws, is declared as clear_share on its card.",
                leaked,
            )
    return released


def draws_for(images: ByteArray, seed: int, draw: int) -> torch.Generator:
    """A new generator for one batch that a defense is given, on the CPU.

    Its seed is a hash of the batch, of the suite's seed and of how often the batch was released before. Nothing in it
    says what the images are for, so measured images, an attacker's and those of a check cannot be told apart by it.

    Args:
        images: uint8 (n, 3, h, w).
        seed: of the suite.
        draw: 0 for the first release of these images; another number gives independent draws.
    """
    content = hashlib.sha256(images.tobytes()).hexdigest()
    return torch.Generator().manual_seed(int(digest([seed, draw, list(images.shape), content])[:15], 16))


def render(defense: Defense, released: ByteArray, shape: Sequence[int]) -> ByteArray:
    """The images uint8 (n, 3, h, w) that whoever knows the method makes of a release of images of that ``shape``."""
    if type(defense).releases_image():
        return released
    with torch.no_grad():
        return to_bytes(defense.render(to_float(released))[..., : shape[-2], : shape[-1]])


def protect_once(defense: Defense, images: ByteArray, generator: torch.Generator, names: Sequence[str]) -> ByteArray:
    """What a defense makes of one batch, uint8 (n, 3, h, w), in 8 bits; whether it shows them clear is not looked at.

    Raises:
        BreachError: its weights are not those of its card, it raises, changes what it is given, or what it returns is
            no release of that batch.
    """
    if isinstance(defense, StandIn):
        return _protected_apart(defense, images, generator, names)
    if wrong_weights := check_weights(defense):
        raise BreachError(wrong_weights)
    batch = to_float(images)
    given = batch.clone()
    try:
        with torch.no_grad():  # A defense may keep tensors, which inference mode would bar from gradients later.
            out = defense.protect(batch, generator)
    except Exception as error:  # A plug-in's code may raise anything; that is the finding.
        reason = error.message if isinstance(error, UserError) else str(error)
        raise BreachError(Finding("raises", f"raises {type(error).__name__}: {reason}", tuple(names))) from error
    if wrong := _wrong_shape(defense, out, given):
        raise BreachError(Finding("shape", wrong))
    assert isinstance(out, torch.Tensor), "or its shape were wrong"
    if out.dtype != torch.float32:
        raise BreachError(Finding("dtype", f"expected float32, got {str(out.dtype).removeprefix('torch.')}"))
    if bad := where(~torch.isfinite(out), names):
        raise BreachError(Finding("not_finite", "releases NaN or infinite values" + on(bad), bad))
    if bad := where((out < -RANGE_SLACK) | (out > 1 + RANGE_SLACK), names):
        span = f"[{float(out.min()):.3g}, {float(out.max()):.3g}]"
        raise BreachError(Finding("range", f"expected values in [0, 1], got {span}" + on(bad), bad))
    if bad := where(batch != given, names):
        raise BreachError(Finding("in_place", "changes the images it is given; clone them first" + on(bad), bad))
    return to_bytes(out)


def _protected_apart(
    defense: StandIn, images: ByteArray, generator: torch.Generator, names: Sequence[str]
) -> ByteArray:
    """``protect_once``, which the process of the defense has done, with the names of the images in what it says.

    Raises:
        BreachError: as ``protect_once``, or the process has ended.
    """
    try:
        found = defense.released(images, generator)
    except Exception as error:
        reason = error.message if isinstance(error, UserError) else str(error)
        raise BreachError(Finding("raises", f"raises {type(error).__name__}: {reason}", tuple(names))) from error
    if not isinstance(found, Breach):
        return found
    bad = tuple(names[i] for i in found.images if 0 <= i < len(names))
    breach = BreachError(Finding(found.code, found.message + (on(bad) if found.named else ""), bad))
    raise breach from (said_to_user(found.user) if found.user else None)


def _wrong_shape(defense: Defense, released: object, images: torch.Tensor) -> str:
    """What is wrong with the type and shape of a release of ``images``; empty if nothing."""
    images_out = type(defense).releases_image()
    wanted = str(tuple(images.shape)) if images_out else f"({len(images)}, channels, rows, columns)"
    expected = f"expected {'float32 images' if images_out else 'a float32 representation'} of shape {wanted}"
    if not isinstance(released, torch.Tensor):
        return f"{expected}, got {type(released).__name__}"
    fits = released.shape == images.shape if images_out else released.ndim == 4 and len(released) == len(images)
    return "" if fits else f"{expected}, got {tuple(released.shape)}"
