"""``claims.json`` beside the records of a suite: rows that their authors claim, and what came of measuring them again.

Maintainers alone write it: no archive can bring one. A row is claimed as long as one of the records that it is made of
is among the keys of a claim that nothing has confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from ppfr_bench.cards import Config

State = Literal["claimed", "confirmed", "refuted"]


class Claim(Config):
    """The records of a row that came in a submission.

    Attributes:
        defense: name of the plug-in; ``source_sha256``: of its file as it came.
        keys: of the records.
        state: whether measuring again, on people that nobody knew, has come to the same.
        night: of that measurement, YYYY-MM-DD; ``commit``: of the code.
        commitment: to the secret that it was drawn with, salted: whoever is shown the secret can check it.
        findings: where the claim and the measurement differ.
    """

    defense: str
    source_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    keys: tuple[str, ...]
    state: State = "claimed"
    night: str = ""
    commit: str = ""
    commitment: str = Field("", pattern=r"^([0-9a-f]{32}:[0-9a-f]{64})?$")
    findings: tuple[str, ...] = ()

    def covers(self, keys: Iterable[str]) -> bool:
        """Whether one of these records came with the claim."""
        return not set(self.keys).isdisjoint(keys)

    def merged(self, newer: Claim) -> Claim:
        """Both: of another file only the newer holds, and what came of measuring stays until records are added."""
        if newer.source_sha256 != self.source_sha256 or newer.state != "claimed":
            return newer
        if set(newer.keys) <= set(self.keys):
            return self
        return newer.model_copy(update={"keys": tuple(sorted({*self.keys, *newer.keys}))})


def standing(claims: Mapping[str, Claim], dataset: str, label: str, keys: Iterable[str]) -> Claim | None:
    """The claim that a row of these records is, and that no measurement has confirmed; None where it is none."""
    found = claims.get(f"{dataset}/{label}")
    return found if found is not None and found.state != "confirmed" and found.covers(keys) else None


class ClaimFile(Config):
    """The claims of a suite, by data set and label: ``synthetic/my_defense``."""

    schema_version: Literal[1] = 1
    claims: dict[str, Claim] = Field(default_factory=dict)
