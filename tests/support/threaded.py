"""HTTP server in a thread of its own, which a test can kill at any time."""

import asyncio
import socket
import threading
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

_QUIET_ITERATIONS = 10
"""Iterations of the event loop without new connections: the last accepted ones appear after a few."""


class ThreadedServer(uvicorn.Server):
    """uvicorn in a thread."""

    def __init__(self, app: Starlette, listening: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app, http="h11", ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False
            )
        )
        self.port = listening.getsockname()[1]
        self._socket = listening
        self._thread = threading.Thread(target=self.run, kwargs={"sockets": [listening]}, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._killed = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10), "the server does not start"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def kill(self) -> None:
        """Reset all connections and stop the thread."""
        if self._loop is None or not self._thread.is_alive():
            self._socket.close()
            return
        self._loop.call_soon_threadsafe(self._killed.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server does not stop"

    async def main_loop(self) -> None:
        await self._killed.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in (each for server in self.servers for each in server.sockets):
            asyncio.get_running_loop().remove_reader(
                listening
            )  # closing the server would leak the connections accepted last
        quiet = 0
        while quiet < _QUIET_ITERATIONS:
            connections, tasks = list(self.server_state.connections), list(self.server_state.tasks)
            for connection in connections:
                connection.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)
            quiet = 0 if connections or tasks else quiet + 1
        for server in self.servers:
            server.close()

    def abort(self, request: Request) -> None:
        """Reset the connection of a request."""
        for connection in list(self.server_state.connections):
            if connection.client == (request.client.host, request.client.port):  # type: ignore[union-attr]
                connection.transport.abort()


class InThread:
    """Context manager that runs a ThreadedServer."""

    _server: ThreadedServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()

    def kill(self) -> None:
        """Kill the server: connections are reset, and new ones are refused."""
        self._server.kill()
