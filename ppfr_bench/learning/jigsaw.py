"""Puts the tiles of an image back in their places: by what faces show there, and by which borders fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[attr-defined]  # SciPy has no types.

_DETAIL = 48  # Numbers that describe what a tile shows.
_FITTED = 1000  # A model is fitted on at most so many images.
_SHARED = 0.2  # Of each place's covariance, this share is that of all places.
_EIGENFACES = 150
_BORDERS = 0.3  # Weight of borders that fit beside what is shown at a place.
_TEMPERATURES = (10.0, 0.5, 30)  # From, to, steps; of the first answer.
_COOLED = (4.0, 0.3, 12)  # Of each answer after it, which knows the face that the last one gave.
_ROUNDS = 3
_BALANCED = 10  # Times that rows and columns are brought to a sum of 1.
_MOST = 256  # An image of more tiles is not solved: the work grows with the cube.
_REVERSED = 400  # At most so many parts of a line are turned round.
_NUMBERS = 2**24  # Of so many numbers are the arrays of a batch.


@dataclass(frozen=True)
class Tiling:
    """An image of ``size`` pixels a side, cut into tiles of ``height`` by ``width``."""

    height: int
    width: int
    size: int = 112

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return self.size // self.height, self.size // self.width

    @property
    def count(self) -> int:
        """Tiles of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def solvable(self) -> bool:
        """Whether an image has few enough tiles."""
        return 1 < self.count <= _MOST

    def cut(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, size, size) -> (n, count, c, height, width)."""
        rows, columns = self.grid
        apart = images.unflatten(3, (columns, self.width)).unflatten(2, (rows, self.height))
        tiles: torch.Tensor = apart.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        return tiles

    def joined(self, tiles: torch.Tensor) -> torch.Tensor:
        """What ``cut`` has cut."""
        together = tiles.unflatten(1, self.grid).permute(0, 3, 1, 4, 2, 5)
        images: torch.Tensor = together.flatten(4, 5).flatten(2, 3)
        return images


class Jigsaw:
    """A model of clear faces cut into tiles, by which it orders the tiles of other faces.

    A tile is described by its largest principal components. At each place they are normal; the borders of neighbours,
    each extrapolated by half a pixel, differ by a normal vector. The order that is likeliest under both is looked for
    by mean-field annealing over doubly stochastic matrices; then eigenfaces say which face it is, and it is looked for
    again under what of this face belongs at each place. Tiles in a single line are ordered by their borders alone.

    Source: graduated assignment, Gold and Rangarajan, IEEE TPAMI 1996; borders as in Gallagher, CVPR 2012; spectral
    seriation, Atkins, Boman and Hendrickson, SIAM J. Comput. 1998; eigenfaces, Turk and Pentland 1991.

    Args:
        clear: float32 (n, 3, size, size) in [0, 1].
        tiling: how they are cut.
    """

    def __init__(self, clear: torch.Tensor, tiling: Tiling) -> None:
        self.tiling = tiling
        faces = normalised(clear[torch.linspace(0, len(clear) - 1, min(len(clear), _FITTED)).long()])
        tiles = tiling.cut(faces)
        shown = tiles.flatten(2)
        self._mean, self._components = _principal(shown.flatten(0, 1), _DETAIL)
        described = (shown - self._mean) @ self._components
        self._place = described.mean(0)
        self._at_place = _Normals(described - self._place)
        rows, columns = tiling.grid
        grid = tiles.unflatten(1, (rows, columns))
        right, left, bottom, top = _borders(grid)
        self._beside = _whitener((right[:, :, :-1] - left[:, :, 1:]).flatten(0, 2)) if columns > 1 else None
        self._below = _whitener((bottom[:, :-1] - top[:, 1:]).flatten(0, 2)) if rows > 1 else None
        self._face, self._eigenfaces = eigenfaces(faces.flatten(1), _EIGENFACES)
        missed = faces - self._nearest_face(faces)
        self._of_face = _Normals(tiling.cut(missed).flatten(2) @ self._components)

    def ordered(self, images: torch.Tensor) -> torch.Tensor:
        """The images with their tiles put in place.

        Args:
            images: uint8 (n, 3, size, size), each a face whose tiles changed places.

        Returns:
            The same shape and type.
        """
        count = self.tiling.count
        batch = max(1, _NUMBERS // (count * max(count, 3 * _DETAIL)))
        return torch.cat([self._ordered(part) for part in images.split(batch)])

    def _ordered(self, images: torch.Tensor) -> torch.Tensor:
        tiles = self.tiling.cut(normalised(images.float() / 255))
        order = self._line(tiles) if 1 in self.tiling.grid else self._grid(tiles)
        whole = self.tiling.cut(images)
        moved = whole.gather(1, order[:, :, None, None, None].expand_as(whole))
        return self.tiling.joined(moved)

    # In a line ---------------------------------------------------------------------------------------------------

    def _line(self, tiles: torch.Tensor) -> torch.Tensor:
        """Which tile belongs at each place, int64 (n, count)."""
        beside, below = self._misfits(tiles)
        misfits = beside if below is None else below
        assert misfits is not None, "there is more than one tile"
        fits = self._likelihood(tiles, self._place, self._at_place).numpy()
        places, found = np.arange(self.tiling.count), []
        for misfit, fit in zip(misfits.numpy(), fits, strict=True):
            either = (misfit + misfit.T) / 2
            order = _shorter(_spectral_order(either), either)
            backwards = order[::-1]
            found.append(order if fit[order, places].sum() >= fit[backwards, places].sum() else backwards)
        return torch.from_numpy(np.stack(found))

    # On a grid ---------------------------------------------------------------------------------------------------

    def _grid(self, tiles: torch.Tensor) -> torch.Tensor:
        """Which tile belongs at each place, int64 (n, count)."""
        misfits = self._misfits(tiles)
        general = self._likelihood(tiles, self._place, self._at_place)
        belief = self._annealed(general, misfits, _TEMPERATURES)
        for _ in range(_ROUNDS):
            seen = self.tiling.joined((belief.mT @ tiles.flatten(2)).unflatten(2, tiles.shape[2:]))
            face = self.tiling.cut(self._nearest_face(seen)).flatten(2)
            likely = self._likelihood(tiles, (face - self._mean) @ self._components, self._of_face)
            belief = self._annealed((general + likely) / 2, misfits, _COOLED)
        orders = [linear_sum_assignment(-one.T)[1] for one in belief.numpy()]
        return torch.from_numpy(np.stack(orders))

    def _annealed(
        self, likelihood: torch.Tensor, misfits: tuple[torch.Tensor | None, ...], schedule: tuple[float, float, int]
    ) -> torch.Tensor:
        """How surely each tile belongs at each place, (n, tiles, places), rows and columns of sum 1."""
        likelihood = likelihood - likelihood.amax(2, keepdim=True)
        beside, below = misfits
        belief = _balanced(likelihood / schedule[0])
        for temperature in np.geomspace(*schedule):
            at = belief.unflatten(2, self.tiling.grid)
            misfit = torch.zeros_like(belief)
            for cost, axis in ((beside, 3), (below, 2)):
                if cost is not None:
                    misfit += cost.mT @ _shifted(at, axis, 1).flatten(2) + cost @ _shifted(at, axis, -1).flatten(2)
            belief = (belief + _balanced((likelihood - _BORDERS * misfit) / float(temperature))) / 2
        return belief

    # What fits ---------------------------------------------------------------------------------------------------

    def _likelihood(self, tiles: torch.Tensor, expected: torch.Tensor, normals: _Normals) -> torch.Tensor:
        """Log-likelihood of each tile at each place, (n, tiles, places); expected (places, d) or (n, places, d)."""
        return normals((tiles.flatten(2) - self._mean) @ self._components, expected)

    def _misfits(self, tiles: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """How badly tile i fits beside, and above, tile j, (n, i, j) each."""
        right, left, bottom, top = _borders(tiles)
        return (
            None if self._beside is None else _misfit(right, left, self._beside),
            None if self._below is None else _misfit(bottom, top, self._below),
        )

    def _nearest_face(self, images: torch.Tensor) -> torch.Tensor:
        weights = (images.flatten(1) - self._face) @ self._eigenfaces
        return (self._face + weights @ self._eigenfaces.T).reshape(images.shape)


class _Normals:
    """A normal distribution around 0 at each place, from samples (n, places, d)."""

    def __init__(self, samples: torch.Tensor) -> None:
        covariance = torch.einsum("npd,npe->pde", samples, samples) / len(samples)
        covariance = (1 - _SHARED) * covariance + _SHARED * covariance.mean(0)
        covariance += 1e-4 * torch.eye(covariance.shape[-1])
        self._root = torch.linalg.cholesky(torch.linalg.inv(covariance))
        self._volume = torch.logdet(covariance)

    def __call__(self, tiles: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of (n, tiles, d) around (places, d) or (n, places, d), (n, tiles, places)."""
        found = torch.empty(len(tiles), tiles.shape[1], len(self._root))
        for place, root in enumerate(self._root):
            found[:, :, place] = ((tiles - expected[..., place, None, :]) @ root).square().sum(2)
        return -(found + self._volume) / 2


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Each image at mean 0, a channel, and deviation 1: what no change of places alters."""
    mean, deviation = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True)
    return (images - mean) / (deviation.mean(1, keepdim=True) + 1e-4)


def _principal(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and the largest principal components (d, count) of rows (n, d)."""
    rows = rows[:: max(1, len(rows) // 40_000)]
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    return mean, torch.linalg.eigh(covariance)[1][:, -count:]


def eigenfaces(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and at most ``count`` eigenfaces (d, k) of flat faces (n, d), from their products with each other."""
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    kept = vectors[:, -count:] / values[-count:].clamp_min(1e-6).sqrt()
    return mean, centred.T @ kept


def _whitener(differences: torch.Tensor) -> torch.Tensor:
    """(d, d), by which differences (n, d) become uncorrelated, of variance 1."""
    covariance = differences.T @ differences / len(differences)
    covariance += 1e-2 * covariance.diagonal().mean() * torch.eye(len(covariance))
    values, vectors = torch.linalg.eigh(covariance)
    found: torch.Tensor = vectors / values.sqrt()
    return found


def _borders(tiles: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The right, left, bottom and top border of tiles (..., c, h, w), half a pixel beyond the last, flat (..., d)."""

    def beyond(last: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return (1.5 * last - 0.5 * before).flatten(-2)

    height, width = tiles.shape[-2:]
    x, y = min(1, width - 1), min(1, height - 1)
    return (
        beyond(tiles[..., -1], tiles[..., -1 - x]), beyond(tiles[..., 0], tiles[..., x]),
        beyond(tiles[..., -1, :], tiles[..., -1 - y, :]), beyond(tiles[..., 0, :], tiles[..., y, :]),
    )  # fmt: skip


def _misfit(one: torch.Tensor, other: torch.Tensor, whitener: torch.Tensor) -> torch.Tensor:
    """(n, i, j): how unlikely border i is to meet border j, with tails as heavy as those of Student's t."""
    size = whitener.shape[0]
    found = size * torch.log1p(torch.cdist(one @ whitener, other @ whitener).square() / (2 * size))
    return found - found.amin((1, 2), keepdim=True)


def _balanced(logarithms: torch.Tensor) -> torch.Tensor:
    """Doubly stochastic matrices from logarithms (n, k, k). Source: Sinkhorn and Knopp 1967."""
    found = (logarithms - logarithms.amax(2, keepdim=True)).exp()
    for _ in range(_BALANCED):
        found = found / (found.sum(1, keepdim=True) + 1e-30)
        found = found / (found.sum(2, keepdim=True) + 1e-30)
    return found


def _shifted(at: torch.Tensor, axis: int, by: int) -> torch.Tensor:
    """What is one place before (1) or after (-1) along an axis; 0 beyond the end."""
    found = torch.zeros_like(at)
    n = at.shape[axis] - 1
    found.narrow(axis, max(by, 0), n).copy_(at.narrow(axis, max(-by, 0), n))
    return found


def _spectral_order(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """An order in which near ones are near, by the second eigenvector of the Laplacian; distances (k, k)."""
    near = np.partition(distances, min(4, len(distances) - 1), axis=1)[:, min(4, len(distances) - 1)].mean()
    alike = np.exp(-distances / (0.5 * near + 1e-9))
    np.fill_diagonal(alike, 0)
    root = np.sqrt(alike.sum(1) + 1e-12)
    vectors = np.linalg.eigh(np.eye(len(alike)) - alike / np.outer(root, root))[1]
    return np.argsort(vectors[:, 1] / root)


def _shorter(order: npt.NDArray[np.int64], distances: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The order made shorter by turning parts of it round, while that helps. Source: 2-opt, Croes 1958."""
    order, n = order.copy(), len(order)
    lower = np.tril_indices(n)
    for _ in range(_REVERSED):
        along = distances[np.ix_(order, order)]
        steps = np.concatenate([[0], np.diagonal(along, 1), [0]])
        before, after = np.zeros((n, n)), np.zeros((n, n))
        before[1:], after[:, :-1] = along[:-1], along[:, 1:]
        change = before + after - steps[:-1, None] - steps[None, 1:]
        change[lower] = 0
        i, j = np.unravel_index(change.argmin(), change.shape)
        if change[i, j] > -1e-6:
            break
        order[i : j + 1] = order[i : j + 1][::-1].copy()
    return order
