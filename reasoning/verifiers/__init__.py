"""Verifiers: scores for a path, by tests, arithmetic or a reward model."""
