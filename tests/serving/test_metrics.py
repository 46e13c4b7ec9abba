"""Prometheus metrics, and the trace that a request belongs to."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.observability.tracing import Tracing, remote_parent
from tests.support.serving_lab import CHAT, FIVE_PATHS, chat_body, metric_values, serving


async def test_requests_and_questions_are_counted() -> None:
    backend = ScriptedBackend({"": ["The answer is 42."]})
    async with serving(backend) as served:
        replies = [(await served.chat(branchwise=FIVE_PATHS)).json() for _ in range(2)]
        await served.chat(n=2)
        await served.chat(n=0)
        await served.http.get("/nowhere/1")
        await served.http.get("/nowhere/2")
        response = await served.http.get("/metrics")
        values = metric_values(response.text)
    assert response.headers["content-type"].startswith("text/plain")
    for kind in ("prompt", "reused", "prefilled", "sampled", "discarded"):
        expected = sum(reply["branchwise"]["usage"][kind] for reply in replies)
        assert values[f'branchwise_tokens_total{{kind="{kind}",strategy="self-consistency"}}'] == expected
    assert values['branchwise_paths_total{kept="true",strategy="self-consistency"}'] == 10
    assert values['branchwise_paths_total{kept="true",strategy="plain"}'] == 2
    assert values['branchwise_questions_total{outcome="complete",strategy="self-consistency"}'] == 2
    assert values['branchwise_questions_total{outcome="complete",strategy="plain"}'] == 1
    assert not any("no_answer" in name for name in values)
    assert values['branchwise_question_seconds_count{strategy="self-consistency"}'] == 2
    assert values['branchwise_requests_total{route="/v1/chat/completions",status="200"}'] == 3
    assert values['branchwise_requests_total{route="/v1/chat/completions",status="400"}'] == 1
    assert values['branchwise_requests_total{route="none",status="404"}'] == 2
    assert values["branchwise_questions_running"] == values["branchwise_questions_queued"] == 0
    assert 0 < values["branchwise_serving_cpu_seconds_total"] < 60


async def test_run_joins_the_trace_of_its_request() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace = "0af7651916cd43dd8448eb211c80319c"
    backend = ScriptedBackend({"": ["The answer is 42."]})
    async with serving(backend, observer=Tracing(provider), traced=remote_parent) as served:
        for stream in (False, True):
            headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            await served.http.post(CHAT, json=chat_body(branchwise=FIVE_PATHS, stream=stream), headers=headers)
        await served.chat()
    roots = [span for span in exporter.get_finished_spans() if span.name.startswith("invoke_agent")]
    named = [span.context is not None and f"{span.context.trace_id:032x}" == trace for span in roots]
    assert named == [True, True, False]
