"""``ppfr-bench show``: a row or a record explained."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ppfr_bench import registry
from ppfr_bench.cli.options import RESULTS, Json, Results
from ppfr_bench.console import out
from ppfr_bench.errors import UserError, did_you_mean

LEAST = 6  # A key is asked for by at least so many digits.


def show(
    what: Annotated[str, typer.Argument(help="The first digits of a record's key, or a defense.")],
    suite: Annotated[str, typer.Option(help="Only of this suite.")] = "",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """One row explained: what each number is, which attack set it, between which floor and ceiling."""
    from ppfr_bench.leaderboard import terminal
    from ppfr_bench.leaderboard.pages import load_board
    from ppfr_bench.records.store import ResultStore

    store = ResultStore(results)
    records = list(store.records(suite or None))
    chosen = [record for record in records if len(what) >= LEAST and record.key.startswith(what)]
    if not chosen and len(what) >= LEAST:
        chosen = list(store.set_aside_records(suite or None, what))
    known = {record.defense.label for record in records}
    label = what if what in known else registry.current_name("defense", what)
    of_defense = [record for record in records if record.defense.label == label]
    if not (chosen or of_defense):
        raise UserError(f"no record or defense '{what}' in {results}", did_you_mean(what, known))
    if as_json:
        print(json.dumps([record.model_dump(mode="json") for record in chosen or of_defense], indent=1))
    elif chosen:
        for record in chosen:
            terminal.explain(record, out)
    else:
        for name in sorted({record.suite for record in of_defense}):
            board = load_board(store, name)
            if board.before_numbers:
                out.print(board.before_numbers, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
            for row in board.rows:
                if row.defense == label:
                    terminal.explain(row, out, board.attack_titles)
