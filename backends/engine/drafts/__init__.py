"""Exact speculative decoding: who proposes the next tokens of a branch, and how many are worth computing."""
