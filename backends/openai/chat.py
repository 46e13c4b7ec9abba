"""Branches by text, over chat completions: what a prompt looks like there, and what its answers become."""

import json

from pydantic import JsonValue

from branchwise.backends.base import ExtendRequest
from branchwise.backends.openai.dialect import Dialect, Json, Reader, check
from branchwise.backends.openai.wire import ChatChunk, Delta, Piece
from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path

_THINK, _END_THINK = "<think>", "</think>"


def turns(messages: Messages) -> list[JsonValue]:
    """The turns of a prompt."""
    return [_turn(turn) for turn in messages.turns]


def options(messages: Messages) -> Json:
    """What goes with the turns: tools, and the template's switch for thinking."""
    body: Json = {}
    if messages.tools:
        body["tools"] = [_tool(tool) for tool in messages.tools]
    if messages.thinking is not None:
        # Templates call it the one or the other, and ignore what they don't know.
        body["chat_template_kwargs"] = {"enable_thinking": messages.thinking, "thinking": messages.thinking}
    return body


def _tool(tool: Json) -> Json:
    return dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)}


def _turn(message: Message) -> Json:
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


class ChatDialect(Dialect):
    """Prompts and answers are text; a path is continued as the beginning of the assistant's turn."""

    path = "/v1/chat/completions"

    def body(self, request: ExtendRequest, key: int) -> Json:
        messages = request.path.root.messages
        assert messages is not None, "a root has its messages"
        body = self.common(request, key) | options(messages)
        said, begun = turns(messages), request.path.whole_text
        if begun:
            said.append({"role": "assistant", "content": begun})
            if self.features.continues:
                body["continue_final_message"], body["add_generation_prompt"] = True, False
        body["messages"] = said
        if self.features.logprobs:
            body["logprobs"] = True
        return body

    def reader(self, request: ExtendRequest) -> "ChatReader":
        return ChatReader(self.features.logprobs)

    def given(self, path: Path) -> None:
        return None


class ChatReader(Reader):
    """Thoughts and tool calls that a server takes out of the text are put back as models write them."""

    def __init__(self, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._thinking = False
        self._calls: dict[int, tuple[str, str]] = {}  # name and arguments so far

    def read(self, data: bytes) -> Piece:
        chunk = ChatChunk.model_validate_json(data)
        check(chunk)
        if not chunk.choices:
            return Piece(usage=chunk.usage)
        choice = chunk.choices[0]
        text = self._text(choice.delta)
        if choice.finish_reason is not None:
            text += self._end()
        logprobs = None
        if self._logprobs and choice.logprobs is not None and choice.logprobs.content:
            logprobs = tuple(one.logprob for one in choice.logprobs.content)
        return Piece(text, logprobs=logprobs, finish=choice.finish_reason, usage=chunk.usage)

    def _text(self, delta: Delta) -> str:
        text = ""
        if delta.thought:
            text += ("" if self._thinking else _THINK) + delta.thought
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
        was, self._thinking = self._thinking, False
        return _END_THINK if was else ""

    def _end(self) -> str:
        """What is written once the answer has ended."""
        calls = [_call(*self._calls[index]) for index in sorted(self._calls)]
        return self._end_thoughts() + "".join(calls) if calls else ""


def _call(name: str, arguments: str) -> str:
    """A call of a tool as Hermes models write it."""
    try:
        told: JsonValue = json.loads(arguments or "{}")
    except ValueError:
        told = arguments
    return f"<tool_call>{json.dumps({'name': name, 'arguments': told}, ensure_ascii=False)}</tool_call>"
