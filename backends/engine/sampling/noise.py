"""Keyed noise: the same key, position and token always draw the same number.

A counter-based generator (SplitMix64's finalizer, Steele et al. 2014, over a mix of the three), so
a token's noise can be computed for any position at any time, in any batch.
"""

import torch
from torch import Tensor

# Odd 64-bit constants, written as the signed numbers torch's int64 wants.
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB

TAIL_BUCKET = -1  # the "token" whose noise competes for everything outside the candidates
TAIL_CHOICE = -2  # the "token" whose noise picks one of them


def signed(key: int) -> int:
    """A 64-bit key as torch's int64."""
    return key - (1 << 64) if key >= 1 << 63 else key


def _shift(values: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _mix(values: Tensor) -> Tensor:
    values = (values ^ _shift(values, 30)) * _MIX_1
    values = (values ^ _shift(values, 27)) * _MIX_2
    return values ^ _shift(values, 31)


def uniform(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Numbers in (0, 1), float64, for int64 arrays that broadcast together."""
    state = _mix(keys + positions * _GOLDEN)
    state = _mix(state + tokens * _GOLDEN)
    # 52 bits: with 53, the largest would round to 1.
    return (_shift(state, 12).double() + 0.5) * 2.0**-52


def gumbel(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Standard Gumbel noise, float64: argmax(log p + gumbel) is a draw from p."""
    return -torch.log(-torch.log(uniform(keys, positions, tokens)))
