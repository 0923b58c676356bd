"""The loaders that are handed broken inputs, and what each may take of them."""

from __future__ import annotations

import io
import json
import pickle
import re
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_records
import mutations
import numpy as np
from mutations import Mutation
from PIL import Image

from ppfr_bench.datasets.cfp import read_split
from ppfr_bench.datasets.folder import _read_pairs as read_pairs_csv
from ppfr_bench.datasets.lfw import read_pairs
from ppfr_bench.datasets.preparation.insightface import BinFormat
from ppfr_bench.datasets.preparation.source import open_source
from ppfr_bench.images import decode, encode_png
from ppfr_bench.maintenance import nightly
from ppfr_bench.protection import precomputed
from ppfr_bench.recognizers._card import read_card
from ppfr_bench.records import draws as draws_file
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner import elsewhere
from ppfr_bench.suites import load_suite
from ppfr_bench.text import decode_text

SHIPPED = Path(load_suite.__code__.co_filename).parent


@dataclass(frozen=True)
class Prepared:
    """What is whole, and the loader: a UserError for what it refuses, an AssertionError for what it took wrongly."""

    seeds: Sequence[bytes]
    load: Callable[[bytes], object]


@dataclass(frozen=True)
class Loader:
    """A loader under test; ``inputs`` of the short run, where the usual number takes too long or says too little."""

    name: str
    prepare: Callable[[Path], Prepared]
    mutations: tuple[Mutation, ...]
    inputs: int = 0


# What a text says, read by other means than the loader's ------------------------------------------------------------


def said_once(text: str) -> Any:
    """The JSON of a text in which every key stands once and every number is one; else it was taken wrongly."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(found)) == len(found), f"a key stands twice: {[key for key, _ in found][:20]}"
        return dict(found)

    def constant(word: str) -> float:
        raise AssertionError(f"{word} is no number")

    assert not text.startswith("\ufeff\ufeff"), "two byte order marks"
    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def check_written(written: Any, taken: Any, where: str = "") -> None:
    """What is said in a file is what was taken: no text for a number, no number for a switch, nothing else."""
    if isinstance(written, dict) and isinstance(taken, dict):
        for key in written.keys() & taken.keys():
            check_written(written[key], taken[key], f"{where}.{key}")
    elif isinstance(written, list) and isinstance(taken, list | tuple):
        for one, other in zip(written, taken, strict=False):
            check_written(one, other, f"{where}[]")
    elif isinstance(taken, bool | int | float | str) and isinstance(written, bool | int | float | str):
        same = isinstance(written, bool) == isinstance(taken, bool) and isinstance(written, str) == isinstance(
            taken, str
        )
        near = isinstance(taken, str) or written == taken or (isinstance(taken, float) and float(written) == taken)
        assert same and near, f"{where}: {written!r} was taken for {taken!r}"
    if isinstance(taken, float):
        assert np.isfinite(taken), f"{where} is {taken}"


# The loaders --------------------------------------------------------------------------------------------------------


def suite(folder: Path) -> Prepared:
    path = folder / "suite.toml"

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = load_suite(str(path)).model_dump(mode="python")
        written = tomllib.loads(decode_text(content, "suite"))
        for kind in ("attack",):  # An ensemble brings others before the suite's own.
            written.pop(kind, None)
        check_written(written, found)

    return Prepared([(SHIPPED / f"{name}.toml").read_bytes() for name in ("smoke", "quick", "lfw_quick")], load)


def card(folder: Path) -> Prepared:
    path = folder / "card.toml"
    whole = """label = "mine"
title = "My network"
file = "mine.onnx"
sha256 = "{sha256}"
format = "onnx"
size = [112, 112]
colour = "bgr"
mean = 127.5
std = [128.0, 128.0, 128.0]
layout = "nchw"
dimension = 512
metric = "cosine"
licence = "MIT"
training_data = "none"
expected_accuracy = {{ lfw = 0.99 }}
""".format(sha256="0" * 64)

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = read_card(path)
        check_written(tomllib.loads(decode_text(content, "card")), found.model_dump(mode="python"))
        assert 0 < found.dimension < 1 << 31 and all(0 <= one <= 1 for one in found.expected_accuracy.values())

    return Prepared([whole.encode()], load)


def check_record(record: Any) -> None:
    for name, measured in record.metrics.items():
        for part, estimate in measured.parts():
            where = f"{name}.{part}"
            if estimate.interval is not None:
                assert estimate.value is not None, f"{where}: an interval around nothing"
                assert estimate.interval[0] <= estimate.interval[1], f"{where}: {estimate.interval} is no interval"
            assert 0 <= estimate.n < 1 << 53, f"{where}: {estimate.n}"
    cost = record.cost
    assert min(cost.seconds, cost.shared, cost.attack_training_images, cost.oracle_queries) >= 0, f"cost: {cost}"
    assert 0 <= record.seed < 1 << 63 and record.environment.threads >= 1


def results(folder: Path) -> tuple[ResultStore, str]:
    """Records of a board: the store and the path of the file of one row."""
    records, strips = made_records.quick()
    store = ResultStore(made_records.write(folder, records, strips))
    return store, next(str(path) for path in sorted(folder.rglob("*.jsonl")))


def record(folder: Path) -> Prepared:
    _, place = results(folder)
    path = Path(place)

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = list(ResultStore(folder).records(path.parts[len(folder.parts)]))
        for line in content.decode().splitlines():
            said_once(line)
        lines = [json.loads(line) for line in content.decode().splitlines()[1:]]
        by_key = {one.key: one for one in found}
        for line in lines:
            check_written(line, by_key[line["key"]].model_dump(mode="json"))
        for one in found:
            check_record(one)

    return Prepared([path.read_bytes()], load)


def cell(folder: Path) -> Prepared:
    """The record of one cell, as a run keeps it until it is packed with its row."""
    records, _ = made_records.quick()
    whole = [one.model_dump_json().encode() for one in records[:6]]
    kept = [json.loads(one) for one in whole]

    def load(content: bytes) -> None:
        from ppfr_bench.records.store import _checked

        found = _checked("cell.json", content)
        check_written(said_once(content.decode()), found.model_dump(mode="json"))
        check_record(found)

    assert kept
    return Prepared(whole, load)


def plan(folder: Path) -> Prepared:
    store, _ = results(folder)
    (name,) = store.suites()
    path = folder / name / "plan.json"

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = ResultStore(folder).plan(name)
        assert found is not None
        check_written(said_once(decode_text(content, "plan")), found.model_dump(mode="json"))

    return Prepared([path.read_bytes()], load)


def bootstrap_draws(folder: Path) -> Prepared:
    results(folder)
    whole = next(folder.rglob("draws.parquet")).read_bytes()
    expected = draws_file.read(whole, "draws")

    def load(content: bytes) -> None:
        for lists in draws_file.read(content, "draws").values():
            for one in lists.values():
                assert np.isfinite(one).all(), "draws that are no numbers"

    assert expected
    return Prepared([whole], load)


def pickled(protocol: int, arrays: bool) -> bytes:
    images = [encode_png(np.full((8, 8, 3), 9 * i, np.uint8)) for i in range(24)]
    held: Any = [np.frombuffer(one, np.uint8) for one in images] if arrays else images
    return pickle.dumps((held, [i % 2 == 0 for i in range(12)]), protocol=protocol)


def insightface_bin(folder: Path) -> Prepared:
    path = folder / "lfw.bin"

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = BinFormat(path)
        total = sum(len(image) for image in found._images)
        assert total <= 100 * len(content) + 1000, f"{total} bytes of images out of {len(content)}"
        assert len(found.rows) + len(found.left_out) == len(found._images) // 2
        assert all(image for image in found._images), "an image of no bytes"

    return Prepared([pickled(protocol, arrays) for protocol in (2, 4) for arrays in (False, True)], load)


def lfw_pairs(folder: Path) -> Prepared:
    people = ["Aaron_Eckhart", "Zoë Ärger", "J_Lo", "Bo_Ek"]
    lines = ["3\t2"]
    for fold in range(3):
        lines += [f"{people[fold]}\t1\t{n}" for n in (2, 3)]
        lines += [f"{people[fold]}\t{n}\t{people[fold + 1]}\t2" for n in (1, 4)]
    whole = "\n".join(lines) + "\n"
    row = re.compile(r"[^\t/\\\x00-\x1f\x7f-\x9f\u2028\u2029]+(\t[0-9]{1,4}){2}|[^\t]+\t[0-9]{1,4}\t[^\t]+\t[0-9]{1,4}")

    def load(content: bytes) -> None:
        text = decode_text(content, "pairs.txt")
        rows = read_pairs(text, "pairs.txt")
        head, *rest = text.rstrip().split("\n")
        first = re.fullmatch(r"\s*([0-9]{1,6})\s+([0-9]{1,6})\s*", head)
        assert first is not None, f"{head!r} is no head"
        assert len(rows) == len(rest) == 2 * int(first[1]) * int(first[2])
        for line, (left, right, _, fold) in zip(rest, rows, strict=True):
            assert "\t" not in line or row.fullmatch("\t".join(word.strip() for word in line.split("\t"))), line
            for name in (left, right):
                assert re.fullmatch(
                    r"images/[^/\\\x00-\x1f\x7f-\x9f]+/[^/\\\x00-\x1f\x7f-\x9f]+_[0-9]{4}\.jpg", name
                ), name
                assert ".." not in name.split("/")
            assert 0 <= fold < int(first[1])

    return Prepared([whole.encode(), whole.replace("Zoë Ärger", "Zoe_Arger").replace("\t", " ").encode()], load)


def cfp_split(folder: Path) -> Prepared:
    """The list of photographs of CFP's protocol, among whose rows pairs are named."""
    whole = "".join(f"{i} ../Data/Images/{i:03d}/frontal/{i % 9 + 1:02d}.jpg\n" for i in range(1, 30)).encode()

    def load(content: bytes) -> None:
        text = decode_text(content, "Pair_list_F.txt")
        rows = read_split(
            lambda name: text if name == "Pair_list_F.txt" else whole.decode() if "_P" in name else "1,2\n", "FF"
        )
        for left, right, *_ in rows:
            for name in (left, right):
                assert re.fullmatch(r"images/[0-9A-Za-z_.-]+/[0-9A-Za-z_.-]+", name) and ".." not in name, name

    return Prepared([whole], load)


def pairs_csv(folder: Path) -> Prepared:
    path = folder / "pairs.csv"
    photos = {f"p{i}/{name}.png" for i in range(14) for name in "ab"}
    for photo in photos:
        (folder / photo).parent.mkdir(exist_ok=True)
        (folder / photo).write_bytes(b"x")
    whole = "# left,right,same,fold\n" + "".join(
        f"p{i}/a.png,p{i + i % 2}/b.png,{1 - i % 2},{i % 3}\n" for i in range(12)
    )

    def load(content: bytes) -> None:
        path.write_bytes(content)
        rows = read_pairs_csv(folder, path.name, photos)
        for left, right, same, fold in rows:
            assert left and right and isinstance(same, bool) and 0 <= fold < 1 << 31
            assert not any(char in left + right for char in "\0\n\r"), (left, right)

    return Prepared([whole.encode()], load)


def image(folder: Path) -> Prepared:
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    whole = {"PNG": encode_png(pixels)}
    for kind in ("JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        whole[kind] = buffer.getvalue()
    png = decode(whole["PNG"]).pixels

    def load(content: bytes) -> None:
        found = decode(content).pixels
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
        if content.startswith(b"\x89PNG"):  # Its check sums cover every pixel.
            assert np.array_equal(found, png), "other pixels than were saved"
        cut = [kind for kind, one in whole.items() if len(content) < len(one) - 2 and one.startswith(content)]
        # What is left of a PNG was compared above; a GIF does not say how long it is.
        assert not {*cut} - {"PNG", "GIF"}, f"half of a {cut} was taken"

    return Prepared(list(whole.values()), load)


def data_archive(folder: Path) -> Prepared:
    path = folder / "data.zip"
    files = {"lfw/A/A_0001.jpg": b"a" * 50, "lfw/A/A_0002.jpg": bytes(range(200)), "pairs.txt": b"1\t1\n" * 20}
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        seeds.append(buffer.getvalue())

    def load(content: bytes) -> None:
        path.write_bytes(content)
        source = open_source(path)
        for name, read in source.read(list(source.sizes)):
            assert not name.startswith("/") and ".." not in name.split("/") and "\\" not in name
            assert len(read) == source.sizes[name] <= 1 << 20
            if name in files:
                assert read == files[name], "other bytes than were packed"

    return Prepared(seeds, load)


def exported(folder: Path) -> Prepared:
    """The manifest of images that are protected elsewhere."""
    path = folder / "manifest.json"
    whole = {"dataset": "synthetic", "revision": "synthetic-0", "images": [f"{i:024x}" for i in range(9)]}

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = precomputed._manifest(folder)
        written = said_once(decode_text(content, "manifest"))
        assert found["images"] == written["images"] and len(set(found["images"])) == len(found["images"])
        assert all(re.fullmatch("[0-9a-f]{24}", name) for name in found["images"])
        assert isinstance(found["revision"], str) and isinstance(found["dataset"], str)

    return Prepared([(json.dumps(whole, indent=1) + "\n").encode(), json.dumps(whole).encode()], load)


def handed_out(folder: Path) -> Prepared:
    """The manifest of releases that an attack elsewhere answers to."""
    path = folder / "manifest.json"
    whole = elsewhere.Manifest(
        suite="quick", dataset="synthetic", revision="synthetic-0", seed=0, defense="pixelate",
        spec=elsewhere.Spec(name="pixelate", version=1, config={"block": 8}),
        shapes={"targets": (4, 1, 3, 112, 112), "gallery": (4, 3, 112, 112)},
    )  # fmt: skip

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = elsewhere._manifest(folder)
        check_written(said_once(decode_text(content, "manifest")), found.model_dump(mode="json"))

    return Prepared([whole.model_dump_json(indent=1).encode(), whole.model_dump_json().encode()], load)


def history(folder: Path) -> Prepared:
    path = folder / "nightly.jsonl"
    nights = [
        {
            "night": f"2026-10-0{day}", "suite": "quick", "commit": "0" * 40, "changed": 1, "sampled": 2,
            "rows": {"pixelate": {"score": 0.5, "retention": 1.0}, "blackout": {"score": None}},
            "ratios": {"test_x": 1.5},
            "findings": [{"kind": "drift", "what": "pixelate / unet", "metric": "lpips", "before": 0.1,
                          "interval": [0.0, 0.2], "now": 0.3, "reason": ""}],
        }
        for day in (1, 2)
    ]  # fmt: skip

    def load(content: bytes) -> None:
        path.write_bytes(content)
        found = nightly.read_history(path)
        text = decode_text(content, "history")
        for line, night in zip(text.removesuffix("\n").split("\n"), found, strict=bool(found)):
            assert said_once(line) == night
        nightly.trend(found)

    return Prepared(["".join(json.dumps(one) + "\n" for one in nights).encode()], load)


LOADERS = [
    Loader("suite", suite, (mutations.of_toml,)),
    Loader("card", card, (mutations.of_toml,)),
    Loader("record", record, (mutations.of_json,)),
    Loader("cell", cell, (mutations.of_json,)),
    Loader("plan", plan, (mutations.of_json,)),
    Loader("draws", bootstrap_draws, (mutations.of_bytes,)),
    Loader("bin", insightface_bin, (mutations.of_bytes,)),
    Loader("lfw_pairs", lfw_pairs, (mutations.of_bytes, mutations.of_lines)),
    Loader("cfp_list", cfp_split, (mutations.of_bytes, mutations.of_lines)),
    Loader("pairs_csv", pairs_csv, (mutations.of_bytes, mutations.of_lines)),
    Loader("image", image, (mutations.of_bytes,)),
    Loader("zip", data_archive, (mutations.of_bytes,)),
    Loader("exported", exported, (mutations.of_json,)),
    Loader("handed_out", handed_out, (mutations.of_json,)),
    Loader("history", history, (mutations.of_json,)),
]
