"""``ppfr-bench data``: data sets made ready, and images for tools elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ppfr_bench.cli.options import Json
from ppfr_bench.console import tell

data_app = typer.Typer(
    no_args_is_help=True, help="Prepare data sets, and write images for tools outside of the benchmark."
)
FORMATS_HELP = "lfw, cfp, celeba, folder, insightface-bin or insightface-rec."


@data_app.command("prepare")
def data_prepare(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=FORMATS_HELP)],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="An archive, its folder, or InsightFace's file.")],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="A new folder; to continue a run that was stopped, the same one.")
    ],
    aligned: Annotated[bool, typer.Option("--aligned", help="SRC is aligned, 112x112; keep it byte for byte.")] = False,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt, if it is not beside SRC.")] = None,
    identities: Annotated[Path | None, typer.Option(help="CelebA's identities, if not beside SRC.")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="CelebA's landmarks, if not beside SRC.")] = None,
    level: Annotated[
        int | None,
        typer.Option(
            "--person-level",
            min=1,
            help="For the format folder: the level below SRC, from 1, whose folders name people.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default one for each processor.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find and align the faces of a data set: 112x112 crops, its pairs, and a report of what was dropped and why."""
    from ppfr_bench.datasets.preparation import Options, prepare
    from ppfr_bench.parallel import default_workers

    chosen = Options(aligned, workers or default_workers(), pairs, identities, landmarks, level)
    report = prepare(format_name, source, target, chosen)
    if as_json:
        print(json.dumps(report))
        return
    lines = [f"{report['kept']} of {report['images']} images of {report['people']} people kept: {target}/images"]
    lines += [f"  {count} not taken: {why}" for why, count in report["reasons"].items()]
    if report["placed_without_a_face"]:
        lines.append(f"  {len(report['placed_without_a_face'])} placed where faces mostly are, as none was found")
    for file, count in report["pairs"].items():
        lines.append(
            f"  {file}: {count['kept']} pairs" + f", {count['lost']} lost with their images" * (count["lost"] > 0)
        )
    lines += [
        f"Each by name: {target}/report.json",
        f"Next:  {report['next']}",
    ]
    tell("\n".join(lines), as_json)


@data_app.command("export")
def data_export(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    folder: Annotated[Path, typer.Argument(help="Its clear/ is written; your tool fills protected/.")],
    dataset_root: Annotated[Path | None, typer.Option("--dataset-root", help="Where the data set lies.")] = None,
    as_json: Json = False,
) -> None:
    """Write the images that a suite protects, for a tool that cannot be a plug-in."""
    from ppfr_bench.protection.precomputed import export
    from ppfr_bench.runner.request import Asked, resolve

    request = resolve(suite, Asked(dataset_root=dataset_root))
    request.audit()
    count = export(request.dataset, folder)
    tell(
        f"{count} images in {folder}/clear. Put the protected ones, of the same names, into {folder}/protected; "
        f"then:  ppfr-bench run {suite} --precomputed {folder}",
        as_json, images=count, clear=str(folder / "clear"), protected=str(folder / "protected"),
    )  # fmt: skip


@data_app.command("releases")
def data_releases(
    suite: Annotated[str, typer.Argument(help="A suite's name, or a TOML file.")],
    defense: Annotated[str, typer.Argument(help="Label of the row.")],
    folder: Annotated[Path, typer.Argument(help="Arrays are written here; your attack adds answers.npy.")],
    dataset_root: Annotated[Path | None, typer.Option("--dataset-root", help="Where the data set lies.")] = None,
    as_json: Json = False,
) -> None:
    """Write what an attacker sees of one row, for an attack that cannot be a plug-in."""
    from ppfr_bench.runner.elsewhere import hand_out
    from ppfr_bench.runner.execution import Where
    from ppfr_bench.runner.request import Asked, resolve

    request = resolve(suite, Asked(defenses=(defense,), dataset_root=dataset_root))
    request.audit()
    shapes = hand_out(request, folder, Where.of(request.plan)).shapes
    shots, targets = shapes["targets"][:2]
    tell(
        f"{targets} targets in {folder}/targets.npy, {shots} releases of each. Write {folder}/answers.npy: rebuilt "
        f"faces, uint8 ({targets}, 3, 112, 112), or similarities, float ({targets}, {shapes['gallery'][0]}); then:  "
        f"ppfr-bench run {suite} --defense {defense} --answers {folder}",
        as_json, folder=str(folder), shapes=shapes,
    )  # fmt: skip
