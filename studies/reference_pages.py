"""Write the pages of docs/ that are made of code: the commands, and the catalogues of attacks and defenses.

    python studies/reference_pages.py

Commands come from the command line itself. Attacks and defenses come from their cards, and the boards on which they
stand from the published plans. Budgets of attacks come from the ensemble ``auto``, their pictures from
``attack_pictures.py``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from attack_pictures import Picture, pictures

from ppfr_bench import registry
from ppfr_bench.cli import app
from ppfr_bench.records.store import ResultStore

ROOT = Path(__file__).resolve().parents[1]
ENSEMBLE = ROOT / "ppfr_bench" / "suites" / "ensembles" / "auto.toml"
BOTH = ("image", "representation")  # A card that names no track attacks these.
TRACKS = {
    "image": "Images and representations", "template": "Protected templates", "cloak": "Cloaks",
    "robustness": "Hardened recognizers",
}  # fmt: skip
OWN = "ppfr_bench.defenses."  # What a user has added is on no page of ours.
RELEASES = {
    "image": "Images", "representation": "Representations that only a recognizer made for them reads",
    "template": "Protected templates", "cloak": "Cloaks", "robustness": "Hardened recognizers", "": "On no board",
}  # fmt: skip
RANDOMNESS = {
    "deterministic": "every release of a photo is the same", "per_call": "every release is drawn anew",
    "per_image_key": "every release has a key of its own",
    "per_user_key": "every person has a key", "per_session_key": "all photos of a run share a key",
}  # fmt: skip
KNOWLEDGE = {
    "oblivious": "off-the-shelf tools", "aware": "the defense as a service, and pairs of its own images",
    "informed": "as aware, and the code and the weights of the defense",
}  # fmt: skip
NEEDS = {
    "needs_surrogate": "a recognizer with gradients", "needs_gallery": "a clear gallery of the targets",
    "needs_protected_gallery": "a protected gallery of the targets", "needs_recognizer": "a recognizer that is asked",
}  # fmt: skip


def safe(text: str) -> str:
    """Text of code as text of a page: one line, no tags, no column of a table, no links."""
    escaped = " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
    return re.sub(r"([*_\[\]])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", escaped)


# Commands ----------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its words, in the order of the program's help."""
    whole: Any = typer.main.get_command(app)
    for name, command in whole.commands.items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {word}", one) for word, one in inner.items()) if inner else [(name, command)]


def _argument(parameter: Any) -> str:
    word = f"{parameter.metavar or parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"
    return word if parameter.required else f"[{word}]"


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    value = "" if parameter.is_flag else f" {parameter.name.upper()}"
    return f"{names}{value}" + (", repeatable" if parameter.multiple else "")


def _default(parameter: Any) -> str:
    value = parameter.default
    shown = value not in (None, False, "", (), []) and not callable(value) and parameter.show_default is not False
    return f" Default: `{value}`." if shown else ""


def command_page() -> str:
    """``docs/reference/commands.md``."""
    lines = [
        "# Commands", "",
        "`python studies/reference_pages.py` makes this page from the program's own help. `ppfr-bench COMMAND --help` "
        "prints the same for the installed version. Every command takes `--json` and then answers in JSON. "
        "Exit codes: [install](../install.md).", "",
    ]  # fmt: skip
    for words, command in commands():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
        usage = " ".join(["ppfr-bench", words, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
        lines += [f"## {words}", "", "```", usage, "```", "", *_help(command.help or ""), ""]
        lines += ["| takes | what |", "|---|---|"]
        lines += [f"| {_argument(one)} | {safe(one.help or '')}{_default(one)} |" for one in arguments]
        lines += [f"| {_option(one)} | {safe(one.help or '')}{_default(one)} |" for one in options]
        lines.append("")
    return "\n".join(lines)


def _help(text: str) -> Iterator[str]:
    """Paragraphs of a help text, one a line."""
    parts = [part for part in re.split(r"\n\s*\n", text.replace("\b", "").strip()) if part]
    yield "\n\n".join(safe(part) for part in parts)


# Attacks -----------------------------------------------------------------------------------------------------------


def _boards() -> dict[str, dict[str, list[str]]]:
    """Name of an attack -> suite -> the labels that it has there, by the published plans."""
    store = ResultStore(ROOT / "results")
    found: dict[str, dict[str, list[str]]] = {}
    for suite in store.suites():
        plan = store.plan(suite)
        assert plan is not None, f"no plan of {suite}"
        for table in plan.tables.values():
            for label, planned in table.attacks.items():
                if planned.faces == "unrelated":
                    continue  # An answer that ignores the target is a mark on a board, without a page.
                of = found.setdefault(planned.component.name, {}).setdefault(suite, [])
                of += [label] if label not in of else []
    return found


def _budgets(name: str) -> list[str]:
    """One line an entry of the ensemble: its label, what it sets, and the parameters under each budget."""
    with ENSEMBLE.open("rb") as file:
        entries = [one for one in tomllib.load(file)["attack"] if one["name"] == name]
    lines = []
    for entry in entries:
        under = entry.get("attack", {}).get("budget", {}) or entry.get("budget", {})
        parts = [_params(entry.get("params", {}))] if entry.get("params") else []
        parts += [f"{budget}: {_params(params)}" for budget, params in under.items()]
        only = f"only under {', '.join(entry['budgets'])}" if entry.get("budgets") else "under every budget"
        lines.append(f"`{entry.get('label', name)}` {only}" + (f"; {'; '.join(parts)}" if parts else ""))
    return lines


def _params(params: dict[str, Any]) -> str:
    return ", ".join(f"`{key}` {safe(str(value))}" for key, value in params.items())


def _inside(name: str) -> str:
    return f"[{name}](#{name})"


def _links(suite: str, kind: str, labels: list[str]) -> str:
    return ", ".join(f"[{label}](../leaderboards/{suite}/{kind}/{label}.html)" for label in sorted(labels))


def _on_boards(kind: str, boards: dict[str, list[str]]) -> str:
    return f"- On the boards: {'; '.join(f'{suite}: {_links(suite, kind, found)}' for suite, found in boards.items())}."


def _source(card: Any) -> Iterator[str]:
    code = f" [Code]({card.code_url})." if card.code_url else ""
    yield f"- Reference: {safe(card.reference)}.{code} Licence: {safe(card.licence)}."
    if card.deviations:
        yield f"- Differences from the paper: {' '.join(map(safe, card.deviations))}"
    yield ""


def _entry(name: str, boards: dict[str, list[str]], picture: Picture | None) -> Iterator[str]:
    card = registry.load("attack", name).card
    scorer = registry.current_name("scorer", card.measures)
    yield f'### <a id="{name}"></a>{safe(card.title)}'
    yield ""
    if plain := getattr(card, "plain", ""):
        yield safe(plain)
        yield ""
    if picture is not None:
        yield f"![Computer-generated faces. {safe(picture.said)}](attacks/{name}.webp)"
        yield ""
        entry = f", as `{picture.label}`" if picture.label != name else ""
        yield f"*{safe(picture.said)} On `{picture.suite}`{entry}; the faces are computer-generated.*"
        yield ""
    yield f"- Name: `{name}`, family {safe(card.family)}. The scorer `{scorer}` measures its answer."
    learns = " It is trained." if card.learned else ""
    yield f"- Knowledge: {card.knowledge} ({KNOWLEDGE[card.knowledge]}).{learns}"
    if needs := [words for field, words in NEEDS.items() if getattr(card, field)]:
        yield f"- Needs: {', '.join(needs)}."
    if card.builds_on:
        yield f"- Builds on: {', '.join(map(_inside, card.builds_on))}."
    for line in _budgets(name):
        yield f"- In the ensemble `auto`: {line}."
    if boards:
        yield _on_boards("attacks", boards)
    yield from _source(card)


def _by_board(names: list[str], boards: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    """A table of attacks: what each knows, whether it is trained, and on which board it stands."""
    suites = sorted({suite for name in names for suite in boards.get(name, {})})
    yield f"| attack | knows | trained |{''.join(f' {suite} |' for suite in suites)}"
    yield f"|---|---|---|{'---|' * len(suites)}"
    for name in names:
        card = registry.load("attack", name).card
        cells = []
        for suite in suites:
            labels = sorted(boards.get(name, {}).get(suite, []))
            several = f", {len(labels)} settings" if len(labels) > 1 else ""
            cells.append(f"[yes](../leaderboards/{suite}/attacks/{labels[0]}.html){several}" if labels else "")
        columns = [f"[{safe(card.title)}](#{name})", card.knowledge, "yes" if card.learned else "", *cells]
        yield f"| {' | '.join(columns)} |"


def attack_page() -> str:
    """``docs/attacks.md``."""
    boards, drawn = _boards(), pictures()
    by_track: dict[str, list[str]] = {track: [] for track in TRACKS}
    for name in registry.names("attack"):
        tracks = registry.load("attack", name).card.tracks or BOTH
        by_track["image" if tracks[0] in BOTH else tracks[0]].append(name)
    lines = [
        "# Attacks", "",
        "Every built-in attack. `python studies/reference_pages.py` makes this page from the cards of the attacks. The "
        "[threat model](threat_model.md) says what an attacker is assumed to know, and [metrics](metrics.md#leakage) "
        "how leakage is measured. To add your own: [write an attack](howto/write_an_attack.md).", "",
        "| protected | attacks |", "|---|---|",
    ]  # fmt: skip
    lines += [
        f"| [{title}](#{title.lower().replace(' ', '-')}) | {', '.join(map(_inside, by_track[track]))} |"
        for track, title in TRACKS.items()
    ]
    for track, title in TRACKS.items():
        lines += ["", f"## {title}", "", *_by_board(by_track[track], boards), ""]
        for name in by_track[track]:
            lines += _entry(name, boards.get(name, {}), drawn.get(name))
    return "\n".join(lines).rstrip("\n") + "\n"


# Defenses ----------------------------------------------------------------------------------------------------------


def _rows() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Track -> name of a defense -> suite -> the labels that it has there, by the published plans."""
    store = ResultStore(ROOT / "results")
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    for suite in store.suites():
        plan = store.plan(suite)
        assert plan is not None, f"no plan of {suite}"
        for table in plan.tables.values():
            for label, planned in table.defenses.items():
                of = found.setdefault(planned.track, {}).setdefault(planned.component.name, {}).setdefault(suite, [])
                of += [label] if label not in of else []
    return found


def _defense(name: str, boards: dict[str, list[str]]) -> Iterator[str]:
    card = registry.load("defense", name).card
    yield f'### <a id="{name}"></a>{safe(card.title)}'
    yield ""
    yield safe(card.plain)
    yield ""
    learns = " It learns from the defender's own images." if card.learned else ""
    control = " It is an end of the scale and has no rank." if card.control else ""
    yield f"- Name: `{name}`, family {safe(card.family)}; {RANDOMNESS[card.randomness]}.{learns}{control}"
    if boards:
        yield _on_boards("defenses", boards)
    yield from _source(card)


def defense_page() -> str:
    """``docs/defenses.md``."""
    rows = _rows()
    placed = {name for of in rows.values() for name in of}
    own = [name for name in registry.names("defense") if registry.source("defense", name).startswith(OWN)]
    rows[""] = {name: {} for name in own if name not in placed}
    lines = [
        "# Defenses", "",
        "Every built-in defense, by what it releases. `python studies/reference_pages.py` makes this page from the "
        "cards of the defenses. Which one keeps what, and hides what: [which defense should I use](which_defense.md). "
        "To add your own: [submit a defense](howto/submit_a_defense.md).", "",
    ]  # fmt: skip
    shown = {track: title for track, title in RELEASES.items() if rows.get(track)}
    lines += ["| releases | defenses |", "|---|---|"]
    lines += [
        f"| [{title}](#{title.lower().replace(' ', '-')}) | {', '.join(map(_inside, sorted(rows[track])))} |"
        for track, title in shown.items()
    ]
    for track, title in shown.items():
        lines += ["", f"## {title}", ""]
        for name in sorted(rows[track]):
            lines += _defense(name, rows[track][name])
    return "\n".join(lines).rstrip("\n") + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "attacks.md": attack_page, ROOT / "docs" / "defenses.md": defense_page,
    ROOT / "docs" / "reference" / "commands.md": command_page,
}  # fmt: skip

if __name__ == "__main__":
    for path, write in PAGES.items():
        path.write_text(write(), encoding="utf-8", newline="\n")
