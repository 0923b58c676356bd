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
        spec: JSON values that tell this restriction from others; each material's spec has them as ``material``. Empty
            where nothing is cut off: materials are those of the whole view then.
        restrict: the whole view -> the view cut down; it need not care for ``materials``.
        of_clear_images: whether it makes all that it leaves from ``clear_view``. Its materials are computed once for
            all defenses then.
    """

    spec: Mapping[str, Any]
    restrict: Callable[[AttackerView], AttackerView]
    of_clear_images: bool = False

    def material(self, material: Material) -> Material:
        """The material, computed from the restricted view; so are those that it starts from."""
        if not self.spec:
            return material
        return Material(
            material.name,
            {**material.spec, "material": dict(self.spec)},
            partial(self._compute, material),
            tuple(self.material(earlier) for earlier in material.starts_from),
            queries=material.queries and not self.of_clear_images,
            needs_surrogate=material.needs_surrogate,
            of_clear_images=self.of_clear_images,
        )

    def read(self, view: AttackerView, materials: Iterable[Material]) -> dict[str, Arrays]:
        """By the key of each of ``materials``, what ``self.material`` of it is in the whole view.

        Raises:
            UserError: the attack did not declare the restricted materials.
        """
        return {material.key: view.material(self.material(material)) for material in materials}

    def view(self, view: AttackerView, materials: Iterable[Material]) -> AttackerView:
        """The restricted view, in which ``materials`` are what ``read`` gives.

        Raises:
            UserError: as ``read``.
        """
        return replace(self.restrict(view), materials=self.read(view, materials))

    def _compute(self, material: Material, view: AttackerView, generator: Generator) -> Arrays:
        return material.compute(self.view(view, material.starts_from), generator)
