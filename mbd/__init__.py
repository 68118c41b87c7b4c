"""Missing-by-Design: withdraw one modality of one person from a model, and prove it."""

__version__ = "0.1.0"
