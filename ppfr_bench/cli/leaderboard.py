"""``ppfr-bench leaderboard``: the pages of every suite that has records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ppfr_bench import registry
from ppfr_bench.cli.options import RESULTS, Json, Plugins, Results, Trust
from ppfr_bench.console import err, out
from ppfr_bench.errors import UserError


def leaderboard(
    results: Results = RESULTS,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the pages.")] = Path("leaderboards"),
    plugin: Plugins = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Publish the pages of every suite that has records, and print the tables."""
    from ppfr_bench.leaderboard import pages, terminal
    from ppfr_bench.records.store import ResultStore

    registry.run_here(trust)
    for path in plugin or ():
        registry.add_plugin(path)
    store = ResultStore(results)
    if not store.suites():
        raise UserError(f"no results at {results}", "Run a suite first:  ppfr-bench run quick")
    published: dict[str, list[str]] = {}
    for board, paths in pages.publish_all(store, out_dir):
        published[board.suite] = [str(path) for path in (*paths, out_dir / "index.html")]
        if not as_json:
            terminal.print_table(board.rows, out, board.note, board.attack_titles, board.before_numbers)
    if as_json:
        print(json.dumps(published, indent=1))
    else:
        out.print(f"Pages: {out_dir}/index.html", highlight=False)
        if count := store.aside_count():
            err.print(f"{count} records are set aside in {results}/SUITE/set-aside, and on no page.", highlight=False)
