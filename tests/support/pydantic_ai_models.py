"""A Pydantic AI model over a scripted backend, a tool for it, and replies that vote for 42."""

from typing import Any

from pydantic_ai.settings import ModelSettings

import branchwise as bw
from branchwise.integrations.pydantic_ai import BranchwiseModel

ANSWERS = ["The answer is 41.", "So the answer is 42.", "Hm.", "The answer is 42.", "The answer is 42."]


def model(backend: bw.Backend, settings: ModelSettings | None = None, **given: object) -> BranchwiseModel:
    """Return a model that votes over five paths, unless other arguments are given."""
    named = {} if "task" in given else {"answers": "math"}  # with a named format, all paths are one request
    fields: dict[str, Any] = {"strategy": "self-consistency", "paths": 5, **named, **given}
    return BranchwiseModel(backend=backend, settings=settings, **fields)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
