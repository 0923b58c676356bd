"""Whether the weights that lie beside a defense are those that its card names."""

from __future__ import annotations

import sys
from pathlib import Path

from ppfr_bench.api import Defense
from ppfr_bench.contracts.findings import Finding
from ppfr_bench.integrity import file_sha256_once

_NO_WEIGHTS = {".py", ".pyc", ".pyi", ".md", ".toml"}


def check_weights(defense: Defense) -> Finding | None:
    """What is wrong with the weights of a defense whose card has ``weights_sha256``; None if nothing is.

    They lie beside its file, under its name with another suffix: ``my_defense.safetensors`` beside ``my_defense.py``.
    A class that no file of its own defines, such as one of a notebook, has none to look at. A file is read once a
    process.
    """
    claimed = type(defense).card.weights_sha256
    source = _file_of(type(defense)) if claimed else None
    if source is None:
        return None
    found = {path.name: _sha256_of(path) for path in sorted(source.parent.glob(f"{source.stem}.*"))
             if path.suffix not in _NO_WEIGHTS}  # fmt: skip
    if claimed in found.values():
        return None
    seen = ", ".join(f"{name} ({sha256[:12]})" for name, sha256 in found.items()) or "there is none"
    return Finding(
        "weights", f"its card says weights_sha256 {claimed[:12]}, expected a file {source.stem}.* of it beside the "
        f"plug-in; {seen}"
    )  # fmt: skip


def _file_of(defense: type[Defense]) -> Path | None:
    """The file of the class that brings the card."""
    owner = next(cls for cls in defense.__mro__ if "card" in vars(cls))
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    if file is None or owner.__module__ in ("__main__", "ppfr_bench.wrapping"):
        return None
    return Path(file)


def _sha256_of(path: Path) -> str:
    try:
        return file_sha256_once(path)
    except OSError:
        return "it cannot be read"
