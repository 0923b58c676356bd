"""The random states of this process that a call may change unseen: those of torch's CPU, NumPy and Python."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def state() -> tuple[bytes, bytes, object]:
    """All three, to be compared with an earlier one."""
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), random.getstate()


@contextmanager
def kept() -> Iterator[None]:
    """Whatever is drawn inside, all three are afterwards what they were."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
