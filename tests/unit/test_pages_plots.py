"""What the plots of a suite show, by releases, training and settings, and what its pages say beside them."""

from __future__ import annotations

from pathlib import Path

import made_records as made
from made_records import board_of, content, write

from ppfr_bench.leaderboard import losses, pages
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.settings_plot import SettingsPlot
from ppfr_bench.records.record import Component, Record


def plots(stem: str) -> set[str]:
    """The files of one plot."""
    return {f"{stem}.png", *(f"{stem}{ending}.svg" for ending in ("", "_dark", "_narrow", "_narrow_dark"))}


def several_releases() -> list[Record]:
    """One defense that averaging opens, and one that it does not."""
    found = []
    for label, later in (("averaged", 0.8), ("steady", 0.3)):
        found += made.simple(label, 0.5, 0.3)
        found.append(made.appearance(label, "averaging", {"lpips": later}, log={"shots": 4}))
    return found


def test_a_defense_that_releases_open_is_named_in_the_plot(tmp_path: Path) -> None:
    pages.publish(write(tmp_path / "r", several_releases()), "quick", tmp_path / "out")
    folder = tmp_path / "out/quick"
    assert {path.name for path in folder.glob("releases*")} == plots("releases")
    assert "averaged falls from 0.70 to 0.20" in (folder / "leaderboard.html").read_text()
    assert "steady falls" not in (folder / "leaderboard.html").read_text()


def test_a_defense_whose_averaging_failed_is_not_drawn_as_steady() -> None:
    failing = made.record(
        "steady", "attack", attack="averaging", measures="appearance", status="failed", reason="out of memory"
    )
    place = (failing.defense.label, failing.slot)
    records = [record for record in several_releases() if (record.defense.label, record.slot) != place]
    (section,) = board_of([*records, failing]).sections
    assert [row.defense for row, _ in losses.along_releases(section, "appearance")] == ["averaged"]


def test_what_training_bought_is_drawn_and_told(tmp_path: Path) -> None:
    """The best so far, as a share of the first answer; where nothing was gained no name stands in the plot."""
    records = []
    for label, curve in (("slow", [[0, 0.2], [50, 0.18], [100, 0.15]]), ("nothing", [[0, 0.2], [40, 0.21]])):
        log = {"steps": curve[-1][0], "validation": curve}
        records += made.simple(label, 0.5, 0.3)[:1]
        records.append(made.appearance(label, "unet", {"lpips": 0.3}, attack_config={"steps": 100}, log=log))
    store = write(tmp_path / "r", records)
    pages.publish(store, "quick", tmp_path / "out")
    folder = tmp_path / "out/quick"
    assert {path.name for path in folder.glob("training*")} == plots("training")
    assert "slow 0.75 after 100 of 100 steps" in (folder / "leaderboard.html").read_text()
    assert "nothing 1.00 after 40 of 100 steps" in (folder / "leaderboard.html").read_text()
    assert "| slow | 100 | 100 | 0.2000 | 0.1500 | 0.750 |" in (folder / "leaderboard.md").read_text()
    (section,) = board_of(records).sections
    assert section.longest == "unet" and losses.gaining(section) == ["slow"]


def test_training_against_controls_alone_is_not_drawn(tmp_path: Path) -> None:
    log = {"steps": 100, "validation": [[0, 0.2], [100, 0.1]]}
    record = made.appearance("a", "unet", {"lpips": 0.3}, attack_config={"steps": 100}, log=log, control=True)
    pages.publish(write(tmp_path / "r", [record]), "quick", tmp_path / "out")
    assert not list((tmp_path / "out/quick").glob("training*"))


def at(label: str, name: str, config: dict[str, object], kept: float, leaked: float) -> list[Record]:
    """The records of one setting of a defense, attacked for appearance and for identity."""
    records = [*made.simple(label, kept, leaked), made.identity(label, "linkage", "dlib_resnet", leaked / 2)]
    component = Component(label=label, name=name, version=1, config=config)
    return [record.model_copy(update={"defense": component}) for record in records]


def several_settings() -> list[Record]:
    """A number swept, with labels of its own; another that the suite lists; a word; and what is no dial at all."""
    return [
        *at("mosaic_block_16", "mosaic", {"block": 16, "soft": 0}, 0.4, 0.2),
        *at("mosaic", "mosaic", {"block": 8, "soft": 0}, 0.7, 0.5),
        *at("mosaic_block_4", "mosaic", {"block": 4, "soft": 0}, 0.9, 0.8),
        *at("noise_35", "noise", {"strength": 0.35}, 0.8, 0.6), *at("noise_70", "noise", {"strength": 0.7}, 0.6, 0.4),
        *at("keyed", "keyed", {"key": "session"}, 0.9, 0.9), *at("keyed_image", "keyed", {"key": "image"}, 0.2, 0.2),
        *at("two_one", "two", {"a": 1, "b": 1}, 0.5, 0.5), *at("two_other", "two", {"a": 2, "b": 2}, 0.5, 0.4),
        *at("alone", "alone", {"block": 8}, 0.5, 0.5),
        *at("one_folder", "precomputed", {"images": "a" * 64}, 0.5, 0.5),
        *at("two_folder", "precomputed", {"images": "b" * 64}, 0.5, 0.4),
    ]  # fmt: skip


def test_settings_of_one_parameter_are_a_dial_in_the_order_of_its_values() -> None:
    (section,) = board_of(several_settings()).sections
    assert [(dial.title, [dial.value(row) for row in dial.rows], dial.ordered) for dial in section.dials] == [
        ("keyed: key", ["image", "session"], False),
        ("mosaic: block", ["4", "8", "16"], True),
        ("noise: strength", ["0.35", "0.7"], True),
    ]


def test_dials_of_a_grid_are_told_apart_and_incomplete_rows_are_in_none() -> None:
    grid = [
        record
        for a in (1, 2)
        for b in (1, 2)
        for record in at(f"x_{a}_{b}", "x", {"a": a, "b": b, "c": 0}, 0.5 + a / 10, b / 10)
    ]
    (section,) = board_of(grid).sections
    assert [dial.title for dial in section.dials] == ["x: a (b = 1)", "x: a (b = 2)", "x: b (a = 1)", "x: b (a = 2)"]
    failing = [record for record in grid if (record.defense.label, record.cell) != ("x_2_2", "utility")]
    (section,) = Board("quick", tuple(failing), made.plan_of(grid)).sections
    assert [dial.title for dial in section.dials] == ["x: a", "x: b"]


def test_a_sweep_is_drawn_and_told(tmp_path: Path) -> None:
    store = write(tmp_path / "r", several_settings())
    pages.publish(store, "quick", tmp_path / "out")
    first = content(tmp_path / "out")
    folder = tmp_path / "out/quick"
    assert {path.name for path in folder.glob("settings*")} == plots("settings")
    page = (folder / "leaderboard.html").read_text()
    assert "mosaic: block: 4 retention 0.90, appearance privacy 0.20, identity privacy 0.60; 8 retention" in page
    assert "mosaic with block = 16" in page and "mosaic with block = 8" not in page
    lines = (folder / "leaderboard.md").read_text()
    assert "| mosaic | block | 16 | mosaic\\_block\\_16 | 0.40 [0.38, 0.42]" in lines
    assert "mosaic\\_block\\_4 (front, mosaic with block = 4)" in lines
    assert "--defense mosaic --set defense.mosaic.block=16" in (folder / "defenses/mosaic_block_16.html").read_text()
    assert "score noise_70 --suite quick --anew<" in (folder / "defenses/noise_70.html").read_text()
    pages.publish(store, "quick", tmp_path / "again")
    assert content(tmp_path / "again") == first
    pages.publish(write(tmp_path / "s", made.simple("a", 0.5, 0.5)), "quick", tmp_path / "out")
    assert not list(folder.glob("settings*"))


def test_settings_that_were_attacked_for_appearance_alone_have_one_panel() -> None:
    records = [record for record in several_settings() if record.sets != "identity"]
    assert len(SettingsPlot().panels(board_of(records))) == 1
    assert len(SettingsPlot().panels(board_of(several_settings()))) == 2
