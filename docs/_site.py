"""A hook of mkdocs: takes the pages that lie beside ``docs/`` into the site, and leads links there that leave it.

On GitHub the links of a page are right as they stand. ``../design/x.md`` and ``../CHANGELOG.md`` become pages of the
site; a link to any other file of the repository has no page, and becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]\n]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def _outside() -> dict[str, str]:
    """Path in the repository -> path in the site."""
    found = {f"design/{path.name}": f"design/{path.name}" for path in sorted((ROOT / "design").glob("*.md"))}
    return found | {"CHANGELOG.md": "changelog.md"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside."""
    from mkdocs.structure.files import File

    for source, page in _outside().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of ``docs/`` into links within the site."""
    outside = _outside()
    sources = {target: source for source, target in outside.items()}
    here = page.file.src_uri
    # Where the page lies in the repository, which is what its links count from.
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def lead(match: re.Match[str]) -> str:
        mark, words, path, anchor = match.groups()
        target = posixpath.normpath(posixpath.join(folder, path))
        if target.startswith("docs/"):
            inside = target.removeprefix("docs/")
        elif target in outside:
            inside = outside[target]
        else:
            assert (ROOT / target).exists(), f"{here}: {path} leads nowhere"
            return words
        return f"{mark}[{words}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(lead, markdown)
