"""The tokenizer of a model that vLLM runs: one of our own, which no thread of vLLM's has in hand."""

from typing import TYPE_CHECKING

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from branchwise.core.errors import ModelError

if TYPE_CHECKING:
    from vllm.config import ModelConfig


def load_tokenizer(model: "ModelConfig") -> PreTrainedTokenizerBase:
    """The tokenizer. Raises ModelError."""
    name = str(model.tokenizer)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, revision=model.tokenizer_revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model: {name} has no tokenizer transformers can read", "add tokenizer.json and tokenizer_config.json"
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"model: {name} has only a slow tokenizer", "add a tokenizer.json")
    return tokenizer
