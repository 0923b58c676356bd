"""Small pictures within a page, as SVG: a share on its scale, a line of shares, the scores of a recognizer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from markupsafe import Markup

from ppfr_bench.leaderboard.text import number
from ppfr_bench.records.curves import Curves
from ppfr_bench.records.estimate import Estimate

_LEAST, _MOST = 2e-4, 0.6  # Error rates beyond them are drawn on the edge.
RATES = (0.001, 0.01, 0.1, 0.5)  # Marked on the axes of error rates.


def scale(estimate: Estimate) -> Markup:
    """A small picture of a share and its interval between 0 and 1; nothing of a number that is no share."""
    if estimate.value is None or abs(estimate.value) > 1:
        return Markup("")

    def x(value: float) -> str:
        return f"{4 + 84 * min(max(value, 0.0), 1.0):.1f}"

    low, high = estimate.interval or (estimate.value, estimate.value)
    return Markup(
        '<svg class="scale" viewBox="0 0 92 10" aria-hidden="true"><line class="track" x1="4" y1="5" x2="88" y2="5"/>'
        '<line class="interval" x1="{}" y1="5" x2="{}" y2="5"/><circle class="point" cx="{}" cy="5" r="3.5"/></svg>'
    ).format(x(low), x(high), x(estimate.value))


def trend(values: Sequence[float | None]) -> Markup:
    """A line of shares from 0 to 1, a point each; broken where one is missing."""
    step = 200 / max(1, len(values) - 1)
    drawn, parts = False, []
    for i, value in enumerate(values):
        if value is not None:
            parts.append(f"{'L' if drawn else 'M'}{4 + i * step:.1f} {36 - 32 * min(max(value, 0.0), 1.0):.1f}")
            parts.append("h0")  # A line of no length with round caps shows a night without neighbours as a point.
        drawn = value is not None
    return Markup('<svg class="trend" viewBox="0 0 208 40" aria-hidden="true"><path d="{}"/></svg>').format(
        " ".join(parts)
    )


def histograms(curves: Curves) -> Markup:
    """How often each similarity occurs, of pairs of one person upwards and of different people downwards."""
    bars = Markup("")
    for kind, counts in (("genuine", curves.genuine), ("impostor", curves.impostor)):
        for i, count in enumerate(counts):
            height = 44 * count / max(*counts, 1)
            top = 48 - height if kind == "genuine" else 48
            bar = '<rect class="{}" x="{}" y="{:.1f}" width="5" height="{:.1f}"/>'
            bars += Markup(bar).format(kind, 10 + 5.5 * i, top, height) if count else ""
    low, high = number(curves.low), number(curves.high)
    return Markup(
        '<svg class="curve" viewBox="0 0 240 110" role="img" aria-label="Similarities from {} to {}">{}'
        '<line class="axis" x1="10" y1="48" x2="230" y2="48"/><text x="10" y="106">{}</text>'
        '<text x="230" y="106" text-anchor="end">{}</text></svg>'
    ).format(low, high, bars, low, high)


def det(curves: Curves) -> Markup:
    """FNMR upwards against FMR to the right, both in normal deviates, as ISO/IEC 19795-1 draws them."""
    marks = Markup("")
    for rate in RATES:
        x, y, label = _across(rate), _up(rate), f"{100 * rate:g}%"
        marks += Markup(
            '<line class="grid" x1="{0:.1f}" y1="6" x2="{0:.1f}" y2="96"/>'
            '<line class="grid" x1="40" y1="{1:.1f}" x2="230" y2="{1:.1f}"/>'
            '<text x="{0:.1f}" y="106" text-anchor="middle">{2}</text>'
            '<text x="36" y="{3:.1f}" text-anchor="end">{2}</text>'
        ).format(x, y, label, y + 3)
    line = " L".join(f"{_across(fmr):.1f} {_up(fnmr):.1f}" for fmr, fnmr in curves.det)
    said = "; ".join(f"FMR {100 * fmr:.2g}%, FNMR {100 * fnmr:.2g}%" for fmr, fnmr in curves.det)
    return Markup(
        '<svg class="curve" viewBox="0 0 240 110" role="img" aria-label="{}">{}<path d="{}"/></svg>'
    ).format(said or "too few impostor pairs", marks, f"M{line}" if line else "")  # fmt: skip


def _across(rate: float) -> float:
    return 40 + 190 * deviate(rate)


def _up(rate: float) -> float:
    return 96 - 90 * deviate(rate)


def deviate(rate: float) -> float:
    """A rate in normal deviates, so that 0 is the least that is drawn and 1 the most."""
    low, here, high = map(NormalDist().inv_cdf, (_LEAST, min(max(rate, _LEAST), _MOST), _MOST))
    return (here - low) / (high - low)
