"""Archives of a submission that are not to be taken: what is changed of a good one, and what is said of it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NAME = "block_permutation"
Files = dict[str, bytes]
ROWS = f"results/smoke/synthetic/{NAME}.jsonl"
PLAN = "results/smoke/plan.json"


def archive_of(files: dict[str, bytes], path: Path, packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, packed)
    return path


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


def in_source(change: Any) -> Any:
    """A change of the defense's file."""
    return lambda files: files | {f"defenses/{NAME}.py": change(files[f"defenses/{NAME}.py"])}


def in_text(before: bytes, after: bytes) -> Any:
    """A change of the text of the row, where it first stands."""

    def edit(files: Files) -> Files:
        assert before in files[ROWS]
        return files | {ROWS: files[ROWS].replace(before, after, 1)}

    return edit


def in_card(**changes: Any) -> Any:
    """A change of the defense's card, which all records share."""
    return in_lines(lambda lines: lines[0]["shared"]["defense_card"].update(changes))


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
    next(iter(lines[1]["metrics"].values()))["value"]["value"] = float("nan")


def of_a_rival(table: dict[str, Any]) -> None:
    component = {"label": "pixelate", "name": "pixelate", "version": 1, "config": {}}
    table["defenses"]["pixelate"] = {"component": component, "track": "image"}


def against_a_weak_attack(lines: list[Any]) -> None:
    """The records are of an attack of one step, where the plan says four."""
    for line in lines[1:]:
        if (line.get("attack") or {}).get("label") == "unet":
            line["attack"]["config"]["steps"] = 1


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


def _of(lines: list[Any], name: str) -> dict[str, Any]:
    """The first measurement of that name in the row."""
    found: dict[str, Any] = next(line["metrics"][name] for line in lines[1:] if name in line.get("metrics", {}))
    return found


def another_n(lines: list[Any]) -> None:
    _of(lines, "lpips")["value"]["n"] = 1_000_000


def narrower(lines: list[Any]) -> None:
    found = _of(lines, "lpips")["leakage"]
    found["interval"] = [found["value"], found["value"]]


def outside(lines: list[Any]) -> None:
    _of(lines, "lpips")["value"]["interval"] = [0.7, 0.9]


def less_leakage(lines: list[Any]) -> None:
    found = _of(lines, "lpips")["leakage"]
    found["value"] = found["interval"][0] + 0.001


def no_leakage(lines: list[Any]) -> None:
    for line in lines[1:]:
        if "lpips" in line["metrics"] and line["metrics"]["lpips"].get("leakage"):
            n = line["metrics"]["lpips"]["leakage"]["n"]
            line["metrics"]["lpips"]["leakage"] = {"value": None, "n": n, "reason": "broken"}
            return


def no_lpips(lines: list[Any]) -> None:
    del next(line for line in lines[1:] if "lpips" in line["metrics"])["metrics"]["lpips"]


def left_out(files: Files) -> Files:
    """As a good archive, but for one record and its draws."""
    key = json.loads(files[ROWS].decode().splitlines()[1])["key"]
    place = "results/smoke/draws.parquet"
    found = pq.read_table(io.BytesIO(files[place]))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row for row in found.to_pylist() if row["key"] != key], found.schema), buffer)
    return in_lines(lambda lines: lines.pop(1))(files) | {place: buffer.getvalue()}


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
    "a picture of nothing": (more("results/smoke/synthetic/other.jpg"), "is a picture of no record"),
    "no number": (in_lines(nan), "NaN is not a finite number"),
    "deep": (more(ROWS, b"[" * 100_000), "nests too deeply"),
    "not JSON": (more(ROWS, b"import os"), "it is not JSON"),
    "not text": (more(ROWS, b"\xff\xfe"), "byte 0 is not UTF-8"),
    "of a newer schema": (in_lines(lambda lines: lines[0].update(schema_version=9)), "schema_version 2, got 9"),
    "draws of nothing": (more("results/smoke/draws.parquet", b"import os"), "holds no draws"),
    "lost draws": (without(".parquet"), "lacks draws"),
    "no plan": (without("plan.json"), "it has no results/smoke/plan.json"),
    "a plan that is none": (more(PLAN, b"{}"), "schema_version is null, the suite has 1"),
    "another plan than its folder's": (
        lambda files: files | {PLAN: files[PLAN].replace(b'"smoke"', b'"quick"')},
        'suite is "quick", the suite has "smoke"',
    ),
    "another place": (more("results/smoke/other/rows.jsonl", b"{}"), "schema_version"),
    "a row of another place": (lambda files: files | {"results/smoke/lfw/rows.jsonl": files[ROWS]}, "belongs to"),
    "a name": (shared(suite="../../x"), r"belongs to \.\./\.\./x"),
    "failed": (edited(status="failed", reason="x"), "it failed: x"),
    "skipped": (edited(status="skipped", reason="x"), "it skipped: x"),
    "changed code": (
        in_lines(lambda lines: lines[0]["shared"]["environment"].update(dirty=True)),
        "code that is not committed",
    ),
    "unknown key": (edited(extra=1), "extra"),
    "another defense": (
        in_lines(lambda lines: lines[0]["shared"]["defense"].update(name="other")),
        f"of defense 'other', not of '{NAME}'",
    ),
    "an attack that nobody knows": (
        edited(attack={"label": "mine", "name": "mine", "version": 1, "config": {}}, cell="attack"),
        'its attack is {"label": "mine"',
    ),
    "a record that its plan has not": (
        in_plan(lambda table: table["cells"][0].update(key="0" * 64)),
        "its plan is not that of smoke: tables.synthetic.cells.0.key is",
    ),
    "draws of another record": (edited(key="0" * 64), "lacks draws"),
    "another seed": (edited(seed=7), "its seed is 7, the suite has 0"),
    "another label of an attack": (
        in_lines(lambda lines: lines[1]["attack"].update(label="other")),
        'its attack is {"label": "other"',
    ),
    "a cell without a record": (in_lines(lambda lines: lines.pop(1)), "draws of 1 records that are not in it"),
    "a rival's row": (in_plan(of_a_rival), "its plan is not that of smoke: tables.synthetic.defenses.pixelate"),
    "a plan of another defense": (
        in_plan(lambda table: table["defenses"][NAME]["component"].update(name="other")),
        'component.name is "other"',
    ),
    "other settings than its plan's": (in_lines(against_a_weak_attack), "block_permutation / unet: its attack is"),
    "another setting of the defense": (
        in_lines(lambda lines: lines[0]["shared"]["defense"]["config"].update(block=2)),
        "the suite has no cell of its key",
    ),
    "another revision than its plan's": (shared(dataset_revision="other"), 'its dataset_revision is "other"'),
    "another version of a metric": (
        in_lines(lambda lines: lines[0]["measurements"]["rank_1"].update(version=9)),
        "expected metric rank_1, version 1",
    ),
    "a track that is none": (in_plan(lambda table: table["defenses"][NAME].update(track="nonsense")), "nonsense"),
    "an attack that its plan does not describe": (
        in_plan(lambda table: table["attacks"].pop("unet")),
        "tables.synthetic.attacks.unet is null",
    ),
    "another seed than the suite's": (planned(seed=7), "tables.synthetic.seed is 7, the suite has 0"),
    "real people": (
        both(shared(real_people=True), planned(real_people=True)),
        "its real_people is true, the suite has false",
    ),
    "real people, as its plan says": (
        planned(real_people=True),
        "tables.synthetic.real_people is true, the suite has false",
    ),
    "pictures of data that nobody knows": (
        in_lines(lambda lines: lines[0]["shared"]["dataset"].update(name="mine")),
        'its dataset is {"label": "synthetic", "name": "mine"',
    ),
    "no record": (lambda files: {name: x for name, x in files.items() if name.endswith(".py")}, "holds no record"),
    "no defense": (without(".py"), "got 0"),
    "a cell left out": (left_out, "1 cells of smoke have no record"),
    "a name in capitals": (more(f"defenses/{NAME.upper()}.py"), "no place of"),
    "a device of Windows": (
        lambda files: {place.replace(NAME, "con"): x for place, x in files.items()},
        "name that Windows keeps",
    ),
    "a null character in the source": (in_source(lambda x: b"\0" + x), r"line 1, column 1: U\+0000 NULL"),
    "text that turns around": (in_source(lambda x: x + "# \u202e\n".encode()), "RIGHT-TO-LEFT OVERRIDE"),
    "a source in another encoding": (in_source(lambda x: x + b"# \xe9\n"), "is not UTF-8"),
    "a key twice": (in_text(b'"cell"', b'"cell": "canary", "cell"'), "the key 'cell' stands twice"),
    "a byte order mark": (lambda files: files | {ROWS: b"\xef\xbb\xbf" + files[ROWS]}, "begins with a byte order mark"),
    "a byte order mark in the plan": (
        lambda files: files | {PLAN: b"\xef\xbb\xbf" + files[PLAN]},
        "begins with a byte order mark",
    ),
    "infinity": (in_text(b'"seed": 0', b'"seed": Infinity'), "Infinity is not a finite number"),
    "infinity by its exponent": (in_text(b'"log": {}', b'"log": {"evil": 1e999}'), "1e999 is not a finite number"),
    "a large number": (in_text(b'"seed": 0', b'"seed": ' + b"9" * 4000), "a number of 4,000 digits"),
    "a seed that is text": (shared(seed="0"), "line 2 is not a record: ValueError"),
    "a seed that is a fraction": (in_text(b'"seed": 0', b'"seed": 0.0'), "line 2 is not a record: ValueError"),
    "a seed that is text in the plan": (planned(seed="0"), 'seed is "0", the suite has 0'),
    "a seed that is a fraction in the plan": (planned(seed=0.0), "seed is 0.0, the suite has 0"),
    "a note of its own": (edited(log={"a": 1}), "it notes 'a', which no cell of its kind does"),
    "a flag that is markup": (edited(flags=["<img src=x onerror=alert(1)>"]), "is no flag"),
    "markup in what it ran on": (
        in_lines(lambda lines: lines[0]["shared"]["environment"].update(processor="<script>x</script>")),
        "is no processor of an environment",
    ),
    "a terminal's escape": (
        in_lines(lambda lines: lines[0]["shared"]["environment"].update(processor="x\x1b[2J")),
        r"a text of it holds U\+001B ESCAPE",
    ),
    "an address that is code": (in_card(code_url="javascript:alert(1)"), "is no address of a web page"),
    "a commit that is none": (
        in_lines(lambda lines: lines[0]["shared"]["environment"].update(commit="deadbeef" * 5)),
        "measured with commit 'deadbeef.*, which this checkout does not know",
    ),
    "a track on the card": (in_card(track="my_track"), "its defense_card is"),
    "a track that nobody knows": (shared(track="my_track"), 'its track is "my_track", the suite has "image"'),
    "a control": (in_card(control=True), "is a control, which is no submission"),
    "another guarantee in one record": (
        edited(guarantee={"epsilon": 0.0, "per": "image", "delta": 0.0, "pixels": 1}),
        "its guarantee is",
    ),
    "a card of another": (edited(defense_card={"title": "x"}), "control, which is no submission|its defense_card is"),
    "run without a sandbox": (edited(flags=["trusted"]), "in the harness's own process"),
    "an n of its own": (in_lines(another_n), "expected n to be 12 or 24, got 1000000"),
    "intervals that its draws do not give": (in_lines(narrower), "its draws give"),
    "a value outside its interval": (in_lines(outside), "is outside its interval"),
    "another leakage than its numbers give": (in_lines(less_leakage), "its draws give|value, floor and ceiling give"),
    "a leakage left out": (in_lines(no_leakage), "draws, and no value|lacks draws|give one, and it is missing"),
    "a measure left out": (in_lines(no_lpips), "it has no lpips|lacks draws"),
    "a metric that is none": (
        in_lines(lambda lines: lines[0]["measurements"]["rank_1"].update(metric="made_up")),
        "no metric is called 'made_up'",
    ),
}


def without_unet(table: dict[str, Any]) -> None:
    table["cells"] = [cell for cell in table["cells"] if cell["attack"] != "unet"]


# What a board may have that a good archive does not compare with: a change of its plan, and what is said.
BESIDE: dict[str, tuple[Any, str]] = {
    "another setting of an attack": (
        lambda table: table["attacks"]["unet"]["component"]["config"].update(steps=1),
        "unet was run with other settings than on the board",
    ),
    "another scorer of an attack": (
        lambda table: table["attacks"]["unet"].update(sets=""),
        "unet was run with other settings than on the board",
    ),
    "another recognizer": (
        lambda table: table["recognizers"]["dlib_resnet"].update(surrogate=True),
        "dlib_resnet was run with other settings than on the board",
    ),
    "another revision of the data": (lambda table: table.update(revision="other"), "the board has other"),
    "another seed": (lambda table: table.update(seed=7), "its seed is 0, the board has 7"),
    "another protocol": (
        lambda table: table["protocol"].update(replicates=20),
        "its protocol.replicates is 50, the board has 20",
    ),
    "another version of a metric": (
        lambda table: table["metrics"].update(lpips=99),
        "version 1 of metric lpips, the board has 99",
    ),
    "a rival's label": (
        lambda table: table["defenses"].update(
            {NAME: {"component": {"label": NAME, "name": "other", "version": 1, "config": {}}, "track": "image"}}
        ),
        f"{NAME} is the row of defense 'other'",
    ),
    "a cell that no other row has": (without_unet, "attack / unet is on no row of the board"),
}
