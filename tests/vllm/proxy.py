"""A proxy between a client and a real server that injects faults."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.faults import Fault
from tests.support.threaded import InThread, ThreadedServer

_STREAMED = "text/event-stream"


class Proxy(InThread):
    """A server in a thread, as a context manager. While `on`, streamed answers meet `faults`, by their number."""

    def __init__(self, upstream: str, faults: Callable[[int], Fault | None]) -> None:
        self.on, self.requests = False, 0
        self._upstream, self._faults = upstream, faults
        app = Starlette(routes=[Route("/{path:path}", self._pass, methods=["GET", "POST"])])
        self._server = ThreadedServer(app, socket.create_server(("127.0.0.1", 0)))

    async def _pass(self, request: Request) -> Response:
        body = await request.body()
        fault = None
        if self.on and request.method == "POST" and json.loads(body or b"{}").get("stream"):
            fault = self._faults(self.requests)
            self.requests += 1
        if fault is not None and fault.kind.isdigit():
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return JSONResponse({"error": {"message": "busy"}}, int(fault.kind), headers)
        if fault is not None and fault.kind == "reset":
            self._server.abort(request)
            return Response()
        client = httpx.AsyncClient(base_url=self._upstream, timeout=None, trust_env=False)  # closed with the answer
        headers = {name: request.headers[name] for name in ("content-type", "authorization") if name in request.headers}
        asked = client.build_request(request.method, request.url.path, content=body, headers=headers)
        reply = await client.send(asked, stream=True)
        kind = reply.headers.get("content-type", "")
        if not kind.startswith(_STREAMED):
            whole = await reply.aread()
            await client.aclose()
            return Response(whole, reply.status_code, media_type=kind)
        return StreamingResponse(self._lines(request, client, reply, fault), media_type=_STREAMED)

    async def _lines(
        self, request: Request, client: httpx.AsyncClient, reply: httpx.Response, fault: Fault | None
    ) -> AsyncIterator[bytes]:
        """Yield the server's events, one of them with the fault."""
        count = 0
        try:
            async for line in reply.aiter_lines():
                if not line.startswith("data: "):
                    continue
                kind = fault.kind if fault is not None else ""
                if fault is not None and count == fault.after:
                    last = await self._inject(request, kind, line)
                    if last is not None:
                        yield last
                        return
                count += 1
                undone = kind == "undone" and line == "data: [DONE]"
                unpriced = kind == "unpriced" and '"choices":[]' in line.replace(" ", "")
                if not undone and not unpriced:
                    yield f"{line}\n\n".encode()
        finally:
            await reply.aclose()
            await client.aclose()

    async def _inject(self, request: Request, kind: str, line: str) -> bytes | None:
        """Return the last bytes of the answer, or None if it continues."""
        match kind:
            case "cut":
                self._server.abort(request)
                return b""
            case "short":
                return b""
            case "garbage":
                return b'data: {"choices": [{"text": "never fini\n\n'
            case "binary":
                return b"data: \x00\xff\xfe}{\n\n"
            case "error":
                return b'data: {"error": {"message": "the engine fell over", "code": 500}}\n\n'
            case "tokens" | "prompt" if line != "data: [DONE]":
                event = json.loads(line.removeprefix("data: "))
                for choice in event["choices"]:
                    if kind == "prompt":
                        choice["prompt_token_ids"] = [7, 7, 7]
                    else:
                        choice |= {"token_ids": [1, 2, 3, 4], "finish_reason": "abort"}
                return f"data: {json.dumps(event)}\n\n".encode()
            case "slow":
                await asyncio.sleep(4)
        return None
