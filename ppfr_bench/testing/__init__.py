"""What tests and ``ppfr-bench check`` use where no asset is at hand: sixteen faces, a tiny recognizer, an attacker."""

from ppfr_bench.testing.attacker import attacker_view
from ppfr_bench.testing.faces import example_faces
from ppfr_bench.testing.recognizer import TinyRecognizer

__all__ = ["TinyRecognizer", "attacker_view", "example_faces"]
