"""A hook of mkdocs: one site of the documentation, of pages that lie beside ``docs/``, and of the leaderboards.

On GitHub the links of a page are right as they stand. ``../design/x.md`` and ``../CHANGELOG.md`` become pages of the
site, and ``../leaderboards/`` is copied into it; a link to any other file of the repository has no page, and becomes
plain text.

Pages of leaderboards are whole without a site. What they know of the documentation stands in ``data-docs`` and in
``docs/NAME.md``, and becomes links here. The search finds them as well. Where they lead to a file of records, each
record gets a file of its own.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ppfr_bench.records.rows import Row, read

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]\n]*)\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
BOARDS = "leaderboards"
WAITING = re.compile(r' hidden data-docs="([^"]*)"')  # ppfr_bench/leaderboard/definitions.py
PLUGIN = re.compile(r"(<dt>Plug-in</dt><dd><code>)(\w+)</code>")  # A defense of that name is no attack.
NAMED = re.compile(r"<code>docs/([\w/]+)\.md</code>")
RECORD = re.compile(r'(<code>ppfr-bench show ([0-9a-f]+)</code> <a href=")([^"]+\.jsonl)"')
# The search knows these.
SAID = re.compile(r"<(h[1-3]|p|figcaption|th(?= scope=\"row\"))\b[^>]*>(.*?)</\1>", re.DOTALL)


def _outside() -> dict[str, str]:
    """Path in the repository -> path in the site."""
    found = {f"design/{path.name}": f"design/{path.name}" for path in sorted((ROOT / "design").glob("*.md"))}
    return found | {"CHANGELOG.md": "changelog.md"}


def _boards(config: Any) -> Path:
    """The folder of the leaderboards: that of the repository, or what ``PPFR_BENCH_BOARDS`` names."""
    folder = ROOT / str(config["extra"]["boards"])
    assert (folder / "index.html").is_file(), f"{folder} holds no leaderboards: make leaderboard writes some"
    return folder


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside, and what links may lead to among the leaderboards."""
    from mkdocs.structure.files import File

    for source, page in _outside().items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    folder = _boards(config)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".md":  # mkdocs would make a page of it
            name = f"{BOARDS}/{path.relative_to(folder).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
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
        elif target.startswith(f"{BOARDS}/") and not target.endswith(".md"):
            inside = target
        elif target in outside:
            inside = outside[target]
        else:
            assert (ROOT / target).exists(), f"{here}: {path} leads nowhere"
            return words
        return f"{mark}[{words}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor or ''})"

    return LINK.sub(lead, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Keep the signs behind headings from screen readers and the Tab key: the contents list has the same links."""
    return html.replace('<a class="headerlink"', '<a class="headerlink" tabindex="-1" aria-hidden="true"')


def _linked(page: str, up: str) -> str:
    """A page of a leaderboard whose addresses in the documentation are links; ``up`` leads to the site's root."""

    def of_attack(match: re.Match[str]) -> str:
        known = f'<a id="{match[2]}">' in catalogue
        return f'{match[1]}<a href="{up}attacks.html#{match[2]}">{match[2]}</a></code>' if known else match[0]

    def of_docs(match: re.Match[str]) -> str:
        return f' href="{up}{match[1]}"' if match[1] else ""

    def of_file(match: re.Match[str]) -> str:
        return f'<a href="{up}{match[1]}.html">{match[0]}</a>'

    linked = NAMED.sub(of_file, WAITING.sub(of_docs, page))
    catalogue = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    return PLUGIN.sub(of_attack, linked)


def _with_records(page: str, path: Path, board: Path, site: Path) -> str:
    """A page each of whose records has a file of its own, which is written below ``site``.

    Args:
        path: of the page, below ``board``, the folder of its suite.
    """
    up = "../" * (len(path.relative_to(board).parts) - 1)

    def of_record(match: re.Match[str]) -> str:
        start, key, link = match.groups()
        target = site / "records" / f"{key}.json"
        if not target.is_file():
            source = path.parent / unquote(link)
            assert source.is_file(), f"{path}: {link} leads nowhere"
            row = _row(source)
            (whole,) = [one for one in row.lines if one.startswith(key)]
            target.parent.mkdir(exist_ok=True)
            target.write_text(json.dumps(row.raw(whole), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return f'{start}{up}records/{key}.json"'

    return RECORD.sub(of_record, page)


@cache
def _row(source: Path) -> Row:
    """The records of a row."""
    suite, dataset = source.parts[-3:-1]
    return read(source.read_bytes(), str(source), (suite, dataset, source.stem))


def _words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text.replace("<wbr>", ""))).split())


def _entry(page: str, location: str) -> dict[str, str]:
    """What the search knows of a page: its title, its headings and sentences, and the names in its tables."""
    title = re.search(r"<title>(.*?)</title>", page)
    assert title is not None, f"{location} has no title"
    found = [_words(match[2]) for match in SAID.finditer(page)]
    return {"location": location, "title": _words(title[1]), "text": " ".join(dict.fromkeys(found))}


def on_post_build(config: Any) -> None:
    """Copy the leaderboards with their links, and let the search find them."""
    folder, site = _boards(config), Path(config["site_dir"])
    entries = []
    for path in sorted(folder.rglob("*")):
        target = site / BOARDS / path.relative_to(folder)
        if path.suffix == ".html":
            location = target.relative_to(site).as_posix()
            page = _linked(path.read_text(encoding="utf-8"), "../" * location.count("/"))
            board = folder / path.relative_to(folder).parts[0]
            page = _with_records(page, path, board, site / BOARDS / board.name) if board.is_dir() else page
            target.write_text(page, encoding="utf-8", newline="\n")
            entries.append(_entry(page, location))
        elif path.suffix == ".md":
            shutil.copyfile(path, target)
    index = site / "search" / "search_index.json"
    found = json.loads(index.read_text(encoding="utf-8"))
    found["docs"] += entries
    index.write_text(json.dumps(found, separators=(",", ":")), encoding="utf-8")
