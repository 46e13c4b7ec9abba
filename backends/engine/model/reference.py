"""Comparison of the engine's logits with the model's own, which decides at load whether the engine supports it."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def reference_attention(network: PreTrainedModel) -> str:
    """Return the name of transformers' attention implementation that rounds least.

    "eager" supports everything that a model can require, but rounds scores to the model's dtype: in bfloat16 the large
    keys of Qwen2.5 1.5B put its logits off by 23%, where "sdpa", which sums in float32, is off by 2%.
    """
    capped = getattr(network.config.get_text_config(), "attn_logit_softcapping", None) is not None
    short = network.dtype in (torch.bfloat16, torch.float16)
    return "sdpa" if short and not capped and getattr(network, "_supports_sdpa", False) else "eager"


def relative_gap(ours: Tensor, theirs: Tensor) -> float:
    """Return the distance of two sets of logits, relative to the spread of the second."""
    spread = (theirs - theirs.mean()).float().norm().clamp(min=1e-30)
    return float((ours - theirs).float().norm() / spread)


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative gap that a different order of summation may cause."""
    # Norms and softmax run in float32 inside float64 models, too.
    return {torch.float64: 1e-5, torch.float32: 1e-4}.get(dtype, 0.1)
