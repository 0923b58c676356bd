"""A process that embeds chips for ``dlib_resnet``: started by path, so that it imports neither torch nor this package.

Reads uint8 RGB chips (150, 150, 3) from standard input until it ends; answers each with 128 float32 on standard output.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

CHIP = 150


def main(weights: str) -> None:
    """Serve until standard input ends, which it also does when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # The pipe is kept, and standard output sent elsewhere: a stray print must not reach the parent as an embedding.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import numpy as np

    dlib: Any = import_module("dlib")
    network = dlib.face_recognition_model_v1(weights)
    while len(pixels := sys.stdin.buffer.read(CHIP * CHIP * 3)) == CHIP * CHIP * 3:
        chip = np.frombuffer(pixels, np.uint8).reshape(CHIP, CHIP, 3)
        answers.write(np.asarray(network.compute_face_descriptor(chip), np.float32).tobytes())
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
