"""The study of recognizers has measured all of them as they are, and says the same of them as their cards."""

from __future__ import annotations

import json

import pytest
from recognizers.accuracy import MEASURED, PROTOCOLS

from ppfr_bench.cards import WEAK
from ppfr_bench.recognizers import recognizer_class, recognizer_names

FOUND = json.loads(MEASURED.read_text(encoding="utf-8"))


def test_every_recognizer_was_measured_on_every_protocol() -> None:
    assert list(FOUND) == recognizer_names()
    for name, of in FOUND.items():
        assert list(of) == list(PROTOCOLS)
        assert {one["version"] for one in of.values()} == {recognizer_class(name).version}
    for protocol in PROTOCOLS:  # All on the same pairs.
        (_,) = {(of[protocol]["pairs"], of[protocol]["people"], of[protocol]["revision"]) for of in FOUND.values()}


@pytest.mark.parametrize("name", recognizer_names())
def test_a_card_agrees_with_what_was_measured(name: str) -> None:
    card, lfw = recognizer_class(name).card, FOUND[name]["LFW"]
    low, high = lfw["interval"]
    assert low <= lfw["value"] <= high and low <= card.expected_accuracy["lfw"] <= high
    assert card.weak == (lfw["value"] < WEAK)
