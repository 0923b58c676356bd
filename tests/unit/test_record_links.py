"""A number of a page leads to the file with its record, where pages and results lie in one folder."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import made_records as made
import pytest

from ppfr_bench.leaderboard import pages

LINK = re.compile(r"<code>ppfr-bench show (\w{12})</code> <a href=\"([^\"]+)\">JSON</a>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results, and with pages beside them and deeper down in it."""
    folder = tmp_path_factory.mktemp("folder")
    results = made.write(folder / "some results", *made.quick())
    pages.publish(results, "quick", folder / "boards")
    pages.publish(results, "quick", folder / "moved" / "boards")
    return folder


def pages_of(boards: Path) -> dict[str, Path]:
    return {path.relative_to(boards).as_posix(): path for path in sorted(boards.rglob("*.html"))}


def test_every_record_of_a_page_has_a_link_to_the_file_that_has_it(folder: Path) -> None:
    led: dict[str, set[str]] = {}
    for name, path in pages_of(folder / "boards").items():
        page = path.read_text()
        found = LINK.findall(page)
        led[name] = {key for key, _ in found}
        assert led[name] == set(re.findall(r"ppfr-bench show ([0-9a-f]{12})", page)), name
        assert len(found) == page.count(">JSON</a>"), name
        for key, link in found:
            assert f'"key": "{key}' in (path.parent / unquote(link)).read_text(), (name, link)
    assert all(led[f"quick/{name}.html"] for name in ("leaderboard", "defenses/pixelate", "attacks/unet"))
    records, _ = made.quick()
    assert set().union(*led.values()) == {one.key[:12] for one in records}


def test_pages_that_lie_apart_from_the_results_name_no_files(folder: Path) -> None:
    """They can be moved without them; and no name of a folder of the machine is on them."""
    found = pages_of(folder / "moved" / "boards")
    texts = [path.read_text() for path in found.values()]
    assert len(texts) > 5 and not any("JSON" in text or "some results" in unquote(text) for text in texts)
    assert any("ppfr-bench show" in text for text in texts)
