"""Scripted backend: a deterministic test double."""
