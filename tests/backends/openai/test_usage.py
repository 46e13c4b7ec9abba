"""Usage of branches on servers with and without usage reports."""

from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.stream import Ended
from branchwise.core.path import StopReason
from branchwise.core.sampling import Sampling
from tests.support.contract import collect
from tests.support.fake_responses import FakeReply
from tests.support.openai_backends import (
    ANSWER,
    TEXT,
    generate,
    make_root,
    serve,
    settings,
    wait_for,
)


async def test_usage_is_estimated_if_the_server_reports_none() -> None:
    for features in (replace(TEXT, usage=False), replace(TEXT, usage=False, logprobs=False, refused=("logprobs",))):
        with serve(features=features) as server:
            backend = await OpenAIBackend.connect(settings(server))
            assert not backend.features.usage
            (branch,) = await generate(backend, await make_root(backend))
            cost = branch.ended[0].cost
            assert cost.prompt == cost.prefilled > 0
            assert cost.sampled == pytest.approx(len(server.tokenizer.encode(ANSWER)), abs=1)
            await backend.close()


async def test_a_cancelled_text_branch_counts_its_delivered_tokens() -> None:
    with serve(FakeReply(ANSWER * 5, delay=0.005), TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        request = ExtendRequest(await make_root(backend), (11,), Sampling(max_tokens=200))
        extension = backend.extend(request)
        (branch,) = await collect(extension, 1, lambda event: extension.cancel(0))
        (end,) = branch.ended
        assert isinstance(end, Ended)
        assert end.stop_reason is StopReason.CANCELLED
        assert end.cost.prompt > 10
        assert 1 <= end.cost.sampled == end.cost.discarded < 10
        await wait_for(lambda: server.running == 0)
        assert server.aborted == 1
        await backend.close()


async def test_a_request_that_was_never_sent_costs_nothing() -> None:
    with serve(FakeReply(ANSWER, delay=0.01)) as server:
        backend = await OpenAIBackend.connect(settings(server, concurrency=1))
        extension = backend.extend(ExtendRequest(await make_root(backend), (11, 12), Sampling(max_tokens=50)))
        extension.cancel(1)
        first, second = await collect(extension, 2)
        assert (first.stop_reason, second.stop_reason) == (StopReason.END, StopReason.CANCELLED)
        assert second.ended[0].cost == bw.Usage()
        await backend.close()


async def test_results_note_that_text_was_tokenized_again() -> None:
    with serve(features=TEXT) as server:
        backend = await OpenAIBackend.connect(settings(server))
        result = await bw.solve("What is 6 times 7?", backend, strategy=bw.SelfConsistency(paths=3))
        assert result.answer == "42"
        assert any("shows no tokens" in note for note in result.degraded)
        assert result.usage.prompt == result.usage.reused + result.usage.prefilled > 0
        assert result.usage.reused > 0
        await backend.close()
