"""What plug-ins were called before: old names are answered for ever, and renaming one changes no key and no draw."""

from __future__ import annotations

FORMER_NAMES: dict[tuple[str, str], str] = {  # The kind and the name in version 0.1 lead to the name of today.
    ("defense", "identity"): "no_defense",
    ("scorer", "appearance"): "reconstruction",
    ("scorer", "identity"): "linkage",
    ("track", "recognition"): "image",
}
_FIRST_NAMES = {new: old for (kind, old), new in FORMER_NAMES.items() if kind in ("defense", "attack")}


def first_name(name: str) -> str:
    """The name that a defense or an attack had when it was first published: keys and seeds are made from it."""
    return _FIRST_NAMES.get(name, name)
