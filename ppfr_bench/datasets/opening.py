"""Open the data set that a suite names."""

from __future__ import annotations

from pydantic import ValidationError

from ppfr_bench.api import FaceDataset
from ppfr_bench.datasets import dataset_class, load_dataset
from ppfr_bench.datasets.disjoint_splits import WithoutCopies
from ppfr_bench.errors import UserError
from ppfr_bench.suites import DatasetEntry, explain


def open_dataset(entry: DatasetEntry, given: FaceDataset | None = None) -> FaceDataset:
    """The data set of a suite, its parameters checked, without duplicates where the suite drops them.

    Args:
        given: one that is open already, and is taken as it is.

    Raises:
        UserError: unknown data set, unknown key, wrong type, or data that are not there.
    """
    dataset = _loaded(entry) if given is None else given
    return WithoutCopies(dataset) if entry.drop_duplicates else dataset


def _loaded(entry: DatasetEntry) -> FaceDataset:
    try:
        return load_dataset(entry.name, entry.params)
    except ValidationError as error:
        model = dataset_class(entry.name).Config
        raise UserError(
            f"data set {entry.name}: {explain(error, model)}", "See the [dataset] table of the suite."
        ) from error
