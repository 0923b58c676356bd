"""The price of utility: of the row where nothing is protected, shown where it was measured, and never missed."""

from __future__ import annotations

import re
from pathlib import Path

import made_records as made
import numpy as np
import pytest

from ppfr_bench.leaderboard import pages
from ppfr_bench.leaderboard.board import Board, Section
from ppfr_bench.leaderboard.price import avoidable
from ppfr_bench.records.estimate import Estimate
from ppfr_bench.records.plan_file import PlannedAttack
from ppfr_bench.records.record import Record
from ppfr_bench.tracks.base import Privacy

PRICE, LINKED = 0.30, 0.80


def priced(**more: str) -> list[Record]:
    """A board with a template attack: undefended it regains less than all, as an embedding does not hold the face."""
    records, _ = made.quick()
    template = {"no_defense": PRICE, "blackout": 0.0, "gaussian_blur": 0.25, "local_contrast": 0.2}
    for defense, regained in template.items():
        control = made.STORY[defense][-1]
        drawn = {"lpips": made.around(regained, 0.01, 7)}
        leakage = {"lpips": regained, "ssim": regained / 2}
        records.append(
            made.appearance(defense, "template", leakage, draws=drawn, measures="template", control=control, **more)
        )
        for at, (recognizer, _) in enumerate(made.RECOGNIZERS):
            records.append(
                made.identity(
                    defense, "linkage_template", recognizer, regained * LINKED / PRICE - 0.1 * at, control=control,
                    attack_name="linkage", attack_config={"probe": "template"},
                )
            )  # fmt: skip
    return [one for one in records if one.defense.label in template]


def section_of(records: list[Record]) -> Section:
    (section,) = Board("quick", tuple(records), made.plan_of(records)).sections
    return section


def test_the_price_is_what_leaks_by_an_embedding_of_the_clear_image() -> None:
    prices = section_of(priced()).prices
    assert prices["appearance"].estimate.value == pytest.approx(PRICE)
    assert prices["appearance"].set_by == "template, lpips"
    low, high = prices["appearance"].estimate.interval or (0.0, 0.0)
    assert low < PRICE < high and high - low < 0.1
    assert prices["identity"].estimate.value == pytest.approx(LINKED, abs=0.01)
    assert prices["identity"].set_by == "linkage_template, rank_1, dlib_resnet"


def test_what_leaks_beyond_the_price_is_avoidable_and_never_below_0() -> None:
    section = section_of(priced())
    (column,) = (one for one in section.columns if one.name == "avoidable_appearance_leakage")
    found = {row.defense: column.of(row).estimate for row in section.rows}
    for label, (_, seen, ridge, unet, _, _) in made.STORY.items():
        if label in found:
            leaked = max(seen, ridge, unet)
            assert found[label].value == pytest.approx(max(leaked - PRICE, 0.0), abs=1e-6), label
            low, high = found[label].interval or (-1.0, -1.0)
            assert 0 <= low <= (found[label].value or 0.0) <= high <= 1
    assert found["blackout"].value == 0


def test_the_interval_of_what_is_avoidable_is_paired() -> None:
    """The same people are drawn for both: what moves them alike moves no difference."""
    together = made.around(0.5, 0.05, 3)
    kept = Estimate(0.4, (0.3, 0.5), 6000, draws=tuple(0.9 - one for one in together))
    price = Estimate(0.5, (0.4, 0.6), 6000, draws=together)
    found = avoidable(Privacy(kept, contenders=(kept,)), price)
    low, high = found.interval or (0.0, 0.0)
    assert found.value == pytest.approx(0.1) and high - low < 0.06
    apart = Estimate(0.5, (0.4, 0.6), 60, draws=made.around(0.5, 0.05, 4))
    low, high = avoidable(Privacy(kept, contenders=(kept,)), apart).interval or (0.0, 0.0)
    assert low == 0 and 0.2 < high < 0.4
    assert avoidable(Privacy(Estimate(None, reason="failed")), price).reason == "failed"


def test_pages_show_the_price_its_column_and_its_plot(tmp_path: Path) -> None:
    pages.publish(made.write(tmp_path / "results", priced()), "quick", tmp_path / "out")
    out = tmp_path / "out" / "quick"
    assert {path.name for path in out.glob("price*")} == {
        "price.png",
        *(f"price{ending}.svg" for ending in ("", "_dark", "_narrow", "_narrow_dark")),
    }
    html, markdown = (out / "leaderboard.html").read_text(), (out / "leaderboard.md").read_text()
    assert "appearance leakage 0.30" in re.sub(r"\s+", " ", html) and 'src="price.svg"' in html
    assert "**Price of utility:** appearance leakage 0.30" in markdown and "avoidable appearance leakage" in markdown
    assert "avoidable_appearance_leakage_low" in (out / "leaderboard.csv").read_text().splitlines()[0]


def test_a_board_without_the_attack_says_so_and_has_no_column_and_no_plot(tmp_path: Path) -> None:
    records, pictures = made.quick()
    pages.publish(made.write(tmp_path / "results", records, pictures), "quick", tmp_path / "out")
    out = tmp_path / "out" / "quick"
    html, markdown = (out / "leaderboard.html").read_text(), (out / "leaderboard.md").read_text()
    assert "<strong>Price of utility:</strong> not measured" in html
    assert "**Price of utility:** not measured." in markdown
    assert not list(out.glob("price*")) and "price.svg" not in html and "voidable" not in markdown
    assert not any("avoidable" in column.name for column in section_of(records).columns)


def test_where_only_a_failed_attack_could_tell_there_is_no_price() -> None:
    records = [one for one in priced() if one.attack is None or one.attack.label != "template"]
    records.append(
        made.record("no_defense", "attack", attack="template", measures="template", status="failed", reason="memory",
                    control=True)
    )  # fmt: skip
    assert "appearance" not in section_of(records).prices


def test_a_representation_has_the_price_of_the_images_of_its_data_set() -> None:
    records = priced()
    channels = made.simple("channels", 0.9, 0.6)
    records += [one.model_copy(update={"track": "representation"}) for one in channels]
    board = Board("quick", tuple(records), made.plan_of(records))
    images, representations = board.sections
    assert representations.prices["appearance"].estimate.value == images.prices["appearance"].estimate.value
    (column,) = (one for one in representations.columns if one.name == "avoidable_appearance_leakage")
    assert column.of(representations.rows[0]).estimate.value == pytest.approx(0.6 - PRICE)


def test_plans_that_were_written_before_stay_as_they_were() -> None:
    old = {"component": {"label": "unet", "name": "unet", "version": 3}, "scorer": "reconstruction"}
    attack = PlannedAttack.model_validate(old)
    assert not attack.from_embedding and "from_embedding" not in attack.model_dump()
    assert attack.model_copy(update={"from_embedding": True}).model_dump()["from_embedding"] is True


def test_the_line_of_the_plot_is_at_the_price(tmp_path: Path) -> None:
    from ppfr_bench.leaderboard.publishers.price_plot import PricePlot

    records = priced()
    panels = PricePlot().panels(Board("quick", tuple(records), made.plan_of(records)))
    assert [(panel.row, panel.column) for panel in panels] == [(0, 0), (0, 1)]
    from matplotlib.figure import Figure

    from ppfr_bench.leaderboard.publishers._plot import LIGHT

    axes = Figure().add_subplot()
    panels[0].draw(axes, LIGHT)
    assert np.allclose(axes.lines[0].get_ydata(), PRICE)
