"""What attacks learn with, and the fine-tuned recognizer and the trained defense too: networks, regressions, heads."""
