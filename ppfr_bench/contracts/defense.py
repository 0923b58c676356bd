"""What a defense must keep to before it is attacked, what is odd about it, and whether a clear image gets out of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ppfr_bench import global_randomness
from ppfr_bench.api import ByteArray, Defense, Randomness, UserError, to_bytes, to_float
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.contracts.clear_images import TOUCHED, leaked_images
from ppfr_bench.contracts.findings import BreachError, Finding, on, where
from ppfr_bench.stages.release import RANGE_SLACK, draws_for, protect_once

__all__ = ["FEW_DRAWS", "Finding", "check_defense", "leaked_images", "randomness_flags"]

FEW_DRAWS = "low_entropy_draws"
_STRAY_SHARE = 1e-3  # Share of bytes that may move by one level with the batch size, as sums change order.
_BY_CHANCE = 0.5  # Share of images that may meet one draw twice: few draws are flagged, not refused.
_DRAWS = 16  # Draws of one image; a defense of 16 outcomes repeats one almost certainly.
_FAR = 4  # A pixel is far from another beyond a quarter of the image's larger side.
_SPREAD = 0.01  # Share of far pixels that move by more than TOUCHED; no filter reaches that far.
_SEEDED = 0.25  # Share of images; a decision on the whole image may tip on one pixel now and then.


def check_defense(defense: Defense, images: ByteArray, names: Sequence[str], seed: int) -> list[Finding]:
    """Every breach of the contract that shows on a few images; an empty list if it keeps to it.

    Checked: shape, type, [0, 1], finite, of what it renders too; the input left alone; the same bytes for one seed; the
    same bytes in any batch, and where a gradient is asked for, as an informed attacker does (both but for stray
    roundings); torch's, NumPy's and Python's global randomness left alone; and the randomness contract, read so:

    - ``deterministic``, ``per_session_key``, ``per_user_key``: two seeds give the same bytes, as keys are part of the
      parameters or drawn in ``fit``, never in ``protect``.
    - ``per_call``, ``per_image_key``: two seeds differ, and so do two copies of one image in one batch, on most images
      (where there are few draws, two may be the same by chance). Who holds the
      key afterwards cannot be seen from outside. Randomness derived from the image's content is ``deterministic``.

    Args:
        defense: fitted, if it learns.
        images: uint8 (n, 3, h, w), n at least 1; 8 to 16 are enough.
        names: n labels for messages.
        seed: any int.
    """
    findings: list[Finding] = []
    before = global_randomness.state()
    seed = draws_for(images, seed, 0).initial_seed()  # As in a run, which this is to look like.
    try:
        with global_randomness.kept():
            released = _protect(defense, images, names, seed)
            _check_render(defense, images, released)
            if global_randomness.state() != before:
                message = "uses global randomness, expected only the generator passed in"
                findings.append(Finding("global_random", message))
            again = _protect(defense, images, names, seed)
            if differing := _differing(released, again, names):
                message = "two runs with one seed differ" + on(differing)
                findings.append(Finding("not_reproducible", message, differing))
            else:  # Without reproducibility, the next two would only repeat it.
                findings += _check_batches(defense, images, names, seed, released)
                findings += _check_differentiated(defense, images, names, seed, released)
                findings += _check_randomness(defense, images, names, seed, released)
    except BreachError as breach:
        findings.append(breach.finding)
    return findings


def randomness_flags(defense: Defense, images: ByteArray, seed: int) -> tuple[str, ...]:
    """What is odd about the randomness of a defense that ``check_defense`` has passed; no reason to reject it.

    - ``low_entropy_draws``: claims to be random, and of 16 draws of the first image two or more are equal. Whoever
      has the method can try all outcomes.
    - ``content_seeded``: noise that is a function of the image. Claimed ``deterministic``: one pixel moved by one level
      in every channel moves more than 1% of the pixels a quarter of the image away by more than 2 levels, on a quarter
      of the images or more; a filter or a map of the whole image does not. Claimed random: two copies of an image in
      one batch come out equal, though another seed, or such a pixel, changes them. Several releases of one photo are
      then one, but who guesses the photo can check the guess. A cloak hides no photo, and is not tried.

    Args:
        defense: fitted, if it learns.
        images: uint8 (n, 3, h, w), n at least 1; 8 to 16 are enough.
        seed: any int.

    Raises:
        UserError: the defense breaks the contract on these images.
    """
    names = [str(i) for i in range(len(images))]
    flags, seed = [], draws_for(images, seed, 0).initial_seed()
    try:
        with global_randomness.kept():
            if defense.randomness in ("per_call", "per_image_key"):
                draws = _protect(defense, np.repeat(images[:1], _DRAWS, axis=0), names[:1] * _DRAWS, seed)
                outcomes = len({draw.tobytes() for draw in draws})
                if outcomes < _DRAWS:
                    flags.append(FEW_DRAWS)
                first, second = np.split(_protect(defense, np.concatenate([images, images]), names * 2, seed), 2)
                # Few keys may give the same one twice, by chance.
                if outcomes == 1 and not _differing(first, second, names):
                    other = _protect(defense, images, names, seed + 1)
                    if _differing(first, other, names) or _spreads(defense, images, names, seed):
                        flags.append("content_seeded")
            elif (
                defense.randomness == "deterministic"
                and not isinstance(defense, Cloak)
                and _spreads(defense, images, names, seed)
            ):
                flags.append("content_seeded")
    except BreachError as breach:
        raise UserError(
            f"The randomness of a defense that breaks the contract cannot be determined: {breach.finding.message}.",
            "Run check_defense first.",
        ) from breach
    return tuple(flags)


def _spreads(defense: Defense, images: ByteArray, names: Sequence[str], seed: int) -> bool:
    """Whether one pixel, moved by one level, moves many far from it, on enough of the images."""
    n, _, height, width = images.shape
    places = np.random.RandomState(seed % 2**32)
    rows, columns = places.randint(height, size=(n,)), places.randint(width, size=(n,))
    moved, at = images.copy(), (np.arange(n), slice(None), rows, columns)
    moved[at] = np.where(images[at] < 255, images[at] + 1, 254)
    before, after = (_protect(defense, batch, names, seed) for batch in (images, moved))
    distance = np.maximum(before, after) - np.minimum(before, after)
    shown = distance.shape[-2:]  # A representation has a grid of its own.
    reach = max(shown) // _FAR
    away_rows = np.abs(np.arange(shown[0])[None, :] - (rows * shown[0] // height)[:, None]) > reach
    away_columns = np.abs(np.arange(shown[1])[None, :] - (columns * shown[1] // width)[:, None]) > reach
    far = away_rows[:, :, None] | away_columns[:, None, :]
    share = ((distance.max(axis=1) > TOUCHED) & far).sum(axis=(1, 2)) / np.maximum(far.sum(axis=(1, 2)), 1)
    return bool((share > _SPREAD).mean() >= _SEEDED)


def _protect(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, split: Sequence[int] = ()
) -> ByteArray:
    """What the defense releases, in batches of the sizes in ``split`` (default: one), under one generator.

    Raises:
        BreachError: it raises, or what it returns is no image batch of that shape.
    """
    generator, out, start = torch.Generator().manual_seed(seed), [], 0
    for size in split or [len(images)]:
        part = slice(start, start + size)
        out.append(protect_once(defense, images[part], generator, names[part]))
        start += size
    return np.concatenate(out)


def _check_render(defense: Defense, images: ByteArray, released: ByteArray) -> None:
    """Raises:
    BreachError: what it makes of its own release is no image of at least that size, or not twice the same.
    """
    n, _, height, width = images.shape
    expected = f"expected of render float32 images of shape {images.shape} in [0, 1]"
    try:
        with torch.no_grad():
            drawn, again = (defense.render(to_float(released)) for _ in range(2))
    except Exception as error:  # A plug-in's code may raise anything; that is the finding.
        raise BreachError(Finding("render", f"render raises {type(error).__name__}: {error}")) from error
    fits = isinstance(drawn, torch.Tensor) and drawn.dtype == torch.float32 and drawn.shape[:2] == (n, 3)
    if not fits or drawn.shape[2] < height or drawn.shape[3] < width:
        came = f"{drawn.dtype} {tuple(drawn.shape)}" if isinstance(drawn, torch.Tensor) else type(drawn).__name__
        raise BreachError(Finding("render", f"{expected}, got {came}"))
    if not torch.isfinite(drawn).all() or drawn.min() < -RANGE_SLACK or drawn.max() > 1 + RANGE_SLACK:
        raise BreachError(Finding("render", f"{expected}, got [{float(drawn.min()):.3g}, {float(drawn.max()):.3g}]"))
    if not torch.equal(drawn, again):
        raise BreachError(Finding("render", "render draws another image each time, expected the same"))


def _check_batches(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, released: ByteArray
) -> list[Finding]:
    uneven = [size for size in (len(images) // 3, len(images) - len(images) // 3) if size]
    for split, what in ([1] * len(images), "one by one"), (uneven, f"in batches of {uneven}"):
        other = _protect(defense, images, names, seed, split)
        if differing := _apart(other, released, names):
            hint = "; draw from per_image_generators(generator, n)" if defense.randomness.startswith("per_") else ""
            message = f"{len(images)} images at once and {what} come out differently{hint}"
            return [Finding("batch_size", message + on(differing), differing)]
    return []


def _check_differentiated(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, released: ByteArray
) -> list[Finding]:
    try:
        with torch.enable_grad():
            out = defense.protect(to_float(images).requires_grad_(), torch.Generator().manual_seed(seed))
    except Exception:  # Code of a plug-in may raise anything; without a gradient no attacker sees what it would give.
        return []
    fits = isinstance(out, torch.Tensor) and tuple(out.shape) == released.shape
    if differing := _apart(to_bytes(out.detach()), released, names) if fits else tuple(names):
        message = "gives something else where a gradient is asked for than what it releases"
        return [Finding("gradient", message + on(differing), differing)]
    return []


def _apart(left: ByteArray, right: ByteArray, names: Sequence[str]) -> tuple[str, ...]:
    """Images that differ by more than stray roundings."""
    distance = np.abs(left.astype(np.int16) - right)
    strays = (distance == 1).mean(axis=(1, 2, 3))
    bad = (distance > 1).any(axis=(1, 2, 3)) | (strays > _STRAY_SHARE)
    return tuple(name for name, is_bad in zip(names, bad, strict=True) if is_bad)


def _check_randomness(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, released: ByteArray
) -> list[Finding]:
    declared: Randomness = defense.randomness
    differing = _differing(released, _protect(defense, images, names, seed + 1), names)
    if declared not in ("per_call", "per_image_key"):
        if differing:
            message = f"declares randomness '{declared}', but two seeds differ"
            return [Finding("randomness", message + on(differing), differing)]
        return []
    if len(equal := tuple(name for name in names if name not in differing)) > len(names) * _BY_CHANCE:
        message = f"declares randomness '{declared}', but two seeds give the same image"
        return [Finding("randomness", message + on(equal), equal)]
    first, second = np.split(_protect(defense, np.concatenate([images, images]), [*names, *names], seed), 2)
    differing = _differing(first, second, names)
    if len(equal := tuple(name for name in names if name not in differing)) > len(names) * _BY_CHANCE:
        message = f"declares randomness '{declared}', but one image twice in a batch comes out the same twice"
        return [Finding("randomness", message + on(equal), equal)]
    return []


def _differing(left: ByteArray, right: ByteArray, names: Sequence[str]) -> tuple[str, ...]:
    return where(torch.from_numpy(left != right), names)
