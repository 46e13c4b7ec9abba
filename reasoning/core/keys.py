"""Keys: the 64-bit names from which every random choice follows.

A path's key is a pure function of the seed, the prompt and the place of the path in the tree of
samples, so results don't depend on timing, batching or the order of arrival. A key names exactly
one sample: the n-th child of a path has the same key whatever window it was asked for in, hence
the first samples of a run of 40 are the samples of a run of 10.
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
    """The key of a prompt under a seed; `prompt` is the prompt's canonical text."""
    return _digest(b"root", _bytes(seed), prompt.encode())


def child_key(parent: int, index: int) -> int:
    """The key of the `index`-th sample drawn from a path."""
    return _digest(b"child", _bytes(parent), _bytes(index))


def cut_key(branch: int, length: int) -> int:
    """The key of a branch's prefix of `length` tokens, as a path of its own."""
    return _digest(b"cut", _bytes(branch), _bytes(length))


def choose(key: int, label: str, ordinal: int, count: int) -> int:
    """An index below `count`, uniform over keys: how a strategy draws without randomness of its own."""
    return _digest(b"choose", _bytes(key), label.encode(), _bytes(ordinal)) % count


def repeat_seed(seed: int, repeat: int) -> int:
    """The seed of a prompt that was asked `repeat` times before under `seed`: each time draws samples of its own."""
    return choose(seed, "repeat", repeat, 1 << 63) if repeat else seed
