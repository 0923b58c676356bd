"""One file is one defense; see CONTRIBUTING.md."""
