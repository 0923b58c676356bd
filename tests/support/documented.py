"""The command lines of the documentation, and the form in which tests run them, on ``smoke``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "studies").rglob("*.md")])
_BLOCK = re.compile(r"^ *```(?:sh|bash|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(ppfr-bench [^`\n]+)`")
_CUT = re.compile(r"&&|\|\||;|\|")  # between the commands of a line


def shell_lines(page: Path) -> Iterator[str]:
    """The commands of a page's blocks, continued lines joined, comments away."""
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part.strip() for part in _CUT.split(re.sub(r"(^|\s)#.*", "", line)))


def commands(page: Path) -> Iterator[str]:
    """What follows ``ppfr-bench`` in the blocks and sentences of a page."""
    named = (part.strip() for line in _INLINE.findall(page.read_text(encoding="utf-8")) for part in _CUT.split(line))
    for line in [*shell_lines(page), *named]:
        found = re.search(r"(?:^|/|\s)ppfr-bench\s+([a-z-].*)", line)
        if found:
            yield re.sub(r"\s[<>].*", "", found.group(1)).strip()


KNOWN = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in dict.fromkeys(commands(page))]

# These commands are parsed and not run; a test holds each reason to a command that is documented.
NOT_RUN = {
    r"^(accept|check|nightly|protect|run|show|submit|train|data (export|prepare|releases))$": "a name alone",
    r"--scheduler (tcp|printing)|s3:": "a cluster or a bucket; test_cluster.py and test_kinds.py run their like",
    r"--device cuda": "a GPU",
    r"^assets fetch": "a download; test_assets.py fetches from a server of its own",
    r"^train ": "hours; test_training.py trains for a few steps",
    r"^nightly": "a whole suite; test_run.py and test_taking.py run both forms",
    r"^score .*--confirm": "a whole row on new people; test_run.py has it among the slow tests",
    r"line_drawing\.py|edge_error\.py": "test_kinds.py runs the commands of this page as they stand",
    r"\"\$defense\"": "a loop over files; test_weak_defenses.py loads them, and the line before it is run",
    r"^check my_(cloak|scheme|hardening)": "test_documented_commands.py runs it on the file that the page prints",
    r"^run \w+_quick --defense my_(cloak|scheme|hardening)$": "for a maintainer who has added the file to _own.txt",
    r"^show my_(cloak|scheme|hardening)$": "a row that takes minutes; `show my_defense` is run",
}  # fmt: skip


def why_not_run(line: str) -> str | None:
    """Why a documented command is parsed and not run, or None where it is run."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), None)


# What a page writes -> what the tests have in its place. The first pattern that fits the whole line is taken.
_STANDS_FOR = (
    (r".*", {"my_defense-quick.zip": "my_defense-smoke.zip", "IN": "faces",
             "OUT": "out", "METHOD": "my_defense", "FILE": "their_defense.py", "CARD.toml": "made.toml",
             "my_defense.py": "outside.py", "/tmp/mine": "others",
             "/tmp/weaker": "weaker", "FORMAT": "folder", "SRC": "photos"}),
    (r"run (mine|FILE)\.toml.*", {"mine.toml": "suite.toml", "FILE.toml": "suite.toml"}),
    (r".*", {"mine.toml": "made.toml"}),
    (r"run .*--attack NAME.*|new attack NAME", {"NAME": "my_attack"}),
    (r".*", {"NAME": "my_defense"}),
    (r".*dataset folder.*", {"DST/images": "aligned/images"}),
    (r".*dataset cfp.*", {"DST": "cfp"}),
    (r"data releases .*|run .*--answers .*", {"my_attack": "their_attack"}),
    (r"run .*", {"DST": "lfw", "/path/to/lfw": "lfw", "/path/to/cfp": "cfp"}),
    (r"data prepare .*", {"DST": "prepared"}),
)  # fmt: skip
_SUITES = {"quick": "smoke", "standard": "smoke", "full": "smoke", "template_quick": "template_smoke",
           "cloak_quick": "cloak_smoke", "robustness_quick": "robustness_smoke"}  # fmt: skip
# These are measured: what they name is the reader's own. The other runs are planned, which takes a moment.
_MEASURED = re.compile(
    r"^run smoke .*(my_defense|half_grey|my_attack|--plugin|--answers|their_tool|made\.toml|stochastic_local --attack)"
)


def small(line: str) -> list[str]:
    """The words of a documented command, with the tests' files for the reader's and ``smoke`` for its suite."""
    words = shlex.split(line)
    for pattern, named in _STANDS_FOR:
        if re.fullmatch(pattern, line):
            words = [named.get(word, word) for word in words]
    if words[0] not in ("run", "submit", "score") and words[:2] not in (["data", "export"], ["data", "releases"]):
        return words
    words = [_SUITES.get(word, word) for word in words]
    if words[0] in ("submit", "score") and "--suite" not in words:
        return [*words, "--suite", "smoke"]
    if words[0] == "run" and "--dry-run" not in words:
        if _MEASURED.search(" ".join(words)):
            return [*words, *_narrowed(words)]
        # Copies are looked for where a defense learns, too, whose faces take minutes to make.
        more = ["--defense", "gaussian_blur"] if "--drop-duplicates" in words else []
        return [*_without(words, "--results"), *more, "--dry-run"]
    return words


def _narrowed(words: list[str]) -> list[str]:
    """One attack and one recognizer, where a command asks for all."""
    more = [] if "--attack" in words or "--answers" in words else ["--attack", "visual"]
    if "--attack" in words and "--defense" not in words:
        more += ["--defense", "blackout"]
    if "--plugin" in words:
        more += ["--defense", words[words.index("--plugin") + 1].removesuffix(".py")]
    return [*more, *([] if "--recognizer" in words else ["--recognizer", "faceplugin"])]


def _without(words: list[str], option: str) -> list[str]:
    """The words without an option and its value."""
    return [word for at, word in enumerate(words) if word != option and (at == 0 or words[at - 1] != option)]


# The changelog names commands of its time: they are parsed alone.
TRIED = sorted({tuple(small(line)) for page, line in KNOWN if page != "CHANGELOG.md" and why_not_run(line) is None})
