"""What ``cost.py`` has measured, as a page with a plot: ``README.md`` and ``cost.svg`` beside ``measured.json``.

    python studies/template_cost/cost_page.py studies/template_cost/measured.json

``cost.py`` does the same as soon as it has measured. The same ``measured.json`` gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

METHODS = {"cryptomask": ("#0b62c4", "o"), "ckks_cosine": ("#b4690e", "s")}  # Colour and marker.
QUIET = 0.5  # A load above this before the run: somebody else was at work, and times are too long.
PAGE = """# What does a search of an encrypted gallery take?

One query against a gallery of templates of {dimension} numbers, on one thread of {platform}. The load of the machine
before the run was {load}{warning}. This page and its plot are made by

```sh
{command}
```

![Milliseconds and megabytes of one search by the size of the gallery: the figures of the table](cost.svg)

| gallery | method | | ms here | ms, LAN | ms, WAN | MB sent | MB received | rounds |
|---|---|---|---|---|---|---|---|---|
{rows}

*Measured* galleries were searched. *Extrapolated* ones lie on a straight line through the measured ones, as every step
of both protocols is done once a ciphertext. LAN and WAN are by formula: ms here + bytes / bandwidth + rounds × latency,
with {networks}. Of `cryptomask` the masks are made before the query comes, in {ahead} ms for a gallery of {ahead_of},
which is not part of the time. It answers with one bit and needs {rounds} rounds; `ckks_cosine` hands all scores to the
client in one.
"""


def written(measured: Path) -> None:
    """Write the page and the plot beside the figures."""
    found = json.loads(measured.read_text(encoding="utf-8"))
    (measured.parent / "README.md").write_text(page(found), encoding="utf-8", newline="\n")
    plot(found, measured.parent / "cost.svg")


def page(found: dict[str, Any]) -> str:
    """The text of the page.

    Args:
        found: what ``cost.py`` writes.
    """
    curves = {name: found[name] for name in METHODS}
    sizes = zip(*curves.values(), strict=True)
    rows = [_row(name, one) for both in sizes for name, one in zip(curves, both, strict=True)]
    masked = [one for one in curves["cryptomask"] if one["measured"]][-1]
    networks = " and ".join(
        f"{name.upper()} {8 * bandwidth / 1e6:,.0f} Mbit/s and {1e3 * latency:g} ms a round"
        for name, (bandwidth, latency) in found["networks"].items()
    )
    load = found["load_before"]
    return PAGE.format(
        dimension=found["dimension"], platform=found["platform"], load=f"{load:.1f}",
        warning="" if load <= QUIET else ": **it was not quiet, so the times are too long**",
        command=f"OMP_NUM_THREADS=1 python studies/template_cost/cost.py --seconds {found['seconds']:g} "
        f"--dimension {found['dimension']}",
        rows="\n".join(rows), networks=networks, ahead=_number(masked["milliseconds_ahead"]),
        ahead_of=f"{masked['gallery']:,.0f}", rounds=f"{masked['rounds']:g}",
    )  # fmt: skip


def _row(name: str, one: dict[str, Any]) -> str:
    times = (one["milliseconds"], one["milliseconds_lan"], one["milliseconds_wan"])
    sent = (one["bytes_up"] / 1e6, one["bytes_down"] / 1e6)
    how = "measured" if one["measured"] else "extrapolated"
    numbers = " | ".join(_number(value) for value in (*times, *sent, one["rounds"]))
    return f"| {one['gallery']:,.0f} | `{name}` | {how} | {numbers} |"


def _number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):g}"


def plot(found: dict[str, Any], target: Path) -> None:
    """Time and bytes by gallery; measured points are filled, extrapolated ones are not."""
    figure = Figure(figsize=(9.6, 4.0))
    for at, title in enumerate(("ms a search, one thread", "MB sent and received")):
        axes = figure.add_subplot(1, 2, at + 1)
        for method, (colour, marker) in METHODS.items():
            curve = found[method]
            sizes = [one["gallery"] for one in curve]
            bytes_sent = [(one["bytes_up"] + one["bytes_down"]) / 1e6 for one in curve]
            values = bytes_sent if at else [one["milliseconds"] for one in curve]
            axes.plot(sizes, values, color=colour, label=method)
            for one, value in zip(curve, values, strict=True):
                face = colour if one["measured"] else "white"
                axes.plot(one["gallery"], value, marker=marker, color=colour, markerfacecolor=face)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("templates in the gallery")
        axes.set_ylabel(title)
        axes.grid(True, alpha=0.3)
        if at == 0:
            axes.legend(frameon=False, title="filled: measured, empty: extrapolated")
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "ppfr-bench", "svg.fonttype": "none"}):
        figure.savefig(target, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    written(parser.parse_args().measured)
