"""The site builds without a warning and asks nobody for anything; the code on its pages does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ppfr_bench import registry
from ppfr_bench.contracts.check import check_plugin

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="no checkout: no docs")
# What a browser fetches without being asked; a link that a reader may follow is none of it.
FETCHED = dict.fromkeys(("script", "img", "iframe", "source", "audio", "video", "embed"), "src")
FETCHED |= {"object": "data", "form": "action"}
HINTS = {"stylesheet", "icon", "preconnect", "dns-prefetch", "preload", "prefetch", "modulepreload", "manifest"}


class Fetches(HTMLParser):
    """Every address that a page fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in FETCHED and FETCHED[tag] in given:
            self.found.append(given[FETCHED[tag]])
        if tag == "link" and HINTS & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING " not in done.stderr, done.stderr  # of mkdocs; the theme's advertisement names a variable so
    return folder


def parsed(page: Path) -> Fetches:
    parser = Fetches()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_no_page_fetches_from_anywhere_else(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    elsewhere = {(page.name, url) for page in pages for url in parsed(page).found if re.match(r"([a-z]+:)?//", url)}
    assert elsewhere == set()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue  # served from anywhere: its links count from the root
        for link in parsed(page).links:
            path = link.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path):
                target = page.parent / path
                assert target.exists(), f"{page.relative_to(site)} -> {link}"


def test_pages_from_beside_the_docs_are_in_it(site: Path) -> None:
    assert (site / "design" / "001-representations.html").is_file() and (site / "changelog.html").is_file()
    assert "design/001-representations.html" in (site / "threat_model.html").read_text(encoding="utf-8")
    reference = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "per_image_key" in reference and "load_results" in reference


def test_every_link_in_a_page_leads_somewhere_in_the_repository() -> None:
    for page in [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "studies/README.md"))]:
        for path in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / path).exists(), f"{page.relative_to(ROOT)} -> {path}"


def block(page: str, containing: str) -> str:
    """The one Python block of a page that holds some text."""
    found = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [text for text in found if containing in text]
    return str(code)


@pytest.mark.parametrize(
    ("page", "containing", "name"),
    [("docs/howto/write_an_attack.md", "ATTACK = ", "sharpen_here"),
     ("docs/howto/submit_a_defense.md", "DEFENSE = ", "noise_here"), ("README.md", "DEFENSE = ", "half_grey_here")],
)  # fmt: skip
def test_the_plugin_on_a_page_keeps_the_contract(page: str, containing: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(block(page, containing), encoding="utf-8")
    try:
        assert check_plugin(*registry.add_plugin(path)[0]) == []
    finally:
        registry._added.clear()


def test_the_metric_on_its_page_is_what_it_says() -> None:
    module: Any = ModuleType("mae_on_a_page")
    exec(block("docs/howto/write_a_metric.md", "MetricInfo("), vars(module))
    one, two = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = np.abs(one.numpy().astype(float) - two.numpy().astype(float)).reshape(4, -1).mean(1)
    np.testing.assert_allclose(module.MeanAbsoluteError().values(one, two), expected, rtol=1e-12)


def test_the_defense_of_the_tutorial_is_one(tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(block("docs/tutorial.md", "def squares").rpartition("\n\n\n")[0], scope)
    out = scope["squares"](torch.rand(2, 3, 112, 112))
    assert out.shape == (2, 3, 112, 112)
