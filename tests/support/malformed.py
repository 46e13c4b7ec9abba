"""Bodies of chat requests with something wrong in one place, and bodies that were cut."""

import json
import random
from collections.abc import Iterator

from pydantic import JsonValue

LONG = "x9" * 5000


def malformed_bodies(count: int, model: str, *, seed: int) -> Iterator[bytes]:
    """Yield bodies made from a valid one for `model`, a fifth of them cut; some are still valid."""
    rng = random.Random(seed)
    tool: JsonValue = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
    whole: JsonValue = {
        "model": model,
        "messages": [{"role": "user", "content": "What is 6 times 7?"}],
        "temperature": 1,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "max_tokens": 4,
        "stop": ["x"],
        "seed": 1,
        "n": 2,
        "stream": False,
        "tools": [tool],
        "tool_choice": "auto",
        "logprobs": False,
        "branchwise": {"strategy": "self-consistency", "paths": 2, "budget": {"tokens": 9}},
    }
    for _ in range(count):
        body = json.dumps(mutated(whole, rng)).encode()
        yield body[: rng.randrange(len(body))] if rng.random() < 0.2 else body


def mutated(value: JsonValue, rng: random.Random) -> JsonValue:
    """Return a value with something else in one place of it."""
    others: list[JsonValue] = [None, True, -1, 10**30, 1e308, "", LONG, "\ud800", [], {}, [[]] * 50, {"": {}}, "\0"]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {**value, LONG[: rng.randrange(5000)]: rng.choice(others)}
        return {**value, name: mutated(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], mutated(value[index], rng), *value[index + 1 :]]
    return rng.choice(others)
