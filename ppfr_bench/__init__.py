"""ppfr-bench: the benchmark that tells whether a privacy-preserving face recognition method is private."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout attacks/ and defenses/ stand beside this package, in a wheel inside it;
# either way they import as ppfr_bench.attacks and ppfr_bench.defenses.
_here = Path(__file__).resolve().parent
if not (_here / "defenses").is_dir():
    __path__.append(str(_here.parent))
