"""What a search of a gallery takes with CryptoMask and with CKKS: milliseconds and bytes by the size of the gallery.

    OMP_NUM_THREADS=1 python studies/template_cost/cost.py [--seconds 60] [--dimension 512] [--out measured.json]

It writes ``measured.json`` beside this file, and of that the page ``README.md`` and its plot ``cost.svg``.

Galleries are measured up to what fits into the seconds, the two smallest in any case, on one thread; larger ones are
extrapolated by a straight line through the measured ones, and labelled so. LAN and WAN are by formula: time here +
bytes / bandwidth + rounds * latency. ``load_before`` tells whether the machine was quiet, without which no time is
worth keeping.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from cost_page import written

from ppfr_bench.learning.heads import unit_rows
from ppfr_bench.template import cryptomask
from ppfr_bench.template.bfv import Bfv, serialized_size
from ppfr_bench.template.ckks import Ckks
from ppfr_bench.template.comparison_party import CLIENT
from ppfr_bench.template.quantised import SCALE, quantise

GALLERIES = (100, 300, 1_000, 3_000, 10_000, 100_000)
NETWORKS = {"lan": (1e9 / 8, 0.2e-3), "wan": (100e6 / 8, 40e-3)}  # Bytes a second, seconds a round.
THRESHOLD = 0.99  # Nobody of a random gallery matches.


def cryptomask_search(dimension: int, size: int) -> dict[str, float]:
    """One search, its masks made ahead and timed apart."""
    party, probe, gallery = Bfv(dimension, 4096, 20), _rows(1, dimension), _rows(size, dimension, 1)
    packed = party.gallery(quantise(gallery, SCALE))
    started = time.perf_counter()
    masks = [party.mask() for _ in packed]
    ahead = time.perf_counter() - started
    started = time.perf_counter()
    query = party.encrypt(quantise(probe, SCALE)[0])
    replies = [party.reply(query, templates, mask) for templates, (mask, _) in zip(packed, masks, strict=True)]
    client = np.concatenate([party.decrypt(reply) for reply in replies])[None, :size]
    matching = time.perf_counter() - started
    matcher = np.concatenate([mask for _, mask in masks])[None, :size]
    started = time.perf_counter()
    found = cryptomask.decide(cryptomask.Shares(client, matcher), np.full(1, THRESHOLD), party.modulus, SCALE)
    compared = time.perf_counter() - started
    assert not found.accepted.any()
    down = serialized_size(replies[0]) * len(replies) + int(found.sent[:, CLIENT].sum())
    return {
        "milliseconds_ahead": 1e3 * ahead, "milliseconds_matching": 1e3 * matching,
        "milliseconds_comparing": 1e3 * compared, "milliseconds": 1e3 * (matching + compared),
        "bytes_up": serialized_size(query) + int(found.sent[CLIENT].sum()), "bytes_down": down,
        "rounds": 2 + found.messages,
    }  # fmt: skip


def ckks_search(dimension: int, size: int) -> dict[str, float]:
    """One search whose scores the client decrypts."""
    party, draws = Ckks(dimension), np.random.default_rng(0)
    probe, gallery = _rows(1, dimension), _rows(size, dimension, 1)
    party.scores(probe, gallery[:1], draws)  # Rotation keys are made once.
    started = time.perf_counter()
    query, down, count = party.encrypt(probe), 0, 0
    for start in range(0, size, party.blocks):
        reply = party.reply(query, gallery[start : start + party.blocks], draws)
        count += len(party.decrypt(reply, len(gallery[start : start + party.blocks])))
    seconds = time.perf_counter() - started
    down = serialized_size(reply) * -(-size // party.blocks)
    assert count == size
    return {"milliseconds": 1e3 * seconds, "bytes_up": serialized_size(query), "bytes_down": down, "rounds": 1}


def curve(search: Any, dimension: int, seconds: float) -> list[dict[str, Any]]:
    """Each gallery, measured while the next one is expected to end in time, then extrapolated."""
    found: list[dict[str, Any]] = []
    for size in GALLERIES:
        known = [one for one in found if one["measured"]]
        expected = known[-1]["wall"] * size / known[-1]["gallery"] if known else 0.0
        if len(known) < 2 or expected <= seconds:  # A line needs two points.
            started = time.perf_counter()
            numbers = search(dimension, size)
            found.append({"gallery": size, "measured": True, "wall": time.perf_counter() - started, **numbers})
        else:
            sizes = [one["gallery"] for one in known]
            lines = {name: np.polyfit(sizes, [one[name] for one in known], 1) for name in known[0]
                     if name not in ("gallery", "measured", "wall", "rounds")}  # fmt: skip
            numbers = {name: float(np.polyval(line, size)) for name, line in lines.items()}
            found.append({"gallery": size, "measured": False, "rounds": known[-1]["rounds"], **numbers})
    for one in found:
        sent = one["bytes_up"] + one["bytes_down"]
        for name, (bandwidth, latency) in NETWORKS.items():
            one[f"milliseconds_{name}"] = one["milliseconds"] + 1e3 * (sent / bandwidth + one["rounds"] * latency)
        one.pop("wall", None)
    return [{name: value if isinstance(value, bool) else float(f"{value:.4g}") for name, value in one.items()}
            for one in found]  # fmt: skip


def _rows(count: int, dimension: int, seed: int = 0) -> Any:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dimension)))


def main() -> None:
    """Measure both protocols and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "measured.json")
    asked = parser.parse_args()
    found = {
        "dimension": asked.dimension, "seconds": asked.seconds, "networks": NETWORKS, "platform": platform.platform(),
        "load_before": round(os.getloadavg()[0], 1),
        "cryptomask": curve(cryptomask_search, asked.dimension, asked.seconds),
        "ckks_cosine": curve(ckks_search, asked.dimension, asked.seconds),
    }  # fmt: skip
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    written(asked.out)


if __name__ == "__main__":
    main()
