"""Keyed noise: a pure function of key, position and token.

The generator is counter-based: SplitMix64's finalizer (Steele et al. 2014) over a mix of the three. The noise of any
token at any position can be computed at any time and in any batch.
"""

import torch
from torch import Tensor

# Odd 64-bit constants as signed integers, the only 64-bit integers that torch has.
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB

TAIL_BUCKET = -1  # token id whose noise competes for all tokens outside the candidates
TAIL_TOKEN = -2  # token id whose noise selects one of them


def signed(key: int) -> int:
    """Return a 64-bit key as a signed integer for torch's int64."""
    return key - (1 << 64) if key >= 1 << 63 else key


def _shift(values: Tensor, bits: int) -> Tensor:
    """Shift right logically; torch's own shift keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    values = (values ^ _shift(values, 30)) * _MIX_1
    values = (values ^ _shift(values, 27)) * _MIX_2
    return values ^ _shift(values, 31)


def uniform(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Return numbers in (0, 1), float64, for int64 tensors that broadcast together."""
    state = _mix(keys + positions * _GOLDEN)
    state = _mix(state + tokens * _GOLDEN)
    # 52 bits: with 53, the largest would round to 1.
    return (_shift(state, 12).double() + 0.5) * 2.0**-52


def gumbel(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Return standard Gumbel noise, float64: argmax(log p + gumbel) is a sample of p."""
    return -torch.log(-torch.log(uniform(keys, positions, tokens)))
