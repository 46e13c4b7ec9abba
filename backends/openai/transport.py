"""Requests to the replicas of a server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from branchwise.backends.openai.connections import Lines
from branchwise.backends.openai.events import OverlongError, server_events
from branchwise.backends.openai.failures import ServerError, lost, malformed, refusal, unknown
from branchwise.backends.openai.replicas import Replica, Replicas
from branchwise.backends.openai.retrying import retrying
from branchwise.backends.openai.settings import OpenAISettings

Body = Mapping[str, JsonValue]
Shape = TypeVar("Shape", bound=BaseModel)


class Transport:
    """Asks the server; what it can't do raises ServerError."""

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self.replicas = Replicas(settings.urls)
        self.lines = Lines(settings)

    async def ask(self, path: str, body: Body | None, shape: type[Shape], affinity: bytes = b"") -> Shape:
        """One request with one answer, made again as long as that may help. Without a body it is a GET."""
        failed: Replica | None = None

        async def attempt() -> Shape:
            nonlocal failed
            failed = self.replicas.choose(affinity, failed)
            return await self._ask(failed, path, body, shape)

        def elsewhere() -> bool:
            return failed is not None and self.replicas.elsewhere(failed)

        answer: Shape = await retrying(self.settings, lambda: True, elsewhere)(attempt)
        return answer

    @asynccontextmanager
    async def stream(self, replica: Replica, path: str, body: Body) -> AsyncIterator[AsyncIterator[bytes]]:
        """The events of an answer as it is written; leaving early closes the connection, which stops the server."""
        line = await self.lines.here()
        replica.busy += 1
        try:
            async with line.client.stream("POST", replica.url + path, json=body) as response:
                self.replicas.worked(replica)
                if response.status_code != 200:
                    raise await self._refusal(replica, response)
                async with aclosing(server_events(response.aiter_bytes())) as events:
                    yield events
        except OverlongError as error:
            raise malformed(replica.url, "sends an event without an end") from error
        except httpx.HTTPError as error:
            raise self._lost(replica, error) from error
        finally:
            replica.busy -= 1

    async def _ask(self, replica: Replica, path: str, body: Body | None, shape: type[Shape]) -> Shape:
        client = (await self.lines.here()).client
        try:
            url = replica.url + path
            response = await (client.get(url) if body is None else client.post(url, json=body))
            self.replicas.worked(replica)
            if response.status_code != 200:
                raise await self._refusal(replica, response)
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            raise unknown(replica.url, path) from error
        except httpx.HTTPError as error:
            raise self._lost(replica, error) from error

    async def _refusal(self, replica: Replica, response: httpx.Response) -> ServerError:
        body = await response.aread()
        return refusal(replica.url, response.status_code, response.headers, body, self.settings.key())

    def _lost(self, replica: Replica, error: httpx.HTTPError) -> ServerError:
        trouble = lost(replica.url, error)
        if trouble.unreachable:
            self.replicas.failed(replica)
        return trouble
