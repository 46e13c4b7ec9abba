"""A tiny random model for vLLM, its adapter and its settings."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from branchwise.backends.vllm.settings import VLLMSettings

CONTEXT = 512
WIDTH = 64  # two heads of 32, the narrowest that vLLM's CPU kernels support


def save_tiny(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Save the model with a tokenizer without an end token: no branch ends before its length or a stop string."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    ascii = [place for token, place in tokenizer.get_vocab().items() if len(token) == 1 and token.isascii()]
    letters = torch.zeros(config.vocab_size, 1).index_fill(0, torch.tensor(ascii), 2.0)
    model.lm_head.weight.data *= letters  # few bytes of other characters, inside which a path cannot be cut
    model.save_pretrained(folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(folder: Path) -> Path:
    """Save a LoRA adapter for it, strong enough to change greedy tokens."""
    folder.mkdir()
    torch.manual_seed(1)
    place = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    tensors = {}
    for layer in range(2):
        tensors[place.format(layer, "A")] = torch.randn(8, WIDTH)
        tensors[place.format(layer, "B")] = torch.randn(WIDTH, 8)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], '
        '"bias": "none"}'
    )
    return folder


def tiny_settings(**settings: object) -> VLLMSettings:
    """Return settings of a small engine that starts without compiling."""
    usual = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 64 << 20, "max_num_seqs": 16}
    return VLLMSettings(**{**usual, **settings})
