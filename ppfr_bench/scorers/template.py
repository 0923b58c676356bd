"""Template: how like the original a face is that was rebuilt from an embedding alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ppfr_bench.metrics import metric_info
from ppfr_bench.records.estimate import Measurement
from ppfr_bench.scorers.base import Arrays, Truth
from ppfr_bench.scorers.bootstrap import Bootstrap
from ppfr_bench.scorers.reconstruction import Reconstruction


class Template(Reconstruction):
    """As a reconstruction, but its ceiling is a perfect copy of the face, and not the same attack undefended.

    An embedding does not hold the whole face. What is rebuilt from it where nothing is protected would else count as
    all there is, and every defense under which recognizers work would seem to leak everything. So what leaks by it
    undefended is less than 1: the price of utility.
    """

    version = 1
    title = "likeness of faces rebuilt from embeddings"
    from_embedding = True

    def score(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Measurement]:
        """As of reconstructions, with a perfect copy as the ceiling of every bounded metric."""
        return super().score(self._with_perfect_ceiling(inputs), truth, bootstrap)

    def by_budget(self, inputs: Mapping[str, Arrays], truth: Truth) -> dict[int, dict[str, float]]:
        """The same after parts of a budget."""
        return super().by_budget(self._with_perfect_ceiling(inputs), truth)

    def by_group(self, inputs: Mapping[str, Arrays], truth: Truth, bootstrap: Bootstrap) -> dict[str, Any]:
        """The same for the people of each group."""
        return super().by_group(self._with_perfect_ceiling(inputs), truth, bootstrap)

    def _with_perfect_ceiling(self, inputs: Mapping[str, Arrays]) -> Mapping[str, Arrays]:
        """The inputs, ``ceiling`` of each metric that has a best value being that; of the others it stays.

        What the ceiling's attack had after parts of its budget is no ceiling, and is left out.
        """
        ceiling = {}
        for name in self.image_metrics:
            info, values = metric_info(name), np.asarray(inputs["ceiling"][name])
            best = info.range[0 if info.direction == "lower_is_better" else 1]
            ceiling[name] = values if best is None else np.full(len(values), float(best))
        return {**inputs, "ceiling": ceiling}


SCORER = Template
