"""``ppfr-bench data`` and ``ppfr-bench protect``: what goes in and out of the benchmark as images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ppfr_bench import options, registry
from ppfr_bench.console import err, tell
from ppfr_bench.errors import UserError
from ppfr_bench.options import Json

data_app = typer.Typer(no_args_is_help=True, help="Data sets made ready, and images for tools elsewhere.")
FORMATS_HELP = "lfw, cfp, celeba, folder, insightface-bin or insightface-rec."


@data_app.command("prepare")
def data_prepare(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=FORMATS_HELP)],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="An archive, its folder, or InsightFace's file.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A new folder; after a kill, the same one.")],
    aligned: Annotated[bool, typer.Option("--aligned", help="SRC is aligned, 112x112: keep it byte for byte.")] = False,
    pairs: Annotated[Path | None, typer.Option(help="LFW's pairs.txt, if it is not beside SRC.")] = None,
    identities: Annotated[Path | None, typer.Option(help="CelebA's identities, if not beside SRC.")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="CelebA's landmarks, if not beside SRC.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one a processor, without.")] = None,
    as_json: Json = False,
) -> None:
    """Find and align the faces of a data set: 112x112 crops, its pairs, and a report of what was dropped and why."""
    from ppfr_bench.parallel import default_workers
    from ppfr_bench.prepare import Options, prepare

    chosen = Options(aligned, workers or default_workers(), pairs, identities, landmarks)
    report = prepare(format_name, source, target, chosen)
    if as_json:
        print(json.dumps(report))
        return
    lines = [f"{report['kept']} of {report['images']} images of {report['people']} people kept: {target}/images"]
    lines += [f"  {count} dropped: {why}" for why, count in report["reasons"].items()]
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
    from ppfr_bench.precomputed import export
    from ppfr_bench.runner.plan import open_dataset
    from ppfr_bench.suites import load_suite

    entry = load_suite(suite).dataset
    if dataset_root is not None:
        entry = entry.model_copy(update={"params": entry.params | {"root": str(dataset_root)}})
    count = export(open_dataset(entry), folder)
    tell(
        f"{count} images in {folder}/clear. Put the protected ones, of the same names, into {folder}/protected; "
        f"then:  ppfr-bench run {suite} --precomputed {folder}",
        as_json, images=count, clear=str(folder / "clear"), protected=str(folder / "protected"),
    )  # fmt: skip


def protect(
    defense: str,
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A folder of aligned 112x112 faces, a video, or - for one image on stdin."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, a video (.mp4, .mkv), or - for stdout.")],
    seed: Annotated[int | None, typer.Option(min=0, help="For a repeatable result; fresh randomness without.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. sigma=6; repeatable.")] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", help="A plug-in file; repeatable.")] = None,
    smallest: Annotated[float, typer.Option(min=16, help="Side in pixels of the smallest face to find.")] = 48,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that look for faces in a video.")] = None,
    as_json: Json = False,
) -> None:
    """Protect a folder of faces, every face of a video, or of one image, with one defense."""
    for path in plugin or ():
        registry.add_plugin(path)
    built = registry.build("defense", defense, options.params(settings))
    if str(source) == "-" or str(target) == "-":
        _protect_stream(built, source, target, seed, smallest, as_json)
    elif source.is_file():
        from ppfr_bench.parallel import default_workers
        from ppfr_bench.protect_video import protect_video

        facts: dict[str, Any] = vars(
            protect_video(built, source, target, seed, smallest=smallest, workers=workers or default_workers())
        )
        tell(
            "{frames} frames, {tracks} tracks: {protected} faces protected by {defense}, {hidden} blacked out in "
            "{frames_hidden} frames where a track's face was not found. Without sound: {target}\n"
            "A face that was found in no frame is not protected: look through it.".format(
                defense=defense, target=target, **facts
            ),
            as_json, video=str(target), **facts,
        )  # fmt: skip
    else:
        from ppfr_bench.protect import protect_folder

        count = protect_folder(built, source, target, seed)
        tell(f"{count} images protected by {defense}: {target}", as_json, images=count, folder=str(target))


def _protect_stream(built: Any, source: Path, target: Path, seed: int | None, smallest: float, as_json: bool) -> None:
    import sys

    from ppfr_bench.protect_picture import protect_bytes

    if not str(source) == str(target) == "-":
        raise UserError(
            "one image goes from stdin to stdout:  IN and OUT are both -", "protect DEFENSE - - <in >out.png"
        )
    content, faces = protect_bytes(built, sys.stdin.buffer.read(), seed, smallest)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    if as_json:  # stdout holds the image
        print(json.dumps({"faces": faces}), file=sys.stderr)
    else:
        err.print(f"{faces} faces protected", highlight=False)
