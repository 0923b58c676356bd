"""The page beside the papers says what the published records say."""

from __future__ import annotations

from reproduction import PAGE, page


def test_the_page_is_that_of_the_records() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "Run:  python tests/validity/reproduction.py"
