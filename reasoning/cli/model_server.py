"""The HTTP server of one loaded model: the app, its observers and the greeting on standard output."""

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from branchwise.backends.base import Backend
from branchwise.chat.limits import Limits
from branchwise.cli.address import Address
from branchwise.driver import Verifier, together
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.queue import RequestQueue

if TYPE_CHECKING:
    from branchwise.serving.access import APIKeys
    from branchwise.serving.key_file import KeyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """A loaded model and the settings of its server."""

    backend: Backend
    limits: Limits
    strategy: str
    """Default strategy of requests that ask for one."""
    verifier: Verifier | None
    keys: "APIKeys | KeyFile | None"
    cors: Sequence[str]
    """Origins whose web pages may read replies."""
    address: Address
    allow_fallback: bool = False
    """Requests for strategies that continue paths are answered by a vote if the backend continues none."""

    async def serve(self, listener: socket.socket, *, spans: bool) -> None:
        """Serve until a signal stops the server. `spans` exports OpenTelemetry spans.

        Without keys, requests whose Host header is not a loopback name are rejected on a loopback address.
        """
        from branchwise.observability.logs import log_warnings
        from branchwise.observability.observers import telemetry, trace_context
        from branchwise.serving.app import Service, create_app
        from branchwise.serving.metrics import Metrics
        from branchwise.serving.server import Server

        queue = RequestQueue(self.limits)
        metrics = Metrics(queue)
        observer = together(metrics, telemetry(spans=spans, logs=self.address.format))
        log_warnings("uvicorn.error")
        completions = ChatCompletions(
            self.backend,
            self.limits,
            observer=observer,
            strategy=self.strategy,
            verifier=self.verifier,
            allow_fallback=self.allow_fallback,
        )
        service = Service(completions, queue, metrics)
        app = create_app(
            service,
            keys=self.keys,
            local=self.address.local_only and self.keys is None,
            cors=self.cors,
            traced=trace_context(spans=spans),
        )
        server = Server(
            app,
            queue,
            completions.stop,
            drain_seconds=self.address.drain_seconds,
            on_start=lambda: self._print_greeting(self.address.url(listener, "/v1")),
        )
        try:
            await server.serve([listener])
        finally:
            await self.backend.close()

    def _print_greeting(self, url: str) -> None:
        """Print the URL and an example request."""
        model = self.backend.capabilities.model
        messages = [{"role": "user", "content": "What is 17 * 23?"}]
        body = json.dumps({"model": model, "messages": messages, "branchwise": {"paths": 8}}, ensure_ascii=False)
        key = " \\\n  -H 'Authorization: Bearer YOUR-KEY'" if self.keys is not None else ""
        quoted = body.replace("'", "'\\''")
        typer.echo(f"serving {model} at {url}")
        typer.echo(f"curl {url}/chat/completions -H 'Content-Type: application/json'{key} \\\n  -d '{quoted}'")
