"""vLLM in this process on a small real model: equal to the embedded engine, and features that only vLLM has."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.stream import Broken, Tokens
from branchwise.backends.vllm.backend import VLLMBackend
from branchwise.backends.vllm.settings import LoRAAdapter
from branchwise.core.errors import BackendError, ConfigError, ModelError
from branchwise.core.messages import Message, Messages
from branchwise.core.path import StopReason
from branchwise.core.sampling import Sampling
from tests.support.branches import collect, generate, make_root
from tests.vllm.tiny import save_adapter, tiny_settings

SMALL = "SmolLM2-135M-Instruct"
QUESTION = "A baker makes 12 trays of 8 rolls and sells 70 of them. How many rolls are left? Think step by step."
GREEDY = Sampling(temperature=0, max_tokens=48)
SAMPLED = Sampling(temperature=0.8, max_tokens=48)
BLOCK = 32


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The embedded engine with the same weights."""
    engine = bw.load(SMALL, settings=EngineSettings(dtype="float32", memory=1 << 28))
    assert isinstance(engine, Engine)
    yield engine
    engine._loop.close()


def whole_blocks(tokens: int) -> int:
    """Return how many tokens of a prompt come from the cache; the last one never does."""
    return (tokens - 1) // BLOCK * BLOCK


async def test_prompts_have_the_tokens_of_the_embedded_engine(small: VLLMBackend, engine: Engine) -> None:
    for turns in (
        (Message(role="user", content=QUESTION),),
        (Message(role="system", content="Be brief."), Message(role="user", content="What does <|im_end|> say?")),
    ):
        messages = Messages(turns=turns, prefix="Well,")
        assert (await small.root(messages, 1)).token_ids == (await engine.root(messages, 1)).token_ids


async def test_greedy_branches_equal_the_embedded_engines(small: VLLMBackend, engine: Engine) -> None:
    (theirs,) = await generate(engine, await make_root(engine, QUESTION), (1,), GREEDY)
    (ours,) = await generate(small, await make_root(small, QUESTION), (1,), GREEDY)
    assert (ours.tokens, ours.path.text, ours.path.ends) == (theirs.tokens, theirs.path.text, theirs.path.ends)
    assert ours.path.logprobs == pytest.approx(theirs.path.logprobs, abs=1e-3)


async def test_stop_strings_cut_as_in_the_embedded_engine(small: VLLMBackend, engine: Engine) -> None:
    (free,) = await generate(engine, await make_root(engine, QUESTION), (1,), GREEDY)
    middle = len(free.path.text) // 2
    stopped = replace(GREEDY, stop=(free.path.text[middle : middle + 5],))
    (theirs,) = await generate(engine, await make_root(engine, QUESTION), (1,), stopped)
    (ours,) = await generate(small, await make_root(small, QUESTION), (1,), stopped)
    assert theirs.path.stop_reason is ours.path.stop_reason is StopReason.STOP
    assert (ours.tokens, ours.path.text, ours.path.shown) == (theirs.tokens, theirs.path.text, theirs.path.shown)
    assert (ours.cost.sampled, ours.cost.discarded) == (len(theirs.tokens), 0)


async def test_an_end_token_ends_as_in_the_embedded_engine(small: VLLMBackend, engine: Engine) -> None:
    question, sampling = "Say hello.", replace(GREEDY, max_tokens=200)
    (theirs,) = await generate(engine, await make_root(engine, question), (1,), sampling)
    (ours,) = await generate(small, await make_root(small, question), (1,), sampling)
    assert theirs.path.stop_reason is ours.path.stop_reason is StopReason.END
    assert (ours.tokens, ours.path.text, ours.path.ends) == (theirs.tokens, theirs.path.text, theirs.path.ends)


async def test_scores_equal_the_embedded_engines(small: VLLMBackend, engine: Engine) -> None:
    long = "There are twelve trays with eight rolls on each of them, so it is ninety-six rolls in all. " * 4
    texts = (long, "26", "I don't know.")
    theirs = await engine.score(await make_root(engine, QUESTION), texts)
    for _ in range(3):  # from the second time on, the cache has parts of the continuations
        ours = await small.score(await make_root(small, QUESTION), texts)
        for mine, other in zip(ours.logprobs, theirs.logprobs, strict=True):
            assert mine == pytest.approx(other, abs=2e-3)
        assert ours.cost.prompt == ours.cost.reused + ours.cost.prefilled
        assert ours.cost.scored == theirs.cost.scored


async def test_siblings_share_a_prompt_by_whole_blocks(small: VLLMBackend) -> None:
    small.clear()
    root = await make_root(small, QUESTION)
    length, keys = len(root.token_ids), range(8)
    branches = await generate(small, root, keys, SAMPLED)
    assert [branch.cost.prompt for branch in branches] == [length] * 8
    assert [branch.cost.reused for branch in branches] == [0] + [whole_blocks(length)] * 7
    assert len({branch.tokens for branch in branches}) == 8
    again = await generate(small, root, keys, SAMPLED)
    assert [branch.tokens for branch in again] == [branch.tokens for branch in branches]


async def test_a_cut_path_reuses_its_whole_blocks(small: VLLMBackend) -> None:
    root = await make_root(small, QUESTION)
    (first,) = await generate(small, root, (5,), SAMPLED)
    cut = first.path.cut(40)
    (branch,) = await generate(small, cut, (6,), SAMPLED)
    length = len(root.token_ids) + 40
    assert (branch.cost.prompt, branch.cost.reused) == (length, whole_blocks(length))
    (greedy,) = await generate(small, root, (1,), GREEDY)
    (rest,) = await generate(small, greedy.path.cut(20), (1,), replace(GREEDY, max_tokens=28))
    assert greedy.tokens[:20] + rest.tokens == greedy.tokens


async def test_a_cancelled_branch_is_aborted_in_vllm(small: VLLMBackend) -> None:
    root, sampling = await make_root(small, QUESTION), replace(SAMPLED, max_tokens=600)
    client = small._runner.client
    extension = small.extend(ExtendRequest(root, (1, 2, 3), sampling))
    left: list[int] = []

    def react(event: object) -> None:
        if isinstance(event, Tokens) and event.copy == 1:
            extension.cancel(1)
        elif not isinstance(event, Tokens):
            left.append(client.get_num_unfinished_requests())
            for copy in (0, 2):
                extension.cancel(copy)

    branches = await collect(extension, root, (1, 2, 3), react)
    assert [branch.path.stop_reason for branch in branches] == [StopReason.CANCELLED] * 3
    assert left[0] == 2
    assert left[-1] == 0
    assert all(branch.cost.discarded == branch.cost.sampled == len(branch.tokens) for branch in branches)


async def test_a_question_is_solved(small: VLLMBackend) -> None:
    strategy = bw.PathConsistency(6, sampling=Sampling(temperature=0.7, max_tokens=120))
    results = [await bw.solve(QUESTION, small, strategy=strategy, seed=3) for _ in range(2)]
    first, second = results
    assert first.outcome is not bw.Outcome.FAILED
    assert not first.errors
    assert first.usage.prompt == first.usage.reused + first.usage.prefilled
    assert first.usage.reused > 0
    assert first.usage.sampled >= sum(branch.path.generated - branch.prefix_tokens for branch in first.paths)
    assert (first.answer, first.votes) == (second.answer, second.votes)
    assert not any("key" in note for note in first.degraded)


async def test_unsupported_requests_are_refused_at_once(small: VLLMBackend) -> None:
    root = await make_root(small)
    with pytest.raises(BackendError, match=r"^temperature: ") as caught:
        small.extend(ExtendRequest(root, (1,), Sampling(temperature=2.5, max_tokens=4)))
    assert not caught.value.retryable
    with pytest.raises(ConfigError, match=r"^continuations: reach"):
        await small.score(root, ("word " * 3000,))
    with pytest.raises(ConfigError, match=r"^adapter: .* there are: none"):
        small.adapter("none")


async def test_speculation_is_in_the_usage(tiny_folder: FilePath) -> None:
    speculative = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2, "prompt_lookup_min": 1}
    backend = VLLMBackend.load(str(tiny_folder), tiny_settings(speculative_config=speculative))
    try:
        assert not backend.capabilities.keyed
        assert any("rejection" in change for change in backend.capabilities.changes)
        root = await make_root(backend, "ababababababababababababababab")
        (branch,) = await generate(backend, root, (1,), replace(GREEDY, max_tokens=120))
        cost = branch.cost
        assert cost.sampled == 120
        assert cost.drafted >= cost.accepted > 0  # a greedy random model repeats itself
        assert cost.drafters["ngram"].accepted == cost.accepted
        assert cost.forward_passes < cost.sampled
        with pytest.raises(BackendError, match=r"^min_p: "):
            backend.extend(ExtendRequest(root, (1,), Sampling(min_p=0.1, max_tokens=4)))
    finally:
        await backend.close()


async def test_an_adapter_changes_the_tokens(tiny_folder: FilePath, tmp_path: FilePath) -> None:
    adapter = LoRAAdapter("loud", str(save_adapter(tmp_path / "loud")))
    settings = tiny_settings(adapters=(adapter,), max_lora_rank=8, scheduling_policy="priority")
    backend = VLLMBackend.load(str(tiny_folder), settings)
    try:
        loud, root = backend.adapter("loud"), await make_root(backend)
        assert loud.capabilities.model == "loud"
        (plain,), (other,) = await generate(backend, root, (1,), GREEDY), await generate(loud, root, (1,), GREEDY)
        assert plain.tokens != other.tokens
        await loud.close()
        request = ExtendRequest(root, (1,), GREEDY, priority=3)
        (again,) = await collect(backend.extend(request), root, (1,))
        assert again.tokens == plain.tokens
    finally:
        await backend.close()


async def test_a_dead_engine_breaks_its_branches(tiny_folder: FilePath) -> None:
    before = {process.pid for process in multiprocessing.active_children()}
    backend = VLLMBackend.load(str(tiny_folder), tiny_settings())
    try:
        mine = [process for process in multiprocessing.active_children() if process.pid not in before]
        root = await make_root(backend)
        extension = backend.extend(ExtendRequest(root, (1, 2), replace(SAMPLED, max_tokens=400)))
        await anext(extension)
        for process in mine:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        branches = await asyncio.wait_for(collect(extension, root, (1, 2)), 30)
        for end in (branch.end for branch in branches):
            assert isinstance(end, Broken)
            assert isinstance(end.error, BackendError)
            assert not end.error.retryable
            assert end.cost.discarded == end.cost.sampled
        (later,) = await generate(backend, root, (3,))
        assert isinstance(later.end, Broken)
        assert "died" in str(later.end.error)
    finally:
        await backend.close()


def test_a_model_that_cannot_run_is_refused(tiny_folder: FilePath) -> None:
    with pytest.raises(ConfigError, match=r"^extra: max_num_seq is not an engine argument of vLLM .*max_num_seqs"):
        VLLMBackend.load(str(tiny_folder), tiny_settings(extra={"max_num_seq": 4}))
    with pytest.raises((ConfigError, ModelError), match="max_model_len"):
        VLLMBackend.load(str(tiny_folder), tiny_settings(max_model_len=4096))
