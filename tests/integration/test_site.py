"""The site builds without a warning and asks nobody for anything; the code on its pages does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
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
from ppfr_bench.leaderboard import definitions
from ppfr_bench.leaderboard.pages import publish
from ppfr_bench.metrics import metric_names
from ppfr_bench.records.store import ResultStore
from ppfr_bench.tracks.base import load_track

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
        self.names: set[str] = set()  # What an address may end in.

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given["id"]} if "id" in given else set()
        if tag in FETCHED and FETCHED[tag] in given:
            self.found.append(given[FETCHED[tag]])
        if tag == "link" and HINTS & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation with the committed leaderboards, one of which is made anew."""
    folder, checkout = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("checkout")
    boards, results = checkout / "leaderboards", checkout / "results"
    shutil.copytree(ROOT / "leaderboards", boards)
    results.symlink_to(ROOT / "results")
    publish(results, "template_quick", boards)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = os.environ | {"PPFR_BENCH_BOARDS": str(boards)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
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
            path = link.partition("#")[0].partition("?")[0]
            if path and not re.match(r"[a-z]+:", path):
                target = page.parent / path
                assert target.exists(), f"{page.relative_to(site)} -> {link}"


def test_a_number_leads_to_the_record_that_it_stands_in(site: Path) -> None:
    board = site / "leaderboards" / "template_quick"
    there = {record.key: record for record in ResultStore(ROOT / "results").records("template_quick")}
    led = set()
    for page in sorted(board.rglob("*.html")):
        text = page.read_text("utf-8")
        assert ".jsonl" not in text, "the site has a file for each record"
        for key, link in re.findall(r"ppfr-bench show (\w{12})</code> <a href=\"([^\"]+)\">JSON</a>", text):
            led.add((page.parent / link).resolve())
            assert link.endswith(f"/{key}.json")
    assert {path.stem for path in led} == {key[:12] for key in there}
    for path in led:
        found = json.loads(path.read_text("utf-8"))
        record = there[found["key"]]
        value = {name: one["value"]["value"] for name, one in found["metrics"].items()}
        assert value == {name: one.value.value for name, one in record.metrics.items()}
        assert (found["defense"]["label"], found["seed"]) == (record.defense.label, record.seed)


def test_leaderboards_and_documentation_lead_to_each_other(site: Path) -> None:
    """Every page of a board has the words of the documentation's own header, and says where its names are defined."""
    assert "leaderboards/quick/leaderboard.html" in parsed(site / "leaderboards.html").links
    assert {path.name for path in (ROOT / "leaderboards").iterdir() if path.is_dir()} <= {
        link.split("/")[1] for link in parsed(site / "leaderboards.html").links if link.startswith("leaderboards/")
    }
    header = re.search(r'<ul class="md-tabs__list">(.*?)</ul>', (site / "index.html").read_text("utf-8"), re.DOTALL)
    assert header is not None
    tabs = [" ".join(words.split()) for words in re.findall(r"<a[^>]*>([^<]*)</a>", header[1])]
    names: dict[Path, set[str]] = {}
    for page in sorted((site / "leaderboards" / "template_quick").rglob("*.html")):
        text = page.read_text("utf-8")
        assert "data-docs" not in text and "<code>docs/" not in re.sub(r"<a [^>]*>.*?</a>", "", text)
        above = re.search(r'<nav class="site"[^>]*>(.*?)</nav>', text, re.DOTALL)
        assert above is not None and re.findall(r"<a[^>]*>([^<]*)</a>", above[1]) == [*tabs, "Search"]
        for link in parsed(page).links:
            path, _, name = link.partition("#")
            if name and path:
                target = (page.parent / path).resolve()
                names[target] = names.get(target) or parsed(target).names
                assert name in names[target], link
    assert any(target.name == "metrics.html" for target in names)
    board = parsed(site / "leaderboards" / "lfw_quick" / "leaderboard.html")
    assert "../../flags.html#attack_still_rising" in board.links
    attack = parsed(site / "leaderboards" / "quick" / "attacks" / "averaging_4.html")
    assert "../../../attacks.html#averaging" in attack.links


def test_the_search_finds_pages_of_leaderboards(site: Path) -> None:
    found = json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    (one,) = [entry for entry in found if entry["location"] == "leaderboards/quick/defenses/pixelate.html"]
    assert "pixelate" in one["title"] and "<" not in one["text"] and len(one["text"]) > 100
    (board,) = [entry for entry in found if entry["location"] == "leaderboards/quick/leaderboard.html"]
    assert "stochastic_anonymizer" in board["text"]


def test_what_boards_name_is_defined_in_the_documentation(site: Path) -> None:
    """Every column, measure, flag and built-in attack has an address, and something stands there."""
    flags = set(re.findall(r"^## `(\w+)`$", (DOCS / "flags.md").read_text("utf-8"), re.MULTILINE))
    assert flags == set(definitions.FLAGS)
    tracks = [load_track(name) for name in registry.names("track")]
    columns = {one.title for track in tracks for one in (*track.columns(track.privacies), *track.utility_columns)}
    own = {
        name for name in registry.names("attack") if registry.source("attack", name).startswith("ppfr_bench.attacks.")
    }
    for name in flags | columns | own | set(metric_names()):
        page, _, anchor = definitions.address(name).partition("#")
        assert page, f"{name} is defined nowhere"
        assert anchor in parsed(site / page).names, f"{name}: no {anchor} in {page}"
    assert definitions.address("no such thing") == "" == definitions.mark("no such thing")


def test_a_screen_reader_hears_no_sign_behind_a_heading(site: Path) -> None:
    signs = re.findall(r'<a class="headerlink"[^>]*>', (site / "metrics.html").read_text("utf-8"))
    assert len(signs) > 5 and all('tabindex="-1" aria-hidden="true"' in sign for sign in signs)


def test_pages_from_beside_the_docs_are_in_it(site: Path) -> None:
    assert (site / "design" / "001-representations.html").is_file() and (site / "changelog.html").is_file()
    assert "design/001-representations.html" in (site / "threat_model.html").read_text(encoding="utf-8")
    reference = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "per_image_key" in reference and "load_results" in reference


def test_every_link_in_a_page_leads_somewhere_in_the_repository() -> None:
    for page in [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "studies/README.md"))]:
        # On GitHub, ../../actions/ leads from a file to what is run of its repository.
        for path in re.findall(r"\]\((?![a-z]+:|#|../../actions/)([^)#\s]+)", page.read_text(encoding="utf-8")):
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
