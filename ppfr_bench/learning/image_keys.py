"""Keys that are drawn anew for every image: their kind is found on the attacker's own images, and then each is solved.

The attacker knows its own images clear and protected, so it sees what kind of change a key makes: which tiles change
places, how an image is turned, in which order its channels come. The key of a target is what makes a face of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[attr-defined]  # SciPy has no types.
from torch.nn import functional

from ppfr_bench.api import SIZE, Arrays, AttackerView, ByteArray, IntArray, Material, Scope
from ppfr_bench.learning.jigsaw import Jigsaw, Tiling, eigenfaces
from ppfr_bench.learning.resizing import resize
from ppfr_bench.learning.validation import evenly_spaced

SIDES = (56, 28, 16, 14, 8, 7)  # Of square tiles, in pixels.
LINES = (28, 16, 14, 8, 7, 4, 2, 1)  # Heights of rows, and widths of columns.
TURNED_SIDES = (56, 28, 16, 14, 8)  # Of square tiles that are turned in their places.
_FEWEST = 8  # Of fewer images nothing is learnt.
_FEW = 16  # Images by which the kind of a key is found.
_TRIED = 600  # Images that a solver learns from when it is tried.
_CHECKED = 48  # Images that are solved to see whether it pays.
LOOKED_AT = 1000  # Of the attacker's own images, at most so many are looked at.
_EXPLAINS = 0.3  # A kind explains the change if so much of the squared difference is left, at most.
_AS_GOOD = 0.02  # A simpler kind is taken that leaves so much more of the variance.
_SELDOM, _SELDOM_OF_TILES = 0.0015, 0.01  # Turns that are a smaller share of all that are seen are mistakes.
_PAYS = 0.7  # Solving pays if so much of the squared difference is left, at most.
_SOLVED = 1000  # Releases of the attacker's own images that are solved, where an image has 64 tiles; fewer where more.
_BATCH = 128
_SMALL = 28  # Side at which a face is judged.
_SWEEPS = 6  # Over all tiles, at most.
_PEAKS = 3  # So many shifts of the small image are looked at closely.


class Key(ABC):
    """A kind of change with a key of its own for every image.

    Attributes:
        name: for the record.
    """

    name: str
    solved: int = _SOLVED  # Releases that are worth the time.
    alike: float = 0.95  # Of the parts of a key, so many are those of most keys where all images have the same.

    @abstractmethod
    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The key of each image by the clear one, int64 (n, parts); of uint8 (n, 3, s, s) twice."""

    @abstractmethod
    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The released images with these keys undone, uint8 (n, 3, s, s)."""

    def varies(self, clear: torch.Tensor, released: torch.Tensor) -> bool:
        """Whether the images have keys of their own: one for all is what regressions undo, and better."""
        keys = self.keys(clear, released)
        return float((keys == keys.mode(0).values).float().mean()) < self.alike

    @abstractmethod
    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """Learn from images with their keys undone, uint8 (n, 3, s, s), and from those keys, int64 (n, parts)."""

    @abstractmethod
    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The released images with their keys undone by what was learnt, uint8 (n, 3, s, s)."""


class TileOrder(Key):
    """Tiles change places."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self.name = f"order of {tiling.height}x{tiling.width} tiles"
        self.solved = min(_SOLVED, max(200, int(_SOLVED * (64 / tiling.count) ** 2)))

    alike = 0.5  # Tiles that look alike are mistaken for each other.

    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """For each tile of the clear image the released one that is nearest to it, each once."""
        found = []
        for one, other in zip(self.tiling.cut(clear), self.tiling.cut(released), strict=True):
            cost = torch.cdist(one.flatten(1).float(), other.flatten(1).float()).square()
            found.append(linear_sum_assignment(cost.numpy())[1])
        return torch.from_numpy(np.stack(found))

    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The tiles in this order."""
        tiles = self.tiling.cut(released)
        return self.tiling.joined(tiles.gather(1, keys[:, :, None, None, None].expand_as(tiles)))

    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """Fit the model of tiles; any order is possible."""
        self._jigsaw = Jigsaw(clear.float() / 255, self.tiling)

    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The likeliest order."""
        return self._jigsaw.ordered(released)


class _FaceLikelihood:
    """How likely small images are faces: normal along eigenfaces, and around them.

    Source: Moghaddam and Pentland, Probabilistic visual learning, IEEE TPAMI 1997.
    """

    def __init__(self, clear: torch.Tensor, size: int = _SMALL) -> None:
        self._size = size
        rows = self._rows(clear)
        self.mean, self.faces = eigenfaces(rows, 80)
        along = (rows - self.mean) @ self.faces
        self._variances = along.var(0) + 1e-6
        self._rest = float((rows - self.mean - along @ self.faces.T).square().mean()) + 1e-6

    def _rows(self, images: torch.Tensor) -> torch.Tensor:
        return resize(images.float() / 255, self._size).flatten(1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, s, s) -> (n,)."""
        return self.of_small(self._rows(images))

    def of_small(self, images: torch.Tensor) -> torch.Tensor:
        """float32 (n, 3, size, size) in [0, 1], flat or not -> (n,)."""
        rows = images.flatten(1) - self.mean
        return self.of_parts(rows @ self.faces, rows.square().sum(1))

    def of_parts(self, along: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        """Components along the faces (..., k), and the squared distance from the mean face (...) -> (...)."""
        rest = (squares - along.square().sum(-1)) / self._rest
        return -((along.square() / self._variances).sum(-1) + rest) / 2


@dataclass(frozen=True)
class _Turn:
    """One way to turn an image, order its channels and invert them."""

    quarters: int
    mirrored: bool
    order: tuple[int, ...]
    inverted: tuple[bool, ...]

    def undo(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, s, s) -> the same."""
        found = images[:, list(self.order)]
        flip = torch.tensor([255 if one else 0 for one in self.inverted], dtype=torch.uint8)[:, None, None]
        found = torch.bitwise_xor(found, flip)
        found = torch.rot90(found, self.quarters, (2, 3))
        return found.flip(3) if self.mirrored else found


TURNS = tuple(
    _Turn(quarters, mirrored, order, inverted)
    for inverted in product((False, True), repeat=3)
    for order in permutations(range(3))
    for mirrored in (False, True)
    for quarters in range(4)
)


TILE_TURNS = tuple(turn for turn in TURNS if turn.order == (0, 1, 2) and len(set(turn.inverted)) == 1)


class Turned(Key):
    """The whole image is turned or mirrored, its channels change places, or some are inverted."""

    name = "turns, mirrors, channel orders and inversions"

    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The number of the turn after which the image is nearest to the clear one."""
        small, wanted = (_bytes(resize(images.float() / 255, _SMALL)) for images in (released, clear))
        return torch.stack([_difference(turn.undo(small), wanted) for turn in TURNS]).argmin(0)[:, None]

    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The images turned."""
        return torch.cat([TURNS[int(i)].undo(released[row : row + 1]) for row, i in enumerate(keys)])

    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """Which turns there are, and what a face looks like."""
        self._turns = _seen(keys, len(TURNS), _SELDOM)
        self._likelihood = _FaceLikelihood(clear)

    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The most face-like."""
        tried = [TURNS[i].undo(released) for i in self._turns]
        best = torch.stack([self._likelihood(one) for one in tried]).argmax(0)
        return torch.stack([tried[int(i)][row] for row, i in enumerate(best)])


class TurnedTiles(Key):
    """Each tile stays in its place and is turned, mirrored or inverted there, all its channels alike."""

    alike = 0.8  # Tiles of one colour are the same however they are turned.

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self.name = f"turns, mirrors and inversions of {tiling.height}x{tiling.width} tiles"

    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """For each tile the number of the turn after which it is nearest to the clear one."""
        wanted, tiles = (self.tiling.cut(images) for images in (clear, released))
        tried = [_difference(_turned_tiles(tiles, turn).flatten(0, 1), wanted.flatten(0, 1)) for turn in TILE_TURNS]
        return torch.stack(tried).argmin(0).reshape(tiles.shape[:2])

    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The tiles turned."""
        tiles = self.tiling.cut(released)
        return self._joined(torch.stack([_turned_tiles(tiles, turn) for turn in TILE_TURNS], dim=2), keys)

    def _joined(self, tried: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        index = keys[:, :, None, None, None, None].expand(-1, -1, 1, *tried.shape[3:])
        return self.tiling.joined(tried.gather(2, index)[:, :, 0])

    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """Which turns there are, and what a face looks like."""
        self._turns = _seen(keys, len(TILE_TURNS), _SELDOM_OF_TILES)
        self._small = Tiling(self.tiling.height // 2, self.tiling.width // 2, SIZE // 2)
        self._likelihood = _FaceLikelihood(clear, SIZE // 2)

    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The most face-like: tile by tile, all others as they are, until none changes."""
        return torch.cat([self._undone(part) for part in released.split(_BATCH)])

    def _undone(self, released: torch.Tensor) -> torch.Tensor:
        tiles = self.tiling.cut(released)
        tried = torch.stack([_turned_tiles(tiles, TILE_TURNS[i]) for i in self._turns], dim=2)
        small = functional.avg_pool2d(tried.flatten(0, 2).float() / 255, 2).reshape(*tried.shape[:4], -1)
        mean, faces = (
            self._small.cut(part.reshape(-1, 3, SIZE // 2, SIZE // 2)).flatten(2)
            for part in (self._likelihood.mean, self._likelihood.faces.T)
        )
        rows = small.flatten(3) - mean[0][:, None]  # (n, tiles, turns, pixels)
        squares, along = rows.square().sum(3), torch.einsum("ntop,ktp->ntok", rows, faces)
        keys = self._likelihood.of_parts(along, squares).argmax(2)  # As if all other tiles were the mean face's.
        every = torch.arange(len(keys))
        for _ in range(_SWEEPS):
            before = keys.clone()
            for tile in range(keys.shape[1]):
                chosen = keys[:, :, None, None].expand(-1, -1, 1, along.shape[3])
                others = along.gather(2, chosen)[:, :, 0].sum(1) - along[every, tile, keys[:, tile]]
                keys[:, tile] = self._likelihood.of_parts(others[:, None] + along[:, tile], squares[:, tile]).argmax(1)
            if torch.equal(before, keys):
                break
        return self._joined(tried, keys)


def _seen(keys: torch.Tensor, count: int, seldom: float) -> list[int]:
    """Which of ``count`` keys are a larger share of all keys than ``seldom``: others are taken for mistakes."""
    counts = keys.flatten().bincount(minlength=count)
    return torch.nonzero(counts > seldom * counts.sum()).flatten().tolist()


def _turned_tiles(tiles: torch.Tensor, turn: _Turn) -> torch.Tensor:
    """uint8 (n, tiles, 3, t, t) -> the same."""
    return turn.undo(tiles.flatten(0, 1)).reshape(tiles.shape)


class Rolled(Key):
    """The whole image is shifted, and what leaves it on one side comes in on the other."""

    name = "cyclic shifts"

    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The shift at which the image correlates most with the clear one."""
        return _correlation(released, clear).flatten(1).argmax(1, keepdim=True)

    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The images shifted back."""
        return _rolled(released, keys[:, 0])

    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """What a face looks like, small and less small; any shift is possible."""
        self._coarse, self._fine = (_FaceLikelihood(clear, size) for size in (_SMALL, 2 * _SMALL))

    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The most face-like: of all shifts of the image made small, then of those around the best few."""
        side = released.shape[-1]
        step = side // _SMALL
        small = resize(released.float() / 255, _SMALL)
        places = torch.cartesian_prod(torch.arange(_SMALL), torch.arange(_SMALL))
        judged = torch.stack([self._coarse.of_small(small.roll((int(y), int(x)), (2, 3))) for y, x in places], dim=1)
        best = places[judged.topk(_PEAKS, dim=1).indices] * step
        around = torch.cartesian_prod(torch.arange(1 - step, step), torch.arange(1 - step, step))
        shifts = ((best[:, :, None] + around) % side).flatten(1, 2)
        flat = shifts[..., 0] * side + shifts[..., 1]
        judged = torch.stack([self._fine(_rolled(released, flat[:, i])) for i in range(flat.shape[1])], dim=1)
        return _rolled(released, flat.gather(1, judged.argmax(1, keepdim=True))[:, 0])


def _correlation(images: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of images (n, 3, s, s), rolled by each shift, with others (n, 3, s, s): (n, s, s)."""
    one, other = (torch.fft.rfft2(x.float() - x.float().mean((2, 3), keepdim=True)) for x in (images, others))
    found: torch.Tensor = torch.fft.irfft2((one.conj() * other).sum(1), s=images.shape[-2:])
    return found


def _rolled(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    side = images.shape[-1]
    moved = [one.roll((int(s) // side, int(s) % side), (1, 2)) for one, s in zip(images, shifts, strict=True)]
    return torch.stack(moved)


class Levels(Key):
    """All pixels of a channel have a number added to them modulo 256, or xored with them."""

    def __init__(self, change: Literal["added to", "xored with"]) -> None:
        self.name = f"numbers {change} all pixels"
        self._added = change == "added to"

    def keys(self, clear: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The number that most pixels of a channel agree on, one a channel."""
        numbers = released - clear if self._added else torch.bitwise_xor(released, clear)  # Bytes: modulo 256.
        return numbers.flatten(2).long().mode(2).values

    def applied(self, keys: torch.Tensor, released: torch.Tensor) -> torch.Tensor:
        """The number taken from the pixels of each channel."""
        return self._without(keys.to(torch.uint8)[:, :, None, None], released)

    def _without(self, numbers: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return images - numbers if self._added else torch.bitwise_xor(images, numbers)

    def learn(self, clear: torch.Tensor, keys: torch.Tensor) -> None:
        """Whether channels have the same number, and what a face looks like."""
        self._one_for_all = bool((keys == keys[:, :1]).all(1).float().mean() > self.alike)
        places = _places(clear)
        parts = [places] if self._one_for_all else places.split(1, dim=1)
        self._likelihoods = [_FaceLikelihood(part, places.shape[-1]) for part in parts]

    def undone(self, released: torch.Tensor) -> torch.Tensor:
        """The most face-like, by some of the pixels, each channel by itself if it has a number of its own."""
        return torch.cat([self._undone(part) for part in released.split(_BATCH)])

    def _undone(self, released: torch.Tensor) -> torch.Tensor:
        places, keys = _places(released), []
        parts = [places] if self._one_for_all else places.split(1, dim=1)
        for part, likelihood in zip(parts, self._likelihoods, strict=True):
            tried = (self._without(torch.tensor(number, dtype=torch.uint8), part) for number in range(256))
            judged = torch.stack([likelihood.of_small(one.float() / 255) for one in tried])
            keys.append(judged.argmax(0)[:, None].expand(-1, part.shape[1]))
        return self._without(torch.cat(keys, dim=1).to(torch.uint8)[:, :, None, None], released)


def _places(images: torch.Tensor) -> torch.Tensor:
    """Some pixels of images, uint8 (n, c, s, s), as they are: means would not tell numbers that wrap around."""
    step = images.shape[-1] // _SMALL
    return images[:, :, step // 2 :: step, step // 2 :: step]


def kinds() -> Iterator[Callable[[], Key]]:
    """Every kind of key, the simpler first."""
    yield Turned
    yield Rolled
    yield partial(Levels, "added to")
    yield partial(Levels, "xored with")
    tilings = [Tiling(height, SIZE) for height in LINES] + [Tiling(SIZE, width) for width in LINES]
    tilings += [Tiling(side, side) for side in SIDES]
    for tiling in sorted(tilings, key=lambda one: one.count):
        if tiling.solvable:
            yield partial(TileOrder, tiling)
    for side in TURNED_SIDES:
        yield partial(TurnedTiles, Tiling(side, side))


def find_key(clear: ByteArray, released: ByteArray) -> Key | None:
    """The kind of key that protects images, learnt and ready to undo others; None where none explains the change.

    Args:
        clear, released: uint8 (n, 3, s, s), the attacker's own, row by row.
    """
    one, other = (torch.from_numpy(np.ascontiguousarray(images[:_TRIED])) for images in (clear, released))
    few = slice(0, _FEW)
    before = _left(one[few], other[few])
    if len(one) < _FEWEST or before == 0:
        return None
    best: tuple[float, Key] | None = None
    for kind in kinds():
        key = kind()
        left = _left(one[few], key.applied(key.keys(one[few], other[few]), other[few]))
        if left <= _EXPLAINS * min(before, 1.0) and (best is None or left < best[0] - _AS_GOOD):
            best = left, key
    if best is None or not best[1].varies(one[few], other[few]):
        return None
    key = best[1]
    held_out = min(_CHECKED, len(one) // 2)
    _learn(key, one[held_out:], other[held_out:])
    found = key.undone(other[:held_out])
    # A face and its mirror image are as likely, and recognizers do not tell them apart.
    solved = _left(one[:held_out], torch.where(_nearer_mirrored(one[:held_out], found), found.flip(3), found))
    if solved > _PAYS * min(_left(one[:held_out], other[:held_out]), 1.0):
        return None
    _learn(key, *(torch.from_numpy(np.ascontiguousarray(images[:LOOKED_AT])) for images in (clear, released)))
    return key


def _learn(key: Key, clear: torch.Tensor, released: torch.Tensor) -> None:
    """Learn from images whose keys are known by the clear ones, uint8 (n, 3, s, s) twice."""
    parts = list(zip(clear.split(_BATCH), released.split(_BATCH), strict=True))
    keys = [key.keys(one, other) for one, other in parts]
    undone = torch.cat([key.applied(found, other) for found, (_, other) in zip(keys, parts, strict=True)])
    key.learn(undone, torch.cat(keys))


def _bytes(images: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> 0 to 255."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _difference(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of images, (n,)."""
    return (one.float() - other.float()).square().mean((1, 2, 3))


def _nearer_mirrored(clear: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Whether the mirror image is nearer to the clear one: bool (n, 1, 1, 1)."""
    return (_difference(found.flip(3), clear) < _difference(found, clear))[:, None, None, None]


def _left(clear: torch.Tensor, found: torch.Tensor) -> float:
    """The squared difference of images as a share of the variance within the clear ones; the median image's."""
    variances = clear.float().var((1, 2, 3)) + 1e-6
    return float((_difference(found, clear) / variances).median())


# What attacks start from -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undone:
    """Releases whose keys were undone, where images have keys of their own.

    Attributes:
        name: of the kind of key.
        rows: int64 (n,), which of the attacker's own images these are.
        own: uint8 (k, n, 3, h, w), k releases of each; ``targets``: uint8 (k, m, 3, h, w).
    """

    name: str
    rows: IntArray
    own: ByteArray
    targets: ByteArray

    @property
    def batches(self) -> Iterator[ByteArray]:
        """``own``, some images at a time."""
        for start in range(0, len(self.rows), _BATCH):
            yield self.own[:, start : start + _BATCH]


def undone(scope: Scope, shots: int) -> Material:
    """The material ``undone``, which ``read_undone`` reads under the same arguments.

    Args:
        scope: of the view.
        shots: releases of each image that are solved; of the attacker's own, those beyond the first are asked for.
    """
    shots = min(shots, scope.shots)
    return Material("undone", {"shots": shots, "version": 4}, partial(_undo, shots=shots), queries=shots > 1)


def read_undone(view: AttackerView, shots: int) -> Undone | None:
    """The material ``undone(view.scope, shots)``; None where no image has a key of its own.

    Raises:
        UserError: the attack did not declare that material.
    """
    arrays = view.material(undone(view.scope, shots))
    name = str(arrays["name"])
    return Undone(name, arrays["rows"], arrays["own"], arrays["targets"]) if name else None


def _undo(view: AttackerView, generator: torch.Generator, shots: int) -> Arrays:
    """Find the kind of key, and solve targets and as many own images as pay."""
    protected, faces = view.auxiliary_protected, view.auxiliary
    assert protected is not None, "an aware attacker is given its protected images"
    looked_at = np.sort(torch.randperm(len(faces), generator=generator)[:LOOKED_AT].numpy())
    key = None
    if view.releases_image and protected.shape[1:] == (3, SIZE, SIZE):
        key = find_key(faces.load(looked_at), np.asarray(protected[looked_at]))
    if key is None:
        return {"name": np.array("")}
    rows = evenly_spaced(looked_at, max(2, key.solved // shots))
    clear, first = faces.load(rows), np.asarray(protected[rows])
    assert view.oracle is not None or shots == 1, "an attacker of several releases has the oracle"
    own = [first, *(view.oracle.protect(clear) for _ in range(shots - 1))] if view.oracle is not None else [first]
    return {"name": np.array(key.name), "rows": rows.astype(np.int64), "own": _solved(key, own),
            "targets": _solved(key, view.targets[:shots])}  # fmt: skip


def _solved(key: Key, shots: Iterable[ByteArray]) -> ByteArray:
    return np.stack([key.undone(torch.from_numpy(np.ascontiguousarray(shot))).numpy() for shot in shots])
