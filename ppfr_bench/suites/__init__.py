"""Suites: what to run, one TOML each, checked before anything runs."""

from ppfr_bench.suites.load import ensemble_names, load_suite, suite_names
from ppfr_bench.suites.schema import Budget, DatasetEntry, Ensemble, EnsembleEntry, Entry, Protocol, Suite, explain

__all__ = [
    "Budget", "DatasetEntry", "Ensemble", "EnsembleEntry", "Entry", "Protocol", "Suite", "ensemble_names", "explain",
    "load_suite", "suite_names",
]  # fmt: skip
