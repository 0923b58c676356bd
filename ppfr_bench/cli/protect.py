"""``ppfr-bench protect``: pictures of the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ppfr_bench import registry
from ppfr_bench.cli import options
from ppfr_bench.cli.options import Device, Json, Plugins, Trust
from ppfr_bench.console import err, tell
from ppfr_bench.errors import UserError
from ppfr_bench.text import printable

_UNCHECKED = "No second detector looked for faces left clear"


def protect(
    defense: Annotated[str, typer.Argument(help="The name of a defense of images.")],
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A folder of aligned 112x112 faces, a photograph, a video, or - for stdin."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder, a .png of a photograph, a .mp4 or .mkv, or - for stdout.")
    ],
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=options.LARGEST_SEED, help="For a repeatable result; by default the randomness is fresh."
        ),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. sigma=6; repeatable.")] = None,
    plugin: Plugins = None,
    trust: Trust = False,
    smallest: Annotated[float, typer.Option(min=16, help="Side in pixels of the smallest face to find.")] = 48,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that look for faces in a video.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Protect a folder of faces, every face of a video, or of one image, with one defense."""
    from ppfr_bench.api import Defense
    from ppfr_bench.device import select

    select(device)
    registry.run_here(trust)
    for path in plugin or ():
        registry.add_plugin(path, only="defense")
    built = registry.build("defense", defense, options.params(settings))
    if not isinstance(built, Defense):
        raise UserError(
            f"'{defense}' protects no images: it is of track {registry.track_of(type(built))}",
            "Choose a defense of images:  ppfr-bench list defenses",
        )
    if str(source) == "-" or str(target) == "-":
        _protect_stream(built, source, target, seed, smallest, as_json)
    elif source.is_file() and _is_photograph(source, target):
        from ppfr_bench.protection.picture import protect_photograph

        done = protect_photograph(built, source, target, seed, smallest)
        tell(
            f"{done.faces} faces protected by {defense}: {printable(target)}", as_json, faces=done.faces,
            image=printable(target), left_clear=len(done.left_clear), not_checked=done.not_checked,
        )  # fmt: skip
        _warn(done.not_checked and f"{_UNCHECKED}: {done.not_checked}", [done.warning] if done.warning else [])
    elif source.is_file():
        from ppfr_bench.parallel import default_workers
        from ppfr_bench.protection.video import protect_video

        report = protect_video(built, source, target, seed, smallest=smallest, workers=workers or default_workers())
        tell(report.done(defense, printable(target)), as_json, video=printable(target), **vars(report))
        _warn(report.unchecked(), report.warnings())
    else:
        from ppfr_bench.files import summary
        from ppfr_bench.protection.folder import protect_folder

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

    from ppfr_bench.protection.picture import protect_image

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
    if as_json:  # stdout holds the image.
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
