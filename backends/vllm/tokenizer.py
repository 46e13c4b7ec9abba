"""Tokenizer of a model that vLLM runs: a copy of its own, for vLLM's threads use theirs."""

from typing import TYPE_CHECKING

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from branchwise.core.errors import ModelError

if TYPE_CHECKING:
    from vllm.config import ModelConfig


def load_tokenizer(model: "ModelConfig") -> PreTrainedTokenizerBase:
    """Return the tokenizer. Raises ModelError if the model has no fast one."""
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
