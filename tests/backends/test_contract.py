"""The contract of every backend: the events of its branches, stop strings, cancellation and closing."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from branchwise.backends.base import Backend, ExtendRequest
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.backends.stream import BranchEvent, Broken, Ended, Tokens
from branchwise.core.errors import BackendError, ConfigError
from branchwise.core.path import Path, StopReason
from branchwise.core.question import as_messages
from branchwise.core.sampling import Sampling
from tests.support import contract
from tests.support.contract import KEYS, SAMPLING, collect, generate, make_root, repeatable_sampling


async def test_every_branch_streams_its_tokens_and_ends_once(backend: Backend) -> None:
    capabilities = backend.capabilities
    for branch in await generate(backend, await make_root(backend)):
        assert len(branch.ended) == 1
        assert branch.ended[0].cost.sampled == 40
        assert len(branch.token_ids) == (40 if capabilities.token_out else 0)
        assert len(branch.ends) == 40 or not (capabilities.token_out or branch.ends)
        assert len(branch.logprobs) == (40 if capabilities.logprobs else 0)
        assert all(logprob <= 0 for logprob in branch.logprobs)
        assert branch.text


@pytest.mark.parametrize("wanted", [0, 2])
async def test_each_token_has_the_supported_alternatives(backend: Backend, wanted: int) -> None:
    capabilities = backend.capabilities
    most = min(wanted, capabilities.top_k_logprobs if capabilities.logprobs else 0)

    def check(event: BranchEvent) -> None:
        if isinstance(event, Tokens):
            assert (event.top_logprobs is None) == (most == 0)
            assert all(1 <= len(row) <= most for row in event.top_logprobs or ())

    sampling = Sampling(temperature=1.0, max_tokens=10, logprobs=most)
    await collect(backend.extend(ExtendRequest(await make_root(backend), KEYS, sampling)), 3, check)


async def test_streamed_text_matches_the_decoded_tokens_at_every_token(exact: Backend) -> None:
    for branch in await generate(exact, await make_root(exact)):
        assert branch.ends == sorted(branch.ends)
        assert branch.ends[-1] == len(branch.text)
        for count, end in enumerate(branch.ends, 1):
            whole = contract.decode(exact, branch.token_ids[:count])
            # A character is shown once its last bytes are sampled.
            assert whole.startswith(branch.text[:end])
            assert re.fullmatch("\ufffd*", whole[end:])


@pytest.mark.parametrize("limit", [1, 7])
async def test_max_tokens_ends_a_branch_by_length(backend: Backend, limit: int) -> None:
    for branch in await generate(
        backend, await make_root(backend), sampling=Sampling(temperature=1.0, max_tokens=limit)
    ):
        assert branch.stop_reason is StopReason.LENGTH
        assert branch.ended[0].cost.sampled == limit


@pytest.mark.parametrize("width", [1, 3])
async def test_a_stop_string_trims_the_text_and_keeps_its_tokens(exact: Backend, width: int) -> None:
    root = await make_root(exact)
    (unstopped,) = await generate(exact, root, (11,), repeatable_sampling(exact))
    at = unstopped.ends[19]
    stop = unstopped.text[at - 1 : at - 1 + width]
    (stopped,) = await generate(exact, root, (11,), repeatable_sampling(exact, stop=("never", stop)))
    assert stopped.stop_reason is StopReason.STOP
    assert stopped.text == unstopped.text[: unstopped.text.index(stop)]
    needed = next(i for i, end in enumerate(unstopped.ends, 1) if stop in unstopped.text[:end])
    assert stopped.token_ids == unstopped.token_ids[:needed]
    assert stopped.ends == unstopped.ends[:needed]
    assert stopped.whole_text == unstopped.text[: unstopped.ends[needed - 1]]  # the end has the trimmed text


async def test_only_a_stop_string_trims_text(backend: Backend) -> None:
    root = await make_root(backend)
    (unstopped,) = await generate(backend, root, (11,), repeatable_sampling(backend))
    stop = unstopped.text[len(unstopped.text) // 2 :][:2]
    (stopped,) = await generate(backend, root, (11,), repeatable_sampling(backend, stop=(stop,)))
    assert stopped.stop_reason is StopReason.STOP
    assert stopped.text == unstopped.text[: unstopped.text.index(stop)]
    assert stopped.whole_text.startswith(stopped.text + stop)
    assert unstopped.text.startswith(stopped.whole_text)
    assert unstopped.whole_text == unstopped.text


async def test_a_stop_string_that_never_occurs_changes_nothing(backend: Backend) -> None:
    root, keys = await make_root(backend), KEYS[:1] if contract.is_real_server(backend) else KEYS
    unstopped = await generate(backend, root, keys, repeatable_sampling(backend))
    with_stop = await generate(backend, root, keys, repeatable_sampling(backend, stop=("no such text",)))
    assert [(b.token_ids, b.text, b.ends) for b in with_stop] == [(b.token_ids, b.text, b.ends) for b in unstopped]


async def test_a_cancelled_branch_ends_and_the_others_continue(backend: Backend) -> None:
    root, sampling = await make_root(backend), Sampling(temperature=1.0, max_tokens=300)
    uncancelled = await generate(backend, root, sampling=sampling)
    extension = backend.extend(ExtendRequest(root, KEYS, sampling))
    branches = await collect(extension, 3, lambda event: extension.cancel(1) if event.copy == 1 else None)
    if not contract.is_real_server(backend):
        assert [branches[i].token_ids for i in (0, 2)] == [uncancelled[i].token_ids for i in (0, 2)]
    assert [branches[i].stop_reason for i in (0, 2)] == [uncancelled[i].stop_reason for i in (0, 2)]
    if not backend.capabilities.per_branch_cancel:
        assert branches[1].stop_reason is uncancelled[1].stop_reason
        return
    assert branches[1].stop_reason is StopReason.CANCELLED
    sampled, all_tokens = (
        len(branch.token_ids) or branch.ended[0].cost.sampled for branch in (branches[1], uncancelled[1])
    )
    assert 1 <= sampled < all_tokens
    if not contract.is_real_server(backend):
        assert branches[1].token_ids == uncancelled[1].token_ids[: len(branches[1].token_ids)]
        assert uncancelled[1].text.startswith(branches[1].text)
    (end,) = branches[1].ended
    assert end.cost.discarded == end.cost.sampled == sampled


async def test_a_request_stops_when_all_its_branches_are_cancelled(backend: Backend) -> None:
    extension = backend.extend(ExtendRequest(await make_root(backend), KEYS, Sampling(temperature=1.0, max_tokens=300)))
    for copy in range(3):
        extension.cancel(copy)
    for branch in await collect(extension, 3):
        assert branch.stop_reason is StopReason.CANCELLED
        assert branch.ended[0].cost.sampled < 300


async def test_a_request_splits_into_one_stream_for_each_branch(backend: Backend) -> None:
    root = await make_root(backend)
    together = await generate(backend, root)
    streams = backend.extend(ExtendRequest(root, KEYS, SAMPLING)).split()
    for stream, branch in reversed(list(zip(streams, together, strict=True))):
        text, event = "", await stream.next()
        while isinstance(event, Tokens):
            text += event.text
            event = await stream.next()
        assert isinstance(event, Ended)
        assert event.stop_reason == branch.stop_reason
        assert text == branch.text or contract.is_real_server(backend)


async def test_a_stopped_path_continues_after_the_stop_string(exact: Backend) -> None:
    root = await make_root(exact)
    (unstopped,) = await generate(exact, root, (11,), repeatable_sampling(exact))
    stop = unstopped.text[unstopped.ends[9] - 1]
    (stopped,) = await generate(exact, root, (11,), repeatable_sampling(exact, stop=(stop,)))
    path, count = stopped.path(root, 11), len(stopped.token_ids)
    if isinstance(exact, ScriptedBackend):
        assert path.whole_text == exact.vocabulary.decode(path.token_ids)
        return  # its script decides how the path continues
    (rest,) = await generate(exact, path, (11,), repeatable_sampling(exact, 40 - count))
    assert stopped.token_ids + rest.token_ids == unstopped.token_ids
    assert stopped.whole_text + rest.text == unstopped.text


async def test_a_prompt_longer_than_the_context_is_refused(backend: Backend) -> None:
    context = backend.capabilities.context
    assert context == contract.CONTEXT or contract.is_real_server(backend)
    question = "word " * (context + 88)
    if isinstance(backend, OpenAIBackend) and not backend.capabilities.token_in:
        (branch,) = await generate(backend, await make_root(backend, question), keys=(11,))
        (end,) = branch.ended  # only the server knows its length
        assert isinstance(end, Broken)
        assert "context" in str(end.error)
        assert not (isinstance(end.error, BackendError) and end.error.retryable)
        return
    with pytest.raises(ConfigError, match=rf"^question: .* tokens long, the model's context is {context}") as caught:
        await make_root(backend, question)
    assert caught.value.field == "question"


async def test_prompts_of_any_length_are_tokenized(backend: Backend) -> None:
    root = await make_root(backend)
    assert root.messages is not None
    tokens = await backend.tokenize(root.messages)
    if not root.token_ids:
        assert tokens is None
        assert await backend.tokenize("6 times 7") is None
        return
    assert tokens == root.token_ids
    text = await backend.tokenize("6 times 7")
    assert text is not None
    assert 0 < len(text) < len(tokens)
    long = await backend.tokenize(as_messages("word " * backend.capabilities.context))
    assert long is not None
    assert len(long) > backend.capabilities.context


async def test_closing_breaks_running_branches_and_is_idempotent(fresh: Backend) -> None:
    extension = fresh.extend(ExtendRequest(await make_root(fresh), KEYS, Sampling(temperature=1.0, max_tokens=300)))
    await anext(extension)
    await fresh.close()
    branches = await collect(extension, 3)
    broken = [end.error for branch in branches for end in branch.ended if isinstance(end, Broken)]
    assert broken  # some branches may have ended before
    assert all(isinstance(error, BackendError) and not error.retryable for error in broken)
    with pytest.raises(BackendError, match="closed"):
        await generate(fresh, Path(None, 1, (1, 2, 3), "", messages=as_messages("q")))
    await fresh.close()


def test_two_event_loops_can_use_a_backend_at_once(backend: Backend) -> None:
    async def answer(question: str) -> list[list[int]]:
        return [branch.token_ids for branch in await generate(backend, await make_root(backend, question))]

    questions = ["What is 6 times 7?", "And 7 times 6?"]
    alone = [asyncio.run(answer(question)) for question in questions]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda question: asyncio.run(answer(question)), questions))
    assert together == alone or contract.is_real_server(backend)
