"""What every reconstruction attack starts from: its observations, and a closed-form estimate of every clear image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ppfr_bench import device
from ppfr_bench.api import Arrays, AttackerView, ByteArray, IntArray, Material, Scope
from ppfr_bench.datasets.faces import subset
from ppfr_bench.learning.decoding import Decoder, LevelsDecoder, fit_decoder, read_decoder
from ppfr_bench.learning.image_keys import read_undone, undone
from ppfr_bench.learning.kernel_ridge import KernelRidge, fit_best_kernel_ridge
from ppfr_bench.learning.likeness import measured
from ppfr_bench.learning.observations import Observations, observe
from ppfr_bench.learning.reading import Reader, Reading, read_reading, reader_of, reading
from ppfr_bench.learning.resizing import shrink_faces
from ppfr_bench.learning.validation import evenly_spaced, held_out_people, read_held_out
from ppfr_bench.metrics import is_better

REPRESENTATION_SIZE = 56  # Working side in pixels where a representation is read: two pixels a place of the usual 28.
ESTIMATE_SIZE = 64  # Side in pixels of the closed-form estimates, at most.
_PARTS = (4, 2)  # The regression is also fitted on the images divided by each of these.
_AT = "targets_first_at_"  # Before the number of images that it was fitted on.
_READING = "reading "  # Before the names of its arrays.
JUDGED = 24  # At most so many of the images that are held out say which answer is best by a measure.
_BATCH = 128
_BYTES = 2**29  # At most so many of releases are in memory together.


@dataclass(frozen=True)
class InversionData:
    """One attacker's images and those of its targets at the working size s, on the CPU.

    Where images have keys of their own, these are images whose key was undone: all targets, and some of its own.

    Attributes:
        clear: uint8 (n, 3, s, s), the attacker's own images.
        rows: int64 (n,), which of the view's auxiliary images these are.
        own: observations of their protected versions.
        own_estimates: uint8 (n, 3, e, e), the closed-form estimate of each, with that person left out of the fit; e is
            the smaller of s and 64.
        targets: observations of the m targets.
        target_estimates: uint8 (m, 3, e, e), the closed-form estimate of each.
        estimates_by: by measure, the estimates uint8 (m, 3, e, e) under the penalty that is best by it.
        estimates_at: by the number of images that the regression was fitted on, evenly spaced ones, the estimates uint8
            (m, 3, e, e) under the penalty of the main ones.
        held_out_by: by measure, what the closed form reaches on held-out people under that penalty.
        validation: bool (n,), True for the images of the people held out; of nobody, where there is one person.
        key: of the images' own keys, the kind that was undone; empty where there are none.
        decoder: found by ``decoding``, if any; its weights are on the device that was current when it was read.
        reading: of a representation, how it is read, if any; on the device that was current then.
        estimated_from: the name in ``Observations.regression_inputs`` that the estimates start from.
        log: for the record: images that were learnt from, shots, whether a key was decoded, the regression's choices.
    """

    clear: torch.Tensor
    rows: IntArray
    own: Observations
    own_estimates: torch.Tensor
    targets: Observations
    target_estimates: torch.Tensor
    estimates_by: dict[str, torch.Tensor]
    estimates_at: dict[int, torch.Tensor]
    held_out_by: dict[str, float]
    validation: torch.Tensor
    key: str
    decoder: Decoder | LevelsDecoder | None
    reading: Reader | None
    estimated_from: str
    log: dict[str, Any]

    @property
    def size(self) -> int:
        """Working side in pixels."""
        return int(self.clear.shape[-1])

    @property
    def estimate_size(self) -> int:
        """Side in pixels of the estimates."""
        return int(self.own_estimates.shape[-1])

    @property
    def representation_channels(self) -> tuple[int, int]:
        """``channels`` and ``finer`` of the ``UNet`` for these observations; 0 and 1 where images are released."""
        found = self.own.channels
        return (0, 1) if found is None else (int(found.shape[1]), max(1, self.size // 2 // found.shape[-1]))

    @property
    def training_rows(self) -> torch.Tensor:
        """int64 (k,), the images that are not held out."""
        return torch.nonzero(~self.validation).flatten()

    @property
    def validation_rows(self) -> torch.Tensor:
        """int64 (k,), the images that are held out; with one person only, that person's, which are trained on too."""
        mask = self.validation
        return torch.nonzero(mask if mask.any() else ~mask).flatten()

    def some_validation_rows(self, most: int) -> torch.Tensor:
        """int64, at most so many of ``validation_rows``, evenly spaced."""
        return torch.from_numpy(evenly_spaced(self.validation_rows.numpy(), most))


def inversion_data(scope: Scope, size: int, shots: int) -> Material:
    """The material ``scene``, which ``read_inversion_data`` reads under the same arguments.

    Its arrays are what an ``InversionData`` holds, but for the clear images, which the view has.

    Args:
        scope: of the view.
        size: working side in pixels; a representation has a working size of its own. Estimates have 64 at most.
        shots: releases of each target, and of each of the attacker's own images, that are observed; fewer where the
            attacker holds fewer. Those of its own images beyond the first come from the oracle.
    """
    size, shots = size if scope.releases_image else REPRESENTATION_SIZE, min(shots, scope.shots)
    spec = {"size": size, "shots": shots, "version": 7}
    starts_from = (held_out_people(), undone(scope, shots), *(() if scope.releases_image else (reading(),)))
    return Material("scene", spec, partial(_compute, size=size, shots=shots), starts_from, queries=shots > 1)


def read_inversion_data(view: AttackerView, size: int, shots: int) -> InversionData:
    """The data of the material ``inversion_data(view.scope, size, shots)``.

    Raises:
        UserError: the attack did not declare that material.
    """
    material = inversion_data(view.scope, size, shots)
    return _read(view, view.material(material), material.spec)


def _compute(view: AttackerView, generator: torch.Generator, size: int, shots: int) -> Arrays:
    """Observe, find a key, and regress the clear images on what is observed."""
    assert view.auxiliary_protected is not None, "an aware attacker is given its protected images"
    found_key = read_undone(view, shots)
    faces, first, shown = view.auxiliary, view.auxiliary_protected, view.targets[:shots]
    if found_key is not None:
        faces, first, shown = subset(faces, found_key.rows), found_key.own[0], found_key.targets
    identities = faces.identities
    validation = read_held_out(view, None if found_key is None else found_key.rows)
    decoder = fit_decoder(first, faces, validation) if view.releases_image else None
    how = read_reading(view)
    releases = found_key.batches if found_key is not None else _releases_of_own(view, shots)
    own = Observations.concatenated([observe(view, part, size, decoder, how) for part in releases])
    targets = observe(view, shown, size, decoder, how)
    side = min(size, ESTIMATE_SIZE)
    outputs = device.to(shrink_faces(faces, side)).flatten(1).float() / 255
    name, fitted = fit_best_kernel_ridge(own.regression_inputs(side), outputs, identities, validation)
    given = targets.regression_inputs(side)[name]
    found = {
        "seen": own.images,
        "details": own.details,
        "first": as_bytes(fitted.left_out, side),
        "targets": targets.images,
        "targets_details": targets.details,
        "targets_first": as_bytes(fitted(given), side),
        "decoder": decoder.weights if decoder else torch.empty(0),
    }
    channels = {"channels": own.channels, "targets_channels": targets.channels}
    found |= {key: tensor for key, tensor in channels.items() if tensor is not None}
    # Materials are NumPy arrays, as they are kept in files and serve every device.
    arrays: dict[str, npt.NDArray[Any]] = {key: tensor.cpu().numpy() for key, tensor in found.items()}
    if how is not None:
        arrays |= {_READING + key: array for key, array in how.arrays().items()}
    note: dict[str, Any] = {"kernel": fitted.name, "strength": fitted.strength, "errors": fitted.error}
    for count in sorted({len(own) // part for part in _PARTS} - {0}):
        some = np.linspace(0, len(own) - 1, count).astype(np.int64)
        arrays[f"{_AT}{count}"] = as_bytes(fitted.of_part(some, given), side).cpu().numpy()  # A material, as above.
    rows = evenly_spaced(np.flatnonzero(validation), JUDGED)
    if len(rows) and len(own) > len(rows):
        judged = _judged(fitted, validation, rows, faces.load(rows), side)
        note["strengths"] = {metric: found.strength for metric, found in judged.items()}
        note["held_out"] = {metric: round(found.value, 5) for metric, found in judged.items()}
        better = {
            strength: as_bytes(fitted.at(strength)(given), side).cpu().numpy()  # A material, as above.
            for strength in {found.strength for found in judged.values()} - {fitted.strength}
        }
        arrays |= {
            f"targets_first_{metric}": better[found.strength] for metric, found in judged.items()
            if found.strength in better
        }  # fmt: skip
    if found_key is not None:
        arrays["rows"] = found_key.rows
    named = np.array(found_key.name if found_key is not None else "")
    return arrays | {"held": validation, "view": np.array(name), "log": np.array(json.dumps(note)), "key": named}


@dataclass(frozen=True)
class _Judged:
    """The strength of the penalty that is best by a measure, and the measure under it, on held-out people."""

    strength: float
    value: float


def _judged(
    fitted: KernelRidge, validation: npt.NDArray[np.bool_], rows: IntArray, clear: ByteArray, side: int
) -> dict[str, _Judged]:
    """By each measure of a reconstruction, what answers best on ``rows`` of the held-out images.

    Ever weaker penalties are tried until one is better by no measure.
    """
    found: dict[str, _Judged] = {}
    for strength, answer in fitted.weaker(validation, rows):
        values = measured(as_bytes(answer, side).float() / 255, clear)
        better = {
            name: _Judged(strength, value) for name, value in values.items()
            if name not in found or is_better(name, value, found[name].value)
        }  # fmt: skip
        if not better:
            break
        found |= better
    return found


def _releases_of_own(view: AttackerView, shots: int) -> Iterator[ByteArray]:
    """The attacker's own images, (k, n, ...): their first release is at hand, the others come from the oracle."""
    assert view.auxiliary_protected is not None
    start, size = 0, shots * int(np.prod(view.auxiliary_protected.shape[1:]))
    for batch in view.auxiliary.batches(max(1, min(_BATCH, _BYTES // size))):
        first = np.asarray(view.auxiliary_protected[start : start + len(batch)])
        more = [view.oracle.protect(batch) for _ in range(shots - 1)] if view.oracle is not None else []
        yield np.stack([first, *more])
        start += len(batch)


def _read(view: AttackerView, arrays: Arrays, spec: Mapping[str, Any]) -> InversionData:
    """From arrays that ``_compute`` gave, whose names are those of version 7 of the material."""
    words = ("log", "view", "key", "rows")
    read = {key.removeprefix(_READING): array for key, array in arrays.items() if key.startswith(_READING)}
    how = reader_of(read)
    tensors = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()
               if key not in words and not key.startswith(_READING)}  # fmt: skip
    decoder = read_decoder(device.to(tensors["decoder"]))
    validation = tensors["held"]
    rows, key, faces = np.arange(len(view.auxiliary)), str(arrays["key"]), view.auxiliary
    if key:
        rows, faces = arrays["rows"], subset(faces, arrays["rows"])
    log = {"training_images": int((~validation).sum()), "shots": spec["shots"], "decoded": decoder is not None,
           "closed_form": json.loads(str(arrays["log"]))}  # fmt: skip
    estimated_from = str(arrays["view"])
    if key:
        log["undone"] = key
    if not view.releases_image:
        log["closed_form"]["of"] = estimated_from
    if isinstance(how, Reading):
        log["read"] = {"draws": how.draws, "errors": [round(error, 5) for error in how.errors]}
    elif how is not None:
        log["read"] = "as mixed channels"
    return InversionData(
        clear=shrink_faces(faces, spec["size"]),
        rows=rows,
        own=Observations(tensors["seen"], tensors["details"], tensors.get("channels")),
        own_estimates=tensors["first"],
        targets=Observations(tensors["targets"], tensors["targets_details"], tensors.get("targets_channels")),
        target_estimates=tensors["targets_first"],
        estimates_by={
            metric: tensors.get(f"targets_first_{metric}", tensors["targets_first"])
            for metric in log["closed_form"].get("held_out", {})
        },
        estimates_at={int(name.removeprefix(_AT)): tensor for name, tensor in tensors.items() if name.startswith(_AT)},
        held_out_by=log["closed_form"].get("held_out", {}),
        validation=validation,
        key=key,
        decoder=decoder,
        reading=how,
        estimated_from=estimated_from,
        log=log,
    )


def as_bytes(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of a regression as images: float (n, 3 * size * size), clamped to [0, 1] -> uint8 (n, 3, size, size)."""
    return (rows.clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 3, size, size)
