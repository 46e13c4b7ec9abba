"""Tiny models of many architectures with reproducible random weights, and their logits by full passes."""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from branchwise.backends.engine.sampling.sampler import SampleRequest, sample
from branchwise.core.sampling import Sampling

DEVICE = os.environ.get("BRANCHWISE_TEST_DEVICE", "cpu")
"""Device of the random models, such as cuda."""
END = 256
Model = TypeVar("Model", bound=nn.Module)
SIZES: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "eos_token_id": END,
    "bos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,
}
USUAL: dict[str, Any] = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 512}
WINDOW: dict[str, Any] = {**USUAL, "head_dim": 8, "sliding_window": 8}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
ATTENTION: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "llama": ("LlamaConfig", USUAL, torch.float64),
    "llama-float32": ("LlamaConfig", USUAL, torch.float32),
    "qwen2": ("Qwen2Config", USUAL, torch.float64),
    "qwen3": ("Qwen3Config", {**USUAL, "head_dim": 8}, torch.float64),
    "mistral-window": ("MistralConfig", WINDOW, torch.float64),
    "gemma2-softcap": (
        "Gemma2Config",
        {
            **WINDOW,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 10.0,
            "tie_word_embeddings": False,
        },
        torch.float64,
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": 261,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 512,
            "initializer_range": 0.3,
            "eos_token_id": END,
            "bos_token_id": None,
        },
        torch.float64,
    ),
    "gpt-neox": ("GPTNeoXConfig", {**SIZES, "intermediate_size": 48, "max_position_embeddings": 512}, torch.float64),
    "phi3-window": ("Phi3Config", {**USUAL, "sliding_window": 8}, torch.float64),
    "gpt-oss-sinks": ("GptOssConfig", {**WINDOW, **EXPERTS}, torch.float32),  # its experts refuse float64
    "gemma3-window": (
        "Gemma3TextConfig",
        {**WINDOW, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]},
        torch.float64,
    ),
    "olmo2-norms": ("Olmo2Config", USUAL, torch.float64),
    "mixtral-experts": ("MixtralConfig", {**USUAL, **EXPERTS}, torch.float32),
    "qwen3-experts": (
        "Qwen3MoeConfig",
        {**USUAL, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
        torch.float32,
    ),
    "deepseek-latent": (
        "DeepseekV3Config",
        {
            **USUAL,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
        },
        torch.float32,
    ),
    "granite-scaled-logits": ("GraniteConfig", {**USUAL, "logits_scaling": 2.0}, torch.float64),
}


MAMBA: dict[str, Any] = {**SIZES, "num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 2, "chunk_size": 8}
# Their scans run in float32 inside a float64 model, too.
RECURRENT: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "mamba2": ("Mamba2Config", MAMBA, torch.float32),
    "falcon-h1": (
        "FalconH1Config",
        {
            **USUAL,
            "head_dim": 8,
            "mamba_d_ssm": 64,
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 16,
            "mamba_n_groups": 2,
            "mamba_chunk_size": 8,
        },
        torch.float32,
    ),
    "qwen3-next": (
        "Qwen3NextConfig",
        {
            **USUAL,
            "head_dim": 8,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "layer_types": ["linear_attention", "full_attention"],
        },
        torch.float32,
    ),
    "xlstm": (
        "xLSTMConfig",
        {
            "vocab_size": 261,
            "hidden_size": 64,
            "qk_dim_factor": 1.0,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "eos_token_id": END,
            "bos_token_id": None,
            "pad_token_id": None,
            "chunk_size": 8,
        },
        torch.float32,
    ),
    "lfm2": ("Lfm2Config", {**USUAL, "layer_types": ["conv", "full_attention"]}, torch.float32),
    "bamba": (
        "BambaConfig",
        {
            **USUAL,
            "mamba_n_heads": 8,
            "mamba_d_head": 8,
            "mamba_d_state": 16,
            "mamba_n_groups": 2,
            "mamba_chunk_size": 8,
            "attn_layer_indices": [1],
        },
        torch.float32,
    ),
    "falcon-mamba": ("FalconMambaConfig", {**SIZES, "state_size": 16}, torch.float32),
    "jamba": (
        "JambaConfig",
        {**USUAL, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        torch.float32,
    ),
}


def network(name: str) -> PreTrainedModel:
    """Return the model of an architecture, with transformers' own attention."""
    kind, fields, dtype = {**ATTENTION, **RECURRENT}[name]
    torch.manual_seed(3)
    config: PreTrainedConfig = getattr(transformers, kind)(**fields)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.eval()
    return moved(model, dtype, DEVICE)


def moved(model: Model, dtype: torch.dtype | None = None, device: str | None = None) -> Model:
    """Return the model after it was moved in place; transformers does not type its own `to`."""
    return model.to(device, dtype)


@torch.no_grad()
def own_logprobs(model: PreTrainedModel, token_ids: Sequence[int]) -> Tensor:
    """Return [tokens, vocabulary] log-probabilities of the token after each one, by one full pass."""
    return torch.log_softmax(model(torch.tensor([token_ids], device=model.device)).logits[0].double(), dim=-1).cpu()


@torch.no_grad()
def recomputed(model: PreTrainedModel, prefix: Sequence[int], key: int, sampling: Sampling) -> tuple[int, ...]:
    """Return the tokens that a key samples after `prefix`, by a full pass without a cache for every token."""
    token_ids = list(prefix)
    while len(token_ids) - len(prefix) < (sampling.max_tokens or 1) and (
        len(token_ids) == len(prefix) or token_ids[-1] != END
    ):
        logits = model(torch.tensor([token_ids], device=model.device), use_cache=False).logits[0, -1:]
        token_ids.append(int(sample(logits, [SampleRequest(sampling, key, len(token_ids), 0)]).tokens))
    return tuple(token_ids[len(prefix) :])
