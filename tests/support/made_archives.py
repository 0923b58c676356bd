"""Archives of a submission that are not to be taken: what is changed of a good one, and what is said of it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAME = "block_permutation"
Files = dict[str, bytes]
ROWS = f"results/smoke/synthetic/{NAME}.jsonl"
PLAN = "results/smoke/plan.json"


def in_lines(change: Any) -> Any:
    """A change of the lines of the archive's row: the first is what all share, the others are records."""

    def edit(files: Files) -> Files:
        lines = [json.loads(line) for line in files[ROWS].decode().splitlines()]
        change(lines)
        return files | {ROWS: "".join(json.dumps(line) + "\n" for line in lines).encode()}

    return edit


def in_plan(change: Any) -> Any:
    """A change of what its plan says of the data set."""

    def edit(files: Files) -> Files:
        found = json.loads(files[PLAN])
        change(found["tables"]["synthetic"])
        return files | {PLAN: json.dumps(found).encode()}

    return edit


def both(*edits: Any) -> Any:
    def edit(files: Files) -> Files:
        for one in edits:
            files = one(files)
        return files

    return edit


def edited(**changes: Any) -> Any:
    """A change of the first record."""
    return in_lines(lambda lines: lines[1].update(changes))


def shared(**changes: Any) -> Any:
    """A change of what all records share."""
    return in_lines(lambda lines: lines[0]["shared"].update(changes))


def planned(**changes: Any) -> Any:
    """A change of its plan."""
    return in_plan(lambda table: table.update(changes))


def nan(lines: list[Any]) -> None:
    lines[1]["metrics"]["rank_1"]["value"]["value"] = float("nan")


def of_a_rival(table: dict[str, Any]) -> None:
    component = {"label": "pixelate", "name": "pixelate", "version": 1, "config": {}}
    table["defenses"]["pixelate"] = {"component": component, "track": "image"}


def against_a_weak_attack(lines: list[Any]) -> None:
    """The records are of an attack of one step, where the plan says four."""
    for line in lines[1:]:
        if (line.get("attack") or {}).get("label") == "unet":
            line["attack"]["config"]["steps"] = 1


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


def with_one_more_attack(files: Files) -> Files:
    """As any archive, and a record of a known attack under a label that the board does not have."""

    def more_lines(lines: list[Any]) -> None:
        first = next(line for line in lines[1:] if (line.get("attack") or {}).get("label") == "visual")
        lines.append(first | {"key": "a" * 64, "attack": first["attack"] | {"label": "seen"}})

    def more_plan(table: dict[str, Any]) -> None:
        seen = table["attacks"]["visual"]
        table["attacks"]["seen"] = seen | {"component": seen["component"] | {"label": "seen"}}
        cell = {"key": "a" * 64, "cell": "attack", "defense": NAME, "attack": "seen", "recognizer": "", "seed": 0}
        table["cells"].append(cell)

    content = pq.read_table(io.BytesIO(files["results/smoke/draws.parquet"]))
    visual = next(json.loads(line)["key"] for line in files[ROWS].decode().splitlines()[1:]
                  if (json.loads(line).get("attack") or {}).get("label") == "visual")  # fmt: skip
    rows = [row | {"key": "a" * 64} for row in content.to_pylist() if row["key"] == visual]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables([content, pa.Table.from_pylist(rows, content.schema)]), buffer)
    return both(in_lines(more_lines), in_plan(more_plan))(files) | {"results/smoke/draws.parquet": buffer.getvalue()}


def many_draws() -> bytes:
    """A few kilobytes that are 40 million numbers once they are read."""
    numbers = np.full(20_000_000, 0.5, np.float32)
    lists = pa.ListArray.from_arrays(pa.array([0, len(numbers)], pa.int32()), pa.array(numbers))
    one = pa.table({"key": ["0" * 64], "measurement": ["x"], "part": ["value"], "draws": lists})
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, one.schema, compression="zstd", use_dictionary=True) as writer:
        for _ in range(2):
            writer.write_table(one)
    assert len(buffer.getvalue()) < 10_000
    return buffer.getvalue()


def more(name: str, content: bytes = b"x") -> Any:
    return lambda files: files | {name: content}


def without(end: str) -> Any:
    return lambda files: {name: content for name, content in files.items() if not name.endswith(end)}


HOSTILE: dict[str, tuple[Any, str]] = {
    "up and away": (more("../outside.py"), "no place of"),
    "absolute": (more("/etc/cron.d/x"), "no place of"),
    "backslash": (more("defenses\\..\\x.py"), "no place of"),
    "inside a hidden folder": (more(".github/workflows/x.yml"), "no place of"),
    "a test": (more("tests/conftest.py"), "no place of"),
    "a package": (more("defenses/__init__.py"), "no place of"),
    "a shared module": (more("defenses/_filters.py"), "no place of"),
    "weights": (more(f"defenses/{NAME}.safetensors"), "no place of"),
    "a set-aside shelf": (more("results/smoke/set-aside/a/b.jsonl"), "no place of"),
    "a cell of a run": (more(f"results/smoke/.cells/{'0' * 64}.json"), "no place of"),
    "a record of version 0.1": (more(f"results/smoke/a/b/c/{'0' * 64}.json"), "no place of"),
    "an index": (more("results/index.parquet"), "no place of"),
    "two defenses": (more("defenses/other.py"), "expected one defenses/NAME.py, got 2"),
    "a bomb": (more("results/smoke/a/b.jsonl", b" " * 50_000_000), "larger than"),
    "a bomb of draws": (more("results/smoke/draws.parquet", many_draws()), "has 40,000,00. numbers, at most"),
    "a picture of nothing": (more("results/smoke/synthetic/other.jpg"), "belongs to no record"),
    "no number": (in_lines(nan), "finite"),
    "deep": (more(ROWS, b"[" * 100_000), "line 1 is not a record"),
    "not JSON": (more(ROWS, b"import os"), "line 1 is not a record"),
    "not text": (more(ROWS, b"\xff\xfe"), "line 1 is not a record"),
    "of a newer schema": (in_lines(lambda lines: lines[0].update(schema_version=9)), "schema_version 2, got 9"),
    "draws of nothing": (more("results/smoke/draws.parquet", b"import os"), "holds no draws"),
    "lost draws": (without(".parquet"), "lacks draws"),
    "no plan": (without("plan.json"), "its plan has no such cell"),
    "a plan that is none": (more(PLAN, b"{}"), "is no plan"),
    "another plan than its folder's": (lambda files: files | {PLAN: files[PLAN].replace(b'"smoke"', b'"quick"')},
                                       "its plan has no such cell"),
    "another place": (more("results/smoke/other/rows.jsonl", b"{}"), "schema_version"),
    "a row of another place": (lambda files: files | {"results/smoke/lfw/rows.jsonl": files[ROWS]}, "belongs to"),
    "a name": (shared(suite="../../x"), r"belongs to \.\./\.\./x"),
    "failed": (edited(status="failed", reason="x"), "failed, clean code"),
    "skipped": (edited(status="skipped", reason="x"), "skipped, clean code"),
    "changed code": (in_lines(lambda lines: lines[0]["shared"]["environment"].update(dirty=True)), "ok, changed code"),
    "unknown key": (edited(extra=1), "extra"),
    "another defense": (in_lines(lambda lines: lines[0]["shared"]["defense"].update(name="other")),
                        f"of defense 'other', not of '{NAME}'"),
    "an attack that nobody knows": (edited(attack={"label": "mine", "name": "mine", "version": 1, "config": {}},
                                           cell="attack"), "attack 'mine' is not known here"),
    "a record that its plan has not": (in_plan(lambda table: table["cells"][0].update(key="0" * 64)),
                                       "its plan has no such cell"),
    "draws of another record": (edited(key="0" * 64), "lacks draws"),
    "another seed": (edited(seed=7), "its plan has no such cell"),
    "another label of an attack": (in_lines(lambda lines: lines[1]["attack"].update(label="other")),
                                   "its plan has no such cell"),
    "a cell without a record": (in_lines(lambda lines: lines.pop(1)), "cells without a record"),
    "a rival's row": (in_plan(of_a_rival), "of other defenses too: pixelate"),
    "a plan of another defense": (in_plan(lambda table: table["defenses"][NAME]["component"].update(name="other")),
                                  "of other defenses too: other"),
    "other settings than its plan's": (in_lines(against_a_weak_attack), "unet was run with other settings"),
    "another setting of the defense": (
        in_lines(lambda lines: lines[0]["shared"]["defense"]["config"].update(block=2)), "run with other settings"),
    "another revision than its plan's": (shared(dataset_revision="other"), "measured on revision other"),
    "another version of a metric": (in_lines(lambda lines: lines[0]["measurements"]["rank_1"].update(version=9)),
                                    "other versions of metrics"),
    "a track that is none": (in_plan(lambda table: table["defenses"][NAME].update(track="nonsense")), "nonsense"),
    "an attack that its plan does not describe": (in_plan(lambda table: table["attacks"].pop("unet")),
                                                  "does not describe"),
    "another seed than the suite's": (planned(seed=7), "its seed is 0, that of its plan 7"),
    "real people": (both(shared(real_people=True), planned(real_people=True)), "are not real"),
    "real people, as its plan says": (planned(real_people=True), "says otherwise of whether there are real people"),
    "pictures of data that nobody knows": (
        in_lines(lambda lines: lines[0]["shared"]["dataset"].update(name="mine")),
        "pictures come with records of real people"),
    "no record": (lambda files: {name: x for name, x in files.items() if name.endswith(".py")}, "holds no record"),
    "no defense": (without(".py"), "got 0"),
}  # fmt: skip


BESIDE: dict[str, tuple[Any, str]] = {
    "another setting of an attack": (
        both(in_plan(lambda table: table["attacks"]["unet"]["component"]["config"].update(steps=1)),
             in_lines(against_a_weak_attack)), "unet was run with other settings than on the board"),
    "another scorer of an attack": (in_plan(lambda table: table["attacks"]["unet"].update(sets="")),
                                    "unet was run with other settings than on the board"),
    "another recognizer": (in_plan(lambda table: table["recognizers"]["dlib_resnet"].update(surrogate=True)),
                           "dlib_resnet was run with other settings than on the board"),
    "another revision of the data": (both(shared(dataset_revision="other"), planned(revision="other")),
                                     "its revision is other, the board has "),
    "another seed": (
        both(shared(seed=7), planned(seed=7), in_plan(lambda table: [cell.update(seed=7) for cell in table["cells"]])),
        "its seed is 7, the board has 0"),
    "another protocol": (in_plan(lambda table: table["protocol"].update(replicates=20)),
                         "its protocol.replicates is 20, the board has 50"),
    "another version of a metric": (in_plan(lambda table: table["metrics"].update(lpips=99)),
                                    "version 99 of metric lpips, the board has 1"),
    "a rival's label": (labelled("stochastic_local"), "stochastic_local is the row of defense 'stochastic_local'"),
    "a control's label": (labelled("no_defense"), "no_defense is the row of defense 'no_defense'"),
    "a cell that no other row has": (with_one_more_attack, "attack / seen is on no row of the board"),
}  # fmt: skip
