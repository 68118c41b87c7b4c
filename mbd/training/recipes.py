"""The recipes that we ship: a run is a Python function.

Sizes and loss weights were chosen on public validation people and on held-out training people of the real cohorts, and
held against others on the latter by `benchmarks.selection`.
"""

from mbd.training.recipe import Recipe


def mosi() -> Recipe:
    """CMU-MOSI: text and voice as vectors, about 440 public training clips."""
    return Recipe()


def ravdess() -> Recipe:
    """RAVDESS: voice and face as vectors, about 360 public training clips."""
    return Recipe()


def synthetic() -> Recipe:
    """The bundled synthetic cohort: nearly as good in a fifth of the steps, which the demo has no time for."""
    return Recipe(epochs=20, batch_size=64)
