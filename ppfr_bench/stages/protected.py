"""What a defense releases of a split of the data, and whether it keeps its contract before it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ppfr_bench.api import Defense, IntArray
from ppfr_bench.contracts.defense import check_defense, randomness_flags
from ppfr_bench.sandbox.stand_in import held_by
from ppfr_bench.stages.context import Context
from ppfr_bench.stages.release import RejectedError, release
from ppfr_bench.stages.spec import Job
from ppfr_bench.stages.store import Output, Writer

_CHECKED = 8  # Images.
_FEWEST, _MOST = 16, 64  # Images that a defense is given at once.
_NAMED = 5  # At most so many images of a refused release are named.


def check(job: Job, inputs: Mapping[str, Output], context: Context, writer: Writer) -> None:
    """The contract on a few evaluation images; notes in ``flags`` what is odd about the defense's randomness.

    Raises:
        RejectedError: the defense breaks the contract; with every finding.
    """
    defense = context.defense(job.spec["defense"])
    note_layers(defense, writer)
    if not type(defense).card.live:
        writer.meta["flags"] = ["not_live"]
        return
    evaluation, seed = context.dataset.evaluation, context.setting.seed
    count = min(_CHECKED, len(evaluation))
    images, names = evaluation.load(range(count)), list(evaluation.names[:count])
    if found := check_defense(defense, images, names, seed):
        findings = "; ".join(f"{one.code}: {one.message}" for one in found)
        raise RejectedError(f"defense {job.how['label']} breaks the contract: {findings}",
                            f"See every check:  ppfr-bench check {job.spec['defense']['name']}")  # fmt: skip
    writer.meta["flags"] = list(randomness_flags(defense, images, seed))


def note_layers(defense: Defense, writer: Writer) -> None:
    """Note which layers close in the process of a defense that has one of its own."""
    if held := held_by(defense):
        writer.meta["sandbox"] = held


def protected(job: Job, inputs: Mapping[str, Output], context: Context, writer: Writer) -> None:
    """``images``: one protected version of a split, uint8 (n, 3, 112, 112), or (n, c, h, w) of a representation.

    The defense is not told which split it is asked for: see ``asked_at_once`` and ``Context.draws_for``.

    Raises:
        RejectedError: an image (named) is released clear or half clear, or the defense breaks the contract.
    """
    spec = job.spec
    defense, faces = context.defense(spec["defense"]), context.faces(spec["split"])
    note_layers(defense, writer)
    order = np.random.default_rng(context.seed("order", spec["dataset"], spec["split"], spec["shot"]))
    images, leaked = None, []
    for rows in asked_at_once(len(faces), order):
        batch, names = faces.load(rows), [faces.names[row] for row in rows]
        generator = context.draws_for(batch, spec["shot"])
        try:
            released = release(defense, batch, generator, names, may_be_clear=type(defense).card.control)
        except RejectedError as error:
            if not error.leaked:
                raise RejectedError(f"defense {job.how['label']}: {error.message}", error.hint) from error
            leaked += error.leaked  # All of them are named at the end.
        else:
            if images is None:
                images = writer.open("images", (len(faces), *released.shape[1:]), np.uint8)
            images[rows] = released
    if leaked:
        some = ", ".join(sorted(leaked)[:_NAMED]) + (
            f" and {len(leaked) - _NAMED} more" if len(leaked) > _NAMED else ""
        )
        raise RejectedError(
            f"defense {job.how['label']} lets clear images out: {some} ({len(leaked)} of {len(faces)})",
            "On failure a defense must raise, never release its input. A part that it leaves clear by"
            " design, or by the chance of its draws, is declared as clear_share on its card.",
        )
    writer.meta["images"] = len(faces)


def asked_at_once(count: int, order: np.random.Generator) -> Iterator[IntArray]:
    """Which of ``count`` images a defense is given at once: in a random order, and in batches of random sizes.

    So neither the order nor the number of images tells it who is on them, or which part of the data they are. The sizes
    do not depend on the machine or the protocol, as a defense may draw once for a batch.
    """
    rows, start = order.permutation(count), 0
    while start < count:
        size = int(order.integers(_FEWEST, _MOST + 1))
        yield rows[start : start + size]
        start += size
