"""The command line: thin, every error one message, every listing also as JSON. One file holds a command or a few."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ppfr_bench import __version__
from ppfr_bench.cli import process
from ppfr_bench.cli.assets import assets_app
from ppfr_bench.cli.cache import cache_app
from ppfr_bench.cli.data import data_app
from ppfr_bench.cli.leaderboard import leaderboard
from ppfr_bench.cli.listing import list_
from ppfr_bench.cli.nightly import nightly
from ppfr_bench.cli.plugins import check, doctor, new
from ppfr_bench.cli.protect import protect
from ppfr_bench.cli.run import run
from ppfr_bench.cli.show import show
from ppfr_bench.cli.submissions import accept, score, submit
from ppfr_bench.cli.train import train

app = typer.Typer(
    name="ppfr-bench", cls=process.Commands,
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help="The benchmark that tells whether a privacy-preserving face recognition method is private.",
)  # fmt: skip
app.command("list")(list_)
for command in (run, leaderboard, show, nightly, protect, check, new, submit, accept, score, train, doctor):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(assets_app, name="assets")
app.add_typer(cache_app, name="cache")


def _version(asked: bool) -> None:
    if asked:
        print(f"ppfr-bench {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The benchmark that tells whether a privacy-preserving face recognition method is private."""


def main() -> None:
    """Run the command line: a UserError is one message and exit code 2, a bug is code 1 unless --debug asks."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    process.run(app)
