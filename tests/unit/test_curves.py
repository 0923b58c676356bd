"""Scores of a recognizer, kept small: histograms, the trade-off between its errors, and numbers of groups of people."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import made_records as made
import numpy as np
import pytest

from ppfr_bench.api import Recognizer, to_bytes
from ppfr_bench.datasets.disjoint_splits import WithoutCopies
from ppfr_bench.datasets.faces import ArrayFaces
from ppfr_bench.leaderboard import inline_plots, table
from ppfr_bench.leaderboard.board import Board
from ppfr_bench.leaderboard.publishers.defense_pages import DefensePages
from ppfr_bench.leaderboard.publishers.html import HtmlPage
from ppfr_bench.leaderboard.rendering import GAP_NOTE
from ppfr_bench.metrics.verification import detection_error_tradeoff
from ppfr_bench.records.curves import BINS, Curves
from ppfr_bench.records.groups import Groups
from ppfr_bench.scorers.base import Truth
from ppfr_bench.scorers.groups import compared_by_group, compared_in_groups, skin_tones
from ppfr_bench.scorers.verification import all_impostors, false_non_match_rate


def scores(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(3, 1, 600), random.normal(0, 1, 20_000)


def test_the_trade_off_is_that_of_two_normal_distributions() -> None:
    """In normal deviates it is a straight line, FNMR = Phi(z - 3) where FMR = 1 - Phi(z)."""
    from scipy.stats import norm

    found = detection_error_tradeoff(*scores())
    assert len(found) == 10 and found == sorted(found, reverse=True)
    for fmr, fnmr in found:
        assert fnmr == pytest.approx(norm.cdf(norm.isf(fmr) - 3), abs=0.05)
    assert [round(fmr, 3) for fmr, _ in found][:3] == [0.5, 0.2, 0.1]


def test_rates_that_fewer_than_ten_impostors_decide_are_left_out() -> None:
    genuine, impostors = scores()
    assert min(fmr for fmr, _ in detection_error_tradeoff(genuine, impostors[:1000])) == pytest.approx(0.01)
    assert detection_error_tradeoff(genuine, impostors[:15]) == []
    assert detection_error_tradeoff([], impostors) == []


def test_scores_are_counted_and_come_back_from_a_record() -> None:
    genuine, impostors = scores()
    made_of = Curves.of_scores(genuine, impostors, detection_error_tradeoff(genuine, impostors))
    assert sum(made_of.genuine) == 600 and sum(made_of.impostor) == made_of.impostor_pairs == 20_000
    assert Curves.of_log({"scores": made_of.model_dump(mode="json")}) == made_of
    assert Curves.of_log({}) is None
    same = Curves.of_scores(np.zeros(5), np.zeros(7), [])
    assert sum(same.genuine) == 5 and sum(same.impostor) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"low": 9},
        {"genuine": [1] * (BINS - 1)},
        {"impostor": [-1] * BINS},
        {"det": [[0.1, 2.0]]},
        {"det": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_what_cannot_be_scores_is_left_out_of_the_page(change: dict[str, Any]) -> None:
    genuine, impostors = scores()
    right = Curves.of_scores(genuine, impostors, []).model_dump(mode="json")
    assert Curves.of_log({"scores": right}) is not None and Curves.of_log({"scores": right | change}) is None


@pytest.mark.parametrize("plot", [inline_plots.histograms, inline_plots.det])
def test_the_pictures_are_whole_and_say_what_they_show(plot: Any) -> None:
    genuine, impostors = scores()
    for curves in (
        Curves.of_scores(genuine, impostors, detection_error_tradeoff(genuine, impostors)),
        Curves.of_scores(genuine, impostors, []),
        Curves.of_scores(genuine, impostors, [(0.5, 0.0), (1.0, 1.0)]),
    ):
        picture = ElementTree.fromstring(str(plot(curves)))
        assert picture.attrib["aria-label"]
        numbers = [
            float(one.attrib[name]) for one in picture.iter() for name in ("x", "y", "x1", "y2") if name in one.attrib
        ]
        assert numbers and all(0 <= number <= 240 for number in numbers)


def test_where_a_protocol_has_too_few_impostors_all_people_are_compared_with_all() -> None:
    random = np.random.default_rng(0)
    embeddings, who = random.standard_normal((50, 4)), np.arange(50) // 2
    recognizer: Any = SimpleNamespace(similarity=lambda a, b: (a * b).sum(1))
    found = all_impostors(recognizer, embeddings, who)
    assert len(found) == 50 * 49 // 2 - 25
    assert sorted(found) == pytest.approx(
        sorted(float(embeddings[i] @ embeddings[j]) for i in range(50) for j in range(i + 1, 50) if who[i] != who[j])
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_where_every_image_is_released_alike_no_threshold_parts_people(metric: str) -> None:
    """A matrix product would add up in another order than a pair, and call a black picture a perfect recognizer."""
    recognizer: Any = SimpleNamespace(card=SimpleNamespace(metric=metric))
    recognizer.similarity = lambda left, right: Recognizer.similarity(recognizer, left, right)
    one = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    embeddings, who = np.tile(one / np.linalg.norm(one), (60, 1)), np.arange(60) // 2
    impostors = all_impostors(recognizer, embeddings, who)
    genuine = recognizer.similarity(*(embeddings[start::2].astype(np.float64) for start in (0, 1)))
    assert set(impostors) == set(genuine) and len(set(genuine)) == 1
    weights = np.random.RandomState(0).multinomial(30, [1 / 30] * 30, size=20)
    assert false_non_match_rate(genuine, impostors, 1e-2, weights, 30).value == 1


def test_the_false_non_match_rate_and_its_interval() -> None:
    genuine, impostors = scores()
    weights = np.random.RandomState(0).multinomial(600, [1 / 600] * 600, size=200)
    found = false_non_match_rate(genuine, impostors, 1e-2, weights, 600)
    assert found.value == pytest.approx(0.25, abs=0.04) and found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    few = false_non_match_rate(genuine, impostors[:100], 1e-3, weights, 600)
    assert few.value is None and "FMR 0.001 needs 10,000 impostor pairs" in few.reason


class Data:
    """A data set of which the measured faces alone are asked for."""

    poses = None


# Groups --------------------------------------------------------------------------------------------------------------


def tinted(brightness: float) -> np.ndarray:
    """A face of warm skin, uint8 (3, 112, 112)."""
    import torch

    return to_bytes(
        torch.tensor([brightness, 0.83 * brightness, 0.67 * brightness])[None, :, None, None].expand(1, 3, 112, 112)
    )[0]


def test_people_are_grouped_by_the_tone_of_their_cheeks() -> None:
    images = np.stack([tinted(b) for b in (0.95, 0.95, 0.6, 0.6, 0.2, 0.2)])
    faces = ArrayFaces(images, np.array([7, 7, 8, 8, 9, 9]), tuple("abcdef"))

    data: Any = Data()
    data.evaluation = faces
    assert skin_tones(Truth(data, 4)) == {7: "light", 8: "intermediate", 9: "dark"}


def test_the_gap_between_groups_has_an_interval_of_its_own() -> None:
    who, random = np.arange(30), np.random.default_rng(0)
    groups = np.where(who < 15, "light", "dark")

    def number(rows: np.ndarray) -> tuple[float, np.ndarray]:
        centre = 0.9 if rows[0] else 0.6
        return centre, centre + 0.01 * random.standard_normal(200)

    found = Groups.model_validate(compared_by_group(groups, who, {"retention": number}))
    assert found.people == {"light": 15, "dark": 15}
    value, low, high = found.numbers["retention"]["gap"]
    assert value == pytest.approx(0.3) and 0.25 < low < 0.3 < high < 0.35
    assert compared_by_group(np.full(30, "light"), who, {"retention": number}) == {}
    few = np.where((who >= 15) & (who < 22), "", groups)
    assert compared_by_group(few, who, {"retention": number}) == {}, "fewer than ten people are no group"
    assert compared_by_group(groups, who % 15 % 9, {"retention": number}) == {}, "nor are ten photos of nine people"


def test_photos_are_grouped_by_pose_where_the_data_set_tells_it() -> None:
    """Pairs count where both of their photos are of one group; targets by their own pose."""
    people = np.repeat(np.arange(12), 2)
    data: Any = Data()
    data.evaluation = ArrayFaces(np.stack([tinted(0.6)] * 24), people, tuple(f"{i:02d}" for i in range(24)))
    data.poses = ("frontal", "profile") * 12
    seen: dict[str, list[int]] = {}

    def number(rows: np.ndarray) -> tuple[float, np.ndarray]:
        seen[f"{len(seen)}"] = np.flatnonzero(rows).tolist()
        return float(rows[0]), np.full(200, float(rows[0]))

    truth = Truth(data, 4)
    found = compared_in_groups(truth, np.arange(24), {"lpips": number})
    assert [*found] == ["pose"] and found["pose"]["people"] == {"frontal": 12, "profile": 12}
    assert seen == {"0": list(range(0, 24, 2)), "1": list(range(1, 24, 2))}
    assert found["pose"]["numbers"]["lpips"]["gap"] == [1, 1, 1]
    pairs = np.array([[i, (i + 2) % 24] for i in range(24)] + [[0, 1], [1, 0]])
    seen.clear()
    compared_in_groups(truth, pairs, {"retention": number})
    assert seen == {"0": list(range(0, 24, 2)), "1": list(range(1, 24, 2))}, "frontal to profile is of neither group"


def test_poses_are_those_of_the_whole_where_copies_are_left_out() -> None:
    whole: Any = SimpleNamespace(name="made", revision="made-0", poses=("frontal", "profile"))
    assert WithoutCopies(whole).poses == ("frontal", "profile")


def test_groups_reach_the_page_of_the_defense() -> None:
    retention = {"light": [0.9, 0.8, 1.0], "dark": [0.6, 0.5, 0.7], "gap": [0.3, 0.1, 0.5]}
    tones = {"people": {"light": 20, "dark": 20}, "numbers": {"retention": retention}}
    poses = {"people": {"frontal": 20, "profile": 20}, "numbers": {"retention": {"frontal": [0.9, 0.8, 1.0]}}}
    log: dict[str, Any] = {"groups": {"skin tone": tones, "pose": poses}}
    genuine, impostors = scores()
    log["scores"] = Curves.of_scores(genuine, impostors, []).model_dump(mode="json")
    records = [made.utility("a", "dlib_resnet", 0.8, log=log), made.appearance("a", "unet", {"lpips": 0.5})]
    plan = made.plan_of(records)
    (row,) = table.build(records, plan)
    assert [*row.by_group] == ["skin tone", "pose"]
    (grouped,) = row.by_group["skin tone"]
    assert grouped.worst == "dark" and grouped.estimates["gap"].value == 0.3
    page = DefensePages().publish(Board("quick", tuple(records), plan))["defenses/a.html"].decode()
    table_of_all = HtmlPage().publish(Board("quick", tuple(records), plan))["leaderboard.html"].decode()
    assert GAP_NOTE in page and GAP_NOTE in table_of_all, "the gap is of groups that were chosen from the data"
    assert "By skin tone" in page and "By pose" in page and "0.10 to 0.50" in page and 'class="curve"' in page
    spoiled = [made.utility("a", "dlib_resnet", 0.8, log={"groups": {"people": 1}, "scores": [1]}), records[1]]
    (row,) = table.build(spoiled, made.plan_of(spoiled))
    assert row.by_group == {} and row.utilities[0].curves is None
