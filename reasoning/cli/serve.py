"""`branchwise serve`."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated

import typer

from branchwise.backends.base import Backend
from branchwise.cli.options import (
    BackendName,
    BaseURL,
    Device,
    DraftModel,
    Dtype,
    ModelName,
    ModelOptions,
    Speculation,
)
from branchwise.cli.verifier import VERIFIER_HELP, loaded_verifier
from branchwise.core.errors import require
from branchwise.core.sampling import Sampling
from branchwise.driver import Verifier, together
from branchwise.observability.logs import ROOT, Format
from branchwise.registry import DEFAULT, STRATEGIES, named
from branchwise.serving.answering import Answering
from branchwise.serving.keys import Keys, is_loopback
from branchwise.serving.limits import Limits
from branchwise.serving.queue import Queue
from branchwise.verifiers.registry import uses_verifier
from branchwise.verifiers.registry import verifier as find_verifier

SERVER, LIMITS = "Server", "Limits"
_USUAL = Limits()


def serve(
    model: ModelName = None,
    backend: BackendName = None,
    base_url: BaseURL = None,
    device: Device = None,
    dtype: Dtype = None,
    speculation: Speculation = "auto",
    draft_model: DraftModel = None,
    strategy: Annotated[
        str,
        typer.Option(
            help=f"Answers requests with the key `branchwise` that name none: {', '.join(STRATEGIES)}; with options: "
            "NAME:option=value,option=value.",
            metavar="<strategy>",
        ),
    ] = DEFAULT,
    verifier: Annotated[str | None, typer.Option(help=VERIFIER_HELP, metavar="<verifier>")] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.", rich_help_panel=SERVER)] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 is any that is free.", rich_help_panel=SERVER)] = 8000,
    api_key_env: Annotated[
        str,
        typer.Option(
            help="The environment variable with the API keys, one or several separated by commas or lines.",
            rich_help_panel=SERVER,
        ),
    ] = "BRANCHWISE_API_KEY",
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Answer everybody, whoever reaches the host.", rich_help_panel=SERVER)
    ] = False,
    drain_seconds: Annotated[
        float,
        typer.Option(
            help="Seconds that questions under way may take after a signal to stop; a second signal stops them.",
            rich_help_panel=SERVER,
        ),
    ] = 30.0,
    log_format: Annotated[
        str, typer.Option(help="text or json: how requests and questions are logged.", rich_help_panel=SERVER)
    ] = "text",
    telemetry: Annotated[
        bool,
        typer.Option(
            "--telemetry", help="Export OpenTelemetry spans, as OTEL_* variables say.", rich_help_panel=SERVER
        ),
    ] = False,
    max_paths: Annotated[int, typer.Option(help="Most paths of a question.", rich_help_panel=LIMITS)] = _USUAL.paths,
    max_tokens: Annotated[
        int, typer.Option(help="Most tokens that a question may sample.", rich_help_panel=LIMITS)
    ] = _USUAL.tokens,
    max_seconds: Annotated[
        float, typer.Option(help="Most seconds that a question may take.", rich_help_panel=LIMITS)
    ] = _USUAL.seconds,
    max_body_bytes: Annotated[
        int, typer.Option(help="Most bytes of a request's body.", rich_help_panel=LIMITS)
    ] = _USUAL.body_bytes,
    max_questions: Annotated[
        int, typer.Option(help="Most questions answered at a time.", rich_help_panel=LIMITS)
    ] = _USUAL.questions,
    queue: Annotated[
        int, typer.Option(help="Most questions that wait for their turn.", rich_help_panel=LIMITS)
    ] = _USUAL.queue,
    max_queue_seconds: Annotated[
        float, typer.Option(help="Most seconds that a question waits for its turn.", rich_help_panel=LIMITS)
    ] = _USUAL.queue_seconds,
) -> None:
    """Serve a model with OpenAI's chat completions, answered by strategies.

    Requests without the key `branchwise` are sampled plainly. A signal (Ctrl-C, SIGTERM) lets questions under way come
    to their end first. /health, /metrics (Prometheus) and /v1/models answer, too.
    """
    limits = Limits(max_paths, max_tokens, max_seconds, max_body_bytes, max_questions, queue, max_queue_seconds)
    require(drain_seconds >= 0, "drain_seconds", f"is {drain_seconds:g}", "use 0 or more")
    usual = named(strategy, 1, Sampling()).strategy
    require(
        verifier is not None or not uses_verifier(usual),
        "verifier", f"{strategy} checks paths but none was given", "add --verifier NAME",
    )  # fmt: skip
    keys = _keys(host, api_key_env, no_auth)
    formatted = _format(log_format)
    wanted = ModelOptions(model, device, dtype, speculation, draft_model, backend, tuple(base_url or ()))
    wanted.check()
    checked = None if verifier is None else find_verifier(verifier, device)
    listener = _listener(host, port)
    with listener:
        judge = loaded_verifier(checked)
        loaded = wanted.load()
        served = _Served(loaded, limits, strategy, judge, keys, host, drain_seconds)
        asyncio.run(served.serve(listener, is_loopback(host) and not no_auth, formatted, telemetry))


@dataclass(frozen=True, slots=True)
class _Served:
    """A model, ready to be served."""

    backend: Backend
    limits: Limits
    strategy: str
    verifier: Verifier | None
    keys: Keys | None
    host: str
    drain_seconds: float

    async def serve(self, listener: socket.socket, local: bool, log_format: Format, spans: bool) -> None:
        """Until a signal has stopped it."""
        from branchwise.observability.telemetry import telemetry
        from branchwise.serving.app import Service, create_app
        from branchwise.serving.metrics import Metrics
        from branchwise.serving.server import Server

        queue = Queue(self.limits)
        metrics = Metrics(queue)
        observer = together(metrics, telemetry(spans=spans, logs=log_format))
        _log_errors_alike()
        answering = Answering(
            self.backend, self.limits, observer=observer, strategy=self.strategy, verifier=self.verifier
        )
        service = Service(answering, queue, metrics)
        app = create_app(
            service, keys=self.keys, local=local and self.keys is None, traced=_traced() if spans else nullcontext
        )
        port = listener.getsockname()[1]
        server = Server(service, app, drain_seconds=self.drain_seconds, on_start=lambda: self._greet(port))
        try:
            await server.serve([listener])
        finally:
            await self.backend.close()

    def _greet(self, port: int) -> None:
        """Where it listens, and how one asks."""
        model = self.backend.capabilities.model
        url = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}/v1"
        question = [{"role": "user", "content": "What is 17 * 23?"}]
        body = json.dumps({"model": model, "messages": question, "branchwise": {"paths": 8}}, ensure_ascii=False)
        key = " \\\n  -H 'Authorization: Bearer YOUR-KEY'" if self.keys is not None else ""
        quoted = body.replace("'", "'\\''")
        typer.echo(f"serving {model} at {url}")
        typer.echo(f"curl {url}/chat/completions -H 'Content-Type: application/json'{key} \\\n  -d '{quoted}'")


def _traced() -> Callable[[Mapping[str, str]], AbstractContextManager[object]]:
    from branchwise.observability.tracing import remote_parent

    return remote_parent


def _log_errors_alike() -> None:
    """What goes wrong in the HTTP server itself is logged as everything else is."""
    errors = logging.getLogger("uvicorn.error")
    errors.handlers, errors.propagate = list(ROOT.handlers), False
    errors.setLevel(logging.WARNING)


def _keys(host: str, variable: str, no_auth: bool) -> Keys | None:
    """The keys that are accepted; None where none is asked for. Raises ConfigError where anybody could ask."""
    keys = Keys.parse(os.environ.get(variable, ""))
    if no_auth:
        require(keys is None, "no_auth", f"is given, but {variable} has keys", "unset it, or leave --no-auth out")
        return None
    require(
        keys is not None or is_loopback(host),
        "host", f"{host} is reached from other machines, and {variable} has no API key",
        f"set {variable}, or let everybody ask with --no-auth",
    )  # fmt: skip
    return keys


def _format(name: str) -> Format:
    if name == "json":
        return "json"
    require(name == "text", "log_format", f"is {name!r}", "use text or json")
    return "text"


def _listener(host: str, port: int) -> socket.socket:
    """The socket, before anything is loaded. Raises ConfigError; MissingExtraError without the extra `server`."""
    require(0 <= port <= 65_535, "port", f"is {port}", "use 0 to 65535")
    from branchwise.serving.server import listen

    return listen(host, port)
