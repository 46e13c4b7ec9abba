"""Random reward models and paths for their tests."""

import asyncio
from collections.abc import Sequence

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import branchwise as bw
from branchwise.core.messages import Messages
from branchwise.core.question import as_messages
from branchwise.verifiers.reward.reward_model import RewardModel
from tests.support.architectures import ATTENTION, moved

OUTCOME, PROCESS = "ForSequenceClassification", "ForTokenClassification"


TEXTS = (
    "First, 6 times 7 is 42. So it is 42.",
    "First, 6 times 7 is 42. Then add one.\nThat makes 43. ",
    "First, nothing.",
    "No idea — à peu près 40.\n\nThe answer is 40.",
)


def classifier(kind: str, name: str = "llama", labels: int = 1, **fields: object) -> PreTrainedModel:
    """A random classifier, the same at every call."""
    config, known, dtype = ATTENTION[name]
    torch.manual_seed(5)
    made = getattr(transformers, config)(**{**known, "num_labels": labels, **fields})
    network: PreTrainedModel = getattr(transformers, config.removesuffix("Config") + kind)(made)
    network.eval()
    return moved(network, dtype)


def path(text: str, question: str | Messages = "What is 6 times 7?", size: int = 3) -> bw.Path:
    """A path whose tokens are `size` characters long: none of a reward model's."""
    root = bw.Path(None, 1, (7,), "", messages=as_messages(question))
    ends = tuple(range(size, len(text) + size, size))
    return bw.Path(root, 2, tuple(range(len(ends))), text, tuple(min(end, len(text)) for end in ends))


def rendered(tokenizer: PreTrainedTokenizerBase, text: str, question: str = "What is 6 times 7?") -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


@torch.no_grad()
def own_logits(network: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """[labels], for a token classifier [tokens, labels]; by its own forward, one text at a time, without a cache."""
    logits: Tensor = network(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def score(model: RewardModel, *paths: bw.Path) -> list[float]:
    """The scores of paths that are asked for together."""

    async def together() -> list[float]:
        return list(await asyncio.gather(*map(model, paths)))

    return asyncio.run(together())


def last_token(tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> int:
    """The token that ends the first `length` characters of a text: bytes are tokens, but for the template's."""
    whole = rendered(tokenizer, text)
    return len(tokenizer.encode(whole[: whole.index(text) + length], add_special_tokens=False)) - 1
