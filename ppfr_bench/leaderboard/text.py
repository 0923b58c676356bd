"""Numbers and untrusted text as people read them: one way to print a share, and one way out for every kind of page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from urllib.parse import urlsplit

from ppfr_bench.records.estimate import Estimate, Interval

MISSING = "–"
LONGEST = 400  # Characters of one untrusted text on a page; the record has all of it.


def plain(text: object, longest: int = LONGEST) -> str:
    """One line without control, bidirectional-override or unassigned characters, cut at ``longest`` characters."""
    words = " ".join(str(text).split())
    kept = "".join(char for char in words if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return kept if len(kept) <= longest else kept[: longest - 1].rstrip() + "…"


def markdown(text: object, longest: int = LONGEST) -> str:
    """``plain`` text that Markdown, and a table in it, takes for nothing but text."""
    escaped = escape(plain(text, longest), quote=False)
    # An entity keeps a bare address from being made a link.
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", escaped).replace(":", "&#58;").replace("@", "&#64;")


def csv_text(text: object) -> str:
    """``plain`` text that a spreadsheet does not take for a formula."""
    value = plain(text, 2000)
    return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value


def link(url: object) -> str:
    """The address if it is an http(s) one with a host, else empty."""
    if not isinstance(url, str) or plain(url, 2000) != url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme in ("http", "https") and parts.netloc else ""


def number(value: float | None, digits: int = 2) -> str:
    """``0.93``, ``2,120`` or a dash; never ``-0.00``."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:z.{digits}f}"


def at_least(value: float | None, digits: int = 2) -> str:
    """A lower limit, rounded down: 0.2493 is printed as ``0.24``, as no more than it can be claimed."""
    return number(_towards(value, digits, ROUND_FLOOR), digits)


def at_most(value: float | None, digits: int = 2) -> str:
    """An upper limit, rounded up: 0.2513 is printed as ``0.26``."""
    return number(_towards(value, digits, ROUND_CEILING), digits)


def _towards(value: float | None, digits: int, rounding: str) -> float | None:
    """A number cut to the digits that are printed. It is rounded to nine first: binary 0.29 is less than 0.29."""
    if value is None:
        return None
    last = Decimal(1).scaleb(-digits if abs(value) < 1000 else 0)
    return float(Decimal(f"{value:.9f}").quantize(last, rounding))


def percent(value: float | None) -> str:
    """A share as ``99.1``."""
    return number(None if value is None else 100 * value, 1)


def interval(found: Interval | None, digits: int = 2) -> str:
    """``0.90 to 0.95``, or empty."""
    return f"{number(found[0], digits)} to {number(found[1], digits)}" if found else ""


def bracketed(estimate: Estimate, digits: int = 2) -> str:
    """``0.93 [0.90, 0.95]``, without brackets where no interval is known."""
    if estimate.value is None or estimate.interval is None:
        return number(estimate.value, digits)
    low, high = (number(end, digits) for end in estimate.interval)
    return f"{number(estimate.value, digits)} [{low}, {high}]"


def measure(name: str) -> str:
    """A measurement as a heading: ``LPIPS``, ``MS-SSIM``."""
    return plain(name, 60).upper().replace("_", "-")


def words(name: str) -> str:
    """A name without its underscores."""
    return plain(name.replace("_", " "), 60)


def counted(count: int, what: str) -> str:
    """``1 attack``, ``2 attacks``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def short_key(key: str) -> str:
    """The first digits of a record's key, enough for ``ppfr-bench show``."""
    return key[:12]


def show(key: str) -> str:
    """What to type to see a record: ``ppfr-bench show 082c1d4c8d28``."""
    return f"ppfr-bench show {short_key(key)}"


def speed(value: float | None) -> str:
    """Images a second: ``8.1``, ``1,230``, or a dash."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """``41 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 1 else "under 1 s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ranks(rank: int | None, found: tuple[int, int] | None) -> str:
    """``2``, ``2 (tied 1 to 3)``, or a dash."""
    if rank is None:
        return MISSING
    return f"{rank} ({tied(rank, found)})" if tied(rank, found) else str(rank)


def tied(rank: int | None, found: tuple[int, int] | None) -> str:
    """``tied 1 to 3``; empty where no other rank is possible."""
    return f"tied {found[0]} to {found[1]}" if found and found != (rank, rank) else ""


def listed(items: Iterable[object]) -> str:
    """``1, 4 and 16``."""
    said = [str(item) for item in items]
    return " and ".join(filter(None, (", ".join(said[:-1]), *said[-1:])))
