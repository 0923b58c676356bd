"""``ppfr-bench data`` and ``ppfr-bench protect``: what goes in and out of the benchmark as images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ppfr_bench import options, registry
from ppfr_bench.console import err, tell
from ppfr_bench.errors import UserError
from ppfr_bench.options import Json
from ppfr_bench.text import printable

data_app = typer.Typer(no_args_is_help=True, help="Data sets made ready, and images for tools elsewhere.")
_UNCHECKED = "No second detector looked for faces left clear"
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
    level: Annotated[
        int | None,
        typer.Option("--person-level", min=1, help="Of a folder: which folder below SRC names the person, from 1."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one a processor, without.")] = None,
    as_json: Json = False,
) -> None:
    """Find and align the faces of a data set: 112x112 crops, its pairs, and a report of what was dropped and why."""
    from ppfr_bench.parallel import default_workers
    from ppfr_bench.prepare import Options, prepare

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
        typer.Argument(metavar="IN", help="A folder of aligned 112x112 faces, a photograph, a video, or - for stdin."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder, a .png of a photograph, a .mp4 or .mkv, or - for stdout.")
    ],
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
    elif source.is_file() and _is_photograph(source, target):
        from ppfr_bench.protect_picture import protect_photograph

        done = protect_photograph(built, source, target, seed, smallest)
        tell(
            f"{done.faces} faces protected by {defense}: {printable(target)}", as_json, faces=done.faces,
            image=printable(target), left_clear=len(done.left_clear), not_checked=done.not_checked,
        )  # fmt: skip
        _warn(done.not_checked and f"{_UNCHECKED}: {done.not_checked}", [done.warning] if done.warning else [])
    elif source.is_file():
        from ppfr_bench.parallel import default_workers
        from ppfr_bench.protect_video import protect_video

        report = protect_video(built, source, target, seed, smallest=smallest, workers=workers or default_workers())
        tell(report.done(defense, printable(target)), as_json, video=printable(target), **vars(report))
        _warn(report.unchecked(), report.warnings())
    else:
        from ppfr_bench.files import summary
        from ppfr_bench.protect import protect_folder

        found = protect_folder(built, source, target, seed)
        replaced = f", {found.replaced} of them in place of a file that was there" if found.replaced else ""
        line = f"{found.images} images protected by {defense}: {printable(target)}{replaced}"
        tell(
            "\n".join([line, *summary(found.left_out)]), as_json, images=found.images, folder=printable(target),
            replaced=found.replaced,
            not_taken={printable(name): why for name, why in found.left_out.items()},
        )  # fmt: skip


def _is_photograph(source: Path, target: Path) -> bool:
    """Whether a file is an image by its first bytes; a GIF is a video if a video is asked for."""
    from ppfr_bench.images import looks_like_image

    with source.open("rb") as file:
        head = file.read(64)
    return looks_like_image(head) and not (head.startswith(b"GIF8") and target.suffix.lower() != ".png")


def _protect_stream(built: Any, source: Path, target: Path, seed: int | None, smallest: float, as_json: bool) -> None:
    import sys

    from ppfr_bench.protect_picture import protect_image

    if not str(source) == str(target) == "-":
        raise UserError(
            "one image goes from stdin to stdout:  IN and OUT are both -",
            "Type:  ppfr-bench protect DEFENSE - - <IN >OUT.png    or:  ppfr-bench protect DEFENSE IN.jpg OUT.png",
        )
    if sys.stdin is None or sys.stdout is None:
        raise UserError("stdin or stdout is closed", "Type:  ppfr-bench protect DEFENSE - - <IN >OUT.png")
    done = protect_image(built, sys.stdin.buffer.read(), seed, smallest)
    sys.stdout.buffer.write(done.content)
    sys.stdout.buffer.flush()
    if as_json:  # stdout holds the image
        facts = {"faces": done.faces, "left_clear": len(done.left_clear), "not_checked": done.not_checked}
        print(json.dumps(facts), file=sys.stderr)
    else:
        err.print(f"{done.faces} faces protected", highlight=False)
    _warn(done.not_checked and f"{_UNCHECKED}: {done.not_checked}", [done.warning] if done.warning else [])


def _warn(unchecked: str, warnings: list[str]) -> None:
    """What a look at the result could not tell, and what is wrong with it: then the command ends with 1."""
    if unchecked:
        err.print(unchecked, highlight=False, markup=False, soft_wrap=True)
    for warning in warnings:
        err.print(f"[red]wrong:[/red] {escape(warning)}", highlight=False, soft_wrap=True)
    if warnings:
        raise typer.Exit(1)
