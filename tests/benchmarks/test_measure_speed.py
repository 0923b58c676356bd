"""Metrics, the closed form, verification and a second worker: each beside what a plain loop takes in the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import piq
import pytest
import torch
from PIL import Image

from ppfr_bench.api import to_float
from ppfr_bench.assets import asset_path
from ppfr_bench.learning.kernel_ridge import STRENGTHS, fit_kernel_ridge
from ppfr_bench.metrics import load_image_metric
from ppfr_bench.metrics.lpips import Lpips
from ppfr_bench.parallel import default_workers
from ppfr_bench.recognizers import load_recognizer

pytestmark = pytest.mark.slow
SHARED = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data"))
PAIRS = 500
DEFENSES = ("no_defense", "blackout", "pixelate", "gaussian_blur", "local_contrast", "block_permutation")


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@pytest.mark.assets
def test_image_metrics_against_the_packages_one_image_a_call(benchmark: Any) -> None:
    """Three answers to the same targets, as three attacks give: what depends on the targets alone is computed once."""
    references = torch.rand(120, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    answers = [(references + 0.1 * level).clamp(0, 1) for level in (1, 2, 3)]
    metrics = [load_image_metric(name) for name in ("lpips", "ssim", "ms_ssim")]
    network: lpips.LPIPS = Lpips().network

    def ours() -> None:
        for answer in answers:
            for metric in metrics:
                metric.values(answer, references)

    def theirs() -> None:
        with torch.inference_mode():
            for answer in answers:
                for one, other in zip(answer.split(1), references.split(1), strict=True):
                    network(one * 2 - 1, other * 2 - 1)
                    piq.ssim(one, other, downsample=False)
                    piq.multi_scale_ssim(one, other, kernel_size=7)

    took = min(seconds(ours) for _ in range(3))
    ratio = seconds(theirs) / took
    benchmark.extra_info |= {"images/s": 360 / took, "ratio": ratio}
    benchmark.pedantic(ours, rounds=1)
    assert ratio > 1.2, f"{ratio:.2f} times as fast as one image a call"


def test_the_closed_form_against_its_arithmetic_alone(benchmark: Any) -> None:
    """The bare loop: two Gram matrices and the outputs' own, eight factors of each of three kernels, and the answer."""
    people, images, size = 250, 4, 48
    inputs = torch.rand(people * images, 3, size, size, generator=torch.Generator().manual_seed(0))
    outputs = inputs.flatten(1)
    identities = np.repeat(np.arange(people), images)
    held_out = identities < people // 10

    def bare() -> None:
        pixels = outputs.double()
        grams = [pixels @ pixels.T]
        spectrum = torch.fft.rfft2(inputs.mean(1)).abs().flatten(1).double()
        grams += [spectrum @ spectrum.T, torch.exp(grams[0] / grams[0].mean() - 1)]
        inner = outputs @ outputs.T
        unit = torch.eye(len(pixels), dtype=torch.double)
        for gram in grams:
            for strength in STRENGTHS:
                factor = torch.linalg.cholesky(gram + (strength * gram.diagonal().mean() + 1e-6) * unit)
                inner @ torch.cholesky_solve(gram[:, held_out], factor).float()
        torch.cholesky_inverse(factor).float() @ outputs

    def ours() -> None:
        fit_kernel_ridge(inputs, outputs, identities, held_out)

    for first in (ours, bare):
        first()
    took, alone = (min(seconds(call) for _ in range(3)) for call in (ours, bare))
    benchmark.extra_info |= {"seconds": took, "ratio": took / alone}
    benchmark.pedantic(ours, rounds=1)
    assert took / alone < 1.3, f"{took / alone:.2f} times its arithmetic"


@pytest.mark.assets
def test_verification_against_a_loop_of_deepface(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 pairs of LFW from their files to similarities, both by dlib's network and without detection."""
    pytest.importorskip("deepface")
    root = SHARED / "lfw"
    if not root.is_dir():
        pytest.skip(f"needs the LFW images of {root}; set PPFR_BENCH_SHARED to the folder of shared data")
    weights = tmp_path / ".deepface" / "weights"
    weights.mkdir(parents=True)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    (weights / "dlib_face_recognition_resnet_model_v1.dat").symlink_to(asset_path("dlib_resnet"))
    from deepface import DeepFace

    rows = [line.split() for line in (root / "pairs.txt").read_text().splitlines()[1 : PAIRS + 1]]
    named = [((r[0], r[1]), (r[0], r[2])) if len(r) == 3 else ((r[0], r[1]), (r[2], r[3])) for r in rows]
    files = [[str(root / "images" / who / f"{who}_{int(number):04d}.jpg") for who, number in pair] for pair in named]
    recognizer = load_recognizer("dlib_resnet")

    def ours() -> None:
        pictures = [np.asarray(Image.open(path)).transpose(2, 0, 1) for pair in files for path in pair]
        embedded = recognizer.embed(to_float(np.stack(pictures))).numpy().astype(np.float64)
        recognizer.similarity(embedded[::2], embedded[1::2])

    def theirs() -> None:
        for one, other in files:
            DeepFace.verify(one, other, model_name="Dlib", detector_backend="skip")

    DeepFace.verify(*files[0], model_name="Dlib", detector_backend="skip")
    ours()
    took = min(seconds(ours) for _ in range(3))
    ratio = seconds(theirs) / took
    benchmark.extra_info |= {"pairs/s": PAIRS / took, "ratio": ratio}
    benchmark.pedantic(ours, rounds=1)
    assert ratio > 10, f"{ratio:.1f} times as fast as deepface's own loop"


@pytest.mark.assets
@pytest.mark.skipif(default_workers() < 2, reason="needs two processors")
def test_two_workers_against_one(benchmark: Any, tmp_path: Path) -> None:
    """Whole runs, the start of the workers in them; two go first, so that one finds what is embedded already."""
    took: dict[int, float] = {}
    chosen = [word for name in DEFENSES for word in ("--defense", name)]
    run = [sys.executable, "-m", "ppfr_bench.cli", "run", "quick", "--json", "--recognizer", "dlib_resnet"]
    for workers in (2, 2, 1):  # The first makes the faces.
        folders = [f"--{name}={tmp_path / f'{name}_{len(took)}_{workers}'}" for name in ("stages", "results")]
        attacked = ["--attack", "ridge", *chosen] if took else ["--attack", "visual", "--defense", "blackout"]
        done = subprocess.run([*run, *attacked, *folders, f"--workers={workers}"], capture_output=True, check=True)
        took |= {workers if took else 0: json.loads(done.stdout)["seconds"]}
    ratio = took[1] / took[2]
    benchmark.extra_info |= {"ratio": ratio, "seconds, one": took[1], "seconds, two": took[2]}
    benchmark.pedantic(lambda: None, rounds=1)
    assert ratio > 1.5, f"two workers are {ratio:.2f} times as fast as one"
