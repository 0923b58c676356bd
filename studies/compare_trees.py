"""Compare two checkouts number by number: the same suites, on this machine, each from an empty cache.

    python studies/compare_trees.py BEFORE AFTER [--suites smoke quick] [--keep FOLDER]

Each tree runs under this interpreter with its own source first on the path. Downloaded weights and generated data sets
are linked into the empty cache, as both trees check them by digest. Prints every number that differs, exits 1 if one
does. With ``--keep``, what was measured of a tree is kept there and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SHARED = ("assets", "datasets", "downloads")
NUMBERS = ("status", "value", "low", "high", "n")
READ = """
import json, sys
from ppfr_bench import load_results
table = load_results(sys.argv[1])
columns = ["suite", "dataset", "defense", "cell", "attack", "recognizer", "seed", "metric"]
columns += ["status", "value", "low", "high", "n"]
print(json.dumps(json.loads(table[columns].to_json(orient="records", double_precision=15))))
"""


def measure(tree: Path, suites: list[str], options: list[str]) -> tuple[list[dict[str, Any]], float]:
    """Rows of the tidy table of a tree's records, one a metric, and the seconds that the suites took."""
    cache = Path(os.environ.get("PPFR_BENCH_CACHE") or Path.home() / ".cache" / "ppfr-bench")
    with TemporaryDirectory(prefix="ppfr-bench-compare-") as name:
        folder = Path(name)
        (folder / "cache").mkdir()
        for part in SHARED:
            if (cache / part).is_dir():
                (folder / "cache" / part).symlink_to(cache / part)
        env = os.environ | {"PYTHONPATH": str(tree), "PPFR_BENCH_CACHE": str(folder / "cache")}
        start = time.monotonic()
        for suite in suites:
            command = [sys.executable, "-m", "ppfr_bench.cli", "run", suite, "--results", str(folder / "results")]
            subprocess.run([*command, *options], cwd=tree, env=env, check=True)
        seconds = time.monotonic() - start
        done = subprocess.run(
            [sys.executable, "-c", READ, str(folder / "results")],
            cwd=tree, env=env, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    return json.loads(done.stdout), seconds


def measured(tree: Path, suites: list[str], options: list[str], keep: Path | None) -> list[dict[str, Any]]:
    """As ``measure``, from an earlier run of the same tree if there is one under ``keep``."""
    path = keep / f"{tree.resolve().as_posix().strip('/').replace('/', '_')}.json" if keep else None
    if path is not None and path.is_file():
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [row for row in rows if row["suite"] in suites]
    rows, seconds = measure(tree, suites, options)
    print(f"{tree}: {len(rows)} rows of {', '.join(suites)} in {seconds:.0f} s", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows), encoding="utf-8")
    return rows


def differences(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """One line a row that is missing on one side, or whose status, value, interval or n is another."""
    first, second = ({_place(row): row for row in rows} for rows in (before, after))
    found = [f"only before: {' / '.join(place)}" for place in sorted(first.keys() - second.keys())]
    found += [f"only after: {' / '.join(place)}" for place in sorted(second.keys() - first.keys())]
    for place in sorted(first.keys() & second.keys()):
        for name in NUMBERS:
            then, now = first[place][name], second[place][name]
            if then != now:
                found.append(f"{' / '.join(place)}: {name} {then!r} before, {now!r} after")
    return found


def _place(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("suite", "dataset", "defense", "cell", "attack", "recognizer", "seed", "metric")
    return tuple(str(row[name]) for name in names)


def main() -> None:
    """Measure both trees and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--suites", nargs="+", default=["smoke", "quick"])
    parser.add_argument("--keep", type=Path, help="Folder in which the rows of each tree are kept.")
    given = parser.parse_args()
    before, after = (measured(tree, given.suites, [], given.keep) for tree in (given.before, given.after))
    found = differences(before, after)
    print("\n".join(found))
    print(f"{len(before)} rows before, {len(after)} after, {len(found)} differences")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
