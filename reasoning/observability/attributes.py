"""Span attributes, named by OpenTelemetry's semantic conventions for generative AI where these have a name."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.driver import RunStarted

Attribute = str | bool | int | float | Sequence[str]

_FINISH_REASONS = {StopReason.END: "stop", StopReason.STOP: "stop", StopReason.LENGTH: "length"}


def of_model(run: RunStarted) -> dict[str, Attribute]:
    """Return the provider and the model."""
    return {"gen_ai.provider.name": "branchwise", "gen_ai.request.model": run.model}


def of_question(run: RunStarted) -> dict[str, Attribute]:
    """Return the attributes of a question's span. To its caller it is an agent that calls a model."""
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": run.strategy,
        **of_model(run),
        "gen_ai.request.seed": run.seed,
        "branchwise.strategy": run.strategy,
        "branchwise.task": run.task,
    }


def of_sampling(sampling: Sampling) -> dict[str, Attribute]:
    """Return the sampling settings of a branch. Stop strings are the caller's text and are left out."""
    attributes: dict[str, Attribute] = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
    }
    if sampling.top_k:
        attributes["gen_ai.request.top_k"] = sampling.top_k
    if sampling.min_p:
        attributes["branchwise.min_p"] = sampling.min_p
    if sampling.max_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = sampling.max_tokens
    return attributes


def of_usage(usage: Usage) -> dict[str, Attribute]:
    """Return the usage: token counts in the conventions' names, which include reused tokens, and the whole ledger."""
    return {
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": usage.reused,
        "gen_ai.usage.output_tokens": usage.sampled,
        **of_ledger(usage),
    }


def of_ledger(usage: Usage) -> dict[str, Attribute]:
    """Return the ledger alone, for spans whose tokens other spans report: backends must not add them up twice."""
    return {
        "branchwise.prompt": usage.prompt,
        "branchwise.reused": usage.reused,
        "branchwise.prefilled": usage.prefilled,
        "branchwise.sampled": usage.sampled,
        "branchwise.discarded": usage.discarded,
        "branchwise.drafted": usage.drafted,
        "branchwise.accepted": usage.accepted,
        "branchwise.scored": usage.scored,
        "branchwise.forward_passes": usage.forward_passes,
    }


def of_end(path: Path, model: str) -> dict[str, Attribute]:
    """Return the model and the finish reason of a finished branch."""
    attributes: dict[str, Attribute] = {"gen_ai.response.model": model}
    if path.stop_reason in _FINISH_REASONS:
        attributes["gen_ai.response.finish_reasons"] = [_FINISH_REASONS[path.stop_reason]]
    return attributes


def of_prompt(messages: Messages) -> dict[str, Attribute]:
    """Return the prompt as JSON, for spans that may contain text."""
    attributes: dict[str, Attribute] = {
        "gen_ai.input.messages": json.dumps([_message(turn) for turn in messages.turns])
    }
    if messages.tools:
        attributes["gen_ai.tool.definitions"] = json.dumps(messages.tools)
    return attributes


def of_reply(path: Path) -> dict[str, Attribute]:
    """Return the text of a finished branch as JSON, for spans that may contain text."""
    reason = "stop" if path.stop_reason is None else _FINISH_REASONS.get(path.stop_reason, path.stop_reason.value)
    reply: Mapping[str, JsonValue] = {
        "role": "assistant",
        "parts": [{"type": "text", "content": path.answer_text}],
        "finish_reason": reason,
    }
    return {"gen_ai.output.messages": json.dumps([reply])}


def _message(turn: Message) -> dict[str, JsonValue]:
    """Convert a turn to the conventions' form: a role and parts."""
    parts: list[JsonValue] = []
    if turn.role == "tool":
        parts.append({"type": "tool_call_response", "id": turn.tool_call_id, "response": turn.content})
    elif turn.content:
        parts.append({"type": "text", "content": turn.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in turn.tool_calls
    ]
    return {"role": turn.role, "parts": parts}
