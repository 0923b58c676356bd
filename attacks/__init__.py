"""One file is one attack; see CONTRIBUTING.md."""
