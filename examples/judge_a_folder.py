"""Judge images that another tool protected: export the clear images, protect them, and measure the result.

The tool here is Pillow, which averages each 14x14 square; replace it by yours. The same in a shell:
docs/howto/judge_images_made_elsewhere.md.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import ppfr_bench as pb


def ppfr_bench(*words: object) -> None:
    """The command, from the Python that runs this script."""
    subprocess.run([sys.executable, "-m", "ppfr_bench.cli", *map(str, words)], check=True)


with TemporaryDirectory() as work:
    folder, results = Path(work) / "their_tool", Path(work) / "results"
    ppfr_bench("data", "export", "smoke", folder)
    (folder / "protected").mkdir()
    for path in (folder / "clear").glob("*.png"):
        with Image.open(path) as face:
            small = face.resize((8, 8), Image.Resampling.BOX)
        small.resize((112, 112), Image.Resampling.NEAREST).save(folder / "protected" / path.name)
    only = ("--attack", "visual", "--recognizer", "faceplugin")
    ppfr_bench("run", "smoke", "--precomputed", folder, *only, "--results", results)
    found = pb.load_results(results, suite="smoke")
    theirs = found[found["defense"] == "their_tool"]
    shown = theirs[theirs["metric"].isin(["retention", "accuracy", "leakage_lpips", "leakage_ssim"])]
    print(shown[["cell", "attack", "recognizer", "metric", "value", "low", "high"]].to_string(index=False))
