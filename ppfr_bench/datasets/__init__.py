"""Data sets: three splits of disjoint identities each, decoded when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppfr_bench import registry

if TYPE_CHECKING:
    from ppfr_bench.api import FaceDataset
    from ppfr_bench.datasets.sequence import SequenceDataset


def dataset_names() -> list[str]:
    """Names of all data sets, none of them imported."""
    return registry.names("dataset")


def dataset_class(name: str) -> type[FaceDataset]:
    """The class of a data set.

    Raises:
        UserError: unknown; the nearest name is given.
    """
    loaded: type[FaceDataset] = registry.load("dataset", name)
    return loaded


def load_dataset(name: str, config: dict[str, Any]) -> FaceDataset:
    """A data set under parameters of its ``Config``.

    Raises:
        UserError: unknown name, or data that are not where they should be.
        pydantic.ValidationError: a wrong parameter.
    """
    cls: Any = dataset_class(name)
    dataset: FaceDataset = cls(cls.Config.model_validate(config))
    return dataset


def from_sequence(images: Any, identities: Any = None, **settings: Any) -> SequenceDataset:
    """A data set from images in Python: see ``ppfr_bench.datasets.sequence.from_sequence``, which this is."""
    from ppfr_bench.datasets.sequence import from_sequence as take_over

    return take_over(images, identities, **settings)
