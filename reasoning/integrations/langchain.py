"""Adapter for LangChain: a strategy as a chat model, with tools, structured output and streams.

model = ChatBranchwise("Qwen2.5-Coder-0.5B-Instruct", strategy="self-consistency", paths=5)
print(model.invoke("What is 6 times 7?").content)
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, PrivateAttr

from branchwise.answers.formats import Structured
from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.options import CallOptions
from branchwise.chat.prompt import tool_prompt
from branchwise.chat.reply import Reply, ReplyDelta
from branchwise.chat.session import ChatCall, ChatSession
from branchwise.chat.token_count import count_prompt, count_text
from branchwise.core.errors import ConfigError, MissingExtraError
from branchwise.core.messages import Messages
from branchwise.core.path import StopReason
from branchwise.driver import Stop, run_sync

try:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
    from langchain_core.messages.tool import tool_call, tool_call_chunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool
    from langchain_core.utils.function_calling import convert_to_openai_tool

    from branchwise.integrations.langchain_messages import offer, read_message, usage_metadata
    from branchwise.integrations.langchain_structured import structured_output
except ImportError as error:
    raise MissingExtraError(error.name or "langchain_core", "agents") from error


class ChatBranchwise(BaseChatModel):
    """Chat model that answers with a strategy; the majority of its paths decides the reply or the tool calls.

    A message is the whole text, or the calls, of the first path that states the winning answer. Its usage covers all
    paths, and `response_metadata["branchwise"]` has the answer, confidence, votes, usage and outcome. With tools, paths
    that call tools vote for their calls, the others for the answer they state in the format `answers`. Calls may set
    temperature, top_p, top_k, min_p, max_tokens, stop and seed; unsupported options are refused by name. A repeated
    prompt gets new samples unless a call sets a seed.
    """

    model: str
    """Name of the model."""
    arguments: ChatConfig
    _session: ChatSession = PrivateAttr()
    _closes: bool = PrivateAttr()

    def __init__(self, model: str | None = None, *, backend: Backend | None = None, **given: object) -> None:
        """Load `model` here, use a server at `base_url`, or use `backend`, which stays open. `given` are the fields of
        `ChatConfig` and the arguments of every chat model (callbacks, tags, cache, ...).

        Raises ConfigError, ModelError or MissingExtraError.
        """
        own = {name: given.pop(name) for name in tuple(given) if name in BaseChatModel.model_fields}
        arguments = ChatConfig.parse(given)
        used = arguments.load(model) if backend is None else backend
        fields = {"model": model or used.capabilities.model, "arguments": arguments, **own}
        super().__init__(**fields)  # type: ignore[arg-type]  # pydantic validates the fields
        self._session = ChatSession(used, arguments)
        self._closes = backend is None

    async def aclose(self) -> None:
        """Close the backend if this object loaded it."""
        if self._closes:
            await self._session.backend.close()

    @property
    def _llm_type(self) -> str:
        return "branchwise"

    @property
    def _identifying_params(self) -> dict[str, object]:
        """Return what distinguishes cached replies."""
        return {"model": self.model, **self.arguments.model_dump()}

    def bind_tools(
        self,
        tools: Sequence[dict[str, object] | type | Callable[..., object] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, object] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: object,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model with tools. `tool_choice` is auto, none, any (or required) or a tool's name; with the last
        two, only paths that call a tool vote.

        `strict` tools are called only by arguments that fit their schema. Without `parallel_tool_calls`, the first call
        of each path counts.
        """
        offered = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        return self.bind(tools=offered, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, object] | type | None = None,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "function_calling", "json_mode"] | None = None,
        strict: bool | None = None,
        **kwargs: object,
    ) -> Runnable[LanguageModelInput, dict[str, object] | BaseModel]:
        """Return the model with objects as its answers.

        `json_schema` (default for pydantic classes): the prompt requests the object, and paths vote on it field by
        field; objects that do not fit the schema have no vote.
        `json_mode`: the same with the prompt unchanged; `schema` may be left out.
        `function_calling` (default for others): the object is the arguments of a tool and is voted as a whole; the
        model's chat template must support tools. With `strict`, they must fit the schema.
        """
        for name in kwargs:
            raise ConfigError(name, "is not supported", "remove it")
        return structured_output(self, schema, method, strict=strict, include_raw=include_raw)

    def get_num_tokens(self, text: str) -> int:
        """Return the number of tokens of a text. Without a tokenizer in the backend it is estimated."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return run_sync(lambda: count_text(self._session.backend, text), Stop())

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text. Raises ConfigError if the backend has no tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        tokens = run_sync(lambda: self._session.backend.tokenize(text), Stop())
        if tokens is None:
            raise ConfigError("model", "has no tokenizer here", "count with get_num_tokens, which estimates")
        return list(tokens)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, object] | type | Callable[..., object] | BaseTool] | None = None,
    ) -> int:
        """Return the number of tokens of a prompt: messages, tools and what the chat template adds.

        Without a tokenizer in the backend it is estimated (see chat/token_count.py).
        """
        if self.custom_get_token_ids is not None:
            return sum(self.get_num_tokens(read_message(turn).content) for turn in messages)
        turns = tuple(read_message(turn) for turn in messages)
        prompt = Messages(turns=turns, tools=tuple(convert_to_openai_tool(tool) for tool in tools or ()))
        return run_sync(lambda: count_prompt(self._session.backend, prompt), Stop())

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        call, interrupt = self._call(messages, stop, kwargs), Stop()
        return self._result(run_sync(lambda: self._session.reply(call, stop=interrupt), interrupt))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> ChatResult:
        return self._result(await self._session.reply(self._call(messages, stop, kwargs)))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: object,
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream one path token by token; several paths arrive in one chunk, after the vote."""
        pieces = self._session.stream(self._call(messages, stop, kwargs))
        try:
            async for piece in pieces:
                yield ChatGenerationChunk(message=self._chunk(piece))
        finally:
            await pieces.aclose()

    def _call(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: Mapping[str, object]
    ) -> ChatCall:
        options = dict(given)
        tools, choice = options.pop("tools", None), options.pop("tool_choice", None)
        answer_type, answer_format = options.pop("answer_type", None), options.pop("answer_format", None)
        parallel = options.pop("parallel_tool_calls", None)
        options.pop("stream", None)
        read = CallOptions.parse(options if stop is None else {**options, "stop": stop})
        offered = offer(tools if isinstance(tools, list) else [], choice)
        return ChatCall(
            tool_prompt([read_message(turn) for turn in messages], offered.tools),
            read.override(self._session.default_sampling),
            must_call=offered.must_call,
            parallel_calls=parallel is not False,
            answer_type=answer_type if isinstance(answer_type, type) and issubclass(answer_type, BaseModel) else None,
            format=Structured(answer_format) if isinstance(answer_format, type) else None,
            seed=read.seed,
        )

    def _result(self, turn: Reply) -> ChatResult:
        calls = [tool_call(name=call.name, args=json.loads(call.arguments), id=call.id) for call in turn.tool_calls]
        message = AIMessage(
            content=turn.content,
            tool_calls=calls,
            additional_kwargs=_reasoning(turn.reasoning),
            response_metadata=self._metadata(turn),
            usage_metadata=usage_metadata(turn.result.usage),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _chunk(self, piece: ReplyDelta) -> AIMessageChunk:
        turn = piece.reply
        if turn is None:
            return AIMessageChunk(content=piece.content, additional_kwargs=_reasoning(piece.reasoning))
        return AIMessageChunk(
            content=piece.content,
            tool_call_chunks=[
                tool_call_chunk(name=call.name, args=call.arguments, id=call.id, index=place)
                for place, call in enumerate(turn.tool_calls)
            ],
            additional_kwargs=_reasoning(piece.reasoning),
            response_metadata=self._metadata(turn),
            usage_metadata=usage_metadata(turn.result.usage),
            chunk_position="last",
        )

    def _metadata(self, turn: Reply) -> dict[str, object]:
        cut = turn.path is not None and turn.path.stop_reason is StopReason.LENGTH
        reason = "tool_calls" if turn.tool_calls else "length" if cut else "stop"
        return {"model_name": self.model, "finish_reason": reason, "branchwise": turn.details}


def _reasoning(text: str) -> dict[str, str]:
    """Return the additional arguments in which LangChain expects reasoning."""
    return {"reasoning_content": text} if text else {}
