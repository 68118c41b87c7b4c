"""Durable jobs: approved requests are carried out by worker processes, whatever dies in between (docs/jobs.md)."""
