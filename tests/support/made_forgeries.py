"""Records that nobody measured, and archives that are not what they seem: each with what is said of it."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_archives import NAME, PLAN, ROWS, Files, archive_of, both, in_lines, in_plan, planned, shared

# The eight kinds of forged records ------------------------------------------------------------------------------------


def every_estimate(change: Any) -> Any:
    """A change of every number that tells for the defense: its name, its part and what there is of it."""

    def edit(lines: list[Any]) -> None:
        for line in lines[1:]:
            for name, one in line["metrics"].items():
                for part in ("value", "leakage"):
                    if one.get(part) and one[part]["value"] is not None:
                        change(name, part, one[part])

    return in_lines(edit)


def best(name: str, part: str) -> float | None:
    """The number that the author would like to have; None of one that is left as it is."""
    if part == "leakage":
        return 0.0
    return {"retention": 1.0, "accuracy": 1.0, "accuracy_frozen": 1.0, "auc": 1.0, "eer": 0.0}.get(name)


def at_its_best(interval: Any) -> Any:
    def change(name: str, part: str, found: dict[str, Any]) -> None:
        if (wanted := best(name, part)) is not None:
            found["value"] = wanted
        span = interval(found["value"])
        found.pop("interval", None) if span is None else found.update(interval=span)

    return every_estimate(change)


def constant_draws(files: Files) -> Files:
    """Draws that are all alike: of leakage 0, of retention 1."""
    place = "results/smoke/draws.parquet"
    found = pq.read_table(io.BytesIO(files[place]))
    rows = [
        row | {"draws": [0.0 if row["part"] == "leakage" else 1.0] * len(row["draws"])} for row in found.to_pylist()
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, found.schema), buffer)
    return files | {place: buffer.getvalue()}


def beyond(name: str, part: str, found: dict[str, Any]) -> None:
    if part == "leakage":
        found.update(value=-5.0, interval=[-5.0, -5.0])


def other_keys(lines: list[Any]) -> None:
    for i, line in enumerate(lines[2:]):
        line["key"] = f"{i:064x}"


def rekeyed(files: Files) -> Files:
    """The draws and the plan under the keys of the records."""
    before = [json.loads(line)["key"] for line in files[ROWS].decode().splitlines()[1:]]
    after = in_lines(other_keys)(files)
    new = dict(zip(before, (json.loads(x)["key"] for x in after[ROWS].decode().splitlines()[1:]), strict=True))
    place = "results/smoke/draws.parquet"
    found = pq.read_table(io.BytesIO(files[place]))
    rows = [row | {"key": new[row["key"]]} for row in found.to_pylist()]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, found.schema), buffer)
    renamed = in_plan(lambda table: [cell.update(key=new[cell["key"]]) for cell in table["cells"]])
    return renamed(after | {place: buffer.getvalue()})


def labelled(label: str) -> Any:
    """The defense under another label, with all that follows from it."""

    def relabel(table: dict[str, Any]) -> None:
        table["defenses"] = {label: table["defenses"][NAME]}
        table["defenses"][label]["component"]["label"] = label
        for cell in table["cells"]:
            cell["defense"] = label

    def renamed(files: Files) -> Files:
        return {place.replace(f"synthetic/{NAME}.", f"synthetic/{label}."): x for place, x in files.items()}

    label_it = in_lines(lambda lines: lines[0]["shared"]["defense"].update(label=label))
    return both(label_it, in_plan(relabel), renamed)


def of_another_suite(files: Files) -> Files:
    moved = in_lines(lambda lines: lines[0]["shared"].update(suite="official_2026"))(files)
    plan = json.loads(files[PLAN]) | {"suite": "official_2026"}
    moved |= {PLAN: json.dumps(plan).encode()}
    return {place.replace("results/smoke/", "results/official_2026/"): content for place, content in moved.items()}


FORGED: dict[str, tuple[Any, str]] = {
    "blank": (at_its_best(lambda value: None), "it has no interval"),
    "wide": (at_its_best(lambda value: [-1e9, 1e9]), r"-1e\+09 is outside \[0"),
    "narrow": (
        both(at_its_best(lambda value: [value, value]), constant_draws),
        r"its interval is \[0, 0\], its draws give",
    ),
    "keys": (rekeyed, "the suite has no cell of its key"),
    "rival": (labelled("stochastic_local"), f"calls the rows of defense '{NAME}' {NAME}, the records stochastic_local"),
    "majority": (
        both(
            shared(seed=7, dataset_revision="synthetic-0000000000000000"),
            planned(seed=7, revision="synthetic-0000000000000000"),
        ),
        'its dataset_revision is "synthetic-0000000000000000", the suite has',
    ),
    "beyond": (every_estimate(beyond), r"-5 is outside \[0.0, 1.0\], where leakage lies"),
    "suite": (of_another_suite, "'official_2026' is not a built-in suite"),
}


# Archives as such -----------------------------------------------------------------------------------------------------


def linked(place: str) -> Any:
    """One of the files as a link to /etc/passwd."""

    def write(files: Files, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o120777 if name == place else 0o100644) << 16
                archive.writestr(info, b"/etc/passwd" if name == place else content)

    return write


def bomb(place: str, size: int, method: int = zipfile.ZIP_DEFLATED) -> Any:
    """One of the files as so many bytes of nothing, which is small when it is packed."""
    return lambda files, path: archive_of(files | {place: b" " * size}, path, method)


def twice(files: Files, path: Path) -> None:
    archive_of(files, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(ROWS, b"{}")


def encrypted(files: Files, path: Path) -> None:
    content = bytearray(archive_of(files, path).read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    content[content.find(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(bytes(content))


def around(before: bytes = b"", after: bytes = b"") -> Any:
    return lambda files, path: path.write_bytes(before + archive_of(files, path).read_bytes() + after)


def hidden_between(files: Files, path: Path) -> None:
    """Bytes between the last file and the directory, which an archive may have and nobody looks at."""
    content = archive_of(files, path).read_bytes()
    start = struct.unpack("<L", content[-6:-2])[0]
    end = content[start:-6] + struct.pack("<L", start + 7) + content[-2:]
    path.write_bytes(content[:start] + b"hidden!" + end)


def understated(files: Files, path: Path) -> None:
    """The directory says that a file of 3 MB has 10 bytes."""
    content = bytearray(archive_of(files | {ROWS: b" " * 9_000_000}, path).read_bytes())
    at = content.find(ROWS.encode(), content.find(b"PK\x01\x02")) - 46
    content[at + 24 : at + 28] = struct.pack("<L", 10)
    path.write_bytes(bytes(content))


def many(count: int) -> Any:
    """So many empty files: a small archive, and a large directory of it."""

    def write(files: Files, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(count):
                archive.writestr(f"{i}", b"")

    return write


ARCHIVES: dict[str, tuple[Any, str]] = {
    "symlink": (linked(ROWS), "is a link or a device"),
    "symlink_source": (linked(f"defenses/{NAME}.py"), "is a link or a device"),
    "bomb_py": (bomb(f"defenses/{NAME}.py", 200_000_000), "is larger than 200,000 bytes"),
    "bomb_bz2": (bomb(ROWS, 200_000_000, zipfile.ZIP_BZIP2), "is packed by method 12"),
    "bomb_lzma": (bomb(ROWS, 20_000_000, zipfile.ZIP_LZMA), "is packed by method 14"),
    "bomb_of_no_size": (understated, "not an archive that can be read"),
    "many": (many(2500), "2500 files and a directory"),
    "directory_70k": (many(70_000), "not an archive that can be read|65535 files"),
    "duplicate_member": (twice, "is in it twice"),
    "encrypted": (encrypted, "is encrypted"),
    "trailing_shell": (around(b"#!/bin/sh\nrm -rf x\n"), "does not begin as one"),
    "bytes_after": (around(after=b"x" * 100), "does not end as one"),
    "hidden_between": (hidden_between, "bytes outside of its files"),
}
