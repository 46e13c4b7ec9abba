"""Exact speculative decoding: drafters, draft budgets and verification."""
