"""``ppfr-bench list recognizers`` and ``ppfr-bench check RECOGNIZER``: what there is, and whether it works here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from ppfr_bench.console import out
from ppfr_bench.errors import UserError


def overview() -> list[dict[str, Any]]:
    """Built-in recognizers and the ways to bring others: whether each can run here, and what to type if not."""
    from ppfr_bench.assets import is_cached
    from ppfr_bench.recognizers import recognizer_class, recognizer_names
    from ppfr_bench.recognizers._external import ADAPTERS

    rows: list[dict[str, Any]] = []
    for name in recognizer_names():
        kind = recognizer_class(name)
        lacking = [extra for module, extra in [kind.runtime] if not _is_there(module)] if kind.runtime else []
        try:
            missing = [f"ppfr-bench assets fetch {asset}" for asset in kind.card.assets if not is_cached(asset)]
        except UserError as error:  # There is no cache to look in.
            missing = [error.hint]
        rows.append({
            "name": name, "kind": "built in", "what": kind.card.title, "weak": kind.card.weak,
            "surrogate": hasattr(kind, "differentiable"), "runs_here": not (lacking or missing),
            "hint": _pip(lacking[0]) if lacking else missing[0] if missing else "",
        })  # fmt: skip
    for what, module in (("an ONNX file", "onnxruntime"), ("a TorchScript file", "torch")):
        there = _is_there(module)
        rows.append({
            "name": "path/to/card.toml", "kind": "card", "what": what, "surrogate": True, "runs_here": there,
            "hint": "" if there else _pip("onnx"),
        })  # fmt: skip
    for package, adapter in sorted(ADAPTERS.items()):
        rows.append({
            "name": f"{package}:MODEL", "kind": "adapter", "what": adapter.models, "surrogate": adapter.differentiable,
            "runs_here": not adapter.lacking,
            "hint": _pip(adapter.extra) if adapter.lacking else f"{package} fetches the weights on first use",
        })  # fmt: skip
    return rows


def list_recognizers(as_json: bool) -> None:
    """Print the overview."""
    rows = overview()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("recognizer", "what", "surrogate", "runs here")
    for row in rows:
        here = ("yes" if row["runs_here"] else "no") + (f": {row['hint']}" if row["hint"] else "")
        what = f"{row['what']}, weak" if row.get("weak") else row["what"]
        cells = (row["name"], what, "yes" if row["surrogate"] else "", here)
        table.add_row(*(escape(cell) for cell in cells))
    out.print(table)
    out.print("Bring another: docs/howto/bring_a_recognizer.md", highlight=False)


def check_recognizer(source: str, as_json: bool) -> None:
    """Load a recognizer, hold it to the contract on sixteen synthetic faces, and say what it does with them."""
    from ppfr_bench.contracts.check import examine_recognizer

    found = examine_recognizer(source)
    if as_json:
        findings = [vars(finding) for finding in found.findings]
        print(json.dumps({"kind": "recognizer", **found.facts, "findings": findings}))
    else:
        for finding in found.findings:
            out.print(f"[red]✗[/red] {finding.code}: {escape(finding.message)}", highlight=False)
        facts, mark = found.facts, "" if found.findings else "[green]✓[/green] "
        if "auc" in facts:
            words = (
                f"recognizer {facts['label']}: {facts['dimension']}-d, {facts['metric']}, "
                f"{facts['ms_an_image']:g} ms an image, surrogate: {'yes' if facts['surrogate'] else 'no'}. "
                f"Sixteen synthetic faces of four people: AUC {facts['auc']:.3f}."
            )
            out.print(mark + escape(words), highlight=False)
    if found.findings:
        raise typer.Exit(1)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # Its parent package is not there.
        return False


def _pip(extra: str) -> str:
    return f"pip install 'ppfr-bench[{extra}]'"
