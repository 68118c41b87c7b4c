"""Measurements on real data and on this machine; their results stand in ``benchmarks/results`` and in the README."""
