"""The card beside an ONNX or TorchScript file: TOML, checked key by key before the file is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ppfr_bench.api import Recognizer, RecognizerCard
from ppfr_bench.cards import Config
from ppfr_bench.errors import UserError
from ppfr_bench.places import resolved, user_path
from ppfr_bench.recognizers._external import ExternalRecognizer, sha256_of
from ppfr_bench.records.record import LABEL
from ppfr_bench.text import SMALL, parse_toml, printable, read_text

HOWTO = "Keys are listed in docs/howto/bring_a_recognizer.md."
Side = Annotated[int, Field(ge=8, le=1024)]
Positive = Annotated[float, Field(gt=0)]


class FileCard(Config):
    """How a file of weights wants its input, what it gives, and where it comes from.

    A pixel x of 0 to 255 is fed as (x - mean) / std. Three numbers are in the order in which the channels are fed.
    """

    label: str = Field(pattern=rf"^{LABEL.pattern}$", max_length=48)
    title: str
    file: str  # The file lies beside the card, or its path is absolute or starts with ~/.
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    format: Literal["onnx", "torchscript"]
    size: tuple[Side, Side]  # Height and width.
    colour: Literal["rgb", "bgr"]
    mean: float | tuple[float, float, float]
    std: Positive | tuple[Positive, Positive, Positive]
    layout: Literal["nchw", "nhwc"]
    dimension: int = Field(gt=0, le=1 << 20)
    metric: Literal["cosine", "euclidean"]
    licence: str
    training_data: str
    output: str = ""  # A file with several outputs needs the name of one, or its number from 0.
    reference: str = ""
    code_url: str = ""
    expected_accuracy: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the embeddings: not the path, nor what is only said of the file."""
        said = {"label", "title", "file", "licence", "training_data", "reference", "code_url", "expected_accuracy"}
        return self.model_dump(mode="json", exclude=said)

    @property
    def card(self) -> RecognizerCard:
        """The part that every recognizer has."""
        fields = set(RecognizerCard.model_fields) & set(type(self).model_fields)
        return RecognizerCard(**self.model_dump(include=fields))


def resolve_card(path: Path) -> ExternalRecognizer:
    """The recognizer of a card, its file hashed and not yet loaded.

    Raises:
        UserError: no such card, not TOML, an unknown or missing key, a wrong value, a file with another hash.
    """
    given = read_card(path)
    beside = resolved(path, "the recognizer card").parent
    file = resolved(beside / user_path(given.file, f"file in {printable(path)}"), "the file of the card")
    found = sha256_of(file)
    if found != given.sha256:
        raise UserError(
            f"{printable(file)} is not the file of {printable(path)}: its sha256 is {found}, the card says "
            f"{given.sha256}",
            "If you meant to replace the file, write its sha256 into the card.",
        )

    def load() -> Recognizer:
        from ppfr_bench.recognizers._file import load_file

        return load_file(given, file)

    return ExternalRecognizer(given.label, given.card, given.identity, load)


def read_card(path: Path) -> FileCard:
    """A card.

    Raises:
        UserError: no such file, not UTF-8, not TOML, an unknown or missing key, a wrong value.
    """
    from ppfr_bench.suites import explain

    shown = printable(path)
    data = parse_toml(read_text(path, HOWTO, "recognizer card", SMALL), shown, HOWTO)
    try:
        return FileCard.model_validate(data)
    except ValidationError as error:
        raise UserError(f"recognizer card {shown}: {explain(error, FileCard)}", HOWTO) from error
