"""From a recipe and a cohort to weights and a transcript, on public rows alone unless the caller names others."""
