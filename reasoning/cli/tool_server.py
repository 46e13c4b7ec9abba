"""The MCP server of one loaded model, over standard input and output or over HTTP."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import JsonValue

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.limits import Limits
from branchwise.chat.turn import Charge
from branchwise.cli.address import Address
from branchwise.driver import together
from branchwise.integrations.mcp import Solver
from branchwise.integrations.mcp_server import error_text
from branchwise.observability.logs import log_warnings
from branchwise.serving.queue import RequestQueue

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from branchwise.serving.access import APIKeys
    from branchwise.serving.key_file import KeyFile
    from branchwise.serving.metrics import Metrics

PATH = "/mcp"


@dataclass(frozen=True, slots=True)
class ToolServer:
    """A loaded model, and the defaults and limits of calls."""

    backend: Backend
    defaults: ChatConfig
    limits: Limits

    async def serve_stdio(self) -> None:
        """Serve until standard input ends."""
        queue = RequestQueue(self.limits)
        log_warnings("mcp")
        solver = Solver(self.backend, self.defaults, self.limits, turns=lambda context: queue.turn())
        try:
            await solver.server().run_stdio_async()
        finally:
            await self.backend.close()

    async def serve_http(self, listener: socket.socket, address: Address, keys: "APIKeys | KeyFile | None") -> None:
        """Serve until a signal stops the server."""
        from starlette.requests import Request

        from branchwise.observability.observers import telemetry
        from branchwise.serving.clients import ANYONE
        from branchwise.serving.connection import cancelled_on_disconnect
        from branchwise.serving.message_guard import MessageGuard
        from branchwise.serving.metrics import Metrics
        from branchwise.serving.middleware import AccessMiddleware
        from branchwise.serving.quotas import Quotas
        from branchwise.serving.routes import CLIENT
        from branchwise.serving.server import Server

        queue, quotas = RequestQueue(self.limits), Quotas()
        metrics = Metrics(queue)
        observer = together(metrics, telemetry(logs=address.format))
        log_warnings("uvicorn.error", "mcp")

        @asynccontextmanager
        async def turn(context: Context) -> AsyncIterator[Charge]:
            request = context.request_context.request
            assert isinstance(request, Request)
            with quotas.question(request.scope.get(CLIENT, ANYONE)) as charge:
                async with cancelled_on_disconnect(request.receive), queue.slot():
                    yield charge

        solver = Solver(self.backend, self.defaults, self.limits, observer=observer, turns=turn)
        made = solver.server()
        app = self._app(made, address, queue, metrics)
        app.add_middleware(MessageGuard, path=PATH, max_body_bytes=self.limits.body_bytes, check=error_text)
        local = address.local_only and keys is None
        app.add_middleware(AccessMiddleware, keys=keys, local=local, metrics=metrics, quotas=quotas)
        server = Server(
            app,
            queue,
            solver.stop,
            drain_seconds=address.drain_seconds,
            on_start=lambda: self._print_greeting(address.url(listener, PATH), has_keys=keys is not None),
        )
        try:
            async with made.session_manager.run():
                await server.serve([listener])
        finally:
            await self.backend.close()

    def _app(self, made: MCPServer[object], address: Address, queue: RequestQueue, metrics: "Metrics") -> "Starlette":
        """Return the routes: the server's, /health and /metrics."""
        from starlette.requests import Request
        from starlette.responses import Response
        from starlette.routing import Route

        from branchwise.serving.app import health

        async def answer_health(request: Request) -> Response:
            return health(queue)

        async def answer_metrics(request: Request) -> Response:
            return Response(metrics.text(), media_type=metrics.media_type)

        names = ("127.0.0.1", "localhost", "[::1]")
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=address.local_only,
            allowed_hosts=[*names, *(f"{name}:*" for name in names)],
            allowed_origins=[f"http://{name}{port}" for name in names for port in ("", ":*")],
        )
        app = made.streamable_http_app(
            streamable_http_path=PATH, max_request_body_size=self.limits.body_bytes, transport_security=security
        )
        app.routes.extend([Route("/health", answer_health), Route("/metrics", answer_metrics)])
        return app

    def _print_greeting(self, url: str, *, has_keys: bool) -> None:
        """Print the URL and the entry for a client's configuration."""
        entry: dict[str, JsonValue] = {"type": "http", "url": url}
        if has_keys:
            entry["headers"] = {"Authorization": "Bearer YOUR-KEY"}
        typer.echo(f"serving {self.backend.capabilities.model} at {url}")
        typer.echo(json.dumps({"mcpServers": {"branchwise": entry}}))
