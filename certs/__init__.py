"""Statements, envelopes, proofs and their offline verification. It imports nothing of ours."""
