"""What a stage is before it is computed: its spec, and the stages that it is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ppfr_bench.records.hashing import digest


@dataclass(frozen=True, eq=False)
class Stage:
    """A pure function of its spec and of upstream stages.

    Attributes:
        kind: names the function, in ``ppfr_bench.stages``.
        spec: JSON values that, with the upstream stages, determine the output.
        upstream: the stages that it is computed from, by the name under which the function is given each.
        gates: stages that must succeed before, and of which it takes nothing.
        device: the class of the device on which it is computed.
        how: JSON values that tell the function how to go about it and do not change the output.
    """

    kind: str
    spec: Mapping[str, Any]
    upstream: Mapping[str, Stage] = field(default_factory=dict)
    gates: tuple[Stage, ...] = ()
    device: str = "cpu"
    how: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The hash of what determines the output, and of nothing else."""
        upstream = {name: stage.key for name, stage in self.upstream.items()}
        return digest({"stage": self.kind, "spec": self.spec, "upstream": upstream, "device": self.device})

    @property
    def job(self) -> Job:
        """What a worker needs to compute it."""
        return Job(
            self.kind, self.key, dict(self.spec), {name: (s.kind, s.key) for name, s in self.upstream.items()},
            dict(self.how),
        )  # fmt: skip

    def before(self) -> Iterator[Stage]:
        """All stages that it needs, each once, in an order in which they can be computed; itself last."""
        seen: set[str] = set()

        def walk(stage: Stage) -> Iterator[Stage]:
            if stage.key not in seen:
                seen.add(stage.key)
                for earlier in (*stage.gates, *stage.upstream.values()):
                    yield from walk(earlier)
                yield stage

        return walk(self)


@dataclass(frozen=True)
class Job:
    """A stage as it is sent to a worker: upstream stages by kind and key, whose outputs lie in the store."""

    kind: str
    key: str
    spec: dict[str, Any]
    upstream: dict[str, tuple[str, str]]
    how: dict[str, Any]
