"""The pages with measured figures say what the records say."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured_pages import PAGES, rendered


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_that_of_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == rendered(page), "Run:  python studies/measured_pages.py"
