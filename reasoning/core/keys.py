"""64-bit keys that seed every random choice.

The key of a path is a pure function of the seed, the prompt and the path's position in the tree of
samples, so results do not depend on timing, batching or the order of arrival. A key identifies exactly
one sample: the n-th child of a path has the same key however many children are requested. The first
10 samples of a run of 40 are therefore the samples of a run of 10.
"""

import hashlib

_MASK = (1 << 64) - 1


def _digest(*parts: bytes) -> int:
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return int.from_bytes(state.digest(), "little")


def _bytes(number: int) -> bytes:
    return (number & _MASK).to_bytes(8, "little")


def root_key(seed: int, prompt: str) -> int:
    """Return the key of a prompt under a seed; `prompt` is the prompt's canonical text."""
    return _digest(b"root", _bytes(seed), prompt.encode())


def child_key(parent: int, index: int) -> int:
    """Return the key of the `index`-th sample that continues a path."""
    return _digest(b"child", _bytes(parent), _bytes(index))


def cut_key(branch: int, length: int) -> int:
    """Return the key of a branch's prefix of `length` tokens, as a path of its own."""
    return _digest(b"cut", _bytes(branch), _bytes(length))


def choose(key: int, label: str, ordinal: int, count: int) -> int:
    """Return an index below `count`, uniform over keys. Strategies choose with it instead of a random generator."""
    return _digest(b"choose", _bytes(key), label.encode(), _bytes(ordinal)) % count


def repeat_seed(seed: int, repeat: int) -> int:
    """Return the seed for a prompt that was already run `repeat` times under `seed`, so that samples differ."""
    return choose(seed, "repeat", repeat, 1 << 63) if repeat else seed
