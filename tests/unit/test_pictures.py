"""Pictures on pages: the faces that are shown are those of the records, beside the right numbers."""

from __future__ import annotations

import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from PIL import Image

from ppfr_bench.leaderboard import pages
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.inline_plots import deviate
from ppfr_bench.leaderboard.publishers import _plot
from ppfr_bench.leaderboard.publishers._samples import FACE, stretched
from ppfr_bench.leaderboard.publishers.det_plot import DetPlot
from ppfr_bench.leaderboard.publishers.faces import GAP, FaceStrip, first_strip, release_strip, suite_strips
from ppfr_bench.leaderboard.publishers.gallery import SIDE, galleries
from ppfr_bench.leaderboard.rendering import leak_entry
from ppfr_bench.leaderboard.text import show
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

Made = tuple[list[Record], dict[str, bytes]]


def add(
    found: Made, defense: str, attack: str, leaked: float, colour: int, wants: int = 1, uses: int = 1, **more: Any
) -> None:
    """The record of an attack that wants so many releases and uses so many, and its faces of a colour."""
    picture = made.strip(colour, "released" if attack == "visual" else "rebuilt")
    record = made.appearance(
        defense, attack, {"lpips": leaked}, draws={"lpips": made.around(leaked, 0.01)}, samples=picture,
        log={"shots": uses}, attack_name=attack.partition("_")[0], attack_config={"releases": wants}, **more,
    )  # fmt: skip
    found[0].append(record)
    found[1][record.key] = picture


def several_releases() -> Made:
    """One defense that draws anew for each release, and one that does not."""
    found: Made = ([], {})
    for label, control in (("no_defense", True), ("steady", False), ("fresh", False)):
        found[0].append(made.utility(label, "dlib_resnet", 0.9, draws=made.around(0.9, 0.01), control=control))
        add(found, label, "visual", 1.0 if control else 0.1, 0 if control else 1, control=control)
        add(found, label, "unet", 1.0 if control else 0.3, 2, control=control)
        used = 4 if label == "fresh" else 1
        add(found, label, "averaging_4", 0.6 if used == 4 else 0.3, 3, 4, used, control=control)
        add(found, label, "averaging_16", 0.5 if used == 4 else 0.3, 4, 16, 16 if used == 4 else 1, control=control)
    return found


def board_of(root: Path, found: Made) -> Board:
    return pages.load_board(ResultStore(made.write(root, *found)), found[0][0].suite)


def strip_of(board: Board, label: str) -> FaceStrip:
    (section,) = board.sections
    (row,) = (row for row in section.rows if row.defense == label)
    strip = release_strip(board, section, row)
    assert strip is not None
    return strip


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)


def alike(one: Any, other: Any) -> bool:
    """The same picture, but for what JPEG and WebP leave out."""
    return bool(one.shape == other.shape and np.abs(one - other).mean() < 6)


def face(colour: int, person: int = 0, kind: str = "rebuilt") -> Any:
    return pixels(made.strip(colour, kind))[:, FACE * person : FACE * (person + 1)]


def test_a_defense_that_draws_anew_is_shown_from_each_number_of_releases_that_regains_more(tmp_path: Path) -> None:
    strip = strip_of(board_of(tmp_path, several_releases()), "fresh")
    assert [title for _, title in strip.captions] == [
        "original", "released", "from 1 release: leakage 0.30", "from 4 releases: leakage 0.60",
    ]  # fmt: skip
    assert "16 releases: no attack recovers more. 64 releases: not measured in this suite." in strip.said
    assert "U-Net" in strip.said and "(from 1)" in strip.said
    shown = pixels(strip.jpeg())
    assert shown.shape == (strip.height, strip.width, 3)
    for column, colour in ((2, 2), (3, 3)):
        for line, person in ((0, 0), (1, 1)):
            left, top = column * (FACE + GAP), line * (FACE + GAP)
            assert alike(shown[top : top + FACE, left : left + FACE], face(colour, person))


def test_of_a_defense_whose_releases_are_alike_one_is_shown_and_the_page_says_why(tmp_path: Path) -> None:
    board = board_of(tmp_path, several_releases())
    strip = strip_of(board, "steady")
    assert [title for _, title in strip.captions] == ["original", "released", "from 1 release: leakage 0.30"]
    assert "4 and 16 releases: no more than one, as every release of a photo is the same." in strip.said
    pages.publish(tmp_path, "quick", tmp_path / "out")
    page = unescape((tmp_path / "out/quick/defenses/steady.html").read_text())
    assert page.count(strip.said) == 2, "below the picture, and in its alternative text"


def test_faces_that_were_not_recorded_are_not_taken_for_no_gain(tmp_path: Path) -> None:
    records, pictures = several_releases()
    without = [
        record.model_copy(update={"samples": ""})
        if record.attack is not None and record.attack.label == "averaging_4" else record
        for record in records
    ]  # fmt: skip
    strip = strip_of(board_of(tmp_path, (without, pictures)), "fresh")
    assert "4 releases: no faces were recorded." in strip.said
    assert strip.captions[-1][1] == "from 16 releases: leakage 0.50"


def test_the_head_of_a_suite_shows_every_number_of_releases_that_it_has(tmp_path: Path) -> None:
    """Where more releases tell no more, the face is that of fewer."""
    board = board_of(tmp_path, several_releases())
    (strip,) = suite_strips(board)
    assert strip is not None
    assert strip.lines == 4 and "at most 1, 4 and 16 releases of one photo" in strip.said
    assert "Nothing is rebuilt from 64 releases in this suite." in strip.said
    assert "Fresh (leakage 0.30 from 1, 0.60 from 4 and 0.60 from 16)" in strip.alt
    shown = pixels(strip.jpeg())
    at = [title for _, title in strip.captions].index("Fresh") * (FACE + GAP)
    for line, colour in ((1, 2), (2, 3), (3, 3)):
        top = line * (FACE + GAP)
        assert alike(shown[top : top + FACE, at : at + FACE], face(colour))
    pages.publish(tmp_path, "quick", tmp_path / "out")
    assert "(faces.jpg)" in (tmp_path / "out/quick/leaderboard.md").read_text()


def test_the_page_of_all_suites_shows_the_first_row_that_has_faces(tmp_path: Path) -> None:
    board = board_of(tmp_path, several_releases())
    found = first_strip(board)
    assert found is not None
    strip, title = found
    (first,) = [row for row in board.sections[0].rows if row.rank is not None][:1]
    assert title == first.title and strip.file == f"{first.defense}.synthetic.faces.jpg"
    pages.publish(tmp_path, "quick", tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert f'src="quick/defenses/{strip.file}"' in page and "from 1 release: leakage 0.30" in page
    assert (tmp_path / "out/quick/defenses" / strip.file).is_file()


def test_a_suite_without_faces_has_no_picture_on_the_page_of_all(tmp_path: Path) -> None:
    pages.publish(made.write(tmp_path, made.simple("a", 0.5, 0.5)), "quick", tmp_path / "out")
    assert "faces.jpg" not in (tmp_path / "out/index.html").read_text()


def of_tones(tones: Any) -> Image.Image:
    return Image.fromarray(np.asarray(tones, dtype=np.uint8))


def test_a_flat_face_is_stretched_alike_in_all_channels() -> None:
    """A pattern of few tones becomes visible, a bright spot does not hide that the rest is flat, grey stays grey."""
    tones = np.full((FACE, FACE, 3), 120)
    tones[::2] = 140
    tones[:2, :2] = 250
    (shown,), changed = stretched([of_tones(tones)])
    found = np.asarray(shown, dtype=np.int64)
    assert changed and set(np.unique(found[4:])) == {0, 255}
    assert np.ptp(found, axis=2).max() == 0


def test_what_differs_by_one_tone_is_not_blown_up_to_black_and_white() -> None:
    tones = np.full((FACE, FACE, 3), 128)
    tones[::2, :, 0] = 127
    (shown,), changed = stretched([of_tones(tones)])
    assert changed and 0 < np.ptp(np.asarray(shown, dtype=np.int64)) <= 16


def test_a_dark_face_in_colour_and_an_empty_one_stay_as_they_are() -> None:
    brown = np.full((FACE, FACE, 3), (100, 70, 40))
    brown[::2] -= 10
    for tones in (brown, np.zeros((FACE, FACE, 3))):
        (shown,), changed = stretched([of_tones(tones)])
        assert not changed and (np.asarray(shown) == tones.astype(np.uint8)).all()


# The gallery --------------------------------------------------------------------------------------------------------


def test_each_place_of_the_gallery_has_the_face_and_the_number_of_its_record(tmp_path: Path) -> None:
    board = board_of(tmp_path, several_releases())
    (gallery,) = galleries(board)
    (section,) = board.sections
    assert gallery is not None and gallery.original is not None
    assert [line.row for line in gallery.lines] == list(section.rows)
    assert [attack.label for attack in gallery.attacks] == ["visual", "unet", "averaging_4", "averaging_16"]
    pages.publish(tmp_path, "quick", tmp_path / "out")
    colours = {"visual": 1, "unet": 2, "averaging_4": 3, "averaging_16": 4}
    for line in gallery.lines:
        sheet = Image.open(tmp_path / "out/quick" / line.file).convert("RGB")
        assert sheet.size == (4 * SIDE, SIDE)
        for attack, tile in zip(gallery.attacks, line.tiles, strict=True):
            assert tile is not None and tile.cell.attack == attack.label and tile.face is not None
            at = tile.place * SIDE
            shown = sheet.crop((at, 0, at + SIDE, SIDE)).resize((FACE, FACE), Image.Resampling.BICUBIC)
            if line.row.defense != "no_defense":
                kind = "released" if attack.released else "rebuilt"
                assert alike(np.asarray(shown, dtype=np.float64), face(colours[attack.label], 1, kind))


def places(page: str) -> list[tuple[str, str, str]]:
    """Of each face of a gallery: where it leads to, its alternative text, and the number below it."""
    found = re.findall(
        r'<a href="([^"]+)"><img class="x\d+" src="gallery/[^"]+" loading="lazy" alt="([^"]*)">([^<]*)', page
    )
    return [(link, unescape(alt), value) for link, alt, value in found]


def test_a_face_leads_to_its_attack_on_the_page_of_its_defense(tmp_path: Path) -> None:
    board = board_of(tmp_path, several_releases())
    pages.publish(tmp_path, "quick", tmp_path / "out")
    found = places((tmp_path / "out/quick/leaderboard.html").read_text())
    assert len(found) == 12
    assert ("defenses/fresh.html#t1-averaging_4", "Fresh, Averaging several releases, releases 4:", "0.60") in found
    for link, _, value in found:
        page, anchor = link.split("#")
        label, attack = Path(page).stem, anchor.partition("-")[2]
        text = (tmp_path / "out/quick" / page).read_text()
        assert text.count(f'id="{anchor}"') == 1
        (row,) = (row for row in board.rows if row.defense == label)
        assert value == f"{leak_entry(row, attack).estimate.value:.2f}"


def test_where_recognizers_differ_the_face_is_of_the_record_whose_number_stands_below_it(tmp_path: Path) -> None:
    found: Made = ([made.utility("a", "one", 0.9), made.utility("b", "one", 0.8)], {})
    for label in ("a", "b"):
        for recognizer, leaked, colour in (("one", 0.2, 1), ("two", 0.7, 2), ("three", 0.4, 3)):
            add(found, label, "unet", leaked, colour, recognizer=recognizer, measures="template")
    for record in found[0]:
        record.__dict__["key"] = made.digest([record.key, record.recognizer.label if record.recognizer else ""])
    pictures = {
        record.key: made.strip({"one": 1, "two": 2, "three": 3}[record.recognizer.label], "rebuilt")
        for record in found[0] if record.attack is not None and record.recognizer is not None
    }  # fmt: skip
    (gallery,) = galleries(board_of(tmp_path, (found[0], pictures)))
    assert gallery is not None and gallery.original is None
    for line in gallery.lines:
        (tile,) = line.tiles
        assert tile is not None and tile.face is not None
        assert tile.cell.recognizer == "two" and tile.cell.worst.value == pytest.approx(0.7)
        assert alike(np.asarray(tile.face, dtype=np.float64), face(2, 1))


def test_a_gap_of_the_gallery_says_why(tmp_path: Path) -> None:
    records, pictures = several_releases()
    place = ("fresh", ("attack", "averaging_16", ""))
    failing = made.record(
        "fresh", "attack", attack="averaging_16", attack_name="averaging", measures="appearance", status="failed",
        reason="out of memory", attack_config={"releases": 16},
    )  # fmt: skip
    kept = [record for record in records if (record.defense.label, record.slot) != place]
    made.write(tmp_path, [*kept, failing], pictures)
    pages.publish(tmp_path, "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    assert len(places(page)) == 11
    assert '<td class="missing">–<span class="hidden"> out of memory</span></td>' in page


# The heat map -------------------------------------------------------------------------------------------------------


def test_every_number_of_the_heat_map_opens_to_its_record(tmp_path: Path) -> None:
    records, pictures = made.quick()
    board = board_of(tmp_path, (records, pictures))
    pages.publish(tmp_path, "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    (matrix,) = re.findall(r'<div class="scroll wide matrix".*?</table>', page, re.DOTALL)
    cells = re.findall(
        r'<td class="leak-\d+[^"]*"><details class="trace"><summary>([^<]+)</summary>(.*?)</details>', matrix
    )
    (section,) = board.sections
    expected = [(row, attack) for row in section.rows for attack in section.attacks]
    assert len(cells) == len(expected) == 32
    for (value, opened), (row, attack) in zip(cells, expected, strict=True):
        entry = leak_entry(row, attack.label)
        assert entry.key in {cell.key for cell in row.cells if cell.attack == attack.label}
        assert value == f"{entry.estimate.value:.2f}" and f"<code>{show(entry.key)}</code>" in opened
        link, record = re.findall(r'href="([^"]+)"', opened)
        target, anchor = link.split("#")
        assert f'id="{anchor}"' in (tmp_path / "out/quick" / target).read_text()
        assert entry.key in (tmp_path / "out/quick" / record).read_text()
    setting = sum(privacy.attack == attack.label for row, attack in expected for name, privacy in row.privacies.items()
                  if name == attack.sets)  # fmt: skip
    assert matrix.count("sets the privacy</span>") == setting > 0


# Error trade-offs ---------------------------------------------------------------------------------------------------


def kept(defense: str, recognizer: str, det: list[tuple[float, float]], **more: Any) -> Record:
    scores = {"low": 0.0, "high": 1.0, "genuine": [1] * 40, "impostor": [2] * 40, "impostor_pairs": 80, "det": det}
    record = made.utility(defense, recognizer, 0.9, **more)
    return record.model_copy(update={"log": {"scores": scores}})


def test_error_trade_offs_are_drawn_of_the_recognizers_that_nobody_trained_on(tmp_path: Path) -> None:
    records = [
        kept("good", "one", [(0.5, 0.01), (0.1, 0.05)]), kept("bad", "one", [(0.5, 0.2), (0.1, 0.4)]),
        kept("good", "seen", [(0.5, 0.0), (0.1, 0.1)], surrogate=True), kept("flat", "one", [(0.0, 0.0), (0.0, 0.0)]),
        *(made.appearance(label, "unet", {"lpips": 0.5}) for label in ("good", "bad", "flat")),
    ]  # fmt: skip
    board = board_of(tmp_path, (records, {}))
    (section,) = board.sections
    assert {label: {row.defense for row, _ in curves} for label, curves in section.curves.items()} == {
        "one": {"good", "bad"}
    }
    (panel,) = DetPlot().panels(board)
    with _plot.plain_style():
        (axes,) = _plot.drawn([panel], _plot.NARROW, _plot.NARROW).axes
    drawn = {tuple(float(f"{y:.6f}") for y in line.get_ydata()) for line in axes.lines}
    for rates in ((0.01, 0.05), (0.2, 0.4)):
        assert tuple(float(f"{deviate(rate):.6f}") for rate in rates) in drawn
    names = [text.get_text().strip() for text in axes.texts]
    assert sorted(names) == sorted(f"{section.number(row)} {row.defense}" for row, _ in section.curves["one"])
    pages.publish(tmp_path, "quick", tmp_path / "out")
    page = (tmp_path / "out/quick/leaderboard.html").read_text()
    bad = next(section.number(row) for row in section.rows if row.defense == "bad")
    assert f"{bad} bad rejects 40.0 % of genuine pairs where 10.0 % of impostors are accepted" in page
    assert len(list((tmp_path / "out/quick").glob("det*"))) == 5


def test_without_curves_there_is_no_such_plot(tmp_path: Path) -> None:
    assert DetPlot().publish(board_of(tmp_path, several_releases())) == {}
