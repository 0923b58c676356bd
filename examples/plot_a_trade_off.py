"""Plot what recognizers keep and what attacks recover for three block sizes of pixelation, from records of LFW.

The script reads the committed records of a checkout and writes trade_off.png, or the file that is named.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import ppfr_bench as pb

RECORDS = Path(__file__).parents[1] / "studies" / "tradeoff" / "records"

found = pb.load_results(RECORDS, suite="tradeoff_lfw")
mosaics = found[found["defense_name"] == "pixelate"].copy()
mosaics["block"] = [json.loads(text)["block"] for text in mosaics["parameters"]]
kept = mosaics[mosaics["metric"] == "retention"].groupby("block")["value"].mean()
leaks = mosaics[mosaics["metric"].str.startswith("leakage_") & (mosaics["attack"] != "")]
regained = leaks.groupby("block")["value"].max()

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.plot(kept.index, kept, marker="o", label="kept by recognizers (retention)")
axes.plot(regained.index, regained, marker="s", label="recovered by the best attack (leakage)")
axes.set(xlabel="block, pixels", ylabel="share", title="Pixelation on LFW, 112x112")
axes.legend()
target = sys.argv[1] if len(sys.argv) > 1 else "trade_off.png"
figure.savefig(target, dpi=120)
print(f"block {list(kept.index)}: kept {kept.round(2).tolist()}, leakage {regained.round(2).tolist()}; {target}")
