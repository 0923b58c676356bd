"""PPFR-FD: the 36 frequencies that tell people apart best, shuffled, mixed with their neighbours and normalised."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from ppfr_bench import device
from ppfr_bench.api import DefenseCard, Faces, Randomness

from . import _background, _draws
from . import _frequency as freq

_SWING = 4.0  # The eight bits hold so many standard deviations.
_LEARNT_FROM = 1000


class PpfrFdConfig(freq.FrequencyConfig):
    """``keep``: frequencies released; ``key``: one shuffle for all images (the paper's), or one each."""

    keep: int = Field(36, ge=2, le=189)
    key: _draws.Key = "session"
    secret: int = 0


class PpfrFd(freq.Frequency):
    """A fixed shuffle and a fixed mixture: linear, so an attacker who holds pairs undoes both, but for the scale."""

    version = 1
    card = DefenseCard(
        title="PPFR-FD",
        plain="Keeps those patterns of the photo that tell people apart best, and shuffles and mixes them in a "
        "fixed secret way.",
        family="frequency domain",
        reference="Wang et al., Privacy-Preserving Face Recognition in the Frequency Domain, AAAI 2022",
        licence="MIT",
        randomness="per_session_key",
        learned=True,
        training_data="at most 1,000 images of the defender, for what tells people apart",
        deviations=(
            "A reconstruction: there is no official code. Order of the masking: shuffle, mix, shuffle, normalise.",
            "Frequencies are chosen by the ratio of variance between to variance within people, none of them a mean, "
            "instead of by an analysis network.",
            freq.ENLARGED,
            "Released in 8 bits a value, four standard deviations to either side.",
        ),
    )
    Config = PpfrFdConfig
    kept: torch.Tensor | None = None  # int64 (keep,)

    @property
    def randomness(self) -> Randomness:
        """As the key says."""
        return _draws.keyed_randomness(self.config.key)

    def fit(self, faces: Faces, generator: torch.Generator) -> None:
        """Ranges, and the frequencies that are kept."""
        super().fit(faces, generator)
        rows = torch.randperm(len(faces), generator=generator).numpy()[:_LEARNT_FROM]
        rows = rows[np.argsort(faces.identities[rows], kind="stable")]
        parts = np.array_split(rows, max(1, len(rows) // freq.at_a_time(self.config.enlarge)))
        codes = torch.cat(
            [freq.coarse(self.scaled(_background.loaded(faces, part).float() / 255)).half() for part in parts]
        )
        _, counts = np.unique(faces.identities[rows], return_counts=True)
        people = codes.split(counts.tolist())
        within = torch.stack([(p.float() - p.float().mean(0)).square().sum(0) for p in people]).sum(0)
        means = torch.stack([p.float().mean(0) for p in people])
        weights = device.to(torch.from_numpy(counts))[:, None, None, None]
        between = ((means - means.mean(0)).square() * weights).sum(0)
        ratio = (between.sum((1, 2)) / within.sum((1, 2)).clamp_min(1e-9)).clone()
        ratio[:: freq.PLANE] = -1  # These channels are the means of blocks.
        self.kept = ratio.argsort(descending=True, stable=True)[: self.config.keep].sort().values

    def sent(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, 36, h, w): masked channels."""
        kept = _background.fitted(images, self.kept)
        scaled, keep = self.scaled(images)[:, kept], len(kept)
        orders = _draws.keyed(
            self.config.key, self.config.secret, generator, images,
            lambda one: torch.stack([torch.randperm(keep, generator=one) for _ in range(2)]),
        )  # fmt: skip
        shuffled = _reorder(scaled, orders[:, 0])
        mixed = _reorder((shuffled + shuffled.roll(-1, 1)) / 2, orders[:, 1])
        spread, mean = torch.std_mean(mixed, (2, 3), keepdim=True, correction=0)
        return freq.in_bytes((mixed - mean) / (spread + 1e-3) / _SWING)

    def shown(self, released: torch.Tensor) -> torch.Tensor:
        """The masked channels in the places that they were chosen from, at the strength that is usual there."""
        return self.image_of(freq.placed(freq.signed(released), _background.fitted(released, self.kept)))


def _reorder(channels: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return channels.gather(1, order[:, :, None, None].expand_as(channels))


DEFENSE = PpfrFd
