"""Every architecture against the model itself: the engine's tokens and log-probabilities are the model's own.

Tiny random models, in float64 wherever they run in it, so that rounding never decides a token.
"""

import asyncio
from dataclasses import replace

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model.causal_lm import exact_attention
from branchwise.core.errors import ModelError
from branchwise.core.sampling import Sampling
from tests.support.architectures import ATTENTION, END, EXPERTS, USUAL, WINDOW, network, own_logprobs, recomputed
from tests.support.lab import HOT, Make, ask, grow, tokens

pytestmark = pytest.mark.usefixtures("one_thread", "segments")


@pytest.mark.parametrize("name", ATTENTION)
async def test_greedy_text_is_what_the_model_itself_generates(make: Make, name: str) -> None:
    model, engine = network(name), make(name, prefill_chunk=7)
    root = await ask(engine)
    given = torch.tensor([root.token_ids])
    own = model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=30, eos_token_id=END,
        pad_token_id=0,
    )  # fmt: skip
    wanted = tuple(own[0, given.shape[1] :].tolist())
    greedy = Sampling(temperature=0, max_tokens=30)
    assert len(wanted) > 8 + 1  # longer than the windows
    assert await tokens(engine, root, (1, 2), greedy) == [wanted, wanted]
    # And again from what is held, with other branches beside.
    (again, *_), _ = await asyncio.gather(tokens(engine, root, (3,), greedy), tokens(engine, root, range(9, 14)))
    assert again == wanted


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_log_probabilities_are_the_models_own(make: Make, name: str) -> None:
    model, engine = network(name), make(name, max_batch=2)
    root = await ask(engine)
    for branch in await grow(engine, root, (1, 2, 3), replace(HOT, temperature=0.6, top_k=9, logprobs=4)):
        own = own_logprobs(model, branch.path.all_token_ids())[len(root.token_ids) - 1 : -1]
        assert branch.path.logprobs is not None
        chosen = own.gather(1, torch.tensor(branch.path.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(branch.path.logprobs).double(), chosen, atol=1e-5, rtol=0)
        assert branch.path.top_logprobs is not None
        for alternatives, row in zip(branch.path.top_logprobs, own, strict=True):
            assert [top.token_id for top in alternatives] == row.topk(4).indices.tolist()
            assert [top.logprob for top in alternatives] == pytest.approx(row.topk(4).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_scores_are_the_models_own(make: Make, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    model, engine = network(name), make(name)
    path = (await grow(engine, await ask(engine), (1,)))[0].path.cut(15)
    texts = ("So the answer is 42.", "x", "So it is not.")
    given = path.all_token_ids()
    for _ in range(2):  # the second time, the path is held
        scores = await engine.score(path, texts)
        for text, row in zip(texts, scores.logprobs, strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False)
            own = own_logprobs(model, [*given, *ids])[len(given) - 1 : -1]
            assert row == pytest.approx(own.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", [name for name, (_, _, dtype) in ATTENTION.items() if dtype is torch.float64])
async def test_sampled_tokens_are_those_of_full_passes(make: Make, name: str) -> None:
    model, engine = network(name), make(name, prefill_chunk=9)
    root = await ask(engine)
    wanted = [recomputed(model, root.token_ids, key, HOT) for key in range(3)]
    assert await tokens(engine, root, range(3)) == wanted


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (transformers.BloomConfig(vocab_size=261, hidden_size=32, n_layer=2, n_head=4), "cannot be exchanged"),
        (transformers.RecurrentGemmaConfig(**{**USUAL, "lru_width": 32, "attention_window_size": 8}), "on its modules"),
        (transformers.RwkvConfig(vocab_size=261, hidden_size=32, num_hidden_layers=2), "side by side"),
    ],
)
def test_an_architecture_it_cannot_compute_is_refused_by_name(
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
        ("gemma2-softcap", torch.bfloat16, "eager"),  # the other leaves the cap out
        ("gpt-oss-sinks", torch.float16, "eager"),  # and has none of these
    ],
)
def test_engines_are_held_against_the_attention_that_rounds_least(
    name: str, dtype: torch.dtype, attention: str
) -> None:
    assert exact_attention(network(name).to(dtype)) == attention


@pytest.mark.parametrize(
    ("kind", "fields", "context"),
    [
        ("Llama4TextConfig", {**USUAL, "head_dim": 8, "attention_chunk_size": 16, "num_local_experts": 1}, 16),
        ("PhimoeConfig", {**USUAL, **EXPERTS, "sliding_window": 16}, 16),
        ("MistralConfig", WINDOW, 512),
        ("Qwen2Config", USUAL, 512),
    ],
)
def test_a_window_that_only_the_models_mask_knows_bounds_the_context(
    tokenizer: PreTrainedTokenizerBase, kind: str, fields: dict[str, object], context: int
) -> None:
    torch.manual_seed(0)
    engine = Engine(AutoModelForCausalLM.from_config(getattr(transformers, kind)(**fields)), tokenizer, name="odd")
    engine._loop.close()
    assert engine.capabilities.context == context
