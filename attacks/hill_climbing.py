"""Hill climbing: a client that chooses its probes rebuilds a template from the answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from ppfr_bench.api import Answers, Attack, AttackCard, AttackerView, Config, FloatArray
from ppfr_bench.template.api import Service, TemplateView, unit_rows

BISECTIONS = 6  # Of each end of what is accepted along a great circle.
_PARTS = (8, 4, 2)  # Answers are kept after these parts of the queries.
IntArray = npt.NDArray[np.int64]


class HillClimbingConfig(Config):
    """``queries``: probes that the service answers about one person, at most."""

    queries: int = Field(10, ge=1)


class HillClimbing(Attack):
    """Sends embeddings of its own choice to the live service, which says yes or no, or gives its score.

    With decisions: it tries faces of its own, drawn towards their mean, until one is accepted; then it walks along
    great circles in the principal directions of its own embeddings, finds by bisection where acceptance ends on both
    sides, and goes to the middle, where the score is greatest. One direction costs twelve queries. With scores: it asks
    for the products with the principal directions, and adds them up; as many as an embedding has numbers tell all.
    """

    version = 1
    card = AttackCard(
        title="Hill climbing, 10 queries",
        plain="Sends made-up face templates to a live recognition service and works out the stored template from "
        "the answers. The service answers only a few questions about each person.",
        family="oracle",
        reference="Adler, 2004; Galbally et al., 2010; bisection on the sphere: ppfr-bench",
        licence="MIT",
        measures="asked_template",
        knowledge="aware",
        needs_recognizer=True,
        tracks=("template",),
    )
    Config = HillClimbingConfig
    asks = True

    def fit(self, view: AttackerView, generator: torch.Generator) -> None:
        """Order its own faces, one a person, and find the principal directions of all."""
        assert isinstance(view, TemplateView)
        own = view.own_embeddings
        first = np.unique(view.auxiliary.identities, return_index=True)[1]
        faces = own[first[torch.randperm(len(first), generator=generator).numpy()]]
        self._mean = own.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(own.T))
        self._directions = vectors[:, ::-1].T  # (d, d), the widest first.
        spread = np.sqrt(np.maximum(values[::-1], 0))
        missing = max(0, self.config.queries // 2 - len(faces))  # Half of the queries are for the first acceptance.
        draws = np.random.default_rng(int(torch.randint(0, 2**31, (1,), generator=generator)))
        made = self._mean + (draws.standard_normal((missing, len(spread))) * spread) @ self._directions
        # Half-way to the mean, a template is accepted as more people than the face itself is.
        self._probes = unit_rows(np.concatenate([self._mean[None], (self._mean + np.concatenate([faces, made])) / 2]))
        self._reach = min(np.pi / 2, 4 * float(np.arccos(np.clip(own @ unit_rows(self._mean[None])[0], -1, 1)).mean()))

    def run(self, view: AttackerView) -> Answers:
        """Estimates of the templates, unit rows (n, d); beside them those after parts of the queries."""
        assert isinstance(view, TemplateView) and view.service is not None, "it asks the service"
        self.log["shots"] = 1
        climb = _Climb(view.service, self._mean, self.config.queries, self._reach)
        if view.service.reveals_scores:
            climb.solve(self._directions)
        else:
            climb.find(self._probes)
            climb.refine(self._directions)
            self.log["accepted"] = round(float(climb.found.mean()), 4)
        return Answers(climb.estimates, at=climb.parts, budget="queries", whole=self.config.queries)


class _Climb:
    """The estimates of all targets, and what each of them has been asked so far.

    Args:
        reach: no end of what is accepted is looked for at a larger angle.
    """

    def __init__(self, service: Service, mean: FloatArray, limit: int, reach: float) -> None:
        self.service, self.limit, self.reach = service, limit, reach
        self.estimates = unit_rows(np.repeat(mean[None], service.targets, axis=0))
        self.used = np.zeros(service.targets, dtype=np.int64)
        self.found = np.zeros(service.targets, dtype=np.bool_)
        self.parts = {limit // part: self.estimates.copy() for part in _PARTS if limit // part}

    def find(self, probes: FloatArray) -> None:
        """Try the probes in turn on each target until one is accepted or half of the queries are spent."""
        most = max(1, self.limit // 2) if self.limit >= 4 * BISECTIONS else self.limit
        for probe in probes[:most]:
            rows = np.flatnonzero(~self.found)
            if not len(rows):
                return
            self.used[rows] += 1
            accepted = rows[self.service.accepts(rows, np.repeat(probe[None], len(rows), axis=0))]
            self.found[accepted] = True
            self._set(accepted, np.repeat(probe[None], len(accepted), axis=0))

    def refine(self, directions: FloatArray) -> None:
        """Go to the middle of what is accepted, direction after direction, once, while queries are left.

        Of a transform that drops dimensions a second round would follow what it keeps, away from what faces are like.
        """
        for direction in directions:
            rows = np.flatnonzero(self.found & (self.used + 2 * BISECTIONS <= self.limit))
            if not len(rows):
                return
            start = self.estimates[rows]
            tangent = unit_rows(direction - (start @ direction)[:, None] * start)
            ends = [self._end(rows, start, sign * tangent) for sign in (1.0, -1.0)]
            middle = (ends[0] - ends[1])[:, None] / 2
            self._set(rows, unit_rows(np.cos(middle) * start + np.sin(middle) * tangent))

    def solve(self, directions: FloatArray) -> None:
        """Add up the directions by their scores; what was not asked is as in the mean."""
        everybody = np.arange(self.service.targets)
        known = np.zeros_like(self.estimates)
        mean = self.estimates[0].copy()
        for direction in directions[: self.limit]:
            scores = self.service.scores(everybody, np.repeat(direction[None], len(everybody), axis=0))
            self.used += 1
            known += (scores - mean @ direction)[:, None] * direction
            self._set(everybody, unit_rows(mean + known))

    def _end(self, rows: IntArray, start: FloatArray, tangent: FloatArray) -> FloatArray:
        """The angle at which acceptance ends along each great circle, in [0, reach]."""
        low, high = np.zeros(len(rows)), np.full(len(rows), self.reach)
        for _ in range(BISECTIONS):
            angle = (low + high) / 2
            inside = self.service.accepts(rows, np.cos(angle)[:, None] * start + np.sin(angle)[:, None] * tangent)
            low, high = np.where(inside, angle, low), np.where(inside, high, angle)
        self.used[rows] += BISECTIONS
        return np.asarray((low + high) / 2)

    def _set(self, rows: IntArray, estimates: FloatArray) -> None:
        self.estimates[rows] = estimates
        for size, kept in self.parts.items():
            within = self.used[rows] <= size
            kept[rows[within]] = estimates[within]


ATTACK = HillClimbing
