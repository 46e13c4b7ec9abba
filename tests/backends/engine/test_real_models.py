"""The engine on real models in float32: against transformers' own generation, and batched against one by one.

Models are downloaded on first use to the cache folder of BRANCHWISE_CACHE.
"""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import branchwise as bw
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.models.resolve import resolve
from branchwise.core.keys import child_key
from branchwise.core.sampling import Sampling
from tests.support.branches import generate, make_root
from tests.support.criterion import Comparison, compare

SMALL = "SmolLM2-135M-Instruct"
QUESTION = "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left? Think step by step."
KEYS = tuple(child_key(2024, i) for i in range(8))
SAMPLED = Sampling(temperature=0.7, max_tokens=24, logprobs=64)

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]


def generated(name: str, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the prompt's tokens and the `count` tokens that transformers generates after them."""
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
async def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    prompt, expected = generated(name, 40)
    engine = bw.load(name, settings=EngineSettings(dtype="float32"))
    root = await make_root(engine, QUESTION)
    assert root.token_ids == prompt
    greedy = Sampling(temperature=0, max_tokens=40)
    first, second = await generate(engine, root, (1, 2), greedy)
    assert first.path.token_ids == second.path.token_ids == expected
    assert (first.cost.prefilled, second.cost.prefilled) == (len(prompt), 0)
    (branch,) = await generate(engine, first.path.cut(25), (3,), replace(greedy, max_tokens=15))
    assert (branch.cost.prefilled, branch.cost.reused) == (0, len(prompt) + 25)
    assert branch.path.token_ids == expected[25:]
    await engine.close()


async def test_eight_branches_sample_the_tokens_of_each_alone() -> None:
    engine = bw.load(SMALL, settings=EngineSettings(dtype="float32"))
    root = await make_root(engine, QUESTION)
    together = await generate(engine, root, KEYS, SAMPLED)
    seen = Comparison()
    for copy, key in enumerate(KEYS):
        engine.clear()
        (alone,) = await generate(engine, root, (key,), SAMPLED)
        path, batched = alone.path, together[copy].path
        while (at := compare(path, batched, key, SAMPLED, seen)) is not None and at + 1 < len(path.token_ids):
            # From here on, both continue the reference.
            rest = replace(SAMPLED, max_tokens=len(path.token_ids) - at - 1)
            parent = path.cut(path.parent.generated + at + 1) if path.parent is not None else path
            (one,) = await generate(engine, parent, (key,), rest)
            others = KEYS[copy + 1 :] + KEYS[:copy]
            path, batched = one.path, (await generate(engine, parent, (key, *others), rest))[0].path
    print(seen)
    assert seen.tokens >= 150
    assert seen.close <= 1
    assert seen.logit_gap < 1e-2
    await engine.close()
