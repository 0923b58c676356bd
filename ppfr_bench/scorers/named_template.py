"""Named templates: how often the person of a protected template is named from a clear gallery."""

from __future__ import annotations

from ppfr_bench.scorers.linkage import Linkage


class NamedTemplate(Linkage):
    """As ``linkage``; what is named from a template sets its irreversibility."""

    version = 1
    title = "naming a template from a clear gallery"
    sets = "irreversibility"


SCORER = NamedTemplate
