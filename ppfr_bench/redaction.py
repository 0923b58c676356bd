"""What an error may say in public: no token, no password of an address, no home folder of whoever ran it.

Texts of errors go into records and on pages, and a library may put an address with its password, or a variable, into
them. What is left out is named, so that a reader sees that something was there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

from ppfr_bench.places import home_folder
from ppfr_bench.text import printable

__all__ = ["LONGEST_REASON", "publishable", "without_credentials", "without_secrets"]

LONGEST_REASON = 2000  # Characters of why a cell gave nothing.
_LEAST = 6  # Characters of a value that is looked for; a shorter one stands in too many words.
_READ = 10  # A text is cut at so many times what is kept of it, before it is searched.
_NAMED = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|SIGNATURE|WEBHOOK"
    r"|(?:^|_)(?:KEY|PWD|PASS|AUTH|DSN|PAT|JWT|KEY_?ID|APIKEY|ACCOUNT_?KEY)(?:_|$)|(?:API|ACCESS|PRIVATE)_?KEY",
    re.IGNORECASE,
)
# A value without a telling name that is one long word of letters and digits, as tokens are and words are not.
_LIKE_A_TOKEN = re.compile(r"(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[A-Za-z0-9_\-+=~.]{24,}")
_NO_SECRETS = frozenset(
    {"PWD", "OLDPWD", "SSH_AUTH_SOCK", "GPG_KEY", "SESSION_MANAGER", "XAUTHORITY"}
)  # Known, public.
_IN_ADDRESS = re.compile(r"(?<=//)[^/?#\s'\"<>]*@")
_ASSIGNED = re.compile(
    r"(?P<name>(?:token(?![is])|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|amz-credential|amz-signature|\bsig\b)[\w.-]{0,40})(?P<is>['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s'\"&,;)}\]]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(Bearer|Basic|Token)\s+(?=\S*[0-9A-Z=])[A-Za-z0-9_\-.+/=~]{8,}")
_SHAPES = re.compile(
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bhf_[A-Za-z0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bpypi-[\w-]{30,}|\bsk-[\w-]{20,}|\bxox[abeoprs]-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)",
    re.DOTALL,
)
_HOMES = re.compile(r"(?<![\w.])(?:/home/|/Users/|/var/home/|[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2})[^\\/\s'\":,;)\]>]+")
_ROOT_HOME = re.compile(r"(?<![\w./])/root(?=[/\s'\":,;)\]>]|$)")


def publishable(text: str, longest: int = LONGEST_REASON) -> str:
    """The text of an error as a record may hold it: ``without_secrets``, home folders as ``~``, cut at ``longest``.

    What is no UTF-8, as bytes of a file's name are not, is written out.
    """
    kept = printable(without_secrets(text[: _READ * longest]))
    home = home_folder()
    if home is not None and len(home.parts) > 1:
        kept = re.sub(rf"(?<![\w.]){re.escape(str(home))}(?![\w.-])", "~", kept)
    return _ROOT_HOME.sub("~", _HOMES.sub("~", kept))[:longest]


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without what looks like a secret: in this process's environment, in addresses, or by its own shape.

    Args:
        environment: where values are looked up whose names or looks tell that they are secret; of this process.
    """
    given = os.environ if environment is None else environment
    for value, name in sorted(
        _secrets(given), key=lambda found: -len(found[0])
    ):  # The longest first: one holds another.
        text = text.replace(value, f"[{name}]")
    text = _SHAPES.sub("[token]", without_credentials(text))
    text = _HEADER.sub(r"\1 [left out]", text)
    return _ASSIGNED.sub(_left_out, text)


def without_credentials(text: str) -> str:
    """The text with the user and password of every address left out."""
    return _IN_ADDRESS.sub("", text)


def _left_out(found: re.Match[str]) -> str:
    value = found["value"]
    if re.fullmatch(r"(\[\w*\]?)?", value.strip("'\"")):
        return found[0]  # It was left out already.
    quotes = value[0] if value[0] in "'\"" else ""
    return f"{found['name']}{found['is']}{quotes}[left out]{quotes}"


def _secrets(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Values to be left out, as they stand and as an address or a repr writes them, each with its variable."""
    for name, value in environment.items():
        if name in _NO_SECRETS:
            continue
        parts = [found for address in re.findall(r"://(\S*)@", value) for found in address.split(":", 1)[1:]]
        if _NAMED.search(name) or _LIKE_A_TOKEN.fullmatch(value):
            parts += [value, *value.splitlines()]
        for part in parts:
            for written in {part, part.strip(), quote(part, safe=""), unquote(part), repr(part)[1:-1]}:
                if len(written) >= _LEAST and not written.startswith(("/", "~")) and not written.isdecimal():
                    yield written, name
