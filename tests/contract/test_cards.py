"""Cards say in plain words what a plug-in is; the words are read without running it, and change no key or record."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ppfr_bench import card_reader, registry
from ppfr_bench.card_reader import described, source_file
from ppfr_bench.cards import AttackCard, Card, DefenseCard
from ppfr_bench.code_hash import code_hash
from ppfr_bench.leaderboard.pages import load_board
from ppfr_bench.records.record import Record
from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
KINDS: tuple[registry.Kind, ...] = ("attack", "defense")
BUILT_IN = [(kind, name) for kind in KINDS for name in registry.names(kind)]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=[f"{kind}-{name}" for kind, name in BUILT_IN])
def test_what_is_read_from_the_source_is_what_the_card_says(kind: registry.Kind, name: str) -> None:
    card, read = registry.load(kind, name).card, described(kind, name)
    assert (read["title"], read.get("plain", "")) == (card.title, card.plain)
    whole = card.model_dump()
    assert {key: read[key] for key in whole if key in read} == {key: whole[key] for key in whole if key in read}
    if kind == "attack":  # Its card is in no record: pages have only what is read.
        given = {key for key, value in whole.items() if value != AttackCard.model_fields[key].default}
        assert given <= read.keys(), "an attack's card is written out, not computed"


def test_reading_cards_runs_no_plugin_and_loads_no_torch() -> None:
    code = """
import sys
from ppfr_bench import registry
from ppfr_bench.card_reader import described
assert all(described(kind, name)["title"] for kind in ("attack", "defense") for name in registry.names(kind))
run = [one for one in sys.modules if one.startswith(("ppfr_bench.attacks.", "ppfr_bench.defenses.")) or one == "torch"]
sys.exit(f"imported: {run}" if run else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [b"DEFENSE = (", b"x = 1", b"DEFENSE = Gone", b"\xff\x00", b"class A:\n    x = 1"])
def test_a_file_that_cannot_be_read_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.py"
    path.write_bytes(content)
    assert card_reader._of_file(path, "DEFENSE") == {}


def test_what_a_card_computes_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text("class A:\n    '''What.'''\n    card = C(title='T', licence=NAME)\nDEFENSE = A\n")
    assert card_reader._of_file(path, "DEFENSE") == {"title": "T", "docstring": "What."}
    assert described("defense", "no_such_defense") == {}


def test_every_builtin_has_a_source_file() -> None:
    for kind, name in BUILT_IN:
        path = source_file(kind, name)
        assert path is not None and path.stem == name and path.is_file()


@pytest.mark.parametrize("text", ["x" * 301, "two\nlines", "a\x1b[31m", "turned\u202eround", " space"])
def test_the_words_are_one_short_line(text: str) -> None:
    with pytest.raises(ValidationError, match="plain"):
        Card(title="t", reference="r", licence="l", plain=text)


def test_the_words_are_in_no_record_and_no_hash() -> None:
    """Better words make no record stale, refute no claim and change no file of results."""
    card = DefenseCard(title="t", reference="r", licence="l", family="f")
    worded = card.model_copy(update={"plain": "It hides a face."})
    assert worded.model_dump(mode="json") == card.model_dump(mode="json")
    own = [type("Own", (), {"card": one, "__module__": "__main__"}) for one in (card, worded)]
    assert code_hash(own[0]) == code_hash(own[1])


def test_records_without_the_words_are_read_and_shown_with_those_of_the_plugin() -> None:
    store = ResultStore(ROOT / "results")
    records = list(store.records("template_quick"))
    assert records and all("plain" not in record.defense_card for record in records)
    assert all(Record.model_validate_json(one.model_dump_json()) == one for one in records[:3])
    rows = load_board(store, "template_quick").rows
    assert [row.plain for row in rows] == [registry.load("defense", row.name).card.plain for row in rows]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=[f"{kind}-{name}" for kind, name in BUILT_IN])
def test_every_builtin_says_in_plain_words_what_it_is(kind: registry.Kind, name: str) -> None:
    said = str(described(kind, name).get("plain", ""))
    assert 40 <= len(said) <= 300 and said.endswith("."), said
    assert "_" not in said, "words, no identifiers"
