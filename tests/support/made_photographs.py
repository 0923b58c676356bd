"""Photographs and archives of them, made of the faces that ship with the package and of noise."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ppfr_bench.datasets.preparation import Options
from ppfr_bench.testing import example_faces

FACES = example_faces().load(range(16))
ALIGNED = Options(aligned=True)
CLEAR = (0, 2, 4, 12)  # examples in which dlib finds the face on the canvas below, whatever its version


def photograph(index: int, side: int = 150, at: tuple[int, int] = (60, 40)) -> Image.Image:
    """A face of the examples in a plain room, 280x260, its crop ``side`` pixels wide."""
    room = Image.new("RGB", (280, 260), (90, 100, 110))
    room.paste(Image.fromarray(FACES[index].transpose(1, 2, 0)).resize((side, side), Image.Resampling.BICUBIC), at)
    return room


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def noise(seed: int) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)))


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def tar(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return path


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


PEOPLE = {f"vgg/train/n{person:06d}/{photo:04d}_01.png": noise(10 * person + photo)
          for person in range(8) for photo in range(3)}  # fmt: skip


def make_lfw(root: Path, suffix: str = "jpg") -> Path:
    """Ten folds of two people each, as LFW lays them out; no faces, but images that differ."""
    random = np.random.default_rng(0)
    lines = ["10\t1"]
    for fold in range(10):
        for person, photos in ((f"Ann_{fold}", 2), (f"Bob_{fold}", 1)):
            base = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            for photo in range(1, photos + 1):
                path = root / "images" / person / f"{person}_{photo:04d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                noisy = np.clip(base + random.integers(-40, 41, base.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).resize((112, 112)).save(path)
        lines += [f"Ann_{fold}\t1\t2", f"Ann_{fold}\t1\tBob_{fold}\t1"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


def make_cfp(root: Path) -> Path:
    """Ten folds of two people each, two frontal and one profile photo of each, as CFP lays them out."""
    random = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"F": [], "P": []}
    for person in range(1, 21):
        base = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        for kind, view, photo in (("F", "frontal", 1), ("F", "frontal", 2), ("P", "profile", 1)):
            path = root / "images" / f"{person:03d}" / f"{view}_{photo:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noisy = np.clip(base + random.integers(-40, 41, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((112, 112)).save(path)
            lists[kind].append(f"{len(lists[kind]) + 1} ../Data/Images/{person:03d}/{view}/{photo:02d}.jpg")
    for kind, lines in lists.items():
        (root / f"Pair_list_{kind}.txt").write_text("\n".join(lines) + "\n")
    for fold in range(10):
        a, b = 2 * fold, 2 * fold + 1  # people from 0
        rows = {"FF": ((2 * a + 1, 2 * a + 2), (2 * a + 1, 2 * b + 1)), "FP": ((2 * a + 1, a + 1), (2 * a + 1, b + 1))}
        for protocol, pairs in rows.items():
            folder = root / "Split" / protocol / f"{fold + 1:02d}"
            folder.mkdir(parents=True)
            for label, (left, right) in zip(("same", "diff"), pairs, strict=True):
                (folder / f"{label}.txt").write_text(f"{left},{right}\n")
    return root
