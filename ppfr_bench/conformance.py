"""What a defense must keep to before it is attacked, what is odd about it, and whether a clear image gets out of it."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench.api import ByteArray, Defense, Randomness, UserError, to_bytes, to_float

__all__ = ["Finding", "check_defense", "leaked_images", "randomness_flags", "unfit", "wrong_shape"]

_RANGE_SLACK = 1e-4  # float rounding; gone once the image is 8 bits
_STRAY_SHARE = 1e-3  # of bytes that may move by one level with the batch size: sums in another order, then rounded
_TOUCHED = 2  # levels: what JPEG or rounding does to an image that was let through
_TEXTURED = 8.0  # levels, standard deviation of the luma over a window: skin without texture looks alike anyway
_WINDOW = 5  # pixels
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_LEAST_TEXTURE = 0.02  # of the pixels; below, there is nothing to recognize
_BY_CHANCE = 0.5  # of the images may meet the same draw twice: there may be few draws, which is flagged, not refused
_DRAWS = 16  # of one image; a defense with 16 outcomes in all repeats one of them with near certainty
_FAR = 4  # a pixel is far from another beyond a quarter of the image's larger side
_SPREAD = 0.01  # of the far pixels, moved by more than _TOUCHED levels: no filter carries one level that far
_SEEDED = 0.25  # of the images: a decision taken on the whole image may tip on one pixel now and then
_CHANCE = 0.15  # of the textured pixels, beyond what the card allows


@dataclass(frozen=True)
class Finding:
    """One breach of the contract: a stable ``code``, a sentence for people, the images it was seen on (if on some)."""

    code: str
    message: str
    names: tuple[str, ...] = ()


class _BreachError(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def check_defense(defense: Defense, images: ByteArray, names: Sequence[str], seed: int) -> list[Finding]:
    """Every breach of the contract that shows on a few images; an empty list if it keeps to it.

    Checked: shape, type, [0, 1], finite, of its picture too; the input left alone; the same bytes for one seed; the
    same bytes in any batch (but for stray roundings); torch's, NumPy's and Python's global randomness left alone; and
    the randomness contract, read so:

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
    fingerprint = _global_fingerprint()
    try:
        with _global_randomness_kept():
            released = _protect(defense, images, names, seed)
            _check_picture(defense, images, released)
            if _global_fingerprint() != fingerprint:
                message = "uses global randomness, expected only the generator passed in"
                findings.append(Finding("global_random", message))
            again = _protect(defense, images, names, seed)
            if differing := _differing(released, again, names):
                message = "two runs with one seed differ" + _on(differing)
                findings.append(Finding("not_reproducible", message, differing))
            else:  # without reproducibility, the next two would only repeat it
                findings += _check_batches(defense, images, names, seed, released)
                findings += _check_randomness(defense, images, names, seed, released)
    except _BreachError as breach:
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
      then one, but who guesses the photo can check the guess.

    Args:
        defense: fitted, if it learns.
        images: uint8 (n, 3, h, w), n at least 1; 8 to 16 are enough.
        seed: any int.

    Raises:
        UserError: the defense breaks the contract on these images.
    """
    names = [str(i) for i in range(len(images))]
    flags = []
    try:
        with _global_randomness_kept():
            if defense.randomness in ("per_call", "per_image_key"):
                draws = _protect(defense, np.repeat(images[:1], _DRAWS, axis=0), names[:1] * _DRAWS, seed)
                outcomes = len({draw.tobytes() for draw in draws})
                if outcomes < _DRAWS:
                    flags.append("low_entropy_draws")
                first, second = np.split(_protect(defense, np.concatenate([images, images]), names * 2, seed), 2)
                if outcomes == 1 and not _differing(first, second, names):  # not one of few keys twice, by chance
                    other = _protect(defense, images, names, seed + 1)
                    if _differing(first, other, names) or _spreads(defense, images, names, seed):
                        flags.append("content_seeded")
            elif defense.randomness == "deterministic" and _spreads(defense, images, names, seed):
                flags.append("content_seeded")
    except _BreachError as breach:
        raise UserError(
            f"The randomness of a defense that breaks the contract cannot be told: {breach.finding.message}.",
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
    shown = distance.shape[-2:]  # a representation has a grid of its own
    reach = max(shown) // _FAR
    away_rows = np.abs(np.arange(shown[0])[None, :] - (rows * shown[0] // height)[:, None]) > reach
    away_columns = np.abs(np.arange(shown[1])[None, :] - (columns * shown[1] // width)[:, None]) > reach
    far = away_rows[:, :, None] | away_columns[:, None, :]
    share = ((distance.max(axis=1) > _TOUCHED) & far).sum(axis=(1, 2)) / np.maximum(far.sum(axis=(1, 2)), 1)
    return bool((share > _SPREAD).mean() >= _SEEDED)


def leaked_images(
    originals: ByteArray, released: ByteArray, names: Sequence[str], allowed_share: float = 0.0
) -> list[str]:
    """Names of the images of which a clear region got out.

    A pixel is untouched where no channel moved by more than 2 levels, as part of a 5x5 window that is untouched
    altogether. Only textured pixels count (5x5 luma deviation above 8 levels). An image is leaked if the untouched
    share of them exceeds ``allowed_share`` + 0.15; an image with next to no texture cannot be told and is passed over.
    Where a share is allowed, the untouched share of all pixels must exceed as much too: a face may have nearly all of
    its texture outside of what is masked.

    Args:
        originals, released: uint8 (n, 3, h, w) in 0..255.
        names: n labels.
        allowed_share: what the defense's card says it leaves by design, 0 to 1.
    """
    if originals.shape != released.shape or len(names) != len(originals):
        raise ValueError(f"expected alike shapes and names, got {originals.shape}, {released.shape}, {len(names)}")
    if not len(originals):
        return []
    distance = np.maximum(originals, released) - np.minimum(originals, released)
    untouched = np.asarray(distance.max(axis=1) <= _TOUCHED)
    margin = _WINDOW // 2
    windows = _windows(untouched, np.logical_and)  # windows untouched altogether, by their upper left corner
    untouched = _windows(np.pad(windows, ((0, 0), (2 * margin,) * 2, (2 * margin,) * 2)), np.logical_or)
    untouched = untouched[:, margin:-margin, margin:-margin]  # the pixels of such windows, where texture is measured
    luma = np.einsum("nchw,c->nhw", originals, np.array(_LUMA, np.float32), dtype=np.float32)
    mean, square = _windows(luma, np.add) / _WINDOW**2, _windows(luma**2, np.add) / _WINDOW**2
    textured = square - mean**2 > _TEXTURED**2
    count = textured.sum(axis=(1, 2))
    share = (textured & untouched).sum(axis=(1, 2)) / np.maximum(count, 1)
    leaked = (share > allowed_share + _CHANCE) & (count >= _LEAST_TEXTURE * textured[0].size)
    if allowed_share:
        leaked &= untouched.mean(axis=(1, 2)) > allowed_share + _CHANCE
    return [name for name, is_leaked in zip(names, leaked, strict=True) if is_leaked]


def _windows(values: npt.NDArray[Any], combine: np.ufunc) -> npt.NDArray[Any]:
    """(n, h, w) -> (n, h - 4, w - 4): all of every 5x5 window under ``combine``, rows first."""
    rows, columns = (values.shape[axis] - _WINDOW + 1 for axis in (1, 2))
    along = reduce(combine, (values[:, i : i + rows] for i in range(_WINDOW)))
    return np.asarray(reduce(combine, (along[:, :, i : i + columns] for i in range(_WINDOW))))


def _protect(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, split: Sequence[int] = ()
) -> ByteArray:
    """What the defense releases, in batches of the sizes in ``split`` (default: one), under one generator.

    Raises:
        _BreachError: it raises, or what it returns is no image batch of that shape.
    """
    generator, out, start = torch.Generator().manual_seed(seed), [], 0
    for size in split or [len(images)]:
        out.append(_protect_batch(defense, images[start : start + size], names[start : start + size], generator))
        start += size
    return np.concatenate(out)


def _protect_batch(defense: Defense, images: ByteArray, names: Sequence[str], generator: torch.Generator) -> ByteArray:
    batch = to_float(images)
    given = batch.clone()
    try:
        with torch.no_grad():
            out = defense.protect(batch, generator)
    except Exception as error:  # whatever a contributor's code raises is the finding
        reason = error.message if isinstance(error, UserError) else str(error)
        raise _BreachError(Finding("raises", f"raises {type(error).__name__}: {reason}", tuple(names))) from error
    if wrong := wrong_shape(defense, out, given):
        raise _BreachError(Finding("shape", wrong))
    assert isinstance(out, torch.Tensor), "or its shape were wrong"
    if out.dtype != torch.float32:
        raise _BreachError(Finding("dtype", f"expected float32, got {str(out.dtype).removeprefix('torch.')}"))
    if bad := _where(~torch.isfinite(out), names):
        raise _BreachError(Finding("not_finite", "releases NaN or infinite values" + _on(bad), bad))
    if bad := _where((out < -_RANGE_SLACK) | (out > 1 + _RANGE_SLACK), names):
        span = f"[{float(out.min()):.3g}, {float(out.max()):.3g}]"
        raise _BreachError(Finding("range", f"expected values in [0, 1], got {span}" + _on(bad), bad))
    if bad := _where(batch != given, names):
        raise _BreachError(Finding("in_place", "changes the images it is given; clone them first" + _on(bad), bad))
    return to_bytes(out)


def _check_picture(defense: Defense, images: ByteArray, released: ByteArray) -> None:
    """Raises:
    _BreachError: what it makes of its own release is no image of at least that size, or not twice the same.
    """
    n, _, height, width = images.shape
    expected = f"expected of picture float32 images of shape {images.shape} in [0, 1]"
    try:
        with torch.no_grad():
            drawn, again = (defense.picture(to_float(released)) for _ in range(2))
    except Exception as error:  # whatever a contributor's picture raises is the finding
        raise _BreachError(Finding("picture", f"picture raises {type(error).__name__}: {error}")) from error
    fits = isinstance(drawn, torch.Tensor) and drawn.dtype == torch.float32 and drawn.shape[:2] == (n, 3)
    if not fits or drawn.shape[2] < height or drawn.shape[3] < width:
        came = f"{drawn.dtype} {tuple(drawn.shape)}" if isinstance(drawn, torch.Tensor) else type(drawn).__name__
        raise _BreachError(Finding("picture", f"{expected}, got {came}"))
    if not torch.isfinite(drawn).all() or drawn.min() < -_RANGE_SLACK or drawn.max() > 1 + _RANGE_SLACK:
        raise _BreachError(Finding("picture", f"{expected}, got [{float(drawn.min()):.3g}, {float(drawn.max()):.3g}]"))
    if not torch.equal(drawn, again):
        raise _BreachError(Finding("picture", "picture draws another image each time, expected the same"))


def wrong_shape(defense: Defense, released: object, images: torch.Tensor) -> str:
    """What is wrong with the type and shape of a release of ``images``; empty if nothing."""
    represents = defense.card.output == "representation"
    wanted = f"({len(images)}, channels, rows, columns)" if represents else str(tuple(images.shape))
    expected = f"expected {'a float32 representation' if represents else 'float32 images'} of shape {wanted}"
    if not isinstance(released, torch.Tensor):
        return f"{expected}, got {type(released).__name__}"
    fits = released.ndim == 4 and len(released) == len(images) if represents else released.shape == images.shape
    return "" if fits else f"{expected}, got {tuple(released.shape)}"


def unfit(defense: Defense, released: object, images: torch.Tensor) -> str:
    """Why what a defense returned for ``images`` may not be released: shape, NaN, range; empty if nothing is wrong."""
    if wrong := wrong_shape(defense, released, images):
        return wrong
    assert isinstance(released, torch.Tensor), "or its shape were wrong"
    if not torch.isfinite(released).all():
        return "released NaN or infinite values"
    low, high = (float(end) for end in (released.min(), released.max()))
    if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
        return f"expected values in [0, 1], got [{low:.3g}, {high:.3g}]"
    return ""


def _check_batches(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, released: ByteArray
) -> list[Finding]:
    uneven = [size for size in (len(images) // 3, len(images) - len(images) // 3) if size]
    for split, what in ([1] * len(images), "one by one"), (uneven, f"in batches of {uneven}"):
        other = _protect(defense, images, names, seed, split)
        distance = np.abs(other.astype(np.int16) - released)
        strays = (distance == 1).mean(axis=(1, 2, 3))
        bad = (distance > 1).any(axis=(1, 2, 3)) | (strays > _STRAY_SHARE)
        if differing := tuple(name for name, is_bad in zip(names, bad, strict=True) if is_bad):
            hint = "; draw from per_image_generators(generator, n)" if defense.randomness.startswith("per_") else ""
            message = f"{len(images)} images at once and {what} come out differently{hint}"
            return [Finding("batch_size", message + _on(differing), differing)]
    return []


def _check_randomness(
    defense: Defense, images: ByteArray, names: Sequence[str], seed: int, released: ByteArray
) -> list[Finding]:
    declared: Randomness = defense.randomness
    differing = _differing(released, _protect(defense, images, names, seed + 1), names)
    if declared not in ("per_call", "per_image_key"):
        if differing:
            message = f"declares randomness '{declared}', but two seeds differ"
            return [Finding("randomness", message + _on(differing), differing)]
        return []
    if len(equal := tuple(name for name in names if name not in differing)) > len(names) * _BY_CHANCE:
        message = f"declares randomness '{declared}', but two seeds give the same image"
        return [Finding("randomness", message + _on(equal), equal)]
    first, second = np.split(_protect(defense, np.concatenate([images, images]), [*names, *names], seed), 2)
    differing = _differing(first, second, names)
    if len(equal := tuple(name for name in names if name not in differing)) > len(names) * _BY_CHANCE:
        message = f"declares randomness '{declared}', but one image twice in a batch comes out the same twice"
        return [Finding("randomness", message + _on(equal), equal)]
    return []


@contextmanager
def _global_randomness_kept() -> Iterator[None]:
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _global_fingerprint() -> tuple[bytes, bytes, object]:
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), random.getstate()


def _differing(left: ByteArray, right: ByteArray, names: Sequence[str]) -> tuple[str, ...]:
    return _where(torch.from_numpy(left != right), names)


def _where(wrong: torch.Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the images with any True, of bool (n, 3, h, w)."""
    return tuple(name for name, any_wrong in zip(names, wrong.flatten(1).any(1).tolist(), strict=True) if any_wrong)


def _on(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (on {', '.join(names[:3])}{more})"
