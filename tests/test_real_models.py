"""The engine on real models, in float32: against transformers' own generation, and batched against alone.

Models are fetched on first use, into the cache that BRANCHWISE_CACHE names.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from lab import ask, grow
from transformers import AutoModelForCausalLM, AutoTokenizer

import branchwise as bw
from branchwise.backends.engine.noise import gumbel, signed
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.models.resolve import resolve
from branchwise.keys import child_key
from branchwise.path import Path
from branchwise.sampling import Sampling

SMALL = "SmolLM2-135M-Instruct"
QUESTION = "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left? Think step by step."
KEYS = tuple(child_key(2024, i) for i in range(8))
SAMPLED = Sampling(temperature=0.7, max_tokens=24, logprobs=64)

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]


def generated(name: str, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The prompt's tokens and the `count` tokens that transformers itself puts after them."""
    folder = resolve(name, lambda *_: None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False
    )
    given = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": count, "repetition_penalty": 1.0}
    own = model.generate(given, attention_mask=torch.ones_like(given), pad_token_id=0, **settings)
    return tuple(prompt), tuple(own[0, len(prompt) :].tolist())


@pytest.mark.parametrize("name", [SMALL, "Qwen2.5-Coder-0.5B-Instruct"])
async def test_greedy_text_is_what_transformers_generates(name: str) -> None:
    prompt, wanted = generated(name, 40)
    engine = bw.load(name, settings=EngineSettings(dtype="float32"))
    root = await ask(engine, QUESTION)
    assert root.token_ids == prompt
    greedy = Sampling(temperature=0, max_tokens=40)
    first, second = await grow(engine, root, (1, 2), greedy)
    assert first.path.token_ids == second.path.token_ids == wanted
    assert (first.cost.prefilled, second.cost.prefilled) == (len(prompt), 0)
    (branch,) = await grow(engine, first.path.cut(25), (3,), replace(greedy, max_tokens=15))
    assert (branch.cost.prefilled, branch.cost.reused) == (0, len(prompt) + 25)
    assert branch.path.token_ids == wanted[25:]
    await engine.close()


@dataclass
class Comparison:
    """Two runs of the same keys, token by token."""

    tokens: int = 0
    close: int = 0  # tokens that differ where rounding may decide
    logit_gap: float = 0.0  # largest difference of a log-probability, nats


def compare(alone: Path, among: Path, key: int, seen: Comparison) -> int | None:
    """Compare up to the first token that differs; its place, or None. Both paths have one parent."""
    assert alone.top_logprobs is not None
    assert among.top_logprobs is not None
    start = alone.parent.generated + len(alone.root.token_ids) if alone.parent is not None else 0
    for at, (ours, theirs) in enumerate(zip(alone.token_ids, among.token_ids, strict=False)):
        reference, other = dict(alone.top_logprobs[at]), dict(among.top_logprobs[at])
        gaps = [abs(reference[token] - other[token]) for token in reference.keys() & other.keys()]
        seen.logit_gap = max(seen.logit_gap, *gaps)
        seen.tokens += 1
        if ours != theirs:
            ids = torch.tensor(list(reference))
            noise = gumbel(torch.tensor([signed(key)]), torch.tensor([start + at]), ids)
            scores = torch.tensor(list(reference.values())).double() / SAMPLED.temperature + noise
            best, second = scores.topk(2).values.tolist()
            assert best - second <= 10 * seen.logit_gap, f"token {at} of key {key}: {best - second} nats apart"
            seen.close += 1
            return at
    assert len(alone.token_ids) == len(among.token_ids)
    return None


async def test_eight_branches_draw_what_each_draws_alone() -> None:
    engine = bw.load(SMALL, settings=EngineSettings(dtype="float32"))
    root = await ask(engine, QUESTION)
    together = await grow(engine, root, KEYS, SAMPLED)
    seen = Comparison()
    for copy, key in enumerate(KEYS):
        engine.clear()
        (alone,) = await grow(engine, root, (key,), SAMPLED)
        path, among = alone.path, together[copy].path
        while (at := compare(path, among, key, seen)) is not None and at + 1 < len(path.token_ids):
            # From here on, both follow the reference.
            left = replace(SAMPLED, max_tokens=len(path.token_ids) - at - 1)
            parent = path.cut(path.parent.generated + at + 1) if path.parent is not None else path
            (one,) = await grow(engine, parent, (key,), left)
            others = KEYS[copy + 1 :] + KEYS[:copy]
            path, among = one.path, (await grow(engine, parent, (key, *others), left))[0].path
    print(f"{seen.tokens} tokens, {seen.close} decided by rounding, logits within {seen.logit_gap:.1e} nats")
    assert seen.tokens >= 150
    assert seen.close <= 1
    assert seen.logit_gap < 1e-2
    await engine.close()
