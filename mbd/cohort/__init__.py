"""Rows of people: features, labels, presence, and what was withdrawn."""
