"""Draw ``budget.png`` beside this file, from the records of ``budget.toml``.

    ppfr-bench run studies/attack_budget/budget.toml --results studies/attack_budget/records
    python studies/attack_budget/plot_budget.py

Neither the records nor the plot are committed: no page shows them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

HERE = Path(__file__).parent
MEASURES = {"lpips": "LPIPS", "ssim": "SSIM", "ms_ssim": "MS-SSIM"}


def curve(folder: Path = HERE / "records" / "budget" / "synthetic") -> pd.DataFrame:
    """One row a defense, measure and number of steps; 0 steps is the closed-form answer that training starts from."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["cell"] != "attack" or record["defense"]["name"] in ("no_defense", "blackout"):
            continue
        steps = record["attack"]["config"].get("steps", 0)
        for measure in MEASURES:
            found = record["metrics"][f"leakage_{measure}"]
            low, high = found["interval"]
            rows.append({"defense": record["defense"]["label"], "measure": measure, "steps": steps,
                         "leakage": found["value"], "low": low, "high": high})  # fmt: skip
    return pd.DataFrame(rows).sort_values(["defense", "measure", "steps"], ignore_index=True)


def main() -> None:
    found = curve()
    defenses = sorted(found["defense"].unique())
    figure = Figure(figsize=(4.4 * len(defenses), 3.8), dpi=160)
    palette = dict(zip(MEASURES, sns.color_palette("colorblind", len(MEASURES)), strict=True))
    ticks = sorted(found["steps"].unique())
    for i, defense in enumerate(defenses):
        axes = figure.add_subplot(1, len(defenses), i + 1)
        for measure, title in MEASURES.items():
            of = found[(found["defense"] == defense) & (found["measure"] == measure)]
            at = [ticks.index(steps) for steps in of["steps"]]
            axes.plot(at, of["leakage"], marker="o", label=title, color=palette[measure])
            axes.fill_between(at, of["low"], of["high"], alpha=0.15, color=palette[measure], linewidth=0)
        axes.set_title(defense, fontsize=10)
        axes.set_ylim(0, 1)
        axes.set_xticks(range(len(ticks)), [str(steps) for steps in ticks])
        axes.set_xlabel("steps of 16 images")
        axes.grid(True, alpha=0.3)
        if i == 0:
            axes.set_ylabel("leakage, with its 95% interval")
            axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(HERE / "budget.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
