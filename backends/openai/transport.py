"""HTTP requests to the replicas of a server, with retries and errors."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from branchwise.backends.openai.connections import Connections
from branchwise.backends.openai.events import OversizedEventError, server_events
from branchwise.backends.openai.replicas import Replica, Replicas
from branchwise.backends.openai.retry import retry_policy
from branchwise.backends.openai.server_errors import (
    ServerError,
    connection_error,
    malformed_response,
    status_error,
    unexpected_response,
)
from branchwise.backends.openai.settings import OpenAISettings

_NOT_STREAMED = ("text/html", "text/plain", "application/json")
"""Types of responses that are no streams."""

Body = Mapping[str, JsonValue]
ResponseModel = TypeVar("ResponseModel", bound=BaseModel)


class Transport:
    """Sender of requests. Failed requests raise ServerError."""

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self.replicas = Replicas(settings.urls)
        self.connections = Connections(settings)

    async def request(
        self, path: str, body: Body | None, model: type[ResponseModel], affinity: bytes = b""
    ) -> ResponseModel:
        """Send a request, retried as the settings allow, and return its parsed response. Without a body it is a GET."""
        failed: Replica | None = None

        async def attempt() -> ResponseModel:
            nonlocal failed
            failed = self.replicas.choose(affinity, failed)
            return await self._request(failed, path, body, model)

        def has_alternative() -> bool:
            return failed is not None and self.replicas.has_alternative(failed)

        policy = retry_policy(self.settings, may_retry=lambda: True, has_alternative=has_alternative)
        response: ResponseModel = await policy(attempt)
        return response

    @asynccontextmanager
    async def stream(self, replica: Replica, path: str, body: Body) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the events of a streamed response. Leaving early closes the connection, which stops the server."""
        connections = await self.connections.current()
        replica.in_flight += 1
        try:
            async with connections.client.stream("POST", replica.url + path, json=body) as response:
                self.replicas.mark_reachable(replica)
                if response.status_code != 200:
                    raise await self._status_error(replica, response)
                if response.headers.get("content-type", "").startswith(_NOT_STREAMED):
                    content = await response.aread()
                    raise unexpected_response(replica.url, path, content, self.settings.key())
                async with aclosing(server_events(response.aiter_bytes())) as events:
                    yield events
        except OversizedEventError as error:
            raise malformed_response(replica.url, "sends an event without an end") from error
        except httpx.HTTPError as error:
            raise self._connection_error(replica, error) from error
        finally:
            replica.in_flight -= 1

    async def _request(
        self, replica: Replica, path: str, body: Body | None, model: type[ResponseModel]
    ) -> ResponseModel:
        client, content = (await self.connections.current()).client, b""
        try:
            url = replica.url + path
            response = await (client.get(url) if body is None else client.post(url, json=body))
            self.replicas.mark_reachable(replica)
            if response.status_code != 200:
                raise await self._status_error(replica, response)
            content = response.content
            return model.model_validate_json(content)
        except ValidationError as error:
            raise unexpected_response(replica.url, path, content, self.settings.key()) from error
        except httpx.HTTPError as error:
            raise self._connection_error(replica, error) from error

    async def _status_error(self, replica: Replica, response: httpx.Response) -> ServerError:
        body = await response.aread()
        return status_error(replica.url, response.status_code, response.headers, body, self.settings.key())

    def _connection_error(self, replica: Replica, error: httpx.HTTPError) -> ServerError:
        server_error = connection_error(replica.url, error)
        if server_error.unreachable:
            self.replicas.mark_unreachable(replica)
        return server_error
