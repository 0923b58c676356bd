"""Recognition of cloaked images: as released, filtered, or as a counter-attack has rebuilt them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter
from pydantic import Field, model_validator

from ppfr_bench.api import SIZE, Answers, Attack, AttackCard, AttackerView, ByteArray, Config

from .linkage import seen

Filter = Literal["none", "jpeg", "resize", "blur", "median"]


class RecognitionConfig(Config):
    """Parameters of the attack.

    Attributes:
        probe: ``released``, or the label of the attack whose answers are recognised.
        filter: what is done to the images first: JPEG of ``quality``, half the size and back, a Gaussian of one pixel,
            or a median of 3x3 pixels.
        quality: of the JPEG.
    """

    probe: str = Field("released", pattern=r"^[a-z0-9_]+$")
    filter: Filter = "none"
    quality: int = Field(75, ge=1, le=95)

    @model_validator(mode="after")
    def _one_of_both(self) -> RecognitionConfig:
        if self.probe != "released" and self.filter != "none":
            raise ValueError(f"expected a filter of what is released, got probe {self.probe!r} and a filter")
        return self


class Recognition(Attack):
    """Has clear photos of the people and an off-the-shelf recognizer, and compares what is left of a cloak with them.

    It knows nothing of the cloak. Filters are the purification that anybody tries first: perturbations are fine, and
    faces are not.
    """

    version = 1
    card = AttackCard(
        title="Recognition of cloaked faces",
        plain="Compares cloaked photos with clear photos of known people by an ordinary face recognizer. Some "
        "variants first compress, shrink or smooth the cloaked photo, or use what another attack made of it.",
        family="recognition",
        reference="Dziugaite et al., A study of the effect of JPG compression on adversarial images, 2016; Guo et al., "
        "Countering Adversarial Images using Input Transformations, ICLR 2018",
        licence="MIT",
        measures="recognition",
        knowledge="oblivious",
        needs_gallery=True,
        needs_recognizer=True,
        tracks=("cloak",),
    )
    Config = RecognitionConfig

    @property
    def sources(self) -> tuple[str, ...]:
        """The attack that purified the probes, if one did."""
        return () if self.config.probe == "released" else (self.config.probe,)

    def run(self, view: AttackerView) -> Answers:
        """Similarities (n_targets, n_gallery)."""
        assert view.recognizer is not None and view.gallery is not None, "the card asks for both"
        self.log["shots"] = 1
        if self.sources:
            probes = view.source_answers[self.config.probe].main
        else:
            probes = filtered(np.asarray(view.targets[0]), self.config.filter, self.config.quality)
        recognizer = view.recognizer
        return Answers(recognizer.similarity_matrix(seen([probes], recognizer), seen([view.gallery], recognizer)))


def filtered(images: ByteArray, kind: Filter, quality: int = 75) -> ByteArray:
    """Images uint8 (n, 3, h, w) after a filter of ``RecognitionConfig``, of the same shape."""
    if kind == "none":
        return images
    change = _FILTERS[kind]
    found = [np.asarray(change(Image.fromarray(image.transpose(1, 2, 0)), quality)) for image in images]
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2)) if found else images


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=quality)
    return Image.open(packed).convert("RGB")


def _resized(image: Image.Image, quality: int) -> Image.Image:
    small = image.resize((SIZE // 2, SIZE // 2), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


_FILTERS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "jpeg": _jpeg,
    "resize": _resized,
    "blur": lambda image, quality: image.filter(ImageFilter.GaussianBlur(1.0)),
    "median": lambda image, quality: image.filter(ImageFilter.MedianFilter(3)),
}

ATTACK = Recognition
