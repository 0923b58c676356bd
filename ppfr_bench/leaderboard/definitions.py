"""Where the documentation defines a name that stands on a page: a column, a measure, a flag, an attack.

Pages that are opened from a disk have no documentation beside them. So an address stands in ``data-docs``, and nothing
is shown for it; ``make site`` puts pages and documentation into one folder, and makes a link of it (``docs/_site.py``).
"""

from __future__ import annotations

import re

from markupsafe import Markup

from ppfr_bench import registry
from ppfr_bench.leaderboard import text

__all__ = ["FLAGS", "UPPER_BOUND", "address", "is_measure", "mark"]

UPPER_BOUND = ": upper bound"
FLAGS = {  # In words; braces stand for the step at which an attack stopped.
    "attack_stopped_early": "attack stopped at {}: upper bound",
    "attack_not_converged": "attack not converged: upper bound",
    "attack_undertrained": "a stronger attack fell behind: upper bound",
    "attack_still_rising": "more budget recovers more: upper bound",
    "attack_below_blind": "an attack did worse than a mean face",
    "targets_unlike_held_out": "recovers less of the targets than of others: do not believe it",
    "low_entropy_draws": "its random draws are few",
    "content_seeded": "its random draws follow from the photo",
    "below_certificate": "accuracy under attack is below what is certified",
    "certificate_violated": "an attack broke what is certified",
    "canary_moved": "the environment has changed",
    "not_live": "prepared images only",
    "trusted": "ran without the sandbox",
}
# A section of docs/metrics.md, and the names that it defines, as columns and records spell them.
SECTIONS = {
    "retention": ("retention", "retention, black box", "black_box_retention", "what recognizers keep"),
    "leakage": ("leakage",),
    "appearance-privacy": ("appearance privacy", "images hidden"),
    "attribute-privacy": ("attribute privacy", "attributes hidden"),
    "identity-privacy": ("identity privacy", "identity hidden"),
    "score": ("score", "harmonic_mean"),
    "rank": ("rank",),
    "seeds": ("seed",),
    "cost": ("images / s", "compute time"),
    "likeness-of-a-reconstruction-to-the-original": ("lpips", "ssim", "ms_ssim", "psnr", "best reconstruction"),
    "verification-and-identification": (
        "accuracy", "accuracy_at_clear_threshold", "accuracy_frozen", "accuracy re-fitted", "accuracy kept",
        "clear accuracy", "clear_accuracy", "auc", "eer", "rank_1", "rank_10", "fnmr", "fmr", "fnmr_at_fmr_1e-2",
        "fnmr_at_fmr_1e-3", "fnmr at fmr 1%", "fnmr at fmr 0.1%", "tar_at_far_1e-2", "tar_at_far_1e-3",
        "fnir_at_fpir_1e-1", "fnir_at_fpir_1e-2", "rank_1_of_10", "rank_1_of_30", "rank_1_of_100", "rank_1_of_300",
        "rank_1_of_1000", "accuracy on released images",
    ),
    "attributes": ("attribute_error", "skin_tone", "brow_tone", "facial_hair", "lip_colour"),
    "soft-biometrics": ("age", "sex", "race_group", "expression", "detection", "detection_rate"),
    "from-measures-to-the-table": ("d_sys", "d_sys_bias"),
    "templates": (
        "accuracy of decisions",
        "same_decisions", "same decisions as quantised plain templates", "bytes_up", "bytes_down", "type_1", "type_2",
        "template_type_1", "template_type_2", "linked_d_sys", "irreversibility privacy", "unlinkability privacy",
        "unlimited queries privacy", "plain_accuracy", "accuracy of plain templates", "what decisions keep",
        "face and name hidden", "links hidden", "bytes sent a search of 1,000", "bytes received a search of 1,000",
    ),
    "hardened-recognizers": (
        "agreement", "clean_accuracy", "certified_accuracy", "certified_radius", "attack_success", "robust_accuracy",
        "median_perturbation", "certificate_violations", "membership_auc", "membership_advantage", "service_queries",
        "queries", "target's accuracy", "mean radius", "robustness privacy", "certified privacy", "membership privacy",
        "larger changes privacy", "accuracy on unchanged photos",
        "accuracy that is left", "decisions unbroken", "decisions certified", "membership hidden", "certified, r = 0",
        "r = 0.25", "r = 0.5", "r = 0.75", "r = 1", "r = 1.5", "r = 2", "violations",
    ),
    "cloaks": (
        "likeness", "likeness to the clear image", "recognition privacy", "hidden from recognizers", "still_detected",
        "faces still found", "impersonation", "erasure_success",
    ),
}  # fmt: skip
_MEASURES = {name: f"metrics.html#{section}" for section, names in SECTIONS.items() for name in names}
_WORDS = {
    "warnings": "flags.html", "flags": "flags.html", "record": "results_format.html", "records": "results_format.html",
    "attack": "threat_model.html#the-ladder", "releases": "threat_model.html#the-ladder", "defense": "glossary.html",
    "recognizer": "glossary.html", "cell": "glossary.html", "utility": "metrics.html#retention",
}  # fmt: skip


def address(name: str) -> str:
    """Where a name is defined, in the folder of the documentation; empty of a name that it does not define.

    Args:
        name: of a flag, a measure, a column (its title, too), or the plug-in of an attack.
    """
    if name in FLAGS:
        return f"flags.html#{name}"
    key = _key(name)
    if "_l2_" in key:  # Within a radius.
        return "metrics.html#hardened-recognizers"
    if key in _MEASURES or key in _WORDS:
        return _MEASURES.get(key) or _WORDS[key]
    if name in registry.names("attack") and registry.source("attack", name).startswith("ppfr_bench."):
        return f"attacks.html#{name}"
    return ""


def is_measure(name: str) -> bool:
    """Whether a name is that of a measure or of a column of numbers."""
    return "_l2_" in name or _key(name) in _MEASURES


def _key(name: str) -> str:
    """A name without its unit, and that of a measure without the photos that it is of."""
    return re.sub(r"(,? (%|dB)|_queried)$", "", name).lower().replace("_privacy", " privacy")


def mark(name: object) -> Markup:
    """A question mark that leads to the definition, for behind a name; empty where there is none to lead to."""
    words = text.plain(name, 80)
    found = address(words)
    if not found:
        return Markup("")
    return Markup('<a class="definition" hidden data-docs="{}" aria-label="Definition: {}">?</a>').format(
        found, text.words(words)
    )
