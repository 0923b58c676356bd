"""A new record takes the place of the old one of its cell, and of no other."""

from __future__ import annotations

from pathlib import Path

import made_records as made

from ppfr_bench.results import ResultStore
from ppfr_bench.runner.execute import _retire


def test_only_the_same_cell_of_the_same_seed_is_replaced(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    old, new = (made.appearance("a", "unet", {"lpips": 0.5}, attack_config={"steps": n}) for n in (1, 2))
    others = [
        made.appearance("a", "unet", {"lpips": 0.4}, seed=1),
        made.identity("a", "linkage", "one", 0.2),
        made.identity("a", "linkage", "two", 0.2),
        made.appearance("b", "unet", {"lpips": 0.5}, attack_config={"steps": 1}),
    ]
    for record in (old, *others):
        store.write(record)
    _retire(store, new, store.write(new))
    assert {record.key for record in store.records()} == {record.key for record in (new, *others)}
