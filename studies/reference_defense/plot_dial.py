"""Draw docs/dial.png from the records of ``dial.toml`` and ``parts.toml`` beside this file.

    python studies/reference_defense/plot_dial.py

The network before training was measured on LFW alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ppfr_bench.records.store import ResultStore

HERE = Path(__file__).parent
SUITE = "anonymizer"
PANELS = {"lfw": "LFW", "synthetic": "synthetic"}  # By the label of the data set.
CURVES = {
    "dial": "stochastic_anonymizer, its dial", "untrained": "the same before training",
    "contrast": "local_contrast, sigma 2 to 8", "stochastic": "stochastic_local, sigma 2 to 8",
}  # fmt: skip


def points(dataset: str) -> pd.DataFrame:
    """One row a defense: its curve, its place on the curve, accuracy, and leakage of the closed-form attack."""
    accuracies: dict[str, float] = {}
    leaked: dict[str, tuple[float, float, float]] = {}
    for record in ResultStore(HERE / "records").records(SUITE):
        name = record.defense.label
        if record.dataset.label != dataset:
            continue
        if record.cell == "utility":
            accuracy = record.metrics["accuracy"].value.value
            assert accuracy is not None
            accuracies[name] = 100 * accuracy
        elif record.attack is not None and record.attack.label == "ridge":
            found = record.estimate("ms_ssim", "leakage")
            assert found.value is not None and found.interval is not None
            leaked[name] = (found.value, *found.interval)
    rows: list[dict[str, Any]] = []
    for name, (value, low, high) in leaked.items():
        curve, _, place = name.rpartition("_")
        if curve in CURVES:
            rows.append({"curve": curve, "place": int(place), "accuracy": accuracies[name],
                         "leakage": value, "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(rows).sort_values(["curve", "place"], ignore_index=True)


def main() -> None:
    figure = Figure(figsize=(4.8 * len(PANELS), 4.2), dpi=160)
    palette = dict(zip(CURVES, sns.color_palette("colorblind", len(CURVES)), strict=True))
    for i, (dataset, title) in enumerate(PANELS.items()):
        axes, found = figure.add_subplot(1, len(PANELS), i + 1), points(dataset)
        for curve, label in CURVES.items():
            of = found[found["curve"] == curve]
            if of.empty:
                continue
            axes.plot(of["accuracy"], of["leakage"], marker="o", markersize=4, label=label, color=palette[curve])
            axes.vlines(of["accuracy"], of["low"], of["high"], color=palette[curve], alpha=0.5)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 1)
        axes.set_xlim(72, 100)
        axes.set_xlabel("accuracy of mobilefacenet, per cent")
        axes.grid(True, alpha=0.3)
        if i == 0:
            axes.set_ylabel("leakage of a closed-form reconstruction (MS-SSIM)")
            axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE.parents[1] / "docs" / "dial.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
