"""Predictions for programs: a process that holds the live models answers on a Unix socket, and the API asks it.

`exchange` is what both ends know, `client` asks, `predictor` answers, `service` listens. The first two load no science.
"""
