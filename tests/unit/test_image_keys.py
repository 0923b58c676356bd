"""Keys of every image's own: their kind is found on pairs, and people who were never seen are put together again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppfr_bench import registry, testing
from ppfr_bench.api import ByteArray
from ppfr_bench.datasets.faces import ArrayFaces, subset
from ppfr_bench.learning.image_keys import (
    TILE_TURNS,
    TURNS,
    Levels,
    Rolled,
    TileOrder,
    Turned,
    TurnedTiles,
    _learn,
    _turned_tiles,
    find_key,
    read_undone,
    undone,
)
from ppfr_bench.learning.inversion import inversion_data, read_inversion_data
from ppfr_bench.learning.jigsaw import Jigsaw, Tiling
from ppfr_bench.learning.validation import held_out_people

Protect = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def shifted(images: ByteArray) -> ByteArray:
    """Each in nine places and mirrored: a few people stand for many."""
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="edge")
    moved = [padded[:, :, y : y + 112, x : x + 112] for y in (0, 4, 8) for x in (0, 4, 8)]
    return np.concatenate([*moved, *(one[..., ::-1] for one in moved)])


@pytest.fixture(scope="module")
def own() -> ByteArray:
    """Three people; the fourth is the target."""
    images = shifted(testing.example_faces().load(range(12)))
    return images[np.random.default_rng(0).permutation(len(images))]


@pytest.fixture(scope="module")
def targets() -> ByteArray:
    return testing.example_faces().load(range(12, 16))


def tiles_of(height: int, width: int) -> Protect:
    tiling = Tiling(height, width)

    def protect(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        moved = [tiles[torch.randperm(tiling.count, generator=generator)] for tiles in tiling.cut(images)]
        return tiling.joined(torch.stack(moved))

    return protect


def turned_by(numbers: list[int]) -> Protect:
    def protect(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn = torch.randint(len(numbers), (len(images),), generator=generator).tolist()
        return torch.cat([TURNS[numbers[i]].undo(images[row : row + 1]) for row, i in enumerate(drawn)])

    return protect


def rolled(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    shifts = torch.randint(112, (len(images), 2), generator=generator).tolist()
    return torch.stack([image.roll(tuple(by), (1, 2)) for image, by in zip(images, shifts, strict=True)])


def leveled(change: str) -> Protect:
    def protect(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        numbers = torch.randint(256, (len(images), 3, 1, 1), generator=generator).to(torch.uint8)
        return images + numbers if change == "added" else torch.bitwise_xor(images, numbers)

    return protect


def tiles_turned(side: int, numbers: list[int]) -> Protect:
    tiling = Tiling(side, side)

    def protect(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        tiles = tiling.cut(images).flatten(0, 1)
        drawn = torch.randint(len(numbers), (len(tiles),), generator=generator).tolist()
        turned = torch.cat([TILE_TURNS[numbers[i]].undo(tiles[row : row + 1]) for row, i in enumerate(drawn)])
        return tiling.joined(turned.unflatten(0, (len(images), tiling.count)))

    return protect


NEGATIVES = [i for i, turn in enumerate(TILE_TURNS) if not turn.mirrored and turn.quarters == 0]


def one_for_all(protect: Protect) -> Protect:
    def same(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        key = int(torch.randint(2**31, (1,), generator=generator))
        return torch.cat([protect(image[None], torch.Generator().manual_seed(key)) for image in images])

    return same


UPRIGHT = [i for i, turn in enumerate(TURNS) if not turn.mirrored and turn.quarters == 0]
QUARTERS = [i for i, turn in enumerate(TURNS) if turn.order == (0, 1, 2) and not (turn.mirrored or any(turn.inverted))]
INVERSIONS = [i for i in UPRIGHT if TURNS[i].order == (0, 1, 2) and len(set(TURNS[i].inverted)) == 1]
ORDERS = [i for i in UPRIGHT if not any(TURNS[i].inverted)]


@pytest.mark.parametrize(
    ("protect", "kind", "solved"),
    [
        (tiles_of(28, 28), TileOrder, 0.2),
        (tiles_of(1, 112), TileOrder, 0.1),
        (tiles_of(16, 112), TileOrder, 0.1),
        (turned_by(INVERSIONS), Turned, 0.01),
        (turned_by(ORDERS), Turned, 0.1),
        (leveled("added"), Levels, None),  # Three people do not teach how bright a face is, either.
        (leveled("xored"), Levels, 0.2),
        (tiles_turned(16, NEGATIVES), TurnedTiles, 0.2),
        (turned_by(QUARTERS), Turned, None),  # Three people do not teach what is upright, or in the middle:
        (rolled, Rolled, None),  # studies/weak_defenses has 500, and records of what they teach.
    ],
    ids=[
        "tiles",
        "rows",
        "bands",
        "inversions",
        "channel orders",
        "numbers added",
        "numbers xored",
        "tiles inverted",
        "quarter turns",
        "shifts",
    ],
)
def test_the_kind_is_found_and_a_face_that_was_never_seen_is_restored(
    own: ByteArray, targets: ByteArray, protect: Protect, kind: type, solved: float | None
) -> None:
    released = protect(torch.from_numpy(own), seeded()).numpy()
    key = find_key(own, released)
    assert isinstance(key, kind)
    if solved is None:
        return
    hidden = protect(torch.from_numpy(targets), seeded())
    left = (key.undone(hidden).float() - torch.from_numpy(targets).float()).square().mean()
    before = (hidden.float() - torch.from_numpy(targets).float()).square().mean()
    assert float(left) <= solved * float(before)


@pytest.mark.parametrize(
    "protect",
    [
        one_for_all(tiles_of(28, 28)),
        one_for_all(rolled),
        one_for_all(leveled("xored")),
        one_for_all(tiles_turned(16, NEGATIVES)),
        lambda images, generator: images,
        lambda images, generator: torch.zeros_like(images),
        lambda images, generator: torch.randint(256, images.shape, generator=generator).to(torch.uint8),
        lambda images, generator: torch.nn.functional.avg_pool2d(images.float(), 9, 1, 4).to(torch.uint8),
    ],
    ids=["one order", "one shift", "one number", "the same tiles", "nothing", "black", "noise", "blur"],
)
def test_what_is_no_key_of_an_image_s_own_is_left_alone(own: ByteArray, protect: Protect) -> None:
    assert find_key(own, protect(torch.from_numpy(own), seeded()).numpy()) is None
    assert find_key(own[:4], own[:4]) is None


@given(st.sampled_from([(1, 112), (112, 7), (14, 14), (8, 16)]), st.integers(0, 2**31))
def test_cutting_and_joining_are_inverse(size: tuple[int, int], seed: int) -> None:
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (2, 3, 112, 112), dtype=np.uint8))
    tiling = Tiling(*size)
    tiles = tiling.cut(images)
    assert tiles.shape == (2, tiling.count, 3, *size)
    assert torch.equal(tiling.joined(tiles), images)


def test_every_turn_is_another_and_some_turn_undoes_it(targets: ByteArray) -> None:
    image = torch.from_numpy(targets[:1])
    turned = {turn.undo(image).numpy().tobytes() for turn in TURNS}
    assert len(turned) == len(TURNS) == 384
    one = TURNS[123].undo(image)
    assert any(torch.equal(turn.undo(one), image) for turn in TURNS)


def test_a_jigsaw_keeps_every_tile(own: ByteArray, targets: ByteArray) -> None:
    tiling = Tiling(16, 16)
    hidden = tiles_of(16, 16)(torch.from_numpy(targets), seeded())
    found = Jigsaw(torch.from_numpy(own).float() / 255, tiling).ordered(hidden)
    for one, other in zip(tiling.cut(found), tiling.cut(hidden), strict=True):
        assert sorted(t.numpy().tobytes() for t in one) == sorted(t.numpy().tobytes() for t in other)


# In an attack --------------------------------------------------------------------------------------------------------


def test_a_turn_is_not_forgotten_that_the_last_images_do_not_show(own: ByteArray) -> None:
    """Of 216 images the first hundred are turned: what is learnt of is more than is looked at together."""
    images, tiling = torch.from_numpy(own), Tiling(56, 56)
    assert torch.equal(TURNS[3].undo(TURNS[1].undo(images)), images), "a quarter turn and three more"
    turned_tiles = tiling.joined(_turned_tiles(tiling.cut(images[:100]), TILE_TURNS[1]))
    for key, turned in ((Turned(), TURNS[1].undo(images[:100])), (TurnedTiles(tiling), turned_tiles)):
        _learn(key, images, torch.cat([turned, images[100:]]))
        assert {3, 0} <= set(key._turns), key.name


def test_attacks_start_from_what_was_undone(own: ByteArray, targets: ByteArray) -> None:
    mine = ArrayFaces(own, np.arange(len(own)) // 18, [str(i) for i in range(len(own))])
    defense = registry.build("defense", "block_permutation", {"block": 28, "key": "image"})
    attack = registry.build("attack", "unshuffle", {})
    view = testing.attacker_view(attack, defense, mine, targets, targets)
    found = read_undone(view, 1)
    assert found is not None and found.name == "order of 28x28 tiles"
    attack.fit(view, seeded())
    answer = attack.run(view)
    assert (
        np.square(answer.astype(float) - targets).mean()
        < 0.2 * np.square(view.targets[0].astype(float) - targets).mean()
    )
    assert attack.log["undone"] == found.name and attack.log["training_images"] == len(mine)
    ridge = registry.build("attack", "ridge", {"size": 16})
    view = testing.attacker_view(ridge, defense, mine, targets, targets)
    data = read_inversion_data(view, 16, 1)
    assert data.key == found.name and len(data.own) == len(data.clear) == len(data.rows) == len(found.rows)
    starts_from = [material.key for material in inversion_data(view.scope, 16, 1).starts_from]
    assert starts_from == [held_out_people().key, undone(view.scope, 1).key]


def test_where_nothing_is_keyed_the_release_is_the_answer(targets: ByteArray) -> None:
    mine = subset(testing.example_faces(), range(12))
    defense = registry.build("defense", "gaussian_blur", {})
    attack = registry.build("attack", "unshuffle", {})
    view = testing.attacker_view(attack, defense, mine, targets, targets)
    attack.fit(view, seeded())
    np.testing.assert_array_equal(attack.run(view), view.targets[0])
    assert attack.log["training_images"] == 0 and "undone" not in attack.log
