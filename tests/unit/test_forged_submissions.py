"""What an archive may hold that it should not: each is refused whole, with its reason, and leaves nothing."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest
from made_archives import HOSTILE, NAME, Files, archive_of
from made_forgeries import ARCHIVES, FORGED
from made_submission import recorded

from ppfr_bench.errors import UserError
from ppfr_bench.maintenance import submission
from ppfr_bench.maintenance.strict import strict_json
from ppfr_bench.runner.request import Asked, resolve
from ppfr_bench.runner.scoring import environment


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a good archive."""
    commit = environment(2, "cpu").commit
    if commit is None:
        pytest.skip("this is no checkout of git, which knows commits")
    folder, request = tmp_path_factory.mktemp("good"), resolve("smoke", Asked(defenses=(NAME,)))
    submission.pack(NAME, request.plan, recorded(request, folder / "results", NAME, commit), folder / "good.zip")
    with zipfile.ZipFile(folder / "good.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(path: Path, says: str) -> None:
    """Refused with that reason, in little time, and nothing is written."""
    content, checkout = path.read_bytes(), path.parent / "checkout"
    start = time.monotonic()
    with pytest.raises(UserError, match=says) as error:
        submission.take(path, checkout)
    assert time.monotonic() - start < 20
    assert "Nothing was taken" in str(error.value)
    assert [one for one in path.parent.rglob("*") if one.is_file()] == [path] and path.read_bytes() == content


def test_the_good_one_is_taken(good: Files, tmp_path: Path) -> None:
    assert len(submission.take(archive_of(good, tmp_path / "good.zip"), tmp_path / "checkout").records) > 10
    stored = archive_of(good, tmp_path / "stored.zip", zipfile.ZIP_STORED)
    assert submission.read(stored).name == NAME


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_file_is_refused(how: str, good: Files, tmp_path: Path) -> None:
    change, says = HOSTILE[how]
    refused(archive_of(change(good), tmp_path / "bad.zip"), says)


@pytest.mark.parametrize("kind", FORGED)
def test_records_that_nobody_measured_are_refused(kind: str, good: Files, tmp_path: Path) -> None:
    change, says = FORGED[kind]
    refused(archive_of(change(good), tmp_path / "bad.zip"), says)


@pytest.mark.parametrize("how", ARCHIVES)
def test_an_archive_that_is_none_or_more_than_one_is_refused(how: str, good: Files, tmp_path: Path) -> None:
    write, says = ARCHIVES[how]
    write(good, tmp_path / "bad.zip")
    refused(tmp_path / "bad.zip", says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b'{"a": 1, "a": 1}', "'a' stands twice"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[NaN]", "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[" + b"9" * 5000 + b"]", "5,000 digits"),
        (b'["\\u202e"]', r"U\+202E RIGHT-TO-LEFT OVERRIDE"),
        (b'["\\u0000"]', r"U\+0000 NULL"),
        (b'["\\ud800"]', r"U\+D800"),
        (b"[" * 40 + b"]" * 40, "nests more than 32 deep"),
        (b"[" * 100_000, "nests too deeply"),
        (b"{} {}", "not JSON"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    ],
)
def test_json_that_may_mean_two_things_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strict_json(text)


def test_json_that_means_one_thing_is_read() -> None:
    assert strict_json(b'{"a": [1, -2.5e3, null, true, "\\u00e9 \\u2192"]}') == {"a": [1, -2500.0, None, True, "é →"]}
    assert strict_json(b'["\\u00df, 5 \\u00b5m\\n\\t"]') == ["ß, 5 µm\n\t"]
