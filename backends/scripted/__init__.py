"""Scripted backend: replies from a function, for tests, examples and custom strategies."""

from branchwise.backends.scripted.backend import ScriptedBackend

__all__ = ["ScriptedBackend"]
