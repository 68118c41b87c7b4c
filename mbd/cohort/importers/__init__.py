"""Readers of other people's data. Each returns a validated cohort; none knows what was withdrawn since."""
