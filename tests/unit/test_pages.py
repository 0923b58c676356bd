"""Pages as a pure function of records: same bytes twice, and no real face."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path
from typing import Any

import made_records as made
import pandas as pd
import pytest
from made_records import board_of, build, content, write
from PIL import Image
from rich.console import Console

from ppfr_bench import registry
from ppfr_bench.api import Guarantee
from ppfr_bench.errors import UserError
from ppfr_bench.leaderboard import pages, reported_figures, table, terminal, text
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.defense_pages import DefensePages
from ppfr_bench.leaderboard.publishers.faces import SuiteFaces
from ppfr_bench.leaderboard.publishers.gallery import GalleryPictures
from ppfr_bench.leaderboard.publishers.html import HtmlPage
from ppfr_bench.records.record import Record
from ppfr_bench.records.samples import name_of
from ppfr_bench.records.store import ResultStore

# Pages -------------------------------------------------------------------------------------------------------------

NAMES = {
    "leaderboard.html", "leaderboard.md", "leaderboard.csv", "leaderboard.parquet", "coverage.html", "pareto.png",
    *(f"pareto{ending}.svg" for ending in ("", "_dark", "_narrow", "_narrow_dark")), "faces.jpg",
}  # fmt: skip
FACES = {"faces.jpg"}
PARETO = {name for name in NAMES if name.startswith("pareto")}
ENTRIES = {
    *(f"defenses/{label}.{kind}" for label in made.STORY for kind in ("html", "jpg", "synthetic.faces.jpg")),
    *(f"attacks/{label}.html" for label in ("linkage", "ridge", "unet", "visual")),
    *(f"gallery/{label}.webp" for label in ("original_1", *(f"{label}.synthetic" for label in made.STORY))),
}


def html_of(folder: Path) -> dict[str, str]:
    """Every page of a suite by its path, which a hostile name may have had a part in."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.html"))}


def test_the_same_records_and_plan_give_the_same_bytes(tmp_path: Path) -> None:
    records, pictures = made.quick()
    plan = made.plan_of(records)
    one = write(tmp_path / "one", records, pictures, plan)
    two = write(tmp_path / "elsewhere" / "one", records[::-1], pictures, plan)
    pages.publish(one, "quick", tmp_path / "out")
    first = content(tmp_path / "out")
    assert set(first) == {f"quick/{name}" for name in NAMES | ENTRIES} | {"index.html"}
    pages.publish(two, "quick", tmp_path / "elsewhere" / "out")
    assert content(tmp_path / "elsewhere" / "out") == first
    pages.publish(one, "quick", tmp_path / "out")
    assert content(tmp_path / "out") == first
    for name in ("pareto.svg", "pareto_dark.svg"):
        assert b"<svg" in first[f"quick/{name}"] and b"<dc:date>" not in first[f"quick/{name}"]
    assert first["quick/pareto.svg"] != first["quick/pareto_dark.svg"]
    with Image.open(io.BytesIO(first["quick/pareto.png"])) as image:
        assert not image.info.keys() & {"Software", "Creation Time", "date"}
        assert min(image.size) > 300


def test_the_page_says_what_the_rows_say(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", records, pictures), "quick", tmp_path / "out")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out/quick/leaderboard.csv").read_text())))
    rows = build(records)
    assert [line["defense"] for line in lines] == [row.defense for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line["rank"] == ("" if row.rank is None else str(row.rank))
        assert row.score.value is not None
        assert float(line["score"]) == pytest.approx(row.score.value, abs=1e-5)
        assert line["appearance_privacy_set_by"] == row.privacies["appearance"].set_by
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    for row in rows:
        assert text.show(row.privacies["appearance"].estimate.key) in page
    assert "attack_not_converged" in page and "as expected" in page


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", [*records, *failed("broken")], pictures), "quick", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out/quick/leaderboard.parquet")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out/quick/leaderboard.csv").read_text())))
    assert list(table.columns) == list(lines[0]) and len(table) == len(lines)
    for (_, found), line in zip(table.iterrows(), lines, strict=True):
        assert found["defense"] == line["defense"] and str(found["front"]).lower() == line["front"]
        for name in ("rank", "score", "retention_low", "ssim_floor", "seconds"):
            assert pd.isna(found[name]) if line[name] == "" else found[name] == float(line[name])


def unlike_leakage() -> tuple[list[Record], dict[str, bytes]]:
    """A cloak's purifier, whose PSNR is in dB, and D_sys by two recognizers, beside an attack that leaks."""
    faces = made.strip(1, "rebuilt")
    records = [
        *made.simple("a", 0.9, 0.4), made.identity("a", "linkage", "dlib_resnet", 0.2),
        made.record(
            "a", "attack", attack="purifier", measures="purification", samples=faces,
            metrics={"psnr": made.value(28.165, metric="psnr"), "ssim": made.value(0.65, metric="ssim")},
        ),
        *(
            made.record(
                "a", "attack", attack="unlinkability", recognizer=name, measures="unlinkability",
                metrics={"d_sys": made.value(found, metric="d_sys"), "rank_1": made.value(0.9, metric="rank_1")},
            )
            for name, found in (("one", 0.31), ("two", 0.43))
        ),
    ]  # fmt: skip
    return records, {one.key: faces for one in records if one.attack is not None and one.attack.label == "purifier"}


def test_what_is_no_leakage_stands_under_its_own_name(tmp_path: Path) -> None:
    records, pictures = unlike_leakage()
    found = board(tmp_path, records, pictures)
    pages.publish(tmp_path, "quick", tmp_path / "out")
    folder = tmp_path / "out/quick"
    (line,) = csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text()))
    assert [name for name in line if name.startswith("leakage_")] == ["leakage_linkage", "leakage_unet"]
    others = {"psnr_purifier": "28.165", "ssim_purifier": "0.65", "d_sys_unlinkability": "0.43"}
    assert {name: line[name] for name in others} == others
    markdown = (folder / "leaderboard.md").read_text()
    assert "| PSNR 28.16, SSIM 0.65 |" in markdown and "| D\\_sys 0.43 |" in markdown
    page = (folder / "leaderboard.html").read_text()
    (matrix,) = re.findall(r'<div class="scroll wide matrix".*?</table>', page, re.DOTALL)
    shaded = re.findall(r'<td class="leak-\d+[^"]*"><details class="trace"><summary>([^<]+)<', matrix)
    assert shaded == ["0.40", "0.20"]
    assert '<td><details class="trace"><summary>PSNR 28.16<br>SSIM 0.65</summary>' in matrix
    assert '<td><details class="trace"><summary>D_sys 0.43</summary>' in matrix and "one: d_sys 0.31" in matrix
    assert "leakage 28" not in (folder / "defenses/a.html").read_text() + page
    console = Console(file=io.StringIO(), width=200)
    terminal.explain(found.rows[0], console)
    leaking, _, rest = console.file.getvalue().partition("no leakage, by cell:")  # type: ignore[attr-defined]
    assert "28.1" not in leaking and "d_sys" not in leaking and "purifier: psnr 28.16" in rest


def test_what_is_published_stands_beside_what_was_measured(tmp_path: Path) -> None:
    records = [
        *made.simple("partialface", 0.5, 0.5), *made.simple("unpublished", 0.5, 0.5),
        *made.simple("other_settings", 0.5, 0.5, defense_name="partialface"),
        made.identity("partialface", "linkage", "dlib_resnet", 0.75),
    ]  # fmt: skip
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    theirs = reported_figures.reported_figures()["partialface"]
    assert theirs.accuracy and theirs.attack
    (one,) = reported_figures.comparisons(build(records))
    assert one.row.defense == "partialface" and one.reported is theirs
    assert one.accuracy.value == pytest.approx(0.5 + 0.49 * 0.5)
    assert one.worst is not None and one.worst.worst.value == 0.75
    for name in ("leaderboard.html", "defenses/partialface.html"):
        page = (tmp_path / "out/quick" / name).read_text()
        assert theirs.accuracy.figure in page and theirs.attack.source in page
    assert "Reported by authors" in (tmp_path / "out/quick/leaderboard.md").read_text()
    for label in ("unpublished", "other_settings"):
        assert "Best attack known" not in (tmp_path / f"out/quick/defenses/{label}.html").read_text()


def test_every_claim_is_of_a_defense_that_is_here() -> None:
    assert set(reported_figures.reported_figures()) <= set(registry.names("defense"))


def test_a_moved_canary_is_said_first(tmp_path: Path) -> None:
    records = [*made.simple("a", 0.5, 0.5), made.canary("dlib_resnet", 0.90, 0.986, moved=True)]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    assert "canary moved" in page and page.index("canary moved") < page.index("<table")
    assert "canary moved" in (tmp_path / "out/quick/leaderboard.md").read_text()


def failed(defense: str) -> list[Record]:
    return [
        made.record(defense, "utility", recognizer="one", status="failed", reason="RuntimeError: no face found"),
        made.record(defense, "attack", attack="unet", measures="appearance", status="skipped", reason="npm is missing"),
    ]


@pytest.mark.parametrize(
    ("records", "files"),
    [
        (made.simple("only", 0.5, 0.5), NAMES - FACES),
        (failed("a") + failed("b"), NAMES - FACES - PARETO),
        ([made.canary("one", 0.98, 0.98)], NAMES - FACES - {"leaderboard.parquet"} - PARETO),
        (
            [
                made.utility("a", "one", None, reason="clear is at chance"),
                made.appearance("a", "unet", {"lpips": None}),
            ],
            NAMES - FACES - PARETO,
        ),
        (made.simple("no_defense", 1.0, 1.0, control=True), NAMES - FACES),
    ],
    ids=["one defense", "all failed", "canary alone", "all null", "control alone"],
)
def test_whatever_is_missing_there_is_a_page(records: list[Record], files: set[str], tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "quick").iterdir() if path.is_file()} == files
    found = html_of(tmp_path / "out" / "quick")
    for link in re.findall(r'(?:href|src|srcset)="([^"#:]+)"', found["leaderboard.html"]):
        assert (tmp_path / "out" / "quick" / link).is_file(), link
    for record in records:
        label = record.defense.label
        assert record.cell == "canary" or f"defenses/{label}.html" in found
        assert record.attack is None or f"attacks/{record.attack.label}.html" in found
        if record.status != "ok":
            assert record.reason in found["coverage.html"] and record.reason in found[f"defenses/{label}.html"]
    console = Console(file=io.StringIO(), width=200)
    terminal.print_table(build(records), console)
    for what in (*records, *build(records)):
        terminal.explain(what, console)
    assert "None" not in console.file.getvalue().replace("None was", "")  # type: ignore[attr-defined]


def test_no_records_at_all(tmp_path: Path) -> None:
    """All that is planned is missing; where nothing is planned either, there is what to type."""
    planned = made.plan_of(made.simple("a", 0.5, 0.5))
    ResultStore(tmp_path / "r").write_plan(planned)
    pages.publish(tmp_path / "r", "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    assert "no records of this suite yet" in page and "incomplete, 0 of 2" in page
    assert "no records of this suite yet" in (tmp_path / "out/quick/coverage.html").read_text()
    assert "There are no records" in (tmp_path / "out/quick/leaderboard.md").read_text()
    nothing = planned.model_copy(update={"tables": {}})
    assert table.build([], nothing) == []
    console = Console(file=io.StringIO())
    terminal.print_table([], console)
    assert "No defense has been measured" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no results at"):
        pages.publish(tmp_path / "r", "smoke", tmp_path / "out")
    with pytest.raises(UserError, match="not the name of a suite"):
        pages.publish(tmp_path / "r", "../r", tmp_path / "out")


def test_records_without_a_plan_are_an_error_that_says_what_to_type(tmp_path: Path) -> None:
    root = write(tmp_path, made.simple("a", 0.5, 0.5))
    (root / "quick" / "plan.json").unlink()
    with pytest.raises(UserError, match=r"no plan\.json") as error:
        pages.publish(root, "quick", tmp_path / "out")
    assert "ppfr-bench run quick" in error.value.hint


def test_records_of_no_cell_of_the_plan_are_listed_and_change_no_page_but_coverage(tmp_path: Path) -> None:
    records, pictures = made.quick()
    root = write(tmp_path / "r", records, pictures)
    pages.publish(root, "quick", tmp_path / "out")
    before = content(tmp_path / "out/quick")
    (strange,) = made.simple("pixelate", 0.9, 0.1, revision="another")[:1]
    ResultStore(root).write(strange)
    pages.publish(root, "quick", tmp_path / "out")
    after = content(tmp_path / "out/quick")
    differing = {name for name in before if before[name] != after[name]}
    assert differing == {"coverage.html", "leaderboard.html", "leaderboard.md"} and set(after) == set(before)
    assert "1 record is of no cell of the plan of quick" in after["leaderboard.html"].decode()
    assert strange.key[:12] in after["coverage.html"].decode()
    assert strange.key[:12] not in after["leaderboard.html"].decode()
    console = Console(file=io.StringIO(), width=200)
    found = pages.load_board(ResultStore(root), "quick")
    terminal.print_table(found.rows, console, found.note)
    assert "1 record is of no cell of the plan" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_page_that_has_no_content_any_more_is_removed(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(write(tmp_path / "r", records, pictures), "quick", tmp_path / "out")
    pages.publish(write(tmp_path / "s", failed("a")), "quick", tmp_path / "out")
    left = {str(path.relative_to(tmp_path / "out/quick")) for path in (tmp_path / "out/quick").rglob("*.*")}
    assert left == NAMES - FACES - PARETO | {"defenses/a.html", "attacks/unet.html"}


def test_a_publisher_in_a_file_of_its_own_publishes_and_is_tidied_up_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_added", dict(registry._added))
    path = tmp_path / "names_only.py"
    path.write_text(
        """from ppfr_bench.leaderboard.publishers.base import Publisher


class Names(Publisher):
    name = "pareto_names*"

    def publish(self, board):
        return {f"pareto_names_{row.defense}.txt": row.title.encode() for row in board.rows}


PUBLISHER = Names
""",
        encoding="utf-8",
    )
    registry.add_plugin(path)
    try:
        for label in ("first", "second"):
            written = pages.publish(write(tmp_path / label, made.simple(label, 0.5, 0.5)), "quick", tmp_path / "out")
            assert tmp_path / f"out/quick/pareto_names_{label}.txt" in written
            assert [found.name for found in (tmp_path / "out/quick").glob("*.txt")] == [f"pareto_names_{label}.txt"]
    finally:
        del sys.modules["ppfr_bench.plugins.names_only"]


# Samples -----------------------------------------------------------------------------------------------------------


def board(root: Path, records: list[Record], pictures: dict[str, bytes]) -> Board:
    return pages.load_board(ResultStore(write(root, records, pictures)), "quick")


def test_no_face_of_a_real_person_is_shown(tmp_path: Path) -> None:
    records, pictures = made.quick()
    real = [record.model_copy(update={"real_people": True}) for record in records]
    assert GalleryPictures().publish(board(tmp_path / "a", records, pictures)) != {}
    assert GalleryPictures().publish(board(tmp_path / "b", real, pictures)) == {}
    one_real = [records[0].model_copy(update={"real_people": True}), *records[1:]]
    assert GalleryPictures().publish(board(tmp_path / "c", one_real, pictures)) == {}
    for shown, root, of in ((True, "a", records), (False, "b", real), (False, "c", one_real)):
        shown_board = Board("quick", tuple(of), made.plan_of(of), ResultStore(tmp_path / root))
        files = DefensePages().publish(shown_board)
        assert any(path.endswith(".jpg") for path in files) is shown
        assert bool(SuiteFaces().publish(shown_board)) is shown


def test_a_picture_that_is_not_the_recorded_one_is_not_shown(tmp_path: Path) -> None:
    records, pictures = made.quick()
    assert GalleryPictures().publish(board(tmp_path / "a", records, pictures)) != {}
    swapped = dict.fromkeys(pictures, made.strip(3, "clear"))
    assert GalleryPictures().publish(board(tmp_path / "b", records, swapped)) == {}
    found = board(tmp_path / "c", records, pictures)
    for sheet in (tmp_path / "c").rglob("*.jpg"):
        sheet.write_bytes(b"not a picture")
    assert GalleryPictures().publish(found) == {}


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff" + bytes(100)])
def test_a_store_that_gives_no_picture_shows_none(content: bytes) -> None:
    class Store:
        def strip(self, record: Record) -> bytes:
            return content

        def suites(self) -> list[str]:
            return ["quick"]

    records, _ = made.quick()
    given: Any = Store()
    assert GalleryPictures().publish(Board("quick", tuple(records), made.plan_of(records), given)) == {}


def test_the_faces_of_another_seed_are_not_shown(tmp_path: Path) -> None:
    records, pictures = made.quick()
    again, others = made.quick(seed=1)
    faces = {key: made.strip(9, "clear") for key in others}
    again = [
        record.model_copy(update={"samples": name_of(faces[record.key])}) if record.key in faces else record
        for record in again
    ]
    once = GalleryPictures().publish(board(tmp_path / "a", records, pictures))
    assert GalleryPictures().publish(board(tmp_path / "b", [*records, *again], pictures | faces)) == once != {}


def test_privacy_against_more_releases_is_never_larger(tmp_path: Path) -> None:
    """The attacker who holds sixteen may use one: what it regains with at most so many."""
    records = [
        made.appearance("a", "unet", {"lpips": 0.5}),
        made.appearance("a", "averaging_4", {"lpips": 0.45}, log={"shots": 4}),
        made.appearance("a", "averaging_16", {"lpips": 0.8}, log={"shots": 16}),
        made.identity("a", "linkage", "one", 0.2),
        made.utility("a", "one", 0.9),
        made.record(
            "a", "attack", attack="nearest", measures="control",
            metrics={"lpips": made.value(0.31), "ssim": made.value(0.42)},
        ),
    ]  # fmt: skip
    found = board(tmp_path, records, {})
    (section,) = found.sections
    assert section.shots == [1, 4, 16] and section.baselines == ["nearest"]
    (row,) = section.rows
    assert [one.value for one in section.against(row, "appearance")] == pytest.approx([0.5, 0.5, 0.2])
    assert [one.value for one in section.against(row, "identity")] == pytest.approx([0.8] * 3)
    pages.publish(tmp_path, "quick", tmp_path / "out")
    for name in ("leaderboard.html", "leaderboard.md"):
        page = (tmp_path / "out/quick" / name).read_text()
        assert "number of releases" in page and "0.310" in page and "0.420" in page


def test_one_release_for_all_needs_no_section(tmp_path: Path) -> None:
    (section,) = board(
        tmp_path, [made.appearance("a", "unet", {"lpips": 0.5}), made.utility("a", "one", 0.9)], {}
    ).sections
    assert section.shots == [] and section.baselines == []


def test_a_guarantee_is_shown_wherever_the_row_is(tmp_path: Path) -> None:
    claimed = Guarantee(epsilon=1.5, per="pixels", pixels=16)
    records = [record.model_copy(update={"guarantee": claimed}) for record in made.simple("dp_pix", 0.5, 0.5)]
    pages.publish(write(tmp_path / "r", records), "quick", tmp_path / "out")
    for name in ("leaderboard.html", "leaderboard.md", "leaderboard.csv"):
        assert "epsilon 1.5 per 16 pixels" in (tmp_path / "out/quick" / name).read_text()


def test_a_page_of_many_rows_stays_small() -> None:
    """Thirty-one rows, as the quick suite has at its largest: the page with all that is folded is under 2 MB."""
    records, _ = made.quick()
    one = [record for record in records if record.defense.label == "stochastic_local"]
    found = list(records)
    for at in range(31 - len(made.STORY)):
        for record in one:
            component = record.defense.model_copy(update={"label": f"another_{at:02d}", "name": f"another_{at:02d}"})
            found.append(record.model_copy(update={"defense": component, "key": f"{len(found):064x}"}))
    board = board_of(found)
    assert len(board.rows) == 31
    page = HtmlPage().publish(board)["leaderboard.html"]
    assert 200_000 < len(page) < 2_000_000
