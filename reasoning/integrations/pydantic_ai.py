"""A strategy as a model of Pydantic AI, with tools, structured output and streams.

agent = Agent(BranchwiseModel("Qwen2.5-Coder-0.5B-Instruct", strategy="self-consistency", paths=5))
print(agent.run_sync("What is 6 times 7?").output)
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime

from pydantic import JsonValue, RootModel

from branchwise.answers.formats import Structured
from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.options import CallOptions
from branchwise.chat.prompt import tool_prompt
from branchwise.chat.reply import Reply, ReplyDelta
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.core.errors import BackendError, ConfigError, MissingExtraError, require
from branchwise.driver import Stop

try:
    from pydantic_ai import RunContext
    from pydantic_ai.exceptions import ModelAPIError
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, check_allow_model_requests
    from pydantic_ai.profiles import ModelProfileSpec
    from pydantic_ai.settings import ModelSettings

    from branchwise.integrations.pydantic_ai_messages import (
        finish_reason,
        offer,
        read_turns,
        request_usage,
        response_parts,
        tool_schema,
    )
except ImportError as error:
    raise MissingExtraError(error.name or "pydantic_ai", "agents") from error

_HONOURED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "stop_sequences": "stop",
    "seed": "seed",
}
"""Settings, and what options call them."""
# Settings that would change the answer and can't be honoured, but for the value that asks for nothing. All others say
# how a request is delivered, or are meant for another provider.
_REFUSED: Mapping[str, object] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "extra_body": {},
    "parallel_tool_calls": True,
}


class AnyObject(RootModel[dict[str, JsonValue]]):
    """A JSON object whatever it holds: Pydantic AI validates it."""


class BranchwiseModel(Model[None]):
    """Answers each request with a strategy, and by the majority of its paths calls tools.

    The response is what the first path that states the winning answer says, or calls. Its usage is that of all paths,
    and `provider_details["branchwise"]` has the answer, the confidence, the votes, the ledger and the outcome. Output
    tools are tools: a structured output is the call that most paths make; with `PromptedOutput`, for models that take
    no tools, paths vote on the object field by field. Settings that can't be honoured are refused by name. A request
    that is made again draws new samples, unless its settings have a seed.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        backend: Backend | None = None,
        settings: ModelSettings | None = None,
        profile: ModelProfileSpec | None = None,
        **arguments: object,
    ) -> None:
        """`model` is loaded into this process, or `backend` is used as it is, and left open; `arguments` are those of
        `ChatConfig`.

        Raises ConfigError, ModelError, MissingExtraError.
        """
        super().__init__(settings=settings, profile=profile)
        read = ChatConfig.parse(arguments)
        if backend is None:
            require(model is not None, "model", "is missing", "name one, or give a backend")
        self._closes = backend is None
        used = read.load(str(model)) if backend is None else backend
        self._name = model or used.capabilities.model
        self._session = ChatSession(used, read)

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def system(self) -> str:
        return "branchwise"

    async def aclose(self) -> None:
        """Stop the model and free what it holds, if it was loaded here."""
        if self._closes:
            await self._session.backend.close()

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer. Raises ConfigError for what can't be honoured, ModelAPIError where nothing could be sampled."""
        check_allow_model_requests()
        ask = self._ask(messages, *self.prepare_request(model_settings, model_request_parameters))
        with _as_api_error(self._name):
            turn = await self._session.reply(ask)
        return ModelResponse(
            parts=response_parts(turn),
            usage=request_usage(turn),
            model_name=self._name,
            provider_name=self.system,
            finish_reason=finish_reason(turn),
            provider_details={"branchwise": turn.details},
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[object] | None = None,
    ) -> AsyncGenerator[StreamedResponse, None]:
        """One path token by token; several say nothing before their vote. Leaving it stops every branch."""
        check_allow_model_requests()
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        stop = Stop()
        pieces = self._session.stream(self._ask(messages, settings, params), stop=stop)
        try:
            yield BranchwiseStream(params, name=self._name, system=self.system, pieces=pieces, stop=stop)
        finally:
            await pieces.aclose()

    def _ask(
        self, messages: Sequence[ModelMessage], settings: ModelSettings | None, params: ModelRequestParameters
    ) -> ChatCall:
        given = dict(settings or {})
        for name, neutral in _REFUSED.items():
            if given.get(name) not in (None, neutral):
                raise ConfigError(name, "can't be honoured", "leave it out of the model's settings")
        options = CallOptions.parse({option: given.get(name) for name, option in _HONOURED.items()})
        offered = offer(params, given.get("tool_choice"))
        objects = params.output_object is not None and params.output_mode in ("native", "prompted")
        return ChatCall(
            tool_prompt(read_turns(messages, params), [tool_schema(tool) for tool in offered.tools]),
            options.override(self._session.default_sampling),
            must_call=offered.must_call,
            format=Structured(AnyObject) if objects else None,
            seed=options.seed,
        )


@dataclass
class BranchwiseStream(StreamedResponse):
    """A response while it is made."""

    _: KW_ONLY
    name: str
    system: str
    pieces: AsyncGenerator[ReplyDelta, None]
    stop: Stop
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        with _as_api_error(self.name):
            async for piece in self.pieces:
                for event in self._grow(piece):
                    yield event
                if piece.reply is not None:
                    for event in self._end(piece.reply):
                        yield event

    def _grow(self, piece: ReplyDelta) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        if piece.reasoning:
            yield from manager.handle_thinking_delta(vendor_part_id="thoughts", content=piece.reasoning)
        if piece.content:
            yield from manager.handle_text_delta(vendor_part_id="content", content=piece.content)

    def _end(self, turn: Reply) -> Iterator[ModelResponseStreamEvent]:
        """The calls, and what is known at last."""
        self._usage = request_usage(turn)
        self.finish_reason = finish_reason(turn)
        self.provider_details = {"branchwise": turn.details}
        for call in turn.tool_calls:
            yield self._parts_manager.handle_tool_call_part(
                vendor_part_id=call.id, tool_name=call.name, args=call.arguments, tool_call_id=call.id
            )

    async def close_stream(self) -> None:
        """Stop every branch; the stream ends with what there is."""
        self.stop.set()

    @property
    def model_name(self) -> str:
        return self.name

    @property
    def provider_name(self) -> str:
        return self.system

    @property
    def provider_url(self) -> None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self.began


@contextmanager
def _as_api_error(model: str) -> Iterator[None]:
    """A backend's failure as Pydantic AI knows it: a fallback model goes on with the next one."""
    try:
        yield
    except BackendError as error:
        raise ModelAPIError(model_name=model, message=str(error)) from error
