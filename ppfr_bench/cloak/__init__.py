"""Cloaks: images that look the same to people and that recognizers fail on."""
