"""Every defense the registry knows keeps the contract, and every way of breaking it is named."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_device import OTHERS, assert_alike, other_device

from ppfr_bench import device, registry, testing
from ppfr_bench.api import (
    ByteArray,
    Defense,
    DefenseCard,
    Randomness,
    UserError,
    per_image_generators,
    to_bytes,
    to_float,
)
from ppfr_bench.cloak.api import Cloak
from ppfr_bench.contracts.defense import check_defense, leaked_images, randomness_flags
from ppfr_bench.testing.attacker import TinySurrogate

NAMES = [  # Those of images and representations.
    name for name in registry.names("defense")
    if registry.load("defense", name).card.live and issubclass(registry.load("defense", name), Defense)
]  # fmt: skip
FACES = testing.example_faces()
IMAGES, LABELS = FACES.load(range(len(FACES))), list(FACES.names)
# A step of these takes as long as all of another defense. They follow signs of gradients, which turn on the last bits.
CLOAKS = {
    "pgd_cloak": {"steps": 1}, "mi_di_ti_cloak": {"steps": 1},
    "lowkey_cloak": {"steps": 2, "recognizers": ["faceplugin"]},
}  # fmt: skip
HIDING = [name for name in NAMES if not issubclass(registry.load("defense", name), Cloak)]  # A cloak hides no image.
CLEAR = ("no_defense", "no_cloak")  # These controls release the clear image.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    ("block_permutation", {"key": "image"}),
    ("block_permutation", {"block": 1, "secret": 7}),
    ("gaussian_blur", {"sigma": 0.7}),
    ("pixelate", {"block": 9}),
    ("stochastic_local", {"noise": 0, "warp": 0}),
    ("stochastic_local", {"warp": 2.0}),
    ("partialface", {"key": "session"}),
    ("ppfr_fd", {"key": "image"}),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


_BUILT: dict[str, Defense] = {}


def built(name: str, params: dict[str, Any] | None = None) -> Defense:
    """The defense, fitted on the example faces if it learns; once, as ``protect`` keeps nothing."""
    key = f"{name} {params or {}}"
    if key not in _BUILT:
        defense: Defense = registry.build("defense", name, params or CLOAKS.get(name, {}))
        if type(defense).fit is not Defense.fit:
            defense.fit(FACES, seeded(1))
        _BUILT[key] = defense
    return _BUILT[key]


def release(defense: Defense, images: ByteArray, seed: int = 0) -> ByteArray:
    return to_bytes(defense.protect(to_float(images), seeded(seed)))


def rendered(defense: Defense, images: ByteArray) -> ByteArray:
    """What people and recognizers are shown of a release."""
    return to_bytes(defense.render(to_float(release(defense, images))))[..., : images.shape[2], : images.shape[3]]


def test_the_built_in_defenses_are_all_found() -> None:
    assert set(NAMES) >= {
        "no_defense", "blackout", "gaussian_blur", "pixelate", "block_permutation", "local_contrast",
        "stochastic_local",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_card_is_complete(name: str) -> None:
    defense = registry.load("defense", name)
    assert defense.version >= 1
    assert defense.card.title and defense.card.reference and defense.card.licence and defense.card.family
    assert (defense.__doc__ or "").strip(), "say what the attacker is assumed to know"
    assert set(defense.Config().model_dump()) == set(defense.Config.model_fields)


@pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
def test_defense_keeps_the_contract(name: str, params: dict[str, Any]) -> None:
    assert check_defense(built(name, params), IMAGES, LABELS, seed=3) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_clear_image_gets_out_unless_it_is_a_control(name: str) -> None:
    defense = built(name)
    leaked = leaked_images(IMAGES, rendered(defense, IMAGES), LABELS, defense.card.clear_share)
    assert leaked == (LABELS if name in CLEAR else [])


@pytest.mark.parametrize("shape", [(98, 70), (56, 112)])
@pytest.mark.parametrize("name", NAMES)
def test_images_that_are_not_square(name: str, shape: tuple[int, int]) -> None:
    cut = IMAGES[:3, :, : shape[0], : shape[1]]
    defense = built(name)
    drawn = rendered(defense, cut)
    assert drawn.shape == cut.shape
    leaked = leaked_images(cut, drawn, LABELS[:3], defense.card.clear_share)
    assert leaked == (LABELS[:3] if name in CLEAR else [])


# Other devices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(("name", "params"), [one for one in VARIANTS if one[0] not in CLOAKS], ids=str)
def test_what_is_released_is_the_same_on_every_device(name: str, params: dict[str, Any], kind: str) -> None:
    """Fitted on the CPU, used elsewhere: what was learnt follows the images."""
    defense = built(name, params)
    released, shown = release(defense, IMAGES[:4]), rendered(defense, IMAGES[:4])
    with other_device(kind) as exact, torch.no_grad():
        images = to_float(IMAGES[:4])
        out = defense.protect(images, seeded())
        assert out.device == images.device and out.device.type == kind
        assert_alike(to_bytes(out), released, exact)
        again = to_bytes(defense.render(to_float(released)))[..., :112, :112]
        assert_alike(again, shown, exact)
    assert_alike(release(defense, IMAGES[:4]), released, exact=True)


FEW_STEPS: dict[str, dict[str, Any]] = {"dctdp": {"steps": 2}, "minusface": {"steps": 2}}
LEARNED = [name for name in NAMES if registry.load("defense", name).fit is not Defense.fit]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", LEARNED)
def test_fit_learns_the_same_on_every_device(name: str, kind: str) -> None:
    def learnt() -> ByteArray:
        defense: Defense = registry.build("defense", name, FEW_STEPS.get(name, {}))
        defense.fit(FACES, seeded(1))
        on = {value.device.type for value in vars(defense).values() if isinstance(value, torch.Tensor)}
        assert on == {device.device_class()}
        with torch.no_grad():
            return release(defense, IMAGES[:2])

    here = learnt()
    with other_device(kind) as exact:
        assert_alike(learnt(), here, exact)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_reference_defense_is_trained_by_the_same_steps_on_every_device(kind: str) -> None:
    recipe = import_module("ppfr_bench.defenses._anonymizer_training").AnonymizerTraining

    def trained() -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
        config = recipe.Config(steps=2, warm=1, people=3, shots=2, drills=1)
        training = recipe(config, FACES, TinySurrogate(), seed=5)
        told = [training.step(number) for number in range(training.steps)]
        again = recipe(config, FACES, TinySurrogate(), seed=6)
        again.restore(training.state())
        assert all(torch.equal(value, again.weights()[name]) for name, value in training.weights().items())
        return training.weights(), told

    weights, told = trained()
    with other_device(kind) as exact:
        there, said = trained()
        assert {value.device.type for value in there.values()} == {"cpu"}, "what ships is of no device"
    for name, value in weights.items():
        assert_alike(there[name], value, exact)
    for ours, theirs in zip(told, said, strict=True):
        assert_alike(list(theirs.values()), list(ours.values()), exact)


# Broken defenses -----------------------------------------------------------------------------------------------------


Act = Callable[[torch.Tensor, torch.Generator], Any]


class Broken(Defense):
    """What the function it is given does."""

    version = 1
    card: ClassVar[DefenseCard] = DefenseCard(title="Broken", family="test", reference="test", licence="MIT")

    def __init__(
        self, act: Callable[[torch.Tensor, torch.Generator], Any], claim: Randomness = "deterministic"
    ) -> None:
        super().__init__()
        self.act, self.claim = act, claim

    @property
    def randomness(self) -> Randomness:
        return self.claim

    def protect(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        out: torch.Tensor = self.act(images, generator)
        return out


def raising(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    raise RuntimeError("no face found")


def nan_in_one(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    out = images.clone()
    if len(out) > 5:
        out[5, 0, 3, 3] = torch.nan
    return out


def one_draw_a_batch(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images * torch.rand(1, generator=generator)


def per_image_noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    keys = per_image_generators(generator, len(images))
    return torch.stack([torch.rand(images.shape[1:], generator=key) for key in keys])


def content_seeded(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    keys = [torch.Generator().manual_seed(int(image.sum() * 1000)) for image in images]
    return torch.stack([torch.rand(images.shape[1:], generator=key) for key in keys])


BROKEN: list[tuple[str, Broken, str]] = [
    ("not_finite", Broken(lambda x, g: x / 0 * 0), "NaN"),
    ("not_finite", Broken(nan_in_one), "example/1/1"),
    ("shape", Broken(lambda x, g: x[:, :, :100]), r"\(16, 3, 112, 112\), got \(16, 3, 100, 112\)"),
    ("shape", Broken(lambda x, g: x[:1]), r"got \(1, 3, 112, 112\)"),
    ("shape", Broken(lambda x, g: x.numpy()), "got ndarray"),
    ("shape", Broken(lambda x, g: None), "got NoneType"),
    ("dtype", Broken(lambda x, g: x.double()), "float32.*got float64"),
    ("range", Broken(lambda x, g: x * 255), r"\[0, 1\], got \[.*, 25"),
    ("range", Broken(lambda x, g: x - 0.5), r"\[0, 1\], got \[-0\."),
    ("raises", Broken(raising), "RuntimeError: no face found"),
    ("in_place", Broken(lambda x, g: x.mul_(0.5)), "clone"),
    ("global_random", Broken(lambda x, g: torch.rand_like(x)), "generator passed in"),
    ("global_random", Broken(lambda x, g: x * float(np.random.rand())), "generator passed in"),
    ("global_random", Broken(lambda x, g: x * random.random()), "generator passed in"),
    ("batch_size", Broken(one_draw_a_batch, "per_call"), "one by one.*per_image_generators"),
    ("batch_size", Broken(lambda x, g: x - x.mean(0) * 0.5 + 0.25), "one by one"),
    ("gradient", Broken(lambda x, g: x / 2 if x.requires_grad else x / 2 + 0.1), "where a gradient is asked for"),
    ("gradient", Broken(lambda x, g: x[:1] / 2 if x.requires_grad else x / 2), "where a gradient is asked for"),
    ("randomness", Broken(per_image_noise), "declares randomness 'deterministic', but two seeds differ"),
    ("randomness", Broken(per_image_noise, "per_session_key"), "'per_session_key', but two seeds differ"),
    ("randomness", Broken(lambda x, g: 1 - x, "per_call"), "'per_call', but two seeds give the same image"),
    ("randomness", Broken(content_seeded, "per_image_key"), "two seeds give the same image"),
]


@pytest.mark.parametrize(("code", "defense", "says"), BROKEN, ids=[f"{i}-{b[0]}" for i, b in enumerate(BROKEN)])
@pytest.mark.filterwarnings("ignore:Legacy NumPy random")
def test_each_breach_is_named(code: str, defense: Broken, says: str) -> None:
    before = torch.get_rng_state()
    findings = check_defense(defense, IMAGES, LABELS, seed=0)
    assert code in [finding.code for finding in findings]
    assert re.search(says, " | ".join(finding.message for finding in findings))
    assert torch.equal(before, torch.get_rng_state()), "the check leaves no trace"


def test_honest_randomness_passes_under_either_name() -> None:
    for claim in ("per_call", "per_image_key"):
        assert check_defense(Broken(per_image_noise, claim), IMAGES, LABELS, seed=0) == []  # type: ignore[arg-type]
    assert check_defense(Broken(content_seeded), IMAGES, LABELS, seed=0) == []


def test_one_image_is_enough() -> None:
    assert check_defense(registry.build("defense", "stochastic_local", {}), IMAGES[:1], LABELS[:1], seed=0) == []


# What randomness is worth ---------------------------------------------------------------------------------------------


def seeded_by_image_and_call(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    call = int(torch.randint(2**31, (1,), generator=generator))
    keys = [torch.Generator().manual_seed(call + int(image.sum() * 1000)) for image in images]
    return torch.stack([torch.rand(images.shape[1:], generator=key) for key in keys])


def few_keys(number: int) -> Act:
    def act(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        keys = [int(torch.randint(number, (1,), generator=key)) for key in per_image_generators(generator, len(images))]
        return torch.stack([image.roll(key, dims=-1) for image, key in zip(images, keys, strict=True)])

    return act


def stretched(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low)


def equalized(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    order = torch.argsort(images.flatten(1), dim=1, stable=True)
    ranks = torch.argsort(order, dim=1)
    return (ranks / ranks.shape[1]).float().reshape(images.shape)


def noise_of_patch(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Looks at the upper left eighth only: one pixel in 64 tips it."""
    keys = [torch.Generator().manual_seed(int(image[:, :14, :14].sum() * 255)) for image in images]
    return torch.stack([torch.rand(images.shape[1:], generator=key) for key in keys])


def of_spectrum(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    spectrum = torch.fft.rfft2(images).abs().log1p()
    return (torch.nn.functional.interpolate(spectrum, images.shape[2:]) / 12).clamp(0, 1)


@pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
def test_no_built_in_defense_is_odd(name: str, params: dict[str, Any]) -> None:
    few = name == "partialface" and not params  # six subsets in six orders, as published
    assert randomness_flags(built(name, params), IMAGES, seed=3) == (("low_entropy_draws",) if few else ())


@pytest.mark.parametrize("act", [stretched, equalized, of_spectrum], ids=lambda act: act.__name__)
def test_a_map_of_the_whole_image_is_not_taken_for_noise(act: Act) -> None:
    """The negative controls: every released pixel depends on every pixel, and none of it is noise."""
    assert randomness_flags(Broken(act), IMAGES, seed=0) == ()


def test_noise_that_is_a_function_of_the_image_is_flagged_and_not_rejected() -> None:
    assert randomness_flags(Broken(content_seeded), IMAGES, seed=0) == ("content_seeded",)
    assert check_defense(Broken(content_seeded), IMAGES, LABELS, seed=0) == []


def test_noise_keyed_to_a_corner_is_the_known_limit() -> None:
    assert randomness_flags(Broken(noise_of_patch), IMAGES, seed=0) == ()


def test_random_claims_whose_noise_the_image_decides_are_flagged() -> None:
    both = ("low_entropy_draws", "content_seeded")
    assert randomness_flags(Broken(content_seeded, "per_image_key"), IMAGES, seed=0) == both
    assert randomness_flags(Broken(seeded_by_image_and_call, "per_call"), IMAGES, seed=0) == both


def test_sixteen_draws_are_sixteen_images() -> None:
    for keys in (1, 8, 16):
        assert randomness_flags(Broken(few_keys(keys), "per_call"), IMAGES, seed=0) == ("low_entropy_draws",)
    for claim in ("per_call", "per_image_key"):
        assert randomness_flags(Broken(per_image_noise, claim), IMAGES, seed=0) == ()  # type: ignore[arg-type]
    assert randomness_flags(Broken(lambda x, g: 1 - x, "per_call"), IMAGES, seed=0) == ("low_entropy_draws",)


def test_the_flags_leave_no_trace_and_need_one_image_only() -> None:
    before = torch.get_rng_state()
    assert randomness_flags(Broken(content_seeded), IMAGES[:1], seed=0) == ("content_seeded",)
    assert randomness_flags(Broken(per_image_noise, "per_call"), IMAGES[:1], seed=2**40) == ()
    assert torch.equal(before, torch.get_rng_state())
    given = IMAGES.copy()
    randomness_flags(Broken(content_seeded), given, seed=0)
    np.testing.assert_array_equal(given, IMAGES)


def test_a_crash_is_not_a_clean_bill() -> None:
    with pytest.raises(UserError, match="no face found"):
        randomness_flags(Broken(raising), IMAGES, seed=0)


# Clear images that get out -------------------------------------------------------------------------------------------


def tells_clear_images(share: float) -> bool:
    """Whether a wholly clear image is more than the card allows: a card that allows nearly all of one hides it."""
    return share + 0.15 < 1


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in CLEAR and registry.load("defense", name).card.clear_share < 1]
)
def test_exactly_the_images_let_through_are_named(name: str) -> None:
    defense = built(name)
    share = defense.card.clear_share
    released = rendered(defense, IMAGES)
    released[[3, 12]] = IMAGES[[3, 12]]  # clear
    released[6, :, :, :60] = IMAGES[6, :, :, :60]  # half clear
    released[9] = (IMAGES[9].astype(np.int16) + np.random.default_rng(0).integers(-2, 3, IMAGES[9].shape)).clip(0, 255)
    if share > 0.5:  # clear for the most part by design: without the allowance every image is named
        assert leaked_images(IMAGES, released, LABELS) == LABELS
    named = (3, 6, 9, 12) if share < 0.5 else (3, 9, 12) if tells_clear_images(share) else ()
    assert leaked_images(IMAGES, released, LABELS, share) == [LABELS[i] for i in named]


@pytest.fixture(scope="module")
def lfw() -> ByteArray:
    """Every fortieth of the LFW faces, uint8 (n, 3, 112, 112)."""
    root = Path(os.environ.get("PPFR_BENCH_SHARED", Path(__file__).parents[3] / "shared" / "data"))
    paths = sorted((root / "lfw" / "images").rglob("*.jpg"))[::40]
    if not paths:
        pytest.skip(f"no LFW faces under {root}: set PPFR_BENCH_SHARED")
    return np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths])


@pytest.mark.parametrize("name", [name for name in HIDING if name != "no_defense"])
def test_real_faces_raise_no_false_alarm_and_no_leak_is_missed(name: str, lfw: ByteArray) -> None:
    labels = [str(i) for i in range(len(lfw))]
    defense = built(name)
    share = defense.card.clear_share
    released = np.concatenate([rendered(defense, part) for part in np.array_split(lfw, 4)])
    assert leaked_images(lfw, released, labels, share) == []
    if share > 0.5:
        assert leaked_images(lfw, released, labels) == labels
    released[::100] = lfw[::100]
    assert leaked_images(lfw, released, labels, share) == (labels[::100] if tells_clear_images(share) else [])


def test_only_these_defenses_release_clear_pixels_and_only_one_hides_a_clear_image() -> None:
    shares = {name: registry.load("defense", name).card.clear_share for name in HIDING}
    assert {name for name, share in shares.items() if share} == {"eye_mask", "median", "random_erasing"}
    assert {name for name, share in shares.items() if not tells_clear_images(share)} == {"random_erasing"}


def test_what_the_card_allows_is_no_leak() -> None:
    released = np.zeros_like(IMAGES)
    released[:, :, 56:] = IMAGES[:, :, 56:]  # the lower half of the face
    assert leaked_images(IMAGES, released, LABELS, allowed_share=0.0) == LABELS
    assert leaked_images(IMAGES, released, LABELS, allowed_share=0.8) == []


def test_texture_outside_of_the_mask_alone_is_no_leak_where_a_share_is_allowed() -> None:
    images = IMAGES.copy()
    images[:, :, 40:60] = 90  # nothing to see under the bar
    released = images.copy()
    released[:, :, 40:60] = 0
    assert leaked_images(images, released, LABELS) == LABELS
    assert leaked_images(images, released, LABELS, allowed_share=0.8) == []
    assert leaked_images(images, images, LABELS, allowed_share=0.8) == LABELS


def test_a_chance_hit_or_an_image_without_texture_is_no_leak() -> None:
    rng = np.random.default_rng(0)
    keep = rng.random((16, 1, 112, 112)) < 0.5
    assert leaked_images(IMAGES, np.where(keep, IMAGES, 255 - IMAGES), LABELS) == []
    flat = np.full_like(IMAGES, 90)
    assert leaked_images(flat, flat, LABELS) == []
    assert leaked_images(IMAGES[:0], IMAGES[:0], []) == []
    with pytest.raises(ValueError, match="alike shapes"):
        leaked_images(IMAGES, IMAGES[:3], LABELS)


@pytest.mark.parametrize("name", ["gaussian_blur", "local_contrast", "stochastic_local"])
def test_a_defense_that_was_used_still_lets_gradients_through(name: str) -> None:
    """What it keeps from one call to the next, a kernel say, must not bar the informed attacker's."""
    import_module("ppfr_bench.defenses._filters")._blur_matrix.cache_clear()
    defense = registry.build("defense", name, {})
    assert check_defense(defense, IMAGES[:4], LABELS[:4], seed=0) == []
    images = to_float(IMAGES[:2]).requires_grad_(True)
    defense.protect(images, torch.Generator().manual_seed(0)).square().sum().backward()
    assert images.grad is not None and bool(images.grad.abs().sum() > 0)
