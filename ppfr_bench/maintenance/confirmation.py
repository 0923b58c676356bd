"""A claim is measured again on people whom its authors cannot know: they are drawn from a seed that maintainers keep.

The seed is read from the environment, and is in no record, no page, no message and no cache that outlives the run. What
is kept of it is a salted hash, so that whoever is shown the seed one day can check that it was this one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path

from ppfr_bench import registry
from ppfr_bench.datasets import dataset_class
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard.privacy import between_shared_ends
from ppfr_bench.leaderboard.rows import Row
from ppfr_bench.leaderboard.table import build
from ppfr_bench.maintenance.comparison import Finding, disagreements, lacking
from ppfr_bench.maintenance.nightly import empty_cache, with_no_stages
from ppfr_bench.maintenance.validation import plan_of_cells
from ppfr_bench.metrics.leakage import BROKEN
from ppfr_bench.records.claims import Claim
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.plan_file import PlanFile
from ppfr_bench.records.record import Record, Slot
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.execution import Where, execute
from ppfr_bench.runner.plan import Plan
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.runner.scoring import environment
from ppfr_bench.suites import load_suite

SECRET = "PPFR_BENCH_SECRET_SEED"
_HEX = re.compile(r"[0-9a-fA-F]{32,128}")
_BITS, _SUITE_BITS = 120, 60  # Of the seed of the data set, and of the suite's own.
MAKE = "python -c 'import secrets; print(secrets.token_hex(32))'"
_HOW = "See docs/howto/keep_a_seed_secret.md."


@dataclass(frozen=True)
class Secret:
    """A maintainer's secret: it is shown by no ``repr``."""

    _key: bytes

    def __repr__(self) -> str:
        return "Secret(...)"

    @classmethod
    def from_environment(cls) -> Secret:
        """The one that the environment holds, which forgets it: no process that is started later is given it.

        Raises:
            UserError: there is none, or one that could be guessed.
        """
        text = os.environ.pop(SECRET, "").strip()
        if not text:
            raise UserError(f"{SECRET} is not set: a claim is confirmed on people drawn from a secret seed", _make())
        if not _HEX.fullmatch(text) or len(set(text.lower())) < 8:
            raise UserError(
                f"{SECRET} can be guessed: expected 32 hexadecimal digits or more, drawn at random", _make()
            )
        return cls(bytes.fromhex(text if len(text) % 2 == 0 else f"0{text}"))

    def seed(self, suite: str) -> int:
        """Of a suite's data set: another in each suite, and not to be told from another."""
        return self._drawn(f"data set of {suite}", _BITS)

    def suite_seed(self, suite: str) -> int:
        """Of all draws of a suite: under a public one, a defense could tell what is measured from what is checked."""
        return self._drawn(f"draws of {suite}", _SUITE_BITS)

    def _drawn(self, purpose: str, bits: int) -> int:
        return int(hmac.new(self._key, purpose.encode(), hashlib.sha256).hexdigest()[: bits // 4], 16)

    def commitment(self) -> str:
        """``salt:hash``, another each time: only whoever knows the secret can check it."""
        salt = secrets.token_hex(16)
        return f"{salt}:{self._hashed(salt)}"

    def opens(self, commitment: str) -> bool:
        """Whether a commitment was made with this secret."""
        salt, _, made = commitment.partition(":")
        return hmac.compare_digest(made, self._hashed(salt))

    def _hashed(self, salt: str) -> str:
        return hmac.new(self._key, f"commitment {salt}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Confirmation:
    """What measuring the claims of a defense again has come to.

    Attributes:
        rows: by data set and label, ``confirmed`` or ``refuted``.
        findings: why those are refuted that are.
    """

    rows: dict[str, str]
    findings: tuple[Finding, ...]


def confirm(
    name: str, suite: str, store: ResultStore, night: date, where: Callable[[Plan], Where] | None = None,
    device: str = "cpu",
) -> Confirmation:  # fmt: skip
    """Measure the claims of a defense again and note what came of it beside the records.

    On a data set that is drawn from a seed, other people are drawn, in a cache of their own that is removed, and all
    is drawn under another seed of the suite, which is as secret. On photographs there are no others: they are measured
    anew, once the same file was confirmed on people drawn secretly.

    Raises:
        UserError: no such claim, another file than the one that was taken, no secret, or it cannot be measured here.
    """
    claims = {row: claim for row, claim in store.claims(suite).items() if claim.defense == name}
    if not claims:
        raise UserError(f"no row of {suite} in {store.root} is a claim of defense '{name}'",
                        f"Measure it as it is published:  ppfr-bench score {name} --suite {suite} --anew")  # fmt: skip
    dataset = dataset_class(load_suite(suite).dataset.name)
    seeded = not dataset.card.real_people and "seed" in dataset.Config.model_fields
    # It is taken from the environment before any file of a plug-in is imported.
    secret = Secret.from_environment() if seeded else None
    _check_source(name, claims)
    settings: tuple[str, ...] = ()
    seed = None if secret is None else secret.suite_seed(suite)
    if secret is not None:
        settings, commitment = (f"dataset.seed={secret.seed(suite)}",), secret.commitment()
    else:
        commitment = _confirmed_elsewhere(store, claims)
    published = resolve(suite, Asked(defenses=(name,), device=device)).plan
    found: list[Finding] = []
    noted, rows = {}, {}
    with empty_cache(("assets", "downloads") if seeded else None) as folder:
        request = resolve(suite, Asked(defenses=(name,), settings=settings, seed=seed, device=device))
        request.audit()
        cells = tuple(c for c in request.plan.cells if c.defense.name == name)
        plan = replace(request.plan, cells=cells, published_seed=request.plan.seed)  # It is published nowhere.
        fresh = ResultStore(folder / "results")
        execute(plan, fresh, where=with_no_stages(where(plan)) if where else None)
        measured = {record.key: record for record in fresh.records(suite)} if fresh.suites() else {}
        for row, claim in claims.items():
            label = row.partition("/")[2]
            differ = _compared(label, claim, store, published, plan, measured)
            found += differ
            rows[row] = "refuted" if differ else "confirmed"
            noted[row] = claim.model_copy(update={
                "state": rows[row], "night": night.isoformat(), "commit": environment(1, device).commit or "",
                "commitment": commitment, "findings": tuple(one.line for one in differ),
            })  # fmt: skip
    store.write_claims(suite, noted)
    return Confirmation(rows, tuple(found))


def _compared(
    label: str, claim: Claim, store: ResultStore, published: Plan, plan: Plan, measured: Mapping[str, Record]
) -> list[Finding]:
    """Where a claim and its measurement differ."""
    place = {cell.slot: cell.key for cell in plan.cells if cell.defense.label == label}
    claimed, again = [], []
    for cell in (one for one in published.cells if one.defense.label == label and one.kind != "canary"):
        now = measured.get(place.get(cell.slot, ""))
        then = store.find(published.suite, cell.key)
        if then is None or then.key not in claim.keys:
            return [Finding("refuted", label, reason=f"the file gives no cell of its records, as {cell.title}")]
        if now is None or now.status != "ok":  # What a plug-in says as it fails may hold what it has seen.
            return [Finding("failed", label, reason=f"{cell.title} gave no number; why is not published")]
        claimed.append(then)
        again.append(now)
    found = [one for then, now in zip(claimed, again, strict=True) for one in lacking(then, now)]
    for then, now in zip(claimed, again, strict=True):
        if (then.defense_card, then.guarantee) != (now.defense_card, now.guarantee):
            found.append(
                Finding("refuted", label, reason="the card or the guarantee of the file is not that of its records")
            )
            break
    claimed, again = _where_both_work(claimed, again)
    rows = [
        _row(label, records, plan_of_cells(of, {record.key for record in records}))
        for of, records in ((published, claimed), (plan, again))
    ]
    if any(row.score.value is None for row in rows):
        found.append(Finding("missing", label, reason="there is no score to compare"))
    return found + disagreements(label, *(_numbers(row) for row in rows))


def _where_both_work(one: list[Record], other: list[Record]) -> tuple[list[Record], list[Record]]:
    """Both without the leakages by which an attack works on the people of one side alone.

    An attack is broken by what it regains where nothing is protected, in which no defense has a hand, and on few people
    it may be so by chance: the largest leakage of one side would be among attacks that the other does not count.
    """
    while True:
        broken = {place for side in (one, other) for place in _broken(side)}
        if not broken:
            return one, other
        pruned = ([_without(record, broken) for record in side] for side in (one, other))
        one, other = ([record for record in side if not record.sets or _leaks(record)] for side in pruned)


def _broken(records: Sequence[Record]) -> Iterator[tuple[Slot, str]]:
    for record in between_shared_ends(records):
        for name, measured in record.metrics.items():
            if measured.leakage is not None and measured.leakage.value is None and measured.leakage.reason == BROKEN:
                yield record.slot, name


def _leaks(record: Record) -> bool:
    return any(one.leakage is not None for one in record.metrics.values())


def _without(record: Record, broken: Set[tuple[Slot, str]]) -> Record:
    metrics = {
        name: replace(one, leakage=None) if (record.slot, name) in broken else one
        for name, one in record.metrics.items()
    }
    return record.model_copy(update={"metrics": metrics})


def _row(label: str, records: Sequence[Record], plan: PlanFile) -> Row:
    """The row of a table that has no other: what others have as the ends of their scales is not told apart by it."""
    (row,) = [row for row in build(records, plan) if row.defense == label]
    return row


def _numbers(row: Row) -> dict[str, Estimate]:
    """What a row is read by."""
    privacies = {f"{name.replace('_', ' ')} privacy": one.estimate for name, one in row.privacies.items()}
    return {"score": row.score, "retention": row.retention} | privacies


def _check_source(name: str, claims: Mapping[str, Claim]) -> None:
    """Raises:
    UserError: the file of the defense is not the one that came with the claim.
    """
    spec = find_spec(registry.source("defense", name).partition(":")[0])  # It is found and not imported.
    source = Path(spec.origin if spec is not None and spec.origin else "")
    content = source.read_bytes() if source.is_file() else b""
    if {claim.source_sha256 for claim in claims.values()} != {hashlib.sha256(content).hexdigest()}:
        raise UserError(
            f"{source} is not the file that came with the claim", "Restore it from git, or take the submission again."
        )


def _confirmed_elsewhere(store: ResultStore, claims: Mapping[str, Claim]) -> str:
    """The commitment of a claim of the same file that was confirmed on people drawn from a secret seed.

    Raises:
        UserError: there is none.
    """
    files = {claim.source_sha256 for claim in claims.values()}
    for suite in store.suites():
        for one in store.claims(suite).values():
            if one.state == "confirmed" and one.commitment and one.source_sha256 in files:
                return one.commitment
    raise UserError(
        "its people are photographs that everybody has, so that no others can be drawn",
        f"Confirm the same file first where people are drawn:  ppfr-bench score NAME --suite quick --confirm\n{_HOW}",
    )


def _make() -> str:
    return f"Make one once and keep it:  export {SECRET}=$({MAKE})\n{_HOW}"
