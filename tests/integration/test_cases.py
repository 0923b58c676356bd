"""What people really hand over, on the command line: small inputs that once lost, mixed up or let out something."""

from __future__ import annotations

import io
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import warm_python
from PIL import Image

from ppfr_bench.testing import example_faces

CROPS = example_faces().load(list(range(16)))


def crop(index: int, brighter: int = 0) -> Image.Image:
    pixels = np.clip(CROPS[index % 16].astype(int) + brighter, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels.transpose(1, 2, 0))


def portrait(index: int = 0) -> Image.Image:
    page = Image.new("RGB", (280, 260), (90, 100, 110))
    page.paste(crop(index).resize((140, 140), Image.Resampling.BICUBIC), (60, 40))
    return page


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def command(tmp_path: Path, command_environment: dict[str, str]):  # type: ignore[no-untyped-def]
    """``ppfr-bench`` in an empty folder; no answer is ever an internal error."""

    def run(*arguments: object, code: int = 0, stdin: bytes = b"", **environment: str) -> tuple[bytes, str]:
        words, env = ["-m", "ppfr_bench.cli", *arguments], command_environment | environment
        done = warm_python.run(words, env, tmp_path, stdin)
        said = done.stderr
        assert "internal error" not in said and "Traceback" not in said, said
        assert done.returncode == code, f"exit {done.returncode}: {said}"
        return done.written, said

    return run


def test_an_erased_badge(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    pixels = np.dstack([np.asarray(portrait()), np.full((260, 280), 255, np.uint8)])
    pixels[200:250, 5:55] = (255, 0, 255, 0)
    content = encoded(Image.fromarray(pixels, "RGBA"))
    badge = write(tmp_path / "in" / "p" / "badge.png", content)
    for arguments in (("-", "-"), (badge, "out.png"), (badge.parent, "out")):
        out, said = command("protect", "pixelate", *arguments, code=2, stdin=content)
        assert not out and ("transparent in places" in said or "expected an aligned image" in said)
    _, said = command("data", "prepare", "folder", "in", "dst", code=2)
    assert "transparent in places" in said and not list(tmp_path.glob("dst/images/**/*.*"))


def test_grey_of_16_bits(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    grey = np.asarray(portrait().convert("L"))
    deep = encoded(Image.fromarray(grey.astype(np.uint16) * 257))
    shallow = encoded(Image.fromarray(grey))
    shown, _ = command("protect", "blackout", "-", "-", "--seed", "1", stdin=deep)
    expected, _ = command("protect", "blackout", "-", "-", "--seed", "1", stdin=shallow)
    assert shown == expected and len(np.unique(np.asarray(Image.open(io.BytesIO(shown))))) > 20
    write(tmp_path / "in" / "p" / "a.png", deep)
    write(tmp_path / "in" / "q" / "a.png", deep)
    command("data", "prepare", "folder", "in", "dst", "--workers", 1)
    assert len(list(tmp_path.glob("dst/images/*/a.jpg"))) == 2


def test_prepare_prints_what_runs(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    lines = ["10\t1"]
    for fold in range(10):
        pair = (f"Person_A{fold}", f"Person_B{fold}")
        for person in pair:
            for i in (1, 2):
                face = crop(fold + i + 4 * (person == pair[1]), fold)
                write(tmp_path / "lfw_png" / person / f"{person}_{i:04d}.png", encoded(face))
        lines += [f"{pair[0]}\t1\t2", f"{pair[0]}\t1\t{pair[1]}\t1"]
    write(tmp_path / "lfw_png" / "pairs.txt", "\n".join(lines).encode())
    out, _ = command("data", "prepare", "lfw", "lfw_png", "dst", "--aligned", "--json", "--workers", 1)
    words = shlex.split(json.loads(out)["next"])
    command(*words[1:], "--dry-run")
    (tmp_path / "lfw_png" / "Person_A7" / "Person_A7_0002.png").unlink()
    out, _ = command("data", "prepare", "lfw", "lfw_png", "a folder", "--aligned", "--json", "--workers", 1)
    command(*shlex.split(json.loads(out)["next"])[1:], "--dry-run")
    _, said = command("run", "lfw_quick", "--dataset-root", "a folder", "--dry-run", code=2)
    assert "no such file" in said and "--set dataset.missing=skip" in said


def test_names_and_texts_that_are_not_utf8(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    for k, person in enumerate((b"Jos\xe9", b"Ann", b"Bob")):
        folder = os.fsencode(tmp_path) + b"/in/" + person
        Path(os.fsdecode(folder)).mkdir(parents=True)
        for i in range(2):
            Path(os.fsdecode(folder + b"/%d.png" % i)).write_bytes(encoded(crop(4 * k + i)))
    out, _ = command("data", "prepare", "folder", "in", "dst", "--aligned", "--json", "--workers", 1)
    assert json.loads(out)["people"] == 3
    command("protect", "pixelate", "in", "out", PYTHONIOENCODING="ascii")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
    _, said = command("protect", "pixelate", "in", "in", code=2, PYTHONIOENCODING="ascii")
    assert "OUT is IN" in said
    write(tmp_path / "latin1.toml", 'title = "Café"\n'.encode("latin1"))
    _, said = command("run", "latin1.toml", "--dry-run", code=2)
    assert "Latin-1" in said and "line 1" in said
    write(tmp_path / "utf16.toml", 'title = "Café"\n'.encode("utf-16"))
    _, said = command("run", "utf16.toml", "--dry-run", code=2)
    assert "UTF-16" in said
    for bom in ("", "\ufeff"):
        write(tmp_path / "lfw" / "pairs.txt", f"{bom}10\t1\nJos\xe9\t1\t2\n".encode("utf-8" if bom else "latin1"))
        write(tmp_path / "lfw" / "a" / "a_0001.png", encoded(crop(0)))
        _, said = command("data", "prepare", "lfw", "lfw", "lfw_out", "--aligned", code=2)
        assert ("expected 20 pairs" in said) if bom else ("Latin-1" in said)


def test_people_in_sessions(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    for person in range(4):
        for session in range(2):
            for i in range(2):
                face = encoded(crop(4 * person + 2 * session + i))
                write(tmp_path / "sessions" / f"person_{person}" / str(session) / f"{i}.png", face)
    _, said = command("data", "prepare", "folder", "sessions", "d", "--aligned", code=2)
    assert "2 folders deep" in said and "--person-level 1" in said and not (tmp_path / "d").exists()
    command("data", "prepare", "folder", "sessions", "d", "--aligned", "--person-level", 1, "--workers", 1)
    assert sorted(path.name for path in (tmp_path / "d" / "images").iterdir()) == [f"person_{p}" for p in range(4)]
