"""What tests and ``ppfr-bench check`` use where no asset is at hand: sixteen faces and a tiny recognizer."""

from ppfr_bench.testing.faces import example_faces
from ppfr_bench.testing.recognizer import TinyRecognizer

__all__ = ["TinyRecognizer", "example_faces"]
