"""Shared pieces of the tests: a tiny model with a real tokenizer, and the real small models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, one token for each byte, with chat and thinking marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|end|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False
    )


def tiny_llama(dtype: torch.dtype = torch.float64, seed: int = 0) -> LlamaForCausalLM:
    """A random two-layer model: nothing it says makes sense, all of it is reproducible."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=256,
        bos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).to(dtype)


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[Engine]:
    """The engine over a tiny float64 model."""
    engine = Engine(tiny_llama(), tiny_tokenizer(), name="tiny", settings=EngineSettings(memory=1 << 24))
    yield engine
    engine._loop.close()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and its tokenizer, as a folder `load` takes."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama(torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
