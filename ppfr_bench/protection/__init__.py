"""Protecting pictures of the user's own: a folder, a photograph, a video."""
