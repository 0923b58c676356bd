"""ppfr-bench: the benchmark that tells whether a privacy-preserving face recognition method is private.

``evaluate`` measures a defense from a script or a notebook, ``load_results`` reads records as a table. They are
imported when first asked for: importing the package loads neither torch nor pandas.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppfr_bench.telemetry import switch_off

if TYPE_CHECKING:
    from ppfr_bench.evaluation import Evaluation, evaluate, load_results

__version__ = "0.1.0"
__all__ = ["Evaluation", "__version__", "evaluate", "load_results"]

switch_off()  # Before anything that would report or look up something is imported.

# In a checkout attacks/ and defenses/ stand beside this package, in a wheel inside it;
# either way they import as ppfr_bench.attacks and ppfr_bench.defenses.
_here = Path(__file__).resolve().parent
if not (_here / "defenses").is_dir():
    __path__.append(str(_here.parent))


def __getattr__(name: str) -> Any:
    if name in ("Evaluation", "evaluate", "load_results"):
        from ppfr_bench import evaluation

        return getattr(evaluation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
