"""The contract of a defense, checked before it is attacked: what it returns, how it draws, what it lets out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ppfr_bench.api import Defense, to_bytes, to_float

Images = npt.NDArray[np.uint8]
UNTOUCHED = 2  # grey levels of 255: no eye sees the difference
TEXTURED = 8.0  # standard deviation in grey levels of the 5x5 surroundings; flat ones survive any blur
REGION = 5  # side in pixels of the smallest clear region that counts
SLACK = 0.15  # share of textured pixels that may be left clear by chance
LEVELS = 1  # of 255: rounding may fall either way in batches of other sizes


@dataclass(frozen=True)
class Finding:
    """One breach of the contract: a short code, a sentence, and the images it concerns."""

    code: str
    message: str
    names: tuple[str, ...] = ()


def check_defense(defense: Defense, images: Images, names: list[str], seed: int) -> list[Finding]:
    """Every breach of the contract on these images; none if the defense keeps it.

    The randomness it declares is read so: ``deterministic`` and ``per_session_key`` give one output for one image,
    whatever the generator; ``per_call``, ``per_image_key`` and ``per_user_key`` give another one for another
    generator, and ``per_call`` also for the same image twice in one call.

    Args:
        images: uint8 (n, 3, 112, 112), two or more.
        names: of the images, for messages.
        seed: of the generators.
    """
    clear = to_float(images)

    def protect(sizes: list[int], number: int = seed) -> torch.Tensor:
        generator = torch.Generator().manual_seed(number)
        with torch.inference_mode():
            parts = [defense.protect(batch, generator) for batch in clear.split(sizes)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def checked() -> list[Finding]:
        before, state = clear.clone(), torch.get_rng_state()
        out = protect([len(clear)])
        found = _output(out, clear, names)
        if not torch.equal(before, clear):
            found.append(Finding("in_place", "it changes its input; work on a copy"))
            clear.copy_(before)
        if not torch.equal(state, torch.get_rng_state()):
            found.append(Finding("global_randomness", "it draws from torch's global generator; use the one passed in"))
        return found or _draws(defense, protect, clear, seed)

    try:
        return checked()
    except Exception as error:  # whatever a contributor's code raises is the finding
        return [Finding("raises", f"{type(error).__name__}: {error}")]


def leaked_images(originals: Images, released: Images, names: list[str], allowed_share: float) -> list[str]:
    """Names of the images that are released clear, or clear in a region.

    A pixel is untouched if no channel moved by more than ``UNTOUCHED`` levels, and it counts if its surroundings are
    textured and the whole ``REGION`` around it is untouched, so that flat backgrounds and chance hits do not.

    Args:
        originals, released: uint8 (n, 3, h, w).
        allowed_share: of the textured pixels, left clear by design.
    """
    moved = np.abs(originals.astype(np.int16) - released.astype(np.int16)).max(axis=1)
    near = torch.from_numpy((moved <= UNTOUCHED).astype(np.float32))[:, None]
    pad = REGION // 2
    whole = -functional.max_pool2d(-near, REGION, stride=1, padding=pad)
    luma = torch.from_numpy(originals).float().mean(dim=1, keepdim=True)
    padded = functional.pad(luma, (pad, pad, pad, pad), mode="reflect")
    mean = functional.avg_pool2d(padded, REGION, stride=1)
    spread = (functional.avg_pool2d(padded**2, REGION, stride=1) - mean**2).clamp_min(0).sqrt()
    textured = (spread > TEXTURED).float()
    count = textured.sum(dim=(1, 2, 3))
    share = (textured * whole).sum(dim=(1, 2, 3)) / count.clamp_min(1)
    enough = count > 0.02 * luma[0].numel()
    leaks = (enough & (share > allowed_share + SLACK)) | (near.mean(dim=(1, 2, 3)) == 1) & (count > 0)
    return [name for name, leak in zip(names, leaks.tolist(), strict=True) if leak]


def _output(out: object, clear: torch.Tensor, names: list[str]) -> list[Finding]:
    """Type, shape, and values."""
    if not isinstance(out, torch.Tensor):
        return [Finding("type", f"expected a torch.Tensor, got {type(out).__name__}")]
    if out.shape != clear.shape:
        return [Finding("shape", f"expected shape {tuple(clear.shape)}, got {tuple(out.shape)}")]
    if out.dtype != torch.float32:
        return [Finding("dtype", f"expected float32, got {out.dtype}")]
    bad = ~torch.isfinite(out).all(dim=(1, 2, 3))
    if bad.any():
        which = tuple(name for name, wrong in zip(names, bad.tolist(), strict=True) if wrong)
        return [Finding("not_finite", f"NaN or infinite values in {len(which)} images, first {which[0]}", which)]
    low, high = float(out.min()), float(out.max())
    if low < -1e-4 or high > 1 + 1e-4:
        return [Finding("range", f"expected values in [0, 1], got [{low:.3g}, {high:.3g}]; clamp them")]
    return []


def _draws(defense: Defense, protect: Callable[..., torch.Tensor], clear: torch.Tensor, seed: int) -> list[Finding]:
    """Repeatable under its seed, independent of the batch, and as random as it declares."""
    n = len(clear)
    released = to_bytes(protect([n]))
    if not np.array_equal(released, to_bytes(protect([n]))):
        return [Finding("not_repeatable", "two calls with one seed differ; draw from the generator passed in only")]
    found = []
    if not _same(released, to_bytes(protect([1, n - 1]))) or not _same(released, to_bytes(protect([1] * n))):
        advice = "what an image receives depends on its batch; draw per image with api.per_image_generators"
        found.append(Finding("batch_size", advice))
    contract = defense.randomness
    changes = not np.array_equal(released, to_bytes(protect([n], seed + 1)))
    if contract in ("deterministic", "per_session_key") and changes:
        found.append(Finding("randomness", f"declared {contract}, but another generator gives another output"))
    if contract in ("per_call", "per_image_key", "per_user_key") and not changes:
        found.append(Finding("randomness", f"declared {contract}, but another generator gives the same output"))
    with torch.inference_mode():
        twice = to_bytes(defense.protect(clear[:1].repeat(2, 1, 1, 1), torch.Generator().manual_seed(seed)))
    if contract == "per_call" and np.array_equal(twice[0], twice[1]):
        found.append(Finding("randomness", "declared per_call, but one image twice in a call comes out the same"))
    return found


def _same(left: Images, right: Images) -> bool:
    """Alike but for rounding: no pixel further apart than ``LEVELS``, and hardly any that far."""
    apart = np.abs(left.astype(np.int16) - right.astype(np.int16))
    return bool(apart.max() <= LEVELS and (apart > 0).mean() < 1e-3)
