"""Telemetry for a whole process, configured by the OTEL_* environment variables."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import entry_points

from branchwise.core.errors import ConfigError, MissingExtraError
from branchwise.driver import Observer, together
from branchwise.observability.logs import Format, configure
from branchwise.observability.question_log import QuestionLog

_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def telemetry(*, spans: bool = False, logs: Format | None = None, level: str = "INFO") -> Observer | None:
    """Return the observer for `solve(..., observer=)`, or None if neither spans nor logs are requested.

    `spans` are exported as the environment configures (`start_exporting`), `logs` go to standard error. Raises
    ConfigError for invalid settings, MissingExtraError without the extra `telemetry`.
    """
    if logs is not None:
        configure(logs, level)
    tracing: Observer | None = None
    if spans:
        start_exporting()
        from branchwise.observability.tracing import Tracing

        tracing = Tracing()
    return together(tracing, None if logs is None else QuestionLog())


def trace_context(*, spans: bool) -> Callable[[Mapping[str, str]], AbstractContextManager[object]]:
    """Return the context for a request's headers in which its spans belong to the caller's trace."""
    if not spans:
        return nullcontext
    from branchwise.observability.tracing import remote_parent

    return remote_parent


def start_exporting() -> None:
    """Install a tracer provider that exports, unless the process has one (`opentelemetry-instrument` installs one).

    OTEL_TRACES_EXPORTER names exporters: otlp (the default), console, none, or any other installed exporter.
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_SERVICE_NAME and all other variables of the SDK
    apply. Raises ConfigError for an unknown name, MissingExtraError without the extra `telemetry`.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError(error.name or "opentelemetry-sdk", "telemetry") from error
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    resource = Resource.create()
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "branchwise"}))
    provider = TracerProvider(resource=resource)
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() != "none":
            (found,) = entry_points(group="opentelemetry_traces_exporter", name=_entry_point(name.strip()))
            provider.add_span_processor(BatchSpanProcessor(found.load()()))
    trace.set_tracer_provider(provider)


def _entry_point(exporter: str) -> str:
    """Return the entry point name of an exporter."""
    if exporter == "otlp":
        default = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", default)
        if protocol not in _PROTOCOLS:
            raise ConfigError("OTEL_EXPORTER_OTLP_PROTOCOL", f"is {protocol!r}", f"use {' or '.join(_PROTOCOLS)}")
        exporter = _PROTOCOLS[protocol]
    if not entry_points(group="opentelemetry_traces_exporter", name=exporter):
        if exporter in _PROTOCOLS.values():
            raise MissingExtraError(f"opentelemetry-exporter-{exporter.replace('_', '-')}", "telemetry")
        raise ConfigError("OTEL_TRACES_EXPORTER", f"{exporter!r} is not installed", "use otlp, console or none")
    return exporter
