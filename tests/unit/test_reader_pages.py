"""The pages that explain boards print what is on them, and their sentences hold."""

from __future__ import annotations

import re
from pathlib import Path

import face_picture
import numpy as np
import pytest
from measured_pages import leakage, metric, most_leaked, protected_mean, protected_photographs, records, rows
from PIL import Image
from reader_pages import PAGES, at_least, hiding, rendered

from ppfr_bench import __version__, registry

ROOT = Path(__file__).parents[2]
ENCRYPTED = ("ckks_cosine", "cryptomask")
pytestmark = pytest.mark.skipif(not (ROOT / "results").is_dir(), reason="no checkout: no committed records")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == rendered(page), "Run:  python studies/reader_pages.py"


def test_no_page_claims_more_than_the_lower_limit() -> None:
    for label, row in rows("quick").items():
        for name, privacy in row.privacies.items():
            low, _ = privacy.estimate.interval or (0.0, 0.0)
            assert -1e-9 <= low - float(at_least("quick", label, name)) < 0.01, (label, name)


def test_no_defense_hides_who_it_is_and_keeps_recognition() -> None:
    """``which_defense.md`` says so in bold: if a row does one day, rewrite the page."""
    assert hiding("lfw_quick", "image", "identity", 0.5, 0.5) == hiding("standard", "image", "identity", 0.5, 0.5) == 0


def test_what_is_said_of_templates_and_cloaks_holds() -> None:
    transforms = ("biohashing", "polyprotect", "random_projection", "slerp_rotation")
    for name in transforms:
        privacies = rows("template_quick")[name].privacies
        assert [privacies[one].estimate.value for one in ("irreversibility", "unlinkability")] == [0, 0], name
    cloaks = [row for row in rows("cloak_quick").values() if not row.control]
    for row in cloaks:
        interval = row.privacies["recognition"].estimate.interval
        assert interval is not None and interval[0] < 0.25, row.defense


def test_no_row_of_templates_protects_a_stolen_database() -> None:
    """Three pages say why: the transforms hide nothing with the key, and both encrypted rows keep a clear gallery."""
    transforms = {"biohashing", "polyprotect", "random_projection", "slerp_rotation"}
    assert {name for name, row in rows("template_quick").items() if not row.control} == {*transforms, *ENCRYPTED}
    scores = {name: registry.load("defense", name).reveals_scores for name in ENCRYPTED}
    assert all(registry.load("defense", name).stored_in_clear for name in ENCRYPTED)
    assert scores == {"ckks_cosine": True, "cryptomask": False}


def test_the_rows_that_a_published_attack_links_are_those_that_the_pages_name() -> None:
    """``gdpr.md`` names them: their own numbers say less than is known."""
    assert {name for name, row in rows("lfw_quick").items() if row.refuted} == {"minusface", "partialface"}


def test_neither_reference_defense_has_met_the_attacks_of_standard() -> None:
    """Three pages say so; if they were measured there, rewrite them."""
    assert not [name for name in rows("standard") if name.startswith(("stochastic_anonymizer", "face_renderer"))]


def test_the_default_strength_reaches_the_goal_on_lfw_and_not_on_cfp() -> None:
    """The page of the reference defense says so, and what CFP would have led to."""
    goal, tried = 94.21, protected_photographs("choose").keys() - {"face_renderer"}
    today = registry.load("defense", "stochastic_anonymizer").version
    assert float(protected_mean("judge", "0.35")) >= goal > float(protected_mean("choose", "0.35"))
    assert max(float(one) for one in tried if float(protected_mean("choose", one)) >= goal) == 0.2
    for task in ("choose", "judge"):
        for strength in protected_photographs(task).keys() - {"face_renderer"}:
            found = protected_photographs(task)[strength]
            assert min(found, key=lambda name: found[name]["value"]) == "faceres"
            assert {one["defense_version"] for one in found.values()} == {today}


def test_what_the_page_says_of_the_design_that_draws_faces_from_embeddings() -> None:
    """Above the goal on both data sets, where neither surrogate judges, and below the price of utility."""
    for task in ("choose", "judge"):
        found = protected_photographs(task)
        assert float(protected_mean(task, "face_renderer", "faceres", "mobilefacenet")) >= 94.21
        assert found["face_renderer"]["faceres"]["value"] > found["0.35"]["faceres"]["value"]
        assert found["face_renderer"]["mobilefacenet"]["value"] < found["0.35"]["mobilefacenet"]["value"]
    price = leakage("lfw_quick", "no_defense", "template", "ms_ssim")
    assert 0 < float(most_leaked("lfw_quick", "face_renderer", "ms_ssim").split()[0]) < float(price)


def test_an_attacker_who_reads_what_the_renderer_reads_does_better_than_those_of_the_board() -> None:
    """The page says so: of what is rebuilt, and of whom it shows. It still recovers less than from clear photos."""
    ours, board = ("face_renderer_both", "face_renderer"), ("lfw_quick", "face_renderer")
    rank_1 = [
        float(metric(*of, attack, "rank_1", "mobilefacenet", interval=False))
        for of, attack in ((ours, "linkage_both"), (board, "linkage_unet"))
    ]
    assert rank_1[0] > 5 * rank_1[1]
    for measure in ("ms_ssim", "ssim", "lpips"):
        found = [
            float(leakage("face_renderer_both", one, "template_both", measure))
            for one in ("face_renderer", "no_defense")
        ]
        assert 0 < found[0] < found[1]


def test_longer_training_sees_no_more_of_the_renderers_photos_and_names_what_it_rebuilds() -> None:
    """So says the page of the attacks of ``standard``, and of those that train to keep the identity."""
    here, design = "standard_attacks", "face_renderer"
    assert {(one.status, one.environment.dirty) for one in records(here)} == {("ok", False)}
    lowest = rows(here)[design].privacies["appearance"].estimate.interval
    assert lowest is not None and lowest[0] > 0.9
    flags = dict(rows(here)[design].flags)
    assert "template" in flags["attack_still_rising"] and "unet_perceptual" in flags["attack_not_converged"]
    released, plain, identity, template = (
        float(metric(here, design, attack, "rank_1", "mobilefacenet", interval=False))
        for attack in ("linkage", "linkage_unet", "linkage_unet_perceptual", "linkage_template")
    )
    assert 10 * plain < min(identity, template) and max(identity, template) < released


def test_the_template_attack_has_not_learned_all_that_it_could_of_the_renderer() -> None:
    """The page names both flags; if attacks run to their end one day, rewrite it."""
    flags = {suite: dict(rows(suite)["face_renderer"].flags) for suite in ("quick", "cfp_fp")}
    assert "template" in flags["quick"]["attack_still_rising"]
    assert "template" in flags["cfp_fp"]["attack_not_converged"]


def test_every_number_of_the_annotated_row_is_on_its_board() -> None:
    board = (ROOT / "leaderboards" / "lfw_quick" / "leaderboard.md").read_text(encoding="utf-8")
    rank = r"\| \d+( \(tied [^|]*\))? \| "
    (line,) = [line for line in board.splitlines() if re.match(rf"{rank}stochastic\\_anonymizer\\_70 ", line)]
    page = (ROOT / "docs" / "reading_a_row.md").read_text(encoding="utf-8")
    told = re.findall(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", "\n".join(page.splitlines()[5:14]))
    assert len(told) == 5
    for number in told:
        assert number in line


def test_the_picture_is_of_the_published_faces() -> None:
    pictures = (face_picture.draw(), Image.open(face_picture.PICTURE))
    drawn, kept = (np.asarray(picture.convert("RGBA"), dtype=float) for picture in pictures)
    assert drawn.shape == kept.shape
    drawn, kept = (array[..., :3] * array[..., 3:] / 255 for array in (drawn, kept))
    # What is transparent may have any colour.
    away = np.abs(drawn - kept)[face_picture.HEADING :, face_picture.LABEL :]
    assert away.mean() < 3  # WebP is not exact; texts depend on fonts.


def test_the_first_page_says_from_how_many_releases_its_faces_are_rebuilt() -> None:
    said = {(1,): "Each of these defenses always releases the same image of a photo"}
    found = said[tuple(face_picture.counts())]
    for name in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert found in text and re.search(r"what attackers rebuild from one release[]\"]", text)


def test_the_readme_cites_this_version() -> None:
    cited = re.search(r"version = \{(.+?)\}", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert cited is not None and cited[1] == __version__


@pytest.mark.parametrize("label", ["stochastic_anonymizer", "stochastic_anonymizer_100"])
def test_the_attack_that_sets_a_row_of_the_finding_still_gained(label: str) -> None:
    row = rows("lfw_quick")[label]
    (raised,) = [cells for flag, cells in row.flags if flag == "attack_still_rising"]
    assert row.privacies["appearance"].attack in {cell.split(" ")[0] for cell in raised}
