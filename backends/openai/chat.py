"""Branches by text, over /v1/chat/completions: requests from messages, and chunks from deltas."""

import json

from pydantic import JsonValue

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.continued_text import ContinuedText
from branchwise.backends.openai.endpoint import Endpoint, Json, StreamReader, raise_reported
from branchwise.backends.openai.responses import BranchChunk, ChatChunk, Delta
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path

_THINK, _END_THINK = "<think>", "</think>"


def json_messages(messages: Messages) -> list[JsonValue]:
    """Return the turns of a prompt as the API's `messages`."""
    return [_json_message(turn) for turn in messages.turns]


def template_options(messages: Messages) -> Json:
    """Return the request fields that the chat template reads beside the messages: tools and thinking."""
    body: Json = {}
    if messages.tools:
        body["tools"] = [_json_tool(tool) for tool in messages.tools]
    if messages.thinking is not None:
        # Templates use one name or the other, and ignore unknown ones.
        body["chat_template_kwargs"] = {"enable_thinking": messages.thinking, "thinking": messages.thinking}
    return body


def _json_tool(tool: Json) -> Json:
    return dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)}


def _json_message(message: Message) -> Json:
    turn: Json = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn


class ChatEndpoint(Endpoint):
    """Endpoint that takes and returns text. A path is continued as the beginning of the assistant's turn."""

    path = "/v1/chat/completions"

    def body(self, request: ExtendRequest, key: int) -> Json:
        messages = request.path.root.messages
        assert messages is not None, "a root has its messages"
        body = self.common_body(request, key) | template_options(messages)
        turns, beginning = json_messages(messages), ContinuedText(request.path).sent
        if beginning:
            turn: Json = {"role": "assistant", "content": beginning}
            if self.features.continuation == "flag":
                turn["prefix"] = True
            elif self.features.continuation == "fields":
                body["continue_final_message"], body["add_generation_prompt"] = True, False
            turns.append(turn)
        body["messages"] = turns
        if self.features.logprobs:
            body["logprobs"] = True
        return body

    def reader(self, request: ExtendRequest) -> "ChatReader":
        return ChatReader(self.features.logprobs, ContinuedText(request.path))

    def drops_space(self, path: Path) -> bool:
        return ContinuedText(path).drops_space

    def prompt_tokens(self, path: Path) -> None:
        return None


class ChatReader(StreamReader):
    """Reader of one streamed chat completion.

    Servers separate reasoning and tool calls from the content; the text has both as models write them.
    """

    def __init__(self, logprobs: bool, continued: ContinuedText) -> None:
        self._logprobs = logprobs
        self._continued = continued
        self._thinking = False
        self._calls: dict[int, tuple[str, str]] = {}  # by index: name and arguments so far

    def read(self, data: bytes) -> BranchChunk:
        chunk = ChatChunk.model_validate_json(data)
        raise_reported(chunk)
        if not chunk.choices:
            return BranchChunk(usage=chunk.usage)
        choice = chunk.choices[0]
        text = self._text(choice.delta)
        if choice.finish_reason is not None:
            text += self._closing_text()
        text = self._continued.read(text)
        logprobs = strings = None
        if self._logprobs and choice.logprobs is not None and choice.logprobs.content:
            logprobs = tuple(one.logprob for one in choice.logprobs.content)
            strings = tuple(one.token for one in choice.logprobs.content)
        return BranchChunk(text, strings=strings, logprobs=logprobs, finish=choice.finish_reason, usage=chunk.usage)

    def _text(self, delta: Delta) -> str:
        """Return the text of a delta; its tool calls are collected for the end."""
        text = ""
        if delta.thoughts:
            text += ("" if self._thinking else _THINK) + delta.thoughts
            self._thinking = True
        if delta.content:
            text += self._end_thoughts() + delta.content
        for call in delta.tool_calls or ():
            name, arguments = self._calls.get(call.index, ("", ""))
            if call.function is not None:
                name, arguments = name + (call.function.name or ""), arguments + (call.function.arguments or "")
            self._calls[call.index] = name, arguments
        return text

    def _end_thoughts(self) -> str:
        was_thinking, self._thinking = self._thinking, False
        return _END_THINK if was_thinking else ""

    def _closing_text(self) -> str:
        """Return the text to append when the response ends: the tool calls."""
        calls = [_written_call(*self._calls[index]) for index in sorted(self._calls)]
        return self._end_thoughts() + "".join(calls) if calls else ""


def _written_call(name: str, arguments: str) -> str:
    """Return a tool call in the format of Hermes models."""
    try:
        parsed: JsonValue = json.loads(arguments or "{}")
    except ValueError:
        parsed = arguments
    return f"<tool_call>{json.dumps({'name': name, 'arguments': parsed}, ensure_ascii=False)}</tool_call>"
