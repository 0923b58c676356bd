"""``ppfr-bench assets``: the pinned weights on the command line."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ppfr_bench.cli.options import Json
from ppfr_bench.console import err, out

assets_app = typer.Typer(no_args_is_help=True, help="Pinned weights: list, fetch, verify.")
Names = Annotated[list[str] | None, typer.Argument(help="Names of assets; all, if none is given.")]


@assets_app.command("list")
def assets_list(as_json: Json = False) -> None:
    """Every asset: where it comes from, its size and licence, and whether it is here."""
    from ppfr_bench.assets import MANIFEST, is_cached

    rows = [
        {"name": name, "source": f"{a.source}:{a.package} {a.version}", "size": a.size, "licence": a.licence,
         "sha256": a.sha256, "cached": is_cached(name)}
        for name, a in sorted(MANIFEST.items())
    ]  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("asset", "from", "MB", "licence", "here")
    for row in rows:
        size = f"{float(str(row['size'])) / 1e6:.1f}"
        table.add_row(str(row["name"]), str(row["source"]), size, str(row["licence"]), "yes" if row["cached"] else "no")
    out.print(table)


@assets_app.command("fetch")
def assets_fetch(name: Names = None, as_json: Json = False) -> None:
    """Fetch assets, all by default. An asset that is already here is not fetched again."""
    from ppfr_bench.assets import MANIFEST, fetch
    from ppfr_bench.errors import Unavailable

    found: dict[str, str | None] = {}
    for asset in name or sorted(MANIFEST):
        try:
            found[asset] = str(fetch(asset))
            if not as_json:
                out.print(f"{asset}: {found[asset]}", highlight=False, soft_wrap=True)
        except Unavailable as error:  # The suite still runs, without the recognizers that need it.
            found[asset] = None
            err.print(f"[yellow]{asset}: not to be had here:[/yellow] {escape(str(error))}", highlight=False)
    if as_json:
        print(json.dumps(found, indent=1))
    if name and None in found.values():
        raise typer.Exit(1)


@assets_app.command("verify")
def assets_verify(name: Names = None, as_json: Json = False) -> None:
    """Check the sha256 of the assets that are here."""
    from ppfr_bench.assets import MANIFEST, is_cached, verify

    found = {
        asset: ("ok" if verify(asset) else "WRONG") if name or is_cached(asset) else "not fetched"
        for asset in name or sorted(MANIFEST)
    }
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for asset, state in found.items():
            out.print(f"{asset}: {state}", highlight=False)
    if "WRONG" in found.values():
        err.print("Fetch again:  ppfr-bench assets fetch NAME", highlight=False)
        raise typer.Exit(1)
