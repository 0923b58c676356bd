"""``ppfr-bench cache``: how much room the cache takes, and the removal of what was not used for long."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ppfr_bench.cli.options import Json
from ppfr_bench.console import out
from ppfr_bench.errors import UserError
from ppfr_bench.text import printable

cache_app = typer.Typer(no_args_is_help=True, help="The cache: how large it is, and less of it.")
GB = 10**9


@cache_app.command("list")
def cache_list(as_json: Json = False) -> None:
    """What lies in the cache, how large it is, and what is free on its disk."""
    import shutil

    from ppfr_bench.assets import make_cache_folder
    from ppfr_bench.stages.pruning import STORES, contents

    folder, found = make_cache_folder(), contents()
    free = shutil.disk_usage(folder).free
    if as_json:
        print(json.dumps({"folder": str(folder), "free": free, "contents": found}, indent=1))
        return
    table = Table("in the cache", "GB")
    for name, size in found.items():
        table.add_row(escape(name), f"{size / GB:.2f}")
    out.print(table)
    out.print(f"{printable(folder)}: {free / GB:.1f} GB are free on its disk", highlight=False, soft_wrap=True)
    if any(found.get(name) for name in STORES):
        out.print("To keep the 10 GB of stages that were used last:  ppfr-bench cache prune --keep 10", highlight=False)


@cache_app.command("prune")
def cache_prune(
    keep: Annotated[float, typer.Option("--keep", min=0, metavar="GB", help="Gigabytes of outputs that stay.")],
    as_json: Json = False,
) -> None:
    """Remove the outputs of stages that were not used for the longest time; a run that needs one computes it anew.

    Weights, data sets and records are not touched. Wait until no run is at work.
    """
    from ppfr_bench.stages.pruning import prune

    if not math.isfinite(keep * GB):
        raise UserError(f"--keep: expected a number of gigabytes, got {keep:g}", "For example:  --keep 10")
    removed = prune(int(keep * GB))
    size = sum(one.size for one in removed)
    if as_json:
        print(json.dumps({"removed": len(removed), "bytes": size}))
    else:
        out.print(f"{len(removed)} outputs removed, {size / GB:.2f} GB", highlight=False)
