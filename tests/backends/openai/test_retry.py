"""Failures of requests, and their retries."""

import time
from email.utils import formatdate

import pytest

import branchwise as bw
from branchwise.backends.openai.backend import OpenAIBackend
from branchwise.backends.openai.server_errors import parse_retry_after
from branchwise.core.path import StopReason
from tests.support.faults import Fault
from tests.support.openai_backends import (
    ANSWER,
    failure,
    generate,
    make_root,
    serve,
    settings,
)


def test_retry_after_is_a_number_or_a_date() -> None:
    now = 1_700_000_000.0
    assert parse_retry_after("3", now) == 3
    assert parse_retry_after("0.5", now) == 0.5
    assert parse_retry_after(formatdate(now + 20, usegmt=True), now) == 20
    assert parse_retry_after(formatdate(now - 20, usegmt=True), now) == 0
    assert parse_retry_after("soon", now) is None
    assert parse_retry_after(None, now) is None


async def test_a_retry_waits_for_the_requested_time() -> None:
    for by_date, least in ((False, 0.6), (True, 1.0)):
        with serve() as server:
            backend = await OpenAIBackend.connect(settings(server))
            start, first = await make_root(backend), len(server.requests)
            value = formatdate(time.time() + 3, usegmt=True) if by_date else "0.6"
            server.faults = lambda number, first=first, value=value: (  # type: ignore[misc]
                Fault("429", retry_after=value) if number == first else None
            )
            began = time.monotonic()
            (branch,) = await generate(backend, start)
            assert least <= time.monotonic() - began < 5
            assert (branch.text, len(server.requests)) == (ANSWER, first + 2)
            await backend.close()


@pytest.mark.parametrize("kind", ["408", "429", "500", "502", "503", "reset", "short", "garbage", "binary", "error"])
async def test_failures_before_the_first_token_are_retried(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start, first = await make_root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind) if number < first + 2 else None
        (branch,) = await generate(backend, start)
        assert (branch.text, len(server.requests)) == (ANSWER, first + 3)
        assert branch.ended[0].cost.prompt == len(start.token_ids)
        await backend.close()


@pytest.mark.parametrize("kind", ["400", "401", "404", "422", "501"])
async def test_permanent_failures_are_not_retried(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start, first = await make_root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind)
        (branch,) = await generate(backend, start)
        error = failure(branch)
        assert (error.retryable, len(server.requests)) == (False, first + 1)
        assert f"{server.url} answered {kind}" in str(error)
        await backend.close()


async def test_retries_end_at_the_limits_of_the_settings() -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, retries=2))
        start, first = await make_root(backend), len(server.requests)
        server.faults = lambda number: Fault("503")
        (branch,) = await generate(backend, start)
        assert failure(branch).retryable
        assert len(server.requests) == first + 3
        server.faults = lambda number: Fault("429", retry_after="3600")  # longer than the settings allow
        began = time.monotonic()
        assert failure((await generate(backend, start))[0]).retryable
        assert time.monotonic() - began < 2
        await backend.close()


@pytest.mark.parametrize("kind", ["cut", "short", "garbage", "binary", "error", "tokens", "prompt", "slow"])
async def test_a_failure_after_the_first_token_breaks_the_branch(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server, idle_timeout=1.0 if kind == "slow" else 10.0))
        start, first = await make_root(backend), len(server.requests)
        server.faults = lambda number: Fault(kind, after=4)
        (branch,) = await generate(backend, start)
        assert failure(branch).retryable
        assert branch.text == server.tokenizer.decode(branch.token_ids) == "First, 6 times"
        cost = branch.ended[0].cost
        assert (cost.sampled, cost.discarded, cost.prompt) == (4, 4, len(start.token_ids))
        assert len(server.requests) == first + 1
        server.faults = lambda number: Fault(kind, after=4) if number < first + 3 else None
        strategy = bw.SelfConsistency(paths=1)
        result = await bw.solve("What is 6 times 7?", backend, strategy=strategy)
        assert result.answer == "42"
        assert result.paths[0].path.answer_text == ANSWER
        await backend.close()


@pytest.mark.parametrize("kind", ["undone", "unpriced"])
async def test_a_complete_branch_ignores_a_missing_end_of_stream(kind: str) -> None:
    with serve() as server:
        backend = await OpenAIBackend.connect(settings(server))
        start = await make_root(backend)
        server.faults = lambda number: Fault(kind)
        (branch,) = await generate(backend, start)
        assert (branch.stop_reason, branch.text) == (StopReason.END, ANSWER)
        await backend.close()
