"""The name that ``ppfr_bench.records`` had in version 0.1."""

from ppfr_bench.records.frame import frame
from ppfr_bench.records.store import ResultStore

__all__ = ["ResultStore", "frame"]
