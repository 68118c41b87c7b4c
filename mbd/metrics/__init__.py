"""How good predictions are, in numbers with pinned conventions."""
