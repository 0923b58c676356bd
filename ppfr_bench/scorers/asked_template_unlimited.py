"""Asked templates where nothing limits the queries."""

from __future__ import annotations

from ppfr_bench.scorers.asked_template import AskedTemplate


class AskedTemplateUnlimited(AskedTemplate):
    """As ``asked_template``; it sets a privacy of its own, for a limit belongs to the service and not to the method."""

    version = 1
    title = "templates rebuilt from any number of answers"
    sets = "unlimited_queries"


SCORER = AskedTemplateUnlimited
