"""The pages in a real browser: everything is there, nothing is asked of the network, nothing hostile runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import axe_core_python
import made_records as made
import numpy as np
import pytest
from PIL import Image

from ppfr_bench.leaderboard import pages
from ppfr_bench.records.store import ResultStore

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--hide-scrollbars")  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


def chromium(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={profile}",
         "--enable-logging=stderr", "--v=0", *arguments],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of eight defenses, one of them broken, published."""
    root = tmp_path_factory.mktemp("site")
    store = ResultStore(root / "results")
    records, pictures = made.quick()
    hostile = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    records.append(
        made.record("my_defense", "attack", attack="unet", measures="appearance", status="failed", reason=hostile)
    )
    for record in records:
        store.write(record, pictures.get(record.key))
    store.write_plan(made.plan_of(records))
    pages.publish(store, "quick", root / "out")
    return root / "out"


def test_the_table_is_there_and_nothing_is_blocked_or_fetched(site: Path, tmp_path: Path) -> None:
    # A proxy that does not answer: whatever the page asks of a network fails, and is logged.
    done = chromium(tmp_path, "--proxy-server=127.0.0.1:9", "--dump-dom", (site / "quick/leaderboard.html").as_uri())
    page = done.stdout
    assert "<title>quick · ppfr-bench leaderboard</title>" in page, "a text of a record was run as a script"
    assert page.count("<tr") > 20 and page.count('class="sort"') >= 10, "our own script did not run"
    for label in made.STORY:
        assert label in re.sub("<wbr>", "", page)
    for complaint in ("Content Security Policy", "Refused to", "ERR_", "Uncaught"):
        lines = [line for line in done.stderr.splitlines() if complaint in line and "CONSOLE" in line]
        assert not lines, lines


def test_every_page_is_quiet_whole_and_leads_only_to_what_is_there(site: Path, tmp_path: Path) -> None:
    found = sorted(site.rglob("*.html"))
    assert len(found) >= 2 + len(made.STORY) + 4
    for path in found:
        done = chromium(tmp_path, "--proxy-server=127.0.0.1:9", "--dump-dom", path.as_uri())
        assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], path
        assert "owned" not in re.findall(r"<title>(.*?)</title>", done.stdout)[0]
        for address in re.findall(r'(?:href|src|srcset)="([^"#:]+)"', done.stdout):
            assert (path.parent / address).is_file(), (path, address)


def test_filtering_leaves_the_rows_that_have_every_word(site: Path, tmp_path: Path) -> None:
    page = (site / "quick/leaderboard.html").read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    type_ = """<script>
      const box = document.querySelector(".filter input");
      const log = ["block ridge", "no such thing", ""].map((words) => {
        box.value = words;
        box.dispatchEvent(new Event("input"));
        return [...document.querySelector("table.filtered").tBodies[0].rows].filter((row) => !row.hidden).length;
      });
      document.title = log.join(" ");
    </script></body>"""
    path = tmp_path / "filtered.html"
    path.write_text(page.replace("</body>", type_), encoding="utf-8")
    dom = chromium(tmp_path / "profile", "--dump-dom", path.as_uri()).stdout
    title = re.search(r"<title>(\d+) 0 (\d+)</title>", dom)
    assert title is not None
    assert 0 < int(title.group(1)) < int(title.group(2)) == len(made.STORY) + 1


def test_sorting_keeps_what_is_missing_last(site: Path, tmp_path: Path) -> None:
    page = (site / "quick/leaderboard.html").read_text(encoding="utf-8")
    # The page's own policy forbids a second script, so that the one that presses the button needs it gone.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    press = """<script>
      const head = [...document.querySelectorAll("th[data-column]")].find(h => h.textContent.startsWith("What"));
      const seen = () => [...document.querySelector("table.sortable").tBodies[0].rows]
        .map(row => row.querySelector("th").dataset.sort).join(" ");
      const log = [seen()];
      for (let i = 0; i < 3; i++) { head.querySelector("button").click(); log.push(seen()); }
      document.title = log.join("|");
    </script></body>"""
    path = tmp_path / "pressed.html"
    path.write_text(page.replace("</body>", press), encoding="utf-8")
    dom = chromium(tmp_path / "profile", "--dump-dom", path.as_uri()).stdout
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    before, down, up, again = (part.split() for part in title.group(1).split("|"))
    kept = {label: story[0] for label, story in made.STORY.items()}
    assert down == [*sorted(kept, key=lambda label: -kept[label]), "my_defense"]
    assert up == [*sorted(kept, key=lambda label: kept[label]), "my_defense"]
    assert again == before != down


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1500, False), ("dark", 1500, True), ("narrow", 500, False)]
)
def test_it_is_painted(name: str, width: int, dark: bool, site: Path, tmp_path: Path) -> None:
    picture = tmp_path / f"{name}.png"
    more = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    chromium(tmp_path / "profile", f"--window-size={width},1400", f"--screenshot={picture}", *more,
             (site / "quick/leaderboard.html").as_uri())  # fmt: skip
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("L"), dtype=np.float64)
    assert pixels.shape == (1400, width)
    assert (np.median(pixels) < 60) if dark else (np.median(pixels) > 220)
    assert pixels.std() > 12, "the page is empty"


def overflow(site: Path, profile: Path, width: int, printed: bool) -> tuple[int, int]:
    """Pixels by which the page, and then its widest table, is wider than what shows it."""
    page = (site / "quick/leaderboard.html").read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    if printed:
        page = page.replace("@media print", "@media all")
    ask = """<script>
      for (const part of document.querySelectorAll("details.fold")) part.open = true;
      const wider = [...document.querySelectorAll(".scroll")].map(box => box.scrollWidth - box.clientWidth);
      document.title = [document.documentElement.scrollWidth - innerWidth, Math.max(...wider)].join(" ");
    </script></body>"""
    path = site / "quick" / "asked.html"
    path.write_text(page.replace("</body>", ask), encoding="utf-8")
    try:
        dom = chromium(profile, f"--window-size={width},900", "--dump-dom", path.as_uri()).stdout
    finally:
        path.unlink()
    title = re.search(r"<title>(-?\d+) (-?\d+)</title>", dom)
    assert title is not None
    return int(title.group(1)), int(title.group(2))


def test_a_narrow_page_does_not_scroll_sideways_but_its_tables_do(site: Path, tmp_path: Path) -> None:
    page, table = overflow(site, tmp_path, 500, printed=False)
    assert page <= 0 < table


def test_a_printed_page_holds_its_tables_whole(site: Path, tmp_path: Path) -> None:
    page, table = overflow(site, tmp_path, 1496, printed=True)  # A3 landscape within its margins, at 96 dots an inch
    assert page <= 0 and table <= 0
    chromium(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", (site / "quick/leaderboard.html").as_uri())
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_the_index_leads_to_the_suite(site: Path, tmp_path: Path) -> None:
    dom = chromium(tmp_path, "--dump-dom", (site / "index.html").as_uri()).stdout
    links = re.findall(r'href="([^"#]+\.html)"', dom)
    assert links and all((site / link).is_file() for link in links)
    assert "First: Stochastic local. Hides " in dom


def test_a_link_into_a_folded_part_opens_it(site: Path, tmp_path: Path) -> None:
    ask = """<script>addEventListener("load", () => {
      const part = document.getElementById("t1-numbers").closest("details");
      const before = part.open;
      addEventListener("hashchange", () => setTimeout(() => report(`${before} ${part.open}`)));
      document.querySelector('nav.contents a[href="#t1-numbers"]').click();
    });</script></body>"""
    path = changed(site / "quick/leaderboard.html", tmp_path / "asked.html", ask)
    assert reported(tmp_path, [path], 1400) == ["false true"]


def test_a_number_opens_to_its_record(site: Path, tmp_path: Path) -> None:
    """By a click, which touch and the Enter key are too; what opens can be copied as it is."""
    ask = """<script>
      const trace = document.querySelector("table.verdicts details.trace");
      const before = trace.querySelector("code").checkVisibility();
      trace.querySelector("summary").click();
      const code = trace.querySelector("code");
      report([before, code.checkVisibility(), code.textContent, getComputedStyle(code).userSelect].join(" "));
    </script></body>"""
    path = changed(site / "quick/leaderboard.html", tmp_path / "asked.html", ask)
    (found,) = reported(tmp_path, [path], 390)
    assert re.fullmatch(r"false true ppfr-bench show [0-9a-f]{12} all", found), found


def test_each_defense_is_a_card_on_a_phone(site: Path, tmp_path: Path) -> None:
    """Nothing of the short table is wider than the screen, each number is named by its head, and plots are narrow."""
    ask = """<script>addEventListener("load", () => {
      const rows = [...document.querySelectorAll("table.verdicts tbody tr")];
      const heads = new Set(rows.flatMap(r => [...r.querySelectorAll("td")].map(c => c.dataset.head)));
      const said = getComputedStyle(rows[0].querySelector("td.number"), "::before").content;
      report([rows.length, Math.max(...rows.map(r => r.getBoundingClientRect().right)) <= innerWidth, heads.size, said,
        rows.every(r => getComputedStyle(r).display === "grid"),
        document.querySelector("picture img").currentSrc.split("/").pop(),
        document.documentElement.scrollWidth <= innerWidth].join(" "));
    });</script></body>"""
    path = changed(site / "quick/leaderboard.html", site / "quick/asked.html", ask)
    try:
        found = reported(tmp_path, [path], 390)
    finally:
        path.unlink()
    assert found == [f'{len(made.STORY) + 1} true 5 "What recognizers keep" true pareto_narrow.svg true']


@pytest.mark.parametrize("width", [390, 1400])
def test_each_face_of_the_gallery_is_a_tile_of_its_picture(width: int, site: Path, tmp_path: Path) -> None:
    """Square, loaded, and at a place that the picture has; the table scrolls by itself."""
    ask = """<script>addEventListener("load", () => {
      document.getElementById("t1-gallery").closest("details").open = true;
      requestAnimationFrame(() => {
        const faces = [...document.querySelectorAll(".gallery tbody img")];
        const shown = faces.map(face => {
          const box = face.getBoundingClientRect(), place = Number(/x(\\d+)/.exec(face.className)[1]);
          const at = parseFloat(getComputedStyle(face).objectPosition);
          return face.complete && box.width > 50 && box.width === box.height && Math.abs(at + place * box.width) < 1
            && face.naturalWidth / face.naturalHeight > place;
        });
        report([faces.length, shown.every(Boolean), document.documentElement.scrollWidth <= innerWidth].join(" "));
      });
    });</script></body>"""
    path = changed(site / "quick/leaderboard.html", site / "quick/asked.html", ask)
    try:
        found = reported(tmp_path, [path], width)
    finally:
        path.unlink()
    assert found == [f"{3 * len(made.STORY)} true true"]


NAMES = "--enable-blink-features=ComputedAccessibilityInfo"  # What a screen reader is told, as ``computedName``.


def named(page: Path, folder: Path, script: str, width: int = 1400) -> str:
    """What a script with ``said(selector)``, the accessible names of what it selects, reports of a page."""
    helper = "const said = where => [...document.querySelectorAll(where)].map(part => part.computedName);"
    folder.mkdir(exist_ok=True)
    path = changed(page, page.with_name("asked.html"), f"<script>{{ {helper} {script} }}</script></body>")
    try:
        (found,) = reported(folder, [path], width, NAMES)
    finally:
        path.unlink()
    return found


def test_a_screen_reader_hears_which_number_of_which_defense(site: Path, tmp_path: Path) -> None:
    """The name of what opens a record, of a count and of a record's file, without the table around it."""
    ask = """
      for (const part of document.querySelectorAll("details")) part.open = true;
      requestAnimationFrame(() => report([
        said("table.verdicts tbody tr:first-child td.number details.trace > summary")[0],
        said("#t1-numbers tbody tr:first-child td.number details.trace > summary").slice(3, 5).join("; "),
        said("details.trace > summary").every(name => /[a-z]/i.test(name)),
      ].join("|")));"""
    first, wide, every = named(site / "quick/leaderboard.html", tmp_path, ask).split("|")
    title = made_title(site)
    assert re.fullmatch(rf"0\.\d\d, What recognizers keep, {re.escape(title)}", first), first
    assert all(one.endswith(f", {title}") and one.count(", ") >= 2 for one in wide.split("; ")), wide
    assert every == "true"
    counts = named(site / "quick/coverage.html", tmp_path / "c", "report(said('.matrix td > a').join('|'));").split("|")
    assert len(counts) > 20 and len(set(counts)) == len(counts)
    assert all(re.match(r"\d, \w", one) for one in counts), counts


def made_title(site: Path) -> str:
    """The defense of the first row of the short table."""
    page = (site / "quick/leaderboard.html").read_text(encoding="utf-8")
    found = re.search(r'<span class="point">1</span> <a [^>]*>(.*?)</a>', page)
    assert found is not None
    return found[1]


def test_a_head_of_a_table_is_read_without_arrows_definitions_and_verdicts(site: Path, tmp_path: Path) -> None:
    ask = """
      const arrows = said("button.sort").filter(name => /[↕↑↓]/.test(name)).length;
      report([arrows, said("table.verdicts thead th").join(", "), said("table.verdicts tbody th")[0]].join("|"));"""
    arrows, heads, row = named(site / "quick/leaderboard.html", tmp_path, ask).split("|")
    assert arrows == "0"
    least = "Images hidden at least, Identity hidden at least"
    assert heads == f"Rank, Defense, What recognizers keep, {least}, Warnings"
    assert row == made_title(site)


def test_names_of_links_are_told_apart_and_none_is_empty(site: Path, tmp_path: Path) -> None:
    """Two links of one name lead to one place; pictures have texts; the first Tab leads past lists of links."""
    ask = """
      for (const part of document.querySelectorAll("details.fold")) part.open = true;
      requestAnimationFrame(() => {
        const places = new Map(), bad = [];
        for (const link of document.querySelectorAll("a[href]")) {
          const name = link.computedName, place = link.href;
          if (!link.checkVisibility()) continue;
          const another = places.has(name) && places.get(name) !== place && !link.closest("td, th");
          if (!name || another) bad.push(name + place);
          places.set(name, place);
        }
        const silent = [...document.querySelectorAll("img, svg[role=img]")].filter(one => !one.computedName).length;
        const skip = document.querySelector("a[href]");
        const main = document.querySelector(skip.getAttribute("href"));
        report([bad.join(" ; "), silent, main.querySelectorAll("nav").length, document.documentElement.lang].join("|"));
      });"""
    for kind in ("index.html", "quick/leaderboard.html", "quick/coverage.html", "quick/defenses/pixelate.html"):
        assert named(site / kind, tmp_path / kind.replace("/", "_"), ask) == "|0|0|en", kind


def test_on_a_phone_a_warning_stays_within_the_name_of_its_attack(site: Path, tmp_path: Path) -> None:
    """It breaks, and does not lie over the numbers beside it; what is tapped by itself is 24 pixels high."""
    ask = """
      const over = [...document.querySelectorAll("tbody th .badge")].filter(badge =>
        badge.getBoundingClientRect().right > badge.closest("th").getBoundingClientRect().right).length;
      const low = [...document.querySelectorAll("a.definition:not([hidden]), details.trace > summary")]
        .map(part => part.getBoundingClientRect()).filter(box => box.width && box.height < 24).length;
      report([document.querySelectorAll("tbody th .badge").length > 0, over, low].join(" "));"""
    labels = ("pixelate", made_label(site))
    found = [named(site / f"quick/defenses/{label}.html", tmp_path / label, ask, 390) for label in labels]
    assert any(one.startswith("true") for one in found) and all(one.endswith(" 0 0") for one in found), found


def made_label(site: Path) -> str:
    """A defense whose page has a warning beside an attack."""
    pages_ = sorted((site / "quick/defenses").glob("*.html"))
    return next(page.stem for page in pages_ if 'badge gap">' in page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing(width: int, dark: bool, site: Path, tmp_path: Path) -> None:
    """On each kind of page, with all that can be folded open."""
    axe = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    run = """<script>
      for (const part of document.querySelectorAll("details")) part.open = true;
      const said = found => found.map(v => `${v.id}, ${v.nodes.length}: ${v.nodes[0].html.slice(0, 200)}`).join("; ");
      axe.run().then(found => report(`${found.passes.length > 10} ${said(found.violations)}`), error => report(error));
    </script></body>"""
    kinds = ("index.html", "quick/leaderboard.html", "quick/coverage.html", "quick/defenses/pixelate.html",
             "quick/attacks/unet.html")  # fmt: skip
    paths = [changed(site / kind, tmp_path / f"{at}.html", f"<script>{axe}</script>{run}")
             for at, kind in enumerate(kinds)]  # fmt: skip
    more = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    assert dict(zip(kinds, reported(tmp_path, paths, width, *more), strict=True)) == dict.fromkeys(kinds, "true ")


def changed(page: Path, into: Path, more: str) -> Path:
    """A copy without its policy, which forbids a second script, nor images that wait, and with more at its end."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    into.write_text(text.replace(' loading="lazy"', "").replace("</body>", more), encoding="utf-8")
    return into


def reported(folder: Path, paths: list[Path], width: int, *arguments: str) -> list[str]:
    """What the scripts of pages report, each opened in a frame of a width, as a window is never so narrow."""
    answers: dict[str, str] = {}
    done = threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answers[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(204)
            self.end_headers()
            if len(answers) == len(paths):
                done.set()

        def log_message(self, format: str, *values: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for at, path in enumerate(paths):
        report = (f"<script>const report = text => fetch('http://127.0.0.1:{server.server_port}/{at}', "
                  "{method: 'POST', mode: 'no-cors', body: text});</script>")  # fmt: skip
        path.write_text(path.read_text(encoding="utf-8").replace("<head>", f"<head>{report}", 1), encoding="utf-8")
    frames = "".join(f'<iframe src="{path.as_uri()}" style="width:{width}px;height:900px"></iframe>' for path in paths)
    holder = folder / "frames.html"
    holder.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frames}', encoding="utf-8")
    assert CHROMIUM is not None
    browser = subprocess.Popen(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}",
         "--window-size=1500,1200", "--remote-debugging-port=0", *arguments, holder.as_uri()],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert done.wait(240), f"{len(answers)} of {len(paths)} pages reported: {answers}"
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    return [answers[f"/{at}"] for at in range(len(paths))]
