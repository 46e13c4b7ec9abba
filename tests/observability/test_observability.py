"""Spans through the real SDK, and logs as lines: they nest and end, they add up, and no text is in them."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.driver import BranchEnded, Observer, QuestionEnded, RunEnded, RunStarted, Standing, together
from branchwise.observability.logs import configure, emit
from branchwise.observability.question_log import QuestionLog
from branchwise.observability.tracing import Tracing, remote_parent
from tests.support.throwaway import Log, Throwaway, once

ROOT = Path(__file__).parents[2]
QUESTION = "How many zebras live in Quagmire?"
SAID = "Counting the herd, twice. The answer is 31415926."
WORDS = ("zebra", "quagmire", "herd", "31415926", "marmalade", "broken wing")
"""Of the prompts, replies and errors of these tests."""
JUDGE = bw.Messages(turns=(bw.Message(role="user", content="Is marmalade right?"),))


class Traced(NamedTuple):
    """A tracer provider and what it exported."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(start)]

    def observer(self, content: bool = False) -> Tracing:
        return Tracing(self.provider, content=content)


@pytest.fixture
def traced() -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Traced(provider, exporter)
    provider.shutdown()


def backend(*replies: str | Reply) -> ScriptedBackend:
    return ScriptedBackend({"": list(replies) or [SAID]})


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def everything(spans: Sequence[ReadableSpan]) -> str:
    """All that spans say anywhere."""
    return " ".join(
        f"{span.name} {attributes(span)} {span.status.description} {[(e.name, e.attributes) for e in span.events]}"
        for span in spans
    ).lower()


def total(spans: Sequence[ReadableSpan], name: str) -> float:
    return sum(float(str(attributes(span).get(name, 0))) for span in spans)


# Nesting and attributes


async def test_spans_nest_under_the_callers(traced: Traced) -> None:
    with traced.provider.get_tracer("agent").start_as_current_span("agent") as agent:
        await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=traced.observer())
        assert trace.get_current_span() is agent, "the caller's context is as it was"
    (question,) = traced.named("invoke_agent self-consistency")
    (window,) = traced.named("branchwise.window")
    branches = traced.named("chat scripted")
    assert parent(question) == agent.get_span_context().span_id
    assert parent(window) == question.context.span_id
    assert [parent(branch) for branch in branches] == [window.context.span_id] * 3
    assert len(traced.spans) == 1 + 1 + 1 + 3
    for span, above in [(window, question), *((branch, window) for branch in branches)]:
        (above_start, above_end), (start, end) = times(above), times(span)
        assert above_start <= start <= end <= above_end


async def test_a_span_says_how_it_was_drawn_and_what_it_cost(traced: Traced) -> None:
    sampling = bw.Sampling(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, max_tokens=30)
    result = await bw.solve(
        QUESTION, backend(), strategy=bw.SelfConsistency(2, sampling), observer=traced.observer(), seed=9
    )
    (question,) = traced.named("invoke_agent")
    first, _ = traced.named("chat")
    said = attributes(first)
    timed = said.pop("gen_ai.response.time_to_first_chunk")
    assert isinstance(timed, float)
    assert 0 < timed < 10
    cost = result.paths[0].cost
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "branchwise",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 7,
        "gen_ai.request.max_tokens": 30,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": cost.prompt,
        "gen_ai.usage.cache_read.input_tokens": cost.reused,
        "gen_ai.usage.output_tokens": cost.sampled,
        "branchwise.min_p": 0.1,
        "branchwise.branch": 0,
        "branchwise.aside": False,
        "branchwise.answered": True,
        "branchwise.outcome": "finished",
        "branchwise.prompt": cost.prompt,
        "branchwise.reused": cost.reused,
        "branchwise.prefilled": cost.prefilled,
        "branchwise.sampled": cost.sampled,
        "branchwise.discarded": 0,
        "branchwise.drafted": 0,
        "branchwise.accepted": 0,
        "branchwise.scored": 0,
        "branchwise.forward_passes": cost.forward_passes,
    }
    whole = attributes(question)
    assert whole["gen_ai.operation.name"] == "invoke_agent"
    assert (whole["gen_ai.agent.name"], whole["branchwise.strategy"]) == ("self-consistency",) * 2
    assert (whole["gen_ai.request.seed"], whole["branchwise.task"]) == (9, "math")
    assert (whole["branchwise.outcome"], whole["branchwise.answered"]) == ("complete", True)
    assert whole["branchwise.confidence"] == pytest.approx(result.confidence)


async def test_the_ledger_of_branches_and_scores_sums_to_the_results(traced: Traced) -> None:
    """Finished, cancelled, failed and judging branches, and scored texts."""
    replies: dict[str, list[str | Reply]] = {
        "": [SAID, Reply(SAID, fail_after=3), Reply("and so on " * 99, delay=0.001)]
    }
    double = ScriptedBackend(
        lambda path, before: "True." if path.root.messages == JUDGE else replies[""][before % 3], scores={" yes": -1}
    )

    def plan(log: Log) -> Sequence[bw.Action]:
        log.requested += 1
        if log.requested == 1:
            root = log.roots[0]
            return [
                bw.Extend(root, 3, watch_every=2),
                bw.Score(root, (" yes",)),
                bw.Root(JUDGE, task=bw.task("yes-no")),
            ]
        last = log.events[-1]
        if isinstance(last, bw.Rooted):
            return [bw.Extend(last.path)]
        return [bw.Cancel(2)] if isinstance(last, bw.Progress) and last.branch == 2 else []

    result = await bw.solve(QUESTION, double, strategy=Throwaway(plan), observer=traced.observer())
    (question,) = traced.named("invoke_agent")
    parts = [*traced.named("chat"), *traced.named("branchwise.score")]
    assert sorted(str(attributes(span)["branchwise.outcome"]) for span in parts) == [
        "cancelled", "failed", "finished", "finished", "finished",
    ]  # fmt: skip
    usage = result.usage
    assert usage.discarded > 0
    assert usage.scored > 0
    for name in ("prompt", "reused", "prefilled", "sampled", "discarded", "drafted", "accepted", "scored"):
        expected = getattr(usage, name)
        assert total(parts, f"branchwise.{name}") == expected, name
        assert attributes(question)[f"branchwise.{name}"] == expected, name
    assert total(parts, "gen_ai.usage.input_tokens") == usage.prompt == total([question], "gen_ai.usage.input_tokens")
    assert total(parts, "gen_ai.usage.output_tokens") == usage.sampled
    windows = traced.named("branchwise.window")
    assert total(windows, "branchwise.sampled") == usage.sampled
    assert total(windows, "gen_ai.usage.output_tokens") == 0, "nobody adds them up twice"


async def test_windows_are_what_a_strategy_asks_for_together(traced: Traced) -> None:
    strategy = bw.PathConsistency(10, window=4, stop_at=None, root_share=0)
    double = ScriptedBackend(lambda path, before: "First this. Then that. The answer is 3.")
    result = await bw.solve(QUESTION, double, strategy=strategy, observer=traced.observer())
    windows = sorted(
        traced.named("branchwise.window"), key=lambda span: int(str(attributes(span)["branchwise.window"]))
    )
    assert sum(int(str(attributes(window)["branchwise.branches"])) for window in windows) == len(result.paths) == 10
    assert [attributes(window)["branchwise.window"] for window in windows] == [*range(1, len(windows) + 1)]
    assert attributes(windows[0])["branchwise.prefix_tokens"] == 0
    continued = [branch for branch in result.paths if branch.prefix_tokens]
    assert continued, "the strategy continues beginnings here"
    prefixes = {int(str(attributes(window)["branchwise.prefix_tokens"])) for window in windows}
    assert prefixes == {branch.prefix_tokens for branch in result.paths}
    for window in windows:
        inside = [span for span in traced.named("chat") if parent(span) == window.context.span_id]
        assert len(inside) == attributes(window)["branchwise.branches"]


async def test_what_a_verifier_traces_belongs_to_the_question(traced: Traced) -> None:
    async def judge(path: bw.Path) -> float:
        with traced.provider.get_tracer("judge").start_as_current_span("judging"):
            return 1.0

    strategy = once(lambda log: bw.Extend(log.roots[0]), lambda log: bw.Verify(log.roots[0]))
    await bw.solve(QUESTION, backend(), strategy=strategy, verifier=judge, observer=traced.observer())
    (question,), (judging,), (verify,) = (traced.named(n) for n in ("invoke_agent", "judging", "branchwise.verify"))
    assert parent(judging) == parent(verify) == question.context.span_id
    assert attributes(verify) == {"branchwise.outcome": "finished"}


def test_a_sync_call_nests_too(traced: Traced) -> None:
    with traced.provider.get_tracer("agent").start_as_current_span("agent") as agent:
        bw.solve_sync(QUESTION, backend(), strategy=bw.SelfConsistency(2), observer=traced.observer())
    (question,) = traced.named("invoke_agent")
    assert parent(question) == agent.get_span_context().span_id


async def test_a_request_from_elsewhere_goes_on_in_its_trace(traced: Traced) -> None:
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with remote_parent(headers):
        await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(2), observer=traced.observer())
    assert {trace.format_trace_id(span.context.trace_id) for span in traced.spans} == {
        "0af7651916cd43dd8448eb211c80319c"
    }
    (question,) = traced.named("invoke_agent")
    assert parent(question) == 0xB7AD6B7169203331
    assert not trace.get_current_span().get_span_context().is_valid


# Many at once


async def test_concurrent_questions_do_not_mix(traced: Traced) -> None:
    """Twenty runs that share an observer, each under a span of its own."""
    double = ScriptedBackend(lambda path, before: Reply(SAID, delay=0.0005))
    tracing = traced.observer()
    tracer = traced.provider.get_tracer("agent")

    async def ask(number: int) -> bw.Result:
        with tracer.start_as_current_span(f"agent {number}"):
            strategy = bw.SelfConsistency(1 + number % 4, bw.Sampling(max_tokens=number + 2))
            return await bw.solve(f"{number}?", double, strategy=strategy, observer=tracing)

    results = await asyncio.gather(*map(ask, range(20)))
    for number, result in enumerate(results):
        (agent,) = [span for span in traced.spans if span.name == f"agent {number}"]
        mine = [span for span in traced.spans if span.context.trace_id == agent.context.trace_id]
        (question,) = [span for span in mine if span.name.startswith("invoke")]
        assert parent(question) == agent.context.span_id
        branches = [span for span in mine if span.name.startswith("chat")]
        assert len(branches) == 1 + number % 4
        assert {attributes(span)["gen_ai.request.max_tokens"] for span in branches} == {number + 2}
        assert total(branches, "gen_ai.usage.output_tokens") == result.usage.sampled
    assert tracing.open_runs == 0


async def test_each_question_of_a_batch_has_a_span(traced: Traced) -> None:
    results = await bw.solve_batch(
        [QUESTION, "", "Another?"], backend(), strategy=bw.SelfConsistency(2), observer=traced.observer()
    )
    first, empty, second = sorted(traced.named("invoke_agent"), key=lambda span: times(span)[0])
    for span, result in zip((first, second), (results[0], results[2]), strict=True):
        assert attributes(span)["gen_ai.usage.output_tokens"] == result.usage.sampled > 0
        windows = [window for window in traced.named("branchwise.window") if parent(window) == span.context.span_id]
        assert len(windows) == 1
    assert empty.status.status_code is StatusCode.ERROR
    assert attributes(empty)["error.type"] == "ConfigError"
    assert {parent(span) for span in (first, empty, second)} == {None}


# Ends


async def test_failed_branches_have_a_status_and_cancelled_ones_an_outcome(traced: Traced) -> None:
    double = backend(Reply(SAID, fail_after=2), Reply("on " * 500, delay=0.001))

    def plan(log: Log) -> Sequence[bw.Action]:
        log.requested += 1
        if log.requested == 1:
            return [bw.Extend(log.roots[0], 2, watch_every=5)]
        return [bw.Cancel(1)] if isinstance(log.events[-1], bw.Progress) else []

    await bw.solve(QUESTION, double, strategy=Throwaway(plan), observer=traced.observer())
    failed, cancelled = sorted(traced.named("chat"), key=lambda span: int(str(attributes(span)["branchwise.branch"])))
    assert (failed.status.status_code, attributes(failed)["error.type"]) == (StatusCode.ERROR, "BackendError")
    assert attributes(failed)["branchwise.outcome"] == "failed"
    assert (cancelled.status.status_code, attributes(cancelled)["branchwise.outcome"]) == (
        StatusCode.UNSET,
        "cancelled",
    )
    assert attributes(cancelled)["branchwise.discarded"] == attributes(cancelled)["branchwise.sampled"]
    (question,) = traced.named("invoke_agent")
    assert attributes(question)["branchwise.outcome"] == "failed"
    assert question.status.status_code is StatusCode.ERROR


async def test_a_cancelled_call_ends_every_span_and_accounts_for_what_it_drew(traced: Traced) -> None:
    seen: list[bw.RunEvent] = []
    started = asyncio.Event()

    def watch(event: bw.RunEvent) -> None:
        seen.append(event)
        if len(seen) == 50:
            started.set()

    tracing = traced.observer()
    double = backend(Reply("on " * 400, delay=0.001))
    asking = asyncio.create_task(
        bw.solve(QUESTION, double, strategy=bw.SelfConsistency(4), observer=together(tracing, watch))
    )
    await started.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(traced.named("chat")) == 4
    assert tracing.open_runs == 0
    (question,) = traced.named("invoke_agent")
    (window,) = traced.named("branchwise.window")
    assert attributes(question)["branchwise.outcome"] == "cancelled"
    assert attributes(question)["error.type"] == "CancelledError"
    assert {attributes(span)["branchwise.outcome"] for span in traced.named("chat")} == {"cancelled"}
    drawn = total(traced.named("chat"), "branchwise.sampled")
    assert drawn > 4
    assert total([question], "branchwise.discarded") == total([window], "branchwise.discarded") == drawn
    assert [event.usage.sampled for event in seen if isinstance(event, QuestionEnded)] == [drawn]


async def test_a_run_that_raises_ends_every_span(traced: Traced) -> None:
    def plan(log: Log) -> Sequence[bw.Action]:
        if log.events:
            raise ZeroDivisionError("a strategy with a broken wing")
        if log.requested:
            return []
        log.requested = 1
        return [bw.Extend(log.roots[0], 2)]

    tracing = traced.observer()
    with pytest.raises(ZeroDivisionError):
        await bw.solve(QUESTION, backend(SAID), strategy=Throwaway(plan), observer=tracing)
    (question,) = traced.named("invoke_agent")
    assert attributes(question)["error.type"] == "ZeroDivisionError"
    assert len(traced.named("chat")) == 2
    assert tracing.open_runs == 0
    assert not trace.get_current_span().get_span_context().is_valid


async def test_branches_that_the_budget_refuses_leave_no_span_open(traced: Traced) -> None:
    tracing = traced.observer()
    budget = bw.Budget(paths=2)
    await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(5), budget=budget, observer=tracing)
    assert len(traced.named("chat")) == 2
    assert len(traced.named("branchwise.window")) == 1
    (question,) = traced.named("invoke_agent")
    assert attributes(question)["branchwise.outcome"] == "paths_spent"
    assert question.status.status_code is StatusCode.UNSET


# No text unless asked


async def _tell_everything(observer: Observer) -> None:
    """A question of which every part has words: prompts, replies, stops, errors, an answer."""
    sampling = bw.Sampling(stop=("zebra stop",))

    def judged(path: bw.Path) -> float:
        raise LookupError("marmalade")

    def reply(path: bw.Path, before: int) -> str | Reply:
        if path.root.messages == JUDGE:
            return "Marmalade it is: True."
        if before == 2:
            raise LookupError("a herd with a broken wing")
        return Reply(SAID, fail_after=4 if before == 1 else None)

    def plan(log: Log) -> Sequence[bw.Action]:
        log.requested += 1
        if log.requested == 1:
            root = log.roots[0]
            more = [bw.Extend(root, sampling=sampling) for _ in range(3)]
            return [*more, bw.Score(root, (" herd",)), bw.Verify(root), bw.Root(JUDGE, task=bw.task("yes-no"))]
        return [bw.Extend(log.events[-1].path)] if isinstance(log.events[-1], bw.Rooted) else []

    tool: dict[str, JsonValue] = {
        "type": "function",
        "function": {"name": "count_zebras", "parameters": {"type": "object"}},
    }
    asked = bw.Messages(turns=(bw.Message(role="user", content=QUESTION),), tools=(tool,))
    result = await bw.solve(
        asked,
        ScriptedBackend(reply, scores={" herd": -1}),
        strategy=Throwaway(plan),
        verifier=judged,
        observer=observer,
    )
    assert result.answer == "31415926"
    assert len(result.errors) >= 3


async def test_no_text_is_in_a_span_unless_asked(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    await _tell_everything(Tracing(traced.provider))
    said = everything(traced.spans)
    assert len(traced.spans) > 8
    assert not [word for word in WORDS if word in said]


@pytest.mark.parametrize("how", ["argument", "true", "SPAN_ONLY", "span_and_event"])
async def test_text_is_there_where_asked(how: str, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "argument":
        tracing = traced.observer(content=True)
    else:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", how)
        tracing = Tracing(traced.provider)
    await _tell_everything(tracing)
    said = everything(traced.spans)
    assert not [word for word in WORDS if word not in said]
    (question,) = traced.named("invoke_agent")
    asked = json.loads(str(attributes(question)["gen_ai.input.messages"]))
    assert asked[-1] == {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}
    assert json.loads(str(attributes(question)["gen_ai.tool.definitions"]))[0]["function"]["name"] == "count_zebras"
    assert attributes(question)["branchwise.answer"] == "31415926"
    replies = [span for span in traced.named("chat") if "gen_ai.output.messages" in attributes(span)]
    (reply,) = json.loads(str(attributes(replies[0])["gen_ai.output.messages"]))
    assert reply == {"role": "assistant", "parts": [{"type": "text", "content": SAID}], "finish_reason": "stop"}
    (aside,) = [span for span in traced.named("chat") if attributes(span)["branchwise.aside"]]
    assert "marmalade right" in str(attributes(aside)["gen_ai.input.messages"])


@pytest.mark.parametrize("how", ["false", "NO_CONTENT", "EVENT_ONLY", ""])
async def test_other_values_ask_for_none(how: str, traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", how)
    await bw.solve(QUESTION, backend(), observer=Tracing(traced.provider))
    assert "zebra" not in everything(traced.spans)


# Failures of telemetry itself


class Failing(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ConnectionError("no collector")


class Breaking(SpanProcessor):
    """Breaks at the end of the first branch."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.name.startswith("chat"):
            raise ConnectionError("no collector")


async def test_an_exporter_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Failing()))
    with caplog.at_level(logging.CRITICAL, "opentelemetry"):
        result = await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=Tracing(provider))
    assert (result.answer, len(result.paths), result.errors) == ("31415926", 3, ())


async def test_tracing_that_breaks_costs_its_own_run_alone() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(Breaking())
    tracing = Tracing(provider)
    seen: list[bw.RunEvent] = []
    watching = together(tracing, seen.append)
    result = await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=watching)
    assert (result.answer, len(result.paths)) == ("31415926", 3)
    assert result.errors == ("observer: failed with ConnectionError: no collector",)
    assert tracing.open_runs == 0
    assert not trace.get_current_span().get_span_context().is_valid
    assert sum(isinstance(event, BranchEnded) for event in seen) == 3, "the other observer is told on"
    assert isinstance(seen[-1], RunEnded)


async def test_without_a_provider_nothing_is_kept() -> None:
    result = await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(2), observer=Tracing())
    assert (result.answer, result.errors) == ("31415926", ())


# Events


async def test_standings_are_counted_only_for_those_who_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    standing = bw.SelfConsistency.standing

    def count(self: bw.SelfConsistency, state: object, question: int) -> bw.Decision:
        counted.append(question)
        return standing(self, state, question)  # type: ignore[arg-type]

    monkeypatch.setattr(bw.SelfConsistency, "standing", count)
    await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=together(Tracing(), QuestionLog()))
    assert not counted
    seen: list[bw.RunEvent] = []
    told: list[bw.RunEvent] = []

    class Uninterested:
        standings = False

        def __call__(self, event: bw.RunEvent) -> None:
            told.append(event)

    await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=together(Uninterested(), seen.append))
    assert len(counted) == sum(isinstance(event, Standing) for event in seen) == 3
    assert not [event for event in told if isinstance(event, Standing)]
    assert len(told) == len(seen) - 3


async def test_a_run_begins_and_ends_and_has_a_number_of_its_own() -> None:
    seen: list[bw.RunEvent] = []
    for _ in range(2):
        await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(2), observer=seen.append)
    first, second = (event for event in seen if isinstance(event, RunStarted))
    assert first.run != second.run
    assert {event.run for event in seen} == {first.run, second.run}
    assert isinstance(seen[0], RunStarted)
    assert isinstance(seen[-1], RunEnded)


# Logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Collect log records; restore the process's logging afterwards."""
    root = logging.getLogger("branchwise")
    before = (root.handlers[:], root.level, root.propagate)
    yield io.StringIO()
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


async def test_a_question_is_one_line_with_its_trace(traced: Traced, lines: io.StringIO) -> None:
    configure("json", stream=lines)
    observer = together(traced.observer(), QuestionLog())
    result = await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(3), observer=observer)
    (line,) = map(json.loads, lines.getvalue().splitlines())
    (question,) = traced.named("invoke_agent")
    assert line.pop("trace_id") == trace.format_trace_id(question.context.trace_id)
    assert line.pop("span_id") == trace.format_span_id(question.context.span_id)
    assert line.pop("time").endswith("+00:00")
    usage = result.usage
    assert line == {
        "level": "info", "logger": "branchwise.questions", "event": "question", "strategy": "self-consistency",
        "model": "scripted", "task": "math", "outcome": "complete", "answered": True,
        "confidence": result.confidence, "seconds": round(usage.seconds, 3), "prompt": usage.prompt,
        "reused": usage.reused, "sampled": usage.sampled, "discarded": 0, "errors": [],
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text"])
async def test_no_text_is_in_a_log(form: str, lines: io.StringIO) -> None:
    configure("json" if form == "json" else "text", "debug", lines)
    await _tell_everything(QuestionLog())
    said = lines.getvalue().lower()
    assert "backenderror" in said
    assert not [word for word in WORDS if word in said]
    assert "trace_id" not in said


async def test_a_question_that_fails_is_a_warning(lines: io.StringIO) -> None:
    configure("json", "warning", lines)
    log = QuestionLog()
    await bw.solve(QUESTION, backend(), strategy=bw.SelfConsistency(1), observer=log)
    await bw.solve(QUESTION, backend(Reply(SAID, fail_after=1)), strategy=bw.SelfConsistency(1), observer=log)
    asking = asyncio.create_task(bw.solve(QUESTION, backend(Reply("on " * 999, delay=0.01)), observer=log))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    failed, cancelled = map(json.loads, lines.getvalue().splitlines())
    assert (failed["outcome"], failed["errors"], failed["answered"]) == ("failed", ["BackendError"], False)
    assert (cancelled["outcome"], cancelled["errors"]) == ("cancelled", ["CancelledError"])
    assert cancelled["sampled"] == cancelled["discarded"] > 0


def test_a_line_is_one_line_whatever_is_in_it(lines: io.StringIO) -> None:
    configure("text", stream=lines)
    fields: dict[str, JsonValue] = {
        "path": "/v1/chat\nlevel=critical",
        "seconds": 0.25,
        "key": None,
        "quoted": 'a "b"',
        "word": "plain",
    }
    emit(logging.getLogger("branchwise.access"), logging.INFO, "request", fields)
    (line,) = lines.getvalue().splitlines()
    assert line.endswith(
        r' info    branchwise.access: request path="/v1/chat\nlevel=critical" seconds=0.25 quoted="a \"b\"" word=plain'
    )
    configure("json", stream=lines)  # in place of the other
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        logging.getLogger("branchwise.access").exception("oh %s", "no\n")
    _, line = lines.getvalue().splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"]) == ("oh no\n", "error")
    assert "ValueError" in record["exception"]


@pytest.mark.parametrize(("form", "level", "field"), [("xml", "INFO", "log_format"), ("json", "loud", "log_level")])
def test_a_wrong_setting_is_refused(form: str, level: str, field: str) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        configure(form, level)  # type: ignore[arg-type]


# A whole process, as the command line switches it on

_PROCESS = """
import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.observability.observers import telemetry

backend = ScriptedBackend({"": ["The answer is 42."]})
result = bw.solve_sync("q", backend, strategy=bw.SelfConsistency(2), observer=telemetry(spans=True, logs="json"))
assert result.errors == (), result.errors
"""


def _process(**environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | environment
    command = [sys.executable, "-c", _PROCESS]
    return subprocess.run(command, check=False, env=given, capture_output=True, text=True, timeout=120)


def test_the_environment_says_where_spans_go() -> None:
    done = _process(OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"name": "chat scripted"') == 2
    assert '"service.name": "branchwise"' in done.stdout
    assert '"deployment.environment": "test"' in done.stdout
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["event"] == "question"
    assert f'"trace_id": "0x{line["trace_id"]}"' in done.stdout
    named = _process(OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="tutor")
    assert '"service.name": "tutor"' in named.stdout
    assert '"name"' not in _process(OTEL_TRACES_EXPORTER="none").stdout


class _Collector(BaseHTTPRequestHandler):
    """Takes in what an exporter posts."""

    posted: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_spans_reach_a_collector() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        done = _process(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
        collector.shutdown()
    assert done.returncode == 0, done.stderr
    assert {path for path, _ in _Collector.posted} == {"/v1/traces"}
    assert any(b"chat scripted" in body for _, body in _Collector.posted)


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_EXPORTER", "carrier-pigeon"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")]
)
def test_a_wrong_environment_is_an_error_with_its_name(name: str, value: str) -> None:
    done = _process(**{name: value})
    assert done.returncode == 1
    assert f"ConfigError: {name}: " in done.stderr


# The documentation

_DOCS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "observability.md").read_text(), re.DOTALL)


def test_the_documented_code_runs(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: later snippets go on from earlier ones."""
    monkeypatch.setattr(bw, "load", lambda *_, **__: ScriptedBackend(lambda path, before: SAID))
    monkeypatch.setattr(sys, "stderr", lines)
    names: dict[str, object] = {"__name__": "observability"}
    assert len(_DOCS) == 5
    for snippet in _DOCS:
        exec(compile(snippet, "observability.md", "exec"), names)
        result = names["result"]
        assert isinstance(result, bw.Result)
        assert (result.answer, result.errors) == ("31415926", ())
    assert [json.loads(line)["event"] for line in lines.getvalue().splitlines()] == ["question"] * 2
