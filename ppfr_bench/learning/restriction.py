"""An attacker who learns from less than its view holds, and the materials that it starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Generator

from ppfr_bench.api import Arrays, AttackerView, Material


@dataclass(frozen=True)
class Restriction:
    """A way of cutting a view down; materials that start from the rest are kept apart from those of the whole view.

    Attributes:
        spec: JSON values that tell this restriction from others; each material's spec has them as ``material``.
        restrict: the whole view -> the view cut down; it need not care for ``materials``.
    """

    spec: Mapping[str, Any]
    restrict: Callable[[AttackerView], AttackerView]

    def material(self, material: Material) -> Material:
        """The material, computed from the restricted view; so are those that it starts from."""
        return Material(
            material.name,
            {**material.spec, "material": dict(self.spec)},
            partial(self._compute, material),
            tuple(self.material(earlier) for earlier in material.starts_from),
            queries=material.queries,
            needs_surrogate=material.needs_surrogate,
        )

    def view(self, view: AttackerView, materials: Iterable[Material]) -> AttackerView:
        """The restricted view, in which each of ``materials`` is what ``self.material`` of it is in the whole view.

        Raises:
            UserError: the attack did not declare the restricted materials.
        """
        found = {material.key: view.material(self.material(material)) for material in materials}
        return replace(self.restrict(view), materials=found)

    def _compute(self, material: Material, view: AttackerView, generator: Generator) -> Arrays:
        return material.compute(self.view(view, material.starts_from), generator)
