"""Options that several commands share. Imports wait, so that ``--help`` loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppfr_bench.errors import UserError
from ppfr_bench.text import printable, toml_value

if TYPE_CHECKING:
    from ppfr_bench.runner.request import Request

LARGEST_SEED = (1 << 63) - 1  # Of a suite, too; torch takes none that is much larger.
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Results = Annotated[str, typer.Option("--results", help="Folder of the records, or a URL such as s3://bucket/results.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A plug-in file outside the package; repeatable.")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run plug-in files in this process, with all your rights; records are flagged."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="path=value, e.g. attack.unet.steps=300; repeatable.")
]
Sweeps = Annotated[
    list[str] | None,
    typer.Option("--sweep", help="One row for each value, e.g. defense.pixelate.block=4,8,14; repeatable."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; by default as many as are useful on this machine.")
]
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler",
        envvar="PPFR_BENCH_SCHEDULER",
        help="Address of a Dask cluster, e.g. tcp://host:8786; or inline, for debugging.",
    ),
]
Stages = Annotated[
    str, typer.Option("--stages", envvar="PPFR_BENCH_STAGES", help="Folder or URL that all workers see.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or mps; cuda:1 for the second GPU.")]
DatasetRoot = Annotated[Path | None, typer.Option("--dataset-root", help="Where the data set lies.")]
RESULTS = "results"


def resolved(suite: str, defenses: list[str], device: str = "cpu", dataset_root: Path | None = None) -> Request:
    """A suite as it is shipped, with some defenses alone."""
    from ppfr_bench.runner.request import Asked, resolve

    return resolve(suite, Asked(defenses=tuple(defenses), device=device, dataset_root=dataset_root))


def params(settings: list[str] | None) -> dict[str, Any]:
    """``key=value`` options as a dict."""
    params: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected key=value", "For example:  --set sigma=6")
        params[name] = toml_value(text, setting)
    return params


def check_writable(folder: str) -> None:
    """Raises:
    UserError: it is a file, or nothing can be written there.
    """
    from ppfr_bench.files import write_atomic

    if "://" in folder:
        return
    if Path(folder).is_file():
        raise UserError(f"expected a folder, got the file {printable(folder)}", "Name a folder; it is made if needed.")
    probe = Path(folder) / ".writable"
    write_atomic(probe, b"")
    probe.unlink()
