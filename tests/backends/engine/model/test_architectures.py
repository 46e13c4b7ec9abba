"""Tokens and log-probabilities of every architecture are those of transformers' own model.

The models are tiny and random, in float64 where they support it, so that rounding never decides a token.
"""

import asyncio
from dataclasses import replace

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedTokenizerBase

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model.reference import reference_attention
from branchwise.core.errors import ModelError
from branchwise.core.sampling import Sampling
from tests.support.architectures import ATTENTION, END, EXPERTS, USUAL, WINDOW, moved, network, own_logprobs, recomputed
from tests.support.branches import SAMPLING, MakeEngine, generate, generate_tokens, make_root

pytestmark = pytest.mark.usefixtures("one_thread", "segments")


@pytest.mark.parametrize("name", ATTENTION)
async def test_greedy_tokens_are_those_of_transformers(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name, prefill_chunk=7)
    root = await make_root(engine)
    prompt = torch.tensor([root.token_ids])
    assert isinstance(model, GenerationMixin)
    own = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=30,
        eos_token_id=END,
        pad_token_id=0,
    )
    assert isinstance(own, Tensor)
    expected = tuple(own[0, prompt.shape[1] :].tolist())
    greedy = Sampling(temperature=0, max_tokens=30)
    assert len(expected) > 8 + 1  # longer than the windows
    assert await generate_tokens(engine, root, (1, 2), greedy) == [expected, expected]
    # Again from the cache, batched with other branches.
    (again, *_), _ = await asyncio.gather(
        generate_tokens(engine, root, (3,), greedy), generate_tokens(engine, root, range(9, 14))
    )
    assert again == expected


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_log_probabilities_are_those_of_full_passes(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name, max_batch=2)
    root = await make_root(engine)
    for branch in await generate(engine, root, (1, 2, 3), replace(SAMPLING, temperature=0.6, top_k=9, logprobs=4)):
        own = own_logprobs(model, branch.path.all_token_ids())[len(root.token_ids) - 1 : -1]
        assert branch.path.logprobs is not None
        chosen = own.gather(1, torch.tensor(branch.path.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(branch.path.logprobs).double(), chosen, atol=1e-5, rtol=0)
        assert branch.path.top_logprobs is not None
        for alternatives, row in zip(branch.path.top_logprobs, own, strict=True):
            assert [top.token_id for top in alternatives] == row.topk(4).indices.tolist()
            assert [top.logprob for top in alternatives] == pytest.approx(row.topk(4).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_scores_are_those_of_full_passes(
    make_engine: MakeEngine, tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    model, engine = network(name), make_engine(name)
    path = (await generate(engine, await make_root(engine), (1,)))[0].path.cut(15)
    texts = ("So the answer is 42.", "x", "So it is not.")
    prefix = path.all_token_ids()
    for _ in range(2):  # the second time, the path is cached
        scores = await engine.score(path, texts)
        for text, row in zip(texts, scores.logprobs, strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False)
            own = own_logprobs(model, [*prefix, *ids])[len(prefix) - 1 : -1]
            assert row == pytest.approx(own.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", [name for name, (_, _, dtype) in ATTENTION.items() if dtype is torch.float64])
async def test_sampled_tokens_are_those_of_full_passes(make_engine: MakeEngine, name: str) -> None:
    model, engine = network(name), make_engine(name, prefill_chunk=9)
    root = await make_root(engine)
    expected = [recomputed(model, root.token_ids, key, SAMPLING) for key in range(3)]
    assert await generate_tokens(engine, root, range(3)) == expected


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.BloomConfig(vocab_size=261, hidden_size=32, n_layer=2, n_head=4), "cannot be exchanged"),
        (transformers.RecurrentGemmaConfig(**{**USUAL, "lru_width": 32, "attention_window_size": 8}), "on its modules"),
        (transformers.RwkvConfig(vocab_size=261, hidden_size=32, num_hidden_layers=2), "side by side"),
    ],
)
def test_an_unsupported_architecture_is_refused_by_name(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, reason: str
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=type(model).__name__ + rf": .*{reason}.*; use"):
        Engine(model, tokenizer, name="odd")


@pytest.mark.parametrize(
    ("name", "dtype", "attention"),
    [
        ("qwen2", torch.float32, "eager"),
        ("qwen2", torch.bfloat16, "sdpa"),
        ("gemma2-softcap", torch.bfloat16, "eager"),  # sdpa ignores the cap
        ("gpt-oss-sinks", torch.float16, "eager"),  # sdpa has no sinks
    ],
)
def test_the_reference_attention_is_the_one_that_rounds_least(name: str, dtype: torch.dtype, attention: str) -> None:
    assert reference_attention(moved(network(name), dtype)) == attention


@pytest.mark.parametrize(
    ("kind", "fields", "context"),
    [
        ("Llama4TextConfig", {**USUAL, "head_dim": 8, "attention_chunk_size": 16, "num_local_experts": 1}, 16),
        ("PhimoeConfig", {**USUAL, **EXPERTS, "sliding_window": 16}, 16),
        ("MistralConfig", WINDOW, 512),
        ("Qwen2Config", USUAL, 512),
    ],
)
def test_a_window_that_layers_do_not_pass_on_limits_the_context(
    tokenizer: PreTrainedTokenizerBase, kind: str, fields: dict[str, object], context: int
) -> None:
    torch.manual_seed(0)
    engine = Engine(AutoModelForCausalLM.from_config(getattr(transformers, kind)(**fields)), tokenizer, name="odd")
    engine._loop.close()
    assert engine.capabilities.context == context
