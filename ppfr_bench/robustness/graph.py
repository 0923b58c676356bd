"""The stages of the track as a plan names them; ``ppfr_bench.stages.robustness`` computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppfr_bench.records.record import Component

if TYPE_CHECKING:
    from ppfr_bench.runner.graph import Graph
    from ppfr_bench.stages.spec import Stage

FIRST, SAMPLES, ALPHA = 100, 1000, 0.001  # Votes that choose, votes that bound, and how often a bound may be wrong.
VERSION = 1  # Raised by hand whenever an output of these stages may change.


def service_stage(graph: Graph) -> Stage:
    """See ``service``."""
    spec = {"dataset": graph.setting.dataset_revision, "recognizer": graph.setting.surrogate, "version": VERSION,
            "threads": graph.setting.protocol.threads}  # fmt: skip
    return graph.stage("robustness.service", spec)


def hardened_stage(graph: Graph, defense: Component) -> Stage:
    """See ``hardened``."""
    spec = {"defense": defense.spec, "dataset": graph.setting.dataset_revision, "seed": graph.setting.seed,
            "threads": graph.setting.protocol.threads, "version": VERSION}  # fmt: skip
    return graph.stage("robustness.hardened", spec, {"service": service_stage(graph)})


def certified_stage(graph: Graph, defense: Component) -> Stage:
    """See ``certified``."""
    spec = {"defense": defense.spec, "dataset": graph.setting.dataset_revision, "seed": graph.setting.seed,
            "first": FIRST, "samples": SAMPLES, "alpha": ALPHA, "version": VERSION}  # fmt: skip
    return graph.stage("robustness.certified", spec, upstream(graph, defense, None, None, certified=False))


def attacked_stage(graph: Graph, defense: Component, attack: Component) -> Stage:
    """See ``attacked``."""
    spec = {"defense": defense.spec, "attack": attack.spec, "dataset": graph.setting.dataset_revision,
            "seed": graph.setting.seed, "samples": SAMPLES, "alpha": ALPHA, "version": VERSION}  # fmt: skip
    given = upstream(graph, defense, None, None) | {"attack": graph.attack(defense, attack)}
    return graph.stage("robustness.attacked", spec, given)


def upstream(
    graph: Graph, defense: Component, attack: Any, recognizer: Any, *, certified: bool = True
) -> dict[str, Stage]:
    """What an attacker's view is made of."""
    found = {"service": service_stage(graph), "hardened": hardened_stage(graph, defense)}
    return found | ({"certified": certified_stage(graph, defense)} if certified else {})
