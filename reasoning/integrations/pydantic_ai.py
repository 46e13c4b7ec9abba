"""Adapter for Pydantic AI: a strategy as a model, with tools, structured output and streams.

agent = Agent(BranchwiseModel("Qwen2.5-Coder-0.5B-Instruct", strategy="self-consistency", paths=5))
print(agent.run_sync("What is 6 times 7?").output)
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime

from branchwise.answers.formats import Structured
from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.object_model import object_model
from branchwise.chat.options import CallOptions
from branchwise.chat.prompt import tool_prompt
from branchwise.chat.reply import Reply, ReplyDelta
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.chat.token_count import count_prompt
from branchwise.core.errors import BackendError, ConfigError, MissingExtraError
from branchwise.driver import Stop

try:
    from pydantic_ai import RunContext
    from pydantic_ai.exceptions import ModelAPIError
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, check_allow_model_requests
    from pydantic_ai.profiles import ModelProfile, ModelProfileSpec, merge_profile
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.usage import RequestUsage

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

_SUPPORTED = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "stop_sequences": "stop",
    "seed": "seed",
}
"""Pydantic AI's settings and the options they set."""
# Unsupported settings that would change the answer, with their neutral values. All other settings concern transport or
# other providers.
_REFUSED: Mapping[str, object] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "extra_body": {},
}
_PROFILE = ModelProfile(supports_json_schema_output=True, native_output_requires_schema_in_instructions=True)
"""Both forms of output without a tool work alike: the prompt requests the object, and only fitting ones are votes."""


class BranchwiseModel(Model[None]):
    """Model that answers with a strategy; the majority of its paths decides the reply or the tool calls.

    The response is the text, or the calls, of the first path that states the winning answer. Its usage covers all
    paths, and `provider_details["branchwise"]` has the answer, confidence, votes, usage and outcome. A structured
    output is the output tool's call that most paths make. With `NativeOutput` or `PromptedOutput`, for models without
    tools, paths vote on the object field by field, and only objects that fit the schema are votes. Unsupported settings
    are refused by name. A repeated request gets new samples unless its settings have a seed.
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
        """Load `model` here, use a server at `base_url`, or use `backend`, which stays open.

        `arguments` are the fields of `ChatConfig`.

        Raises ConfigError, ModelError or MissingExtraError.
        """
        super().__init__(settings=settings, profile=_with_defaults(profile))
        read = ChatConfig.parse(arguments)
        self._closes = backend is None
        used = read.load(model) if backend is None else backend
        self._name = model or used.capabilities.model
        self._session = ChatSession(used, read)

    @property
    def model_name(self) -> str:
        return self._name

    @property
    def system(self) -> str:
        return "branchwise"

    async def aclose(self) -> None:
        """Close the backend if this object loaded it."""
        if self._closes:
            await self._session.backend.close()

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer a request. Raises ConfigError for unsupported settings, ModelAPIError if nothing could be sampled."""
        check_allow_model_requests()
        call = self._call(messages, *self.prepare_request(model_settings, model_request_parameters))
        with _as_api_error(self._name):
            turn = await self._session.reply(call)
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
        """Stream one path token by token; several paths arrive after the vote. Leaving the context cancels all
        branches."""
        check_allow_model_requests()
        settings, params = self.prepare_request(model_settings, model_request_parameters)
        stop = Stop()
        pieces = self._session.stream(self._call(messages, settings, params), stop=stop)
        try:
            yield BranchwiseStream(params, name=self._name, system=self.system, pieces=pieces, stop=stop)
        finally:
            await pieces.aclose()

    async def count_tokens(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> RequestUsage:
        """Return the tokens of a request's prompt, once for all paths; estimated if the backend has no tokenizer."""
        call = self._call(messages, *self.prepare_request(model_settings, model_request_parameters))
        with _as_api_error(self._name):
            return RequestUsage(input_tokens=await count_prompt(self._session.backend, call.messages))

    def _call(
        self, messages: Sequence[ModelMessage], settings: ModelSettings | None, params: ModelRequestParameters
    ) -> ChatCall:
        given = dict(settings or {})
        for name, neutral in _REFUSED.items():
            if given.get(name) not in (None, neutral):
                raise ConfigError(name, "is not supported", "remove it from the model's settings")
        options = CallOptions.parse({option: given.get(name) for name, option in _SUPPORTED.items()})
        offered = offer(params, given.get("tool_choice"))
        requested = params.output_object if params.output_mode in ("native", "prompted") else None
        return ChatCall(
            tool_prompt(read_turns(messages, params), [tool_schema(tool) for tool in offered.tools]),
            options.override(self._session.default_sampling),
            must_call=offered.must_call,
            parallel_calls=given.get("parallel_tool_calls") is not False,
            format=None if requested is None else Structured(object_model(requested.json_schema, "output_type")),
            seed=options.seed,
        )


@dataclass
class BranchwiseStream(StreamedResponse):
    """Response in progress."""

    _: KW_ONLY
    name: str
    system: str
    pieces: AsyncGenerator[ReplyDelta, None]
    stop: Stop
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        with _as_api_error(self.name):
            async for piece in self.pieces:
                for event in self._deltas(piece):
                    yield event
                if piece.reply is not None:
                    for event in self._end(piece.reply):
                        yield event

    def _deltas(self, piece: ReplyDelta) -> Iterator[ModelResponseStreamEvent]:
        manager = self._parts_manager
        if piece.reasoning:
            yield from manager.handle_thinking_delta(vendor_part_id="thoughts", content=piece.reasoning)
        if piece.content:
            yield from manager.handle_text_delta(vendor_part_id="content", content=piece.content)

    def _end(self, turn: Reply) -> Iterator[ModelResponseStreamEvent]:
        """Yield the calls, and set usage and finish reason."""
        self._usage = request_usage(turn)
        self.finish_reason = finish_reason(turn)
        self.provider_details = {"branchwise": turn.details}
        for call in turn.tool_calls:
            yield self._parts_manager.handle_tool_call_part(
                vendor_part_id=call.id, tool_name=call.name, args=call.arguments, tool_call_id=call.id
            )

    async def close_stream(self) -> None:
        """Cancel every branch; the stream ends with the text so far."""
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


def _with_defaults(profile: ModelProfileSpec | None) -> ModelProfileSpec:
    """Return a user's profile on top of this adapter's."""
    if callable(profile):
        return lambda default: profile(merge_profile(default, _PROFILE))
    return merge_profile(_PROFILE, profile)


@contextmanager
def _as_api_error(model: str) -> Iterator[None]:
    """Convert a BackendError to Pydantic AI's error, on which a fallback model tries its next model."""
    try:
        yield
    except BackendError as error:
        raise ModelAPIError(model_name=model, message=str(error)) from error
