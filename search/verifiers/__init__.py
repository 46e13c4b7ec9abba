"""Verifiers: what scores a path by checking it."""
