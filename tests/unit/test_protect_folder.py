"""Folders and photographs: nothing clear gets out, nothing of the user's is overwritten, nothing is lost unsaid."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pictures import Picture
from PIL import Image
from typer.testing import CliRunner

from ppfr_bench import registry
from ppfr_bench.api import Config, Defense, DefenseCard, UserError
from ppfr_bench.cli import app
from ppfr_bench.protection.folder import protect_folder, release, start
from ppfr_bench.protection.picture import protect_photograph
from ppfr_bench.testing import example_faces

FACES = example_faces().load(range(16))


class Wrong(Defense):
    """A method that goes wrong in one of several ways, from the image ``after`` on."""

    version = 1
    card = DefenseCard(title="wrong", family="test", reference="-", licence="MIT")
    Config = Config

    def __init__(self, how: str, after: int = 0) -> None:
        super().__init__(Config())
        self.how, self.after, self.seen = how, after, 0

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.seen += len(images)
        if self.seen <= self.after:
            return 1 - images
        out: dict[str, Any] = {
            "input": images, "in place": images.mul_(1), "half": torch.where(torch.arange(112) < 56, images, 0.0),
            "nan": images * float("nan"), "range": images * 3 + 2, "shape": images[:, :, ::2, ::2], "none": None,
            "fewer": images[1:], "numpy": images.numpy(),
        }  # fmt: skip
        if self.how == "raises":
            raise ZeroDivisionError("no luck")
        return out[self.how]  # type: ignore[no-any-return]


def pictures(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(FACES[i % 16].transpose(1, 2, 0)).save(folder / f"{i:03d}.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pixelate(**settings: Any) -> Any:
    return registry.build("defense", "pixelate", settings)


HOW = {
    "input": "lets clear images out: 000.png, 001.png", "in place": "lets clear images out",
    "half": "lets clear images out",
    "nan": "NaN", "range": r"expected values in \[0, 1\], got \[2\.", "shape": "expected float32 images of shape",
    "none": "got NoneType", "fewer": "expected float32 images of shape", "numpy": "got ndarray",
    "raises": "ZeroDivisionError: no luck",
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(HOW))
def test_nothing_is_written_of_a_release_that_is_none(how: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=HOW[how]) as refused:
        protect_folder(Wrong(how), pictures(tmp_path / "in"), tmp_path / "out")
    assert "Nothing is written" in refused.value.message and not (tmp_path / "out").exists()
    with pytest.raises(UserError):
        protect_photograph(Wrong(how), tmp_path / "in" / "000.png", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("how", ["raises", "input"])
def test_what_was_written_before_a_failure_is_said(how: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"64 of 70 images are written to {tmp_path}/out, the rest is not"):
        protect_folder(Wrong(how, after=64), pictures(tmp_path / "in", 70), tmp_path / "out")
    assert len(files(tmp_path / "out")) == 64
    (tmp_path / "in" / "069.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"069.png: not an image that can be read. 64 of 70 images are written"):
        protect_folder(pixelate(), tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("out", ["in", "in/out", "in/../in", "link", "link/x", "in/sub"])
def test_the_input_is_never_overwritten(out: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in" / "sub")
    (tmp_path / "link").symlink_to("in")
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"OUT (is|lies inside) IN"):
        protect_folder(pixelate(), tmp_path / "in", tmp_path / out)
    assert files(tmp_path) == before


def test_nor_anything_else_that_it_did_not_write(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    mine = pictures(tmp_path / "mine", 2)
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"mine/000.png holds the clear image"):
        protect_folder(pixelate(), tmp_path / "in", mine)
    pictures(tmp_path / "a" / "a")  # seen from the upper a, and written into it, an image comes to lie on itself
    with pytest.raises(UserError, match=r"/a, where a protected image would go, lies in IN"):
        protect_folder(pixelate(), tmp_path / "a", tmp_path)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "sub").symlink_to(pictures(tmp_path / "in" / "sub"))
    with pytest.raises(UserError, match="linked/sub, where a protected image would go, lies in IN"):
        protect_folder(pixelate(), tmp_path / "in", tmp_path / "linked")
    assert {name: content for name, content in files(tmp_path).items() if name in before} == before
    with pytest.raises(UserError, match="is a file, expected a folder"):
        protect_folder(pixelate(), tmp_path / "in", tmp_path / "in" / ".." / "mine" / "000.png")


def test_the_same_command_again_replaces_what_it_wrote(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in")
    protect_folder(pixelate(), source, tmp_path / "out", seed=1)
    first = files(tmp_path / "out")
    (tmp_path / "out" / "002.png").unlink()  # as a kill leaves it
    assert protect_folder(pixelate(), source, tmp_path / "out", seed=1).replaced == 3
    assert files(tmp_path / "out") == first


def test_every_file_of_the_folder_is_said(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", 2)
    for name, kind in (("a.tif", "TIFF"), ("b.gif", "GIF"), ("c.pgm", "PPM"), ("d.jfif", "JPEG"), ("none", "PNG")):
        Image.fromarray(FACES[3].transpose(1, 2, 0)).convert("L").save(source / name, kind)
    (source / "notes.txt").write_text("text")
    (source / "raw.cr2").write_bytes(b"II\x1b\0 no image that is read here")
    (source / ".hidden.png").write_bytes((source / "000.png").read_bytes())
    (source / ".thumbs").mkdir()
    (source / ".thumbs" / "0.png").write_bytes(b"")
    (source / "link.png").symlink_to(source / "000.png")
    (source / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(source / "pipe")
    run = CliRunner().invoke(app, ["protect", "pixelate", str(source), str(tmp_path / "out"), "--json"])
    found = json.loads(run.stdout)
    assert found["images"] == 7 and found["not_taken"] == {
        "notes.txt": "not an image", "raw.cr2": "not an image of a format that is read", ".hidden.png": "hidden",
        ".thumbs": "hidden", "link.png": "a link, which is not followed", "elsewhere": "a link, which is not followed",
        "pipe": "no regular file",
    }  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"000.png", "001.png", "a.png", "b.png", "c.png", "d.png", "none.png"}
    said = CliRunner().invoke(app, ["protect", "pixelate", str(source), str(tmp_path / "out")]).stdout
    assert "2 not taken: a link, which is not followed (elsewhere, link.png)" in said


@pytest.mark.parametrize(("one", "other"), [("a.png", "a.jpg"), ("A.png", "a.png"), ("s.png/x.png", "s.png.png")])
def test_two_images_never_share_a_name(one: str, other: str, tmp_path: Path) -> None:
    for name in (one, other):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(FACES[0].transpose(1, 2, 0)).save(tmp_path / "in" / name)
    if "x.png" in one:
        assert protect_folder(pixelate(), tmp_path / "in", tmp_path / "out").images == 2
        return
    with pytest.raises(UserError, match="two images would both become"):
        protect_folder(pixelate(), tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_transparency_hides_is_refused_from_a_folder_too(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in")
    (source / "000.png").write_bytes(Picture(mode="RGBA", hole=True).encoded())
    with pytest.raises(UserError, match=r"000.png: transparent in places"):
        protect_folder(pixelate(), source, tmp_path / "out")


def test_a_photograph_goes_from_file_to_file(tmp_path: Path) -> None:
    photo = tmp_path / "in.jpg"
    Image.fromarray(FACES[0].transpose(1, 2, 0)).save(photo)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["protect", "pixelate", *arguments])

    assert run(str(photo), str(tmp_path / "out.png")).exit_code == 0
    shown = np.asarray(Image.open(tmp_path / "out.png"))
    assert shown.shape == (112, 112, 3) and not np.array_equal(shown, np.asarray(Image.open(photo)))
    for out, says in (("out.jpg", "a photograph is written as PNG"), ("out.mp4", "a photograph is written as PNG")):
        wrong = run(str(photo), str(tmp_path / out))
        assert isinstance(wrong.exception, UserError) and says in str(wrong.exception) and "- -" in str(wrong.exception)
        assert not (tmp_path / out).exists()
    same = tmp_path / "same.png"
    os.link(photo, same)
    before = photo.read_bytes()
    for out in (same, tmp_path):
        assert isinstance(run(str(photo), str(out)).exception, UserError)
    assert photo.read_bytes() == same.read_bytes() == before


def test_every_defense_that_ships_passes_the_door() -> None:
    """No shipped method is taken for one that lets clear images out, and the one that does nothing is."""
    for name in registry.names("defense"):
        defense = registry.build("defense", name, {})
        if not isinstance(defense, Defense) or type(defense).fit is not Defense.fit:
            continue
        if not type(defense).releases_image() or not defense.card.live:
            continue
        some = FACES[:4]
        if name in ("no_cloak", "no_defense"):
            with pytest.raises(UserError, match="lets clear images out"):
                release(defense, some, torch.Generator().manual_seed(0))
        else:
            assert release(defense, some, torch.Generator().manual_seed(0)).shape == some.shape


def test_metadata_stays_behind(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    (tmp_path / "in").mkdir()
    Image.fromarray(FACES[0].transpose(1, 2, 0)).save(tmp_path / "in" / "a.jpg", exif=exif)
    protect_folder(pixelate(), tmp_path / "in", tmp_path / "out")
    content = (tmp_path / "out" / "a.png").read_bytes()
    assert b"at home" not in content and not Image.open(io.BytesIO(content)).getexif()


@pytest.mark.parametrize("seed", [-1, 1 << 63, 10**23])
def test_a_seed_that_is_none_is_refused_in_words(tmp_path: Path, seed: int) -> None:
    with pytest.raises(UserError, match=r"expected a seed from 0 to 9223372036854775807, got"):
        start(seed)
    start((1 << 63) - 1)
    for command in (["protect", "blackout", "in", "out"], ["run", "smoke"], ["train", "face_renderer"]):
        done = CliRunner().invoke(app, [*command, "--seed", str(seed)])
        assert done.exit_code == 2 and "'--seed'" in done.output
