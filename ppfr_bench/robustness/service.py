"""The target: closed-set identification of people with many photos, by a linear head on a frozen recognizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ppfr_bench import device
from ppfr_bench.api import IntArray
from ppfr_bench.errors import UserError

__all__ = ["PEOPLE", "PHOTOS", "TESTS", "IdentificationNetwork", "Roles", "assign_roles", "fit_head"]

PHOTOS = 6  # A person with so many photos is enrolled.
PEOPLE = 50  # At most so many people, those with the most photos.
TESTS = 2  # Photos of each that nobody learns from.
_MOST = 30  # Photos of a person that take part, at most.
_SHARPNESS = 16.0  # The head multiplies cosines by it.
_DECAY = 1e-3


@dataclass(frozen=True)
class Roles:
    """What the photos of the enrolled people are for, as rows of a split, and who is on each.

    Attributes:
        enrolled: the service is trained on these.
        queried: others of the same people, which whoever hardens it may send to it.
        test: measured and attacked.
        people: the identity of each class, sorted.
    """

    enrolled: IntArray
    queried: IntArray
    test: IntArray
    people: IntArray

    def classes(self, identities: IntArray) -> IntArray:
        """The class of each photo of enrolled people."""
        return np.searchsorted(self.people, identities).astype(np.int64)


def assign_roles(identities: IntArray) -> Roles:
    """Of each person the last photos are for tests; the others are enrolled and queried in turn.

    Raises:
        UserError: fewer than two people have ``PHOTOS`` photos: there is one class, and nothing to identify.
    """
    people, counts = np.unique(identities, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    chosen = np.sort(people[order[counts[order] >= PHOTOS][:PEOPLE]])
    if len(chosen) < 2:
        raise UserError(
            f"identification needs two classes: expected two people or more with {PHOTOS} photos each, got "
            f"{len(chosen)} of {len(people)}",
            "Ask the data set for more photos of each person, such as"
            f"  params = {{ evaluation_images = {PHOTOS} }}  of synthetic.",
        )
    enrolled, queried, test = [], [], []
    for person in chosen:
        rows = np.flatnonzero(identities == person)[:_MOST]
        test.append(rows[-TESTS:])
        enrolled.append(rows[:-TESTS:2])
        queried.append(rows[1:-TESTS:2])
    first, second, third = (np.sort(np.concatenate(one)).astype(np.int64) for one in (enrolled, queried, test))
    return Roles(first, second, third, chosen)


class IdentificationNetwork(nn.Module):
    """float32 (n, 3, 112, 112) in [0, 1] -> logits (n, classes)."""

    def __init__(self, embedding: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.embedding = embedding
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.of_embeddings(self.embedding(images.contiguous(memory_format=torch.channels_last)))

    def of_embeddings(self, embeddings: Tensor) -> Tensor:
        """(n, d) -> logits (n, classes)."""
        logits: Tensor = self.head(_SHARPNESS * embeddings)
        return logits


def fit_head(embeddings: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression on unit embeddings: weight float32 (classes, d) and bias (classes,).

    By L-BFGS in double precision from the mean embedding of each class, with a penalty on the squared weights.

    Args:
        embeddings: (n, d), of unit length; ``labels``: int64 (n,), every class among them.
    """
    rows = device.double(embeddings.cpu())
    means = torch.stack([rows[labels == one].mean(0) for one in range(classes)])
    weight = functional.normalize(means, dim=1).requires_grad_(True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(_SHARPNESS * rows @ weight.T + bias, labels)
        value = value + _DECAY * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach().float(), bias.detach().float()
