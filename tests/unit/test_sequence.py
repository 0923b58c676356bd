"""Images that are already in Python become a data set, whatever library they come from, and the same one each time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ppfr_bench.datasets import from_sequence, load_dataset
from ppfr_bench.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (24, 112, 112, 3), dtype=np.uint8)
PEOPLE = [i // 3 for i in range(24)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPFR_BENCH_CACHE", str(tmp_path))


class TorchData(torch.utils.data.Dataset[Any]):
    """Map-style, with a transform that draws anew each time."""

    def __init__(self, noisy: bool = False) -> None:
        self.noisy = noisy

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = torch.from_numpy(IMAGES[index]).permute(2, 0, 1).float() / 255
        return (image + torch.rand(3, 112, 112)).clamp(0, 1) if self.noisy else image, torch.tensor(PEOPLE[index])


class HuggingFaceData:
    """What a ``datasets.Dataset`` with an ``Image`` and a ``ClassLabel`` column answers."""

    column_names = ("image", "label")

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": Image.fromarray(IMAGES[index]), "label": PEOPLE[index]}


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


@pytest.mark.parametrize(
    "given",
    [
        (IMAGES, PEOPLE),
        (IMAGES.transpose(0, 3, 1, 2), np.array(PEOPLE)),
        (list(IMAGES.astype(np.float64) / 255), [str(person) for person in PEOPLE]),
        ([Image.fromarray(image) for image in IMAGES], torch.tensor(PEOPLE)),
        (list(zip(IMAGES, PEOPLE, strict=True)),),
        (TorchData(),),
        (HuggingFaceData(),),
    ],
    ids=["uint8", "planes", "float", "PIL", "pairs", "torch", "hugging_face"],
)
def test_every_way_in_is_the_same_data_set(given: Any) -> None:
    data = from_sequence(*given, folds=2, seed=3)
    assert data.revision == from_sequence(IMAGES, PEOPLE, folds=2, seed=3).revision
    both = np.concatenate([data.evaluation.identities, data.attacker.identities])
    assert sorted(both) == PEOPLE and len(data.evaluation) == len(data.attacker) == 12
    assert not set(data.evaluation.identities) & set(data.attacker.identities)
    for faces in (data.evaluation, data.attacker):
        for row, name in enumerate(faces.names):
            assert np.array_equal(faces.load([row])[0], IMAGES[int(name.split("/")[1])].transpose(2, 0, 1))
    same = data.evaluation.identities[data.pairs.left] == data.evaluation.identities[data.pairs.right]
    assert np.array_equal(same, data.pairs.same) and data.pairs.same.mean() == 0.5


def test_a_data_set_of_hugging_face_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, as CI does not have it: an ``Image`` and a ``ClassLabel`` column, in memory, in each format."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    library = pytest.importorskip("datasets", reason="needs Hugging Face's package: pip install datasets")
    columns = {"image": library.Image(), "label": library.ClassLabel(names=[f"person {i}" for i in range(8)])}
    data = library.Dataset.from_dict(
        {"image": [Image.fromarray(image) for image in IMAGES], "label": PEOPLE}, features=library.Features(columns)
    )
    assert isinstance(data[0]["image"], Image.Image)
    expected = from_sequence(IMAGES, PEOPLE, folds=2, seed=3).revision
    for given in ((data,), (data["image"], data["label"]), (data.with_format("numpy"),), (data.with_format("torch"),)):
        assert from_sequence(*given, folds=2, seed=3).revision == expected
    order = [*range(12, 24), *range(12)]
    some = from_sequence(data.select(order), folds=2, seed=3)
    assert some.revision == from_sequence(IMAGES[order], [PEOPLE[i] for i in order], folds=2, seed=3).revision
    with pytest.raises(UserError, match=r"item 0: expected the columns image and label, got image, identity"):
        from_sequence(data.rename_columns({"label": "identity"}))
    with pytest.raises(UserError, match="expected a sequence with a length"):
        from_sequence(data.to_iterable_dataset())


SHUFFLED = np.random.default_rng(1).permutation(24)


def shuffled() -> pd.DataFrame:
    """A table whose index says where a row was before it was shuffled."""
    frame = pd.DataFrame({"image": list(IMAGES), "label": [f"p{person}" for person in PEOPLE]})
    return frame.iloc[SHUFFLED]


@pytest.mark.parametrize(
    "given",
    [
        lambda frame: (list(frame["image"]), frame["label"]),
        lambda frame: (frame["image"], frame["label"]),
        lambda frame: (frame["image"], frame["label"].astype("category")),
        lambda frame: (frame["image"], pd.Index(frame["label"])),
        lambda frame: (frame["image"], frame["label"].to_numpy()),
        lambda frame: (frame["image"], pa.array(frame["label"])),
        lambda frame: (frame["image"], pa.chunked_array([frame["label"][:5], frame["label"][5:]])),
        lambda frame: (frame["image"], deque(frame["label"])),
        lambda frame: (frame["image"], (name for name in frame["label"])),
        lambda frame: (frame[["image"]], frame["label"]),
        lambda frame: (frame,),
        lambda frame: (pd.Series(list(zip(frame["image"], frame["label"], strict=True)), index=frame.index),),
        lambda frame: ({**frame}["image"], frame["label"].set_axis(["x"] * 24)),
    ],
)
def test_labels_belong_to_images_by_position(given: Any) -> None:
    expected = from_sequence(IMAGES[SHUFFLED], [f"p{PEOPLE[i]}" for i in SHUFFLED], folds=2)
    assert from_sequence(*given(shuffled()), folds=2).revision == expected.revision


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (None, r"item 5: no identity \(None\)"),
        (float("nan"), r"item 5: no identity \(nan\)"),
        (np.float32("nan"), r"item 5: no identity \(nan\)"),
        (pd.NA, "item 5: no identity"),
        (pd.NaT, "item 5: no identity"),
        (np.datetime64("NaT", "s"), "item 5: no identity"),
        ("", "item 5: no identity"),
        ("  ", "item 5: no identity"),
        ([1, 2], "item 5: expected an identity, got list"),
        (np.array([1, 2]), "item 5: expected one identity, got several"),
        (torch.tensor([1, 2]), "item 5: expected one identity, got several"),
        (object(), "item 5: an object of object does not say who it is"),
        ("P0", "items 0 and 5: the identities 'p0' and 'P0' are not the same, and look alike"),
        (" p0", "items 0 and 5: .* look alike"),
        (b"p0", None),
    ],
)
def test_a_label_that_is_missing_or_ambiguous(label: Any, says: str | None) -> None:
    people: list[Any] = [f"p{person}" for person in PEOPLE]
    people[5] = label
    if says is None:
        assert len({*from_sequence(IMAGES, people, folds=2).evaluation.identities.tolist()}) >= 4
        return
    with pytest.raises(UserError, match=says):
        from_sequence(IMAGES, people, folds=2)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (1, True), ("Jos\u00e9", "Jose\u0301"), ("Ann", "ANN"), (1, 1.0000000001), ("1", "1.0"), (0, "0 ")],
)
def test_nobody_is_made_two_people_or_one_of_two(one: Any, other: Any) -> None:
    people: list[Any] = [person + 10 for person in PEOPLE] if isinstance(one, int) else [f"p{p}" for p in PEOPLE]
    people[0], people[1] = one, other
    if (one, other) in ((1, 1.0000000001), ("1", "1.0")):  # names that differ in sight
        assert len(from_sequence(IMAGES, people, folds=2).canary[0].identities)
        return
    with pytest.raises(UserError, match=r"items 0 and 1: .* look alike"):
        from_sequence(IMAGES, people, folds=2)


def test_numbers_are_one_person_however_they_came() -> None:
    kinds = [int, float, np.int8, np.uint64, np.float32, lambda x: torch.tensor(x), lambda x: pa.scalar(x)]
    expected = from_sequence(IMAGES, PEOPLE, folds=2).revision
    for kind in kinds:
        assert from_sequence(IMAGES, [kind(person) for person in PEOPLE], folds=2).revision == expected
    assert from_sequence(IMAGES, pd.Series([*PEOPLE, None])[:24], folds=2).revision == expected, "floats by a gap"


@pytest.mark.parametrize(
    ("images", "people", "says"),
    [
        ({"train": IMAGES}, None, "expected a sequence of images, got dict"),
        ({1, 2}, PEOPLE, "expected a sequence of images, got set"),
        (IMAGES, dict(enumerate(PEOPLE)), "expected a sequence of identities, got dict"),
        (IMAGES, {*PEOPLE}, "expected a sequence of identities, got set"),
        (IMAGES, "abcdefghijklmnopqrstuvwx", "expected a sequence of identities, got str"),
        (IMAGES, np.zeros((24, 2)), r"got an array of shape \(24, 2\)"),
        (IMAGES, pd.DataFrame({"a": PEOPLE}), r"got an array of shape \(24, 1\)"),
        (IMAGES, 24, "expected a sequence of identities, got int"),
    ],
)
def test_a_collection_without_an_order_is_refused(images: Any, people: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        from_sequence(images, people, folds=2)


def test_it_opens_again_by_name_and_parameters() -> None:
    data = from_sequence(IMAGES, PEOPLE, folds=2)
    again = load_dataset(data.name, data.config.model_dump())
    assert again.revision == data.revision
    assert np.array_equal(again.evaluation.load(range(12)), data.evaluation.load(range(12)))


def test_the_revision_is_that_of_content_and_split() -> None:
    first = from_sequence(IMAGES, PEOPLE, folds=2).revision
    changed = IMAGES.copy()
    changed[5, 5, 5, 0] ^= 1
    assert first != from_sequence(changed, PEOPLE, folds=2).revision
    assert first != from_sequence(IMAGES, PEOPLE[::-1], folds=2).revision
    assert first != from_sequence(IMAGES, PEOPLE, folds=2, seed=1).revision


def test_a_transform_that_draws_anew_is_taken_once() -> None:
    data = from_sequence(TorchData(noisy=True), folds=2)
    assert np.array_equal(data.evaluation.load([0, 1]), data.evaluation.load([0, 1]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((Stream(),), "expected a sequence with a length"),
        (([], []), "expected images, got none"),
        ((IMAGES, PEOPLE[:3]), "one identity an image, got 3 for 24"),
        ((list(IMAGES),), "expected \\(image, identity\\)"),
        (([{"img": IMAGES[0], "label": 0}],), "expected the columns image and label, got img, label"),
        ((IMAGES[:, :64], PEOPLE), r"image 0: expected 112x112 pixels in RGB, got \(64, 112, 3\)"),
        (([Image.new("RGB", (64, 64))], [0]), "image 0: expected 112x112"),
        ((IMAGES.astype(np.int64), PEOPLE), "expected uint8 or float, got int64"),
        ((IMAGES.astype(np.float32), PEOPLE), r"expected floats in \[0, 1\], got 0 to 255"),
        ((np.full_like(IMAGES, np.nan, dtype=np.float32), PEOPLE), r"expected floats in \[0, 1\]"),
        (([np.ma.masked_less(IMAGES[0], 9), *IMAGES[1:]], PEOPLE), "image 0: some pixels are masked"),
        ((IMAGES, range(24)), "no measured person has a second image|genuine"),
        ((IMAGES, [0] * 12 + [1] * 12), "fewer than two to the attacker"),
    ],
)
def test_what_is_wrong_is_said(given: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        from_sequence(*given, folds=2)


def test_too_few_people_for_the_folds() -> None:
    with pytest.raises(UserError, match=r"10 folds need 20 measured people, there are 4\n.*folds=2"):
        from_sequence(IMAGES, PEOPLE)
