"""Adapter for inspect-ai: a strategy as the model `branchwise/NAME`, in code and on its command line.

inspect-ai discovers the provider through branchwise's entry point; no import is needed:

inspect eval task.py --model branchwise/Qwen2.5-Coder-0.5B-Instruct -M strategy=self-consistency -M paths=8
"""

from collections.abc import Callable

from branchwise.backends.base import Backend
from branchwise.chat.config import ChatConfig
from branchwise.chat.reply import Reply
from branchwise.chat.responder import RepeatCounter, Responder
from branchwise.core.errors import MissingExtraError, require
from branchwise.core.messages import Message
from branchwise.core.path import StopReason
from branchwise.core.question import as_prompt
from branchwise.core.result import Outcome
from branchwise.core.sampling import Sampling

try:
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageTool,
        Content,
        ContentReasoning,
        ContentText,
        GenerateConfig,
        Model,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        modelapi,
    )
    from inspect_ai.model import StopReason as InspectStopReason
    from inspect_ai.tool import ToolChoice, ToolInfo
except ImportError as error:
    raise MissingExtraError(error.name or "inspect_ai", "harness") from error

_REASONS: dict[StopReason | None, InspectStopReason] = {
    StopReason.END: "stop",
    StopReason.STOP: "stop",
    StopReason.LENGTH: "max_tokens",
}
_REFUSED = (
    "best_of",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "response_schema",
)


class BranchwiseAPI(ModelAPI):
    """Model provider that answers each chat with a strategy.

    The completion is the whole text of the first path that states the winning answer. The usage covers all paths:
    `input_tokens` are computed prompt tokens, `input_tokens_cache_read` cached ones, `output_tokens` all sampled
    tokens. The metadata has the answer, votes, usage and outcome. A question that fails gets an empty completion and an
    error in the output, and the run continues.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        backend: Backend | None = None,
        **arguments: object,
    ) -> None:
        """`arguments` are the fields of `ChatConfig` (-M on the command line).

        `backend` replaces loading the model; a server at `base_url` (--model-base-url) runs it elsewhere.

        Raises ConfigError, ModelError or MissingExtraError.
        """
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        server = {"base_url": base_url, "api_key": api_key}
        given = {name: value for name, value in server.items() if value is not None}
        self.arguments = ChatConfig.parse({**arguments, **given})
        self.backend = backend or self.arguments.load(model_name)
        self._closes = backend is None
        self._responder = Responder(self.backend, self.arguments)
        self._repeats = RepeatCounter()  # epochs get new samples

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer a chat. Raises ConfigError for tools, content other than text, and unsupported options."""
        require(not tools, "tools", "are not supported by strategies here", "use a solver without tools")
        for name in _REFUSED:
            require(not getattr(config, name), name, "is not supported", "remove it")
        require(config.num_choices in (None, 1), "num_choices", f"is {config.num_choices}", "use epochs instead")
        question = as_prompt([_message(turn) for turn in input])
        repeat = self._repeats.count(question)
        return self._output(await self._responder.answer(question, _sampling(config), repeat=repeat, seed=config.seed))

    async def aclose(self) -> None:
        """Close the backend if this object loaded it."""
        if self._closes:
            await self.backend.close()

    def _output(self, reply: Reply) -> ModelOutput:
        result, path = reply.result, reply.path
        failed = result.outcome is Outcome.FAILED
        content: str | list[Content] = reply.content
        if reply.reasoning:
            content = [ContentReasoning(reasoning=reply.reasoning), ContentText(text=reply.content)]
        message = ChatMessageAssistant(content=content, model=self.model_name, source="generate")
        reason = _REASONS.get(path.stop_reason if path else None, "unknown")
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=reason)],
            usage=_usage(reply),
            input_context_tokens=len(path.root.token_ids) if path else None,
            time=result.usage.seconds,
            metadata={
                name: value for name, value in result.record(tokens=False).items() if name not in ("paths", "tree")
            },
            error="; ".join(result.errors) if failed else None,
        )


def model(backend: Backend, config: GenerateConfig | None = None, **arguments: object) -> Model:
    """Return a model for inspect-ai's `eval` and `get_model` over a backend; `arguments` are the fields of
    `ChatConfig`.

    The backend is not closed with the model. Raises ConfigError.
    """
    name = backend.capabilities.model
    return Model(_provider(name, config=config, backend=backend, **arguments), config or GenerateConfig(), arguments)


def _sampling(config: GenerateConfig) -> Sampling:
    """Convert the harness's settings; unset ones take branchwise's defaults."""
    default = Sampling()
    return Sampling(
        temperature=default.temperature if config.temperature is None else config.temperature,
        top_p=default.top_p if config.top_p is None else config.top_p,
        top_k=default.top_k if config.top_k is None else config.top_k,
        max_tokens=config.max_tokens,
        stop=tuple(config.stop_seqs or ()),
    )


def _message(turn: ChatMessage) -> Message:
    """Convert a turn, without earlier thinking, as chat templates do."""
    calls = isinstance(turn, ChatMessageTool) or (isinstance(turn, ChatMessageAssistant) and turn.tool_calls)
    require(not calls, "tools", "are not supported by strategies here", "use a solver without tools")
    kinds = [part.type for part in turn.content] if isinstance(turn.content, list) else []
    other = next((kind for kind in kinds if kind not in ("text", "reasoning")), None)
    require(other is None, "input", f"contains {other}, but the model reads only text", "use a text task")
    return Message(role=turn.role, content=turn.text)


def _usage(reply: Reply) -> ModelUsage:
    spent = reply.result.usage
    return ModelUsage(
        input_tokens=spent.prefilled,
        input_tokens_cache_read=spent.reused,
        output_tokens=spent.sampled,
        total_tokens=spent.prompt + spent.sampled,
    )


# The registered class creates the same instances under the name inspect-ai knows.
_provider: Callable[..., ModelAPI] = modelapi(name="branchwise")(BranchwiseAPI)
