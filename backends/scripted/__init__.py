"""Scripted backend: a deterministic test double that answers from a script."""
