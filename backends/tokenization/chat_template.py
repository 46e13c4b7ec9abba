"""A model's chat template, and the forms of a prompt it may need."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from branchwise.backends.tokenization.special_tokens import Guard
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, Messages

_THINKING_SWITCHES = ("enable_thinking", "thinking")  # what templates call it

Turns = tuple[Message, ...]


class ChatTemplate:
    """Writes messages as one model was trained to read them."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """`source` takes the place of the model's own template, `variables` are given to it."""
        found = tokenizer.chat_template if source is None else source
        self._tokenizer = tokenizer
        self._variables = dict(variables or {})
        self._named: dict[str, str] = {"default": found} if isinstance(found, str) else dict(found or {})

    def __bool__(self) -> bool:
        """Whether the model has one."""
        return bool(self._named)

    def render(self, messages: Messages, guard: Guard) -> str:
        """The prompt up to where the assistant speaks.

        System turns are put into the next user turn where the template has no place for them, and
        neighbours of one role are joined where it wants roles to alternate. Raises ConfigError for what
        it refuses or would leave out.
        """
        source = self._source(bool(messages.tools))
        switches = _switches(messages, source)
        require(
            not any(turn.tool_calls for turn in messages.turns) or "tool_calls" in source,
            "tool_calls", "this model's chat template leaves them out", "use a model that calls tools",
        )  # fmt: skip
        refusal: Exception | None = None
        for turns in _forms(messages.turns):
            for as_text in (False, True):  # some templates print the arguments of calls, and so want text
                try:
                    text = self._write(source, turns, messages, guard, switches, as_text)
                except Exception as error:  # a template is a program of the model's makers
                    refusal = refusal or error
                    continue
                if not as_text and _prints_objects(messages, text, guard):
                    continue
                if _tells_system(turns, text, guard):
                    return text
        reason = re.sub(r"\s+", " ", str(refusal)).strip()[:300]
        raise ConfigError(
            "question", f"the model's chat template refuses it ({reason})", "use roles and an order it knows"
        ) from refusal

    def _write(
        self,
        source: str,
        turns: Turns,
        messages: Messages,
        guard: Guard,
        switches: dict[str, bool],
        as_text: bool,
    ) -> str:
        text = self._tokenizer.apply_chat_template(
            [_turn(turn, guard, as_text) for turn in turns],  # type: ignore[arg-type]  # tool calls are no text
            tools=[guard.value(dict(tool)) for tool in messages.tools] or None,  # type: ignore[misc]
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
            **{**self._variables, **switches},  # type: ignore[arg-type]  # the template's own variables
        )
        return str(text)

    def _source(self, tools: bool) -> str:
        """The template to use, of those the model has."""
        names = ("tool_use", "default") if tools else ("default",)
        source = next((self._named[name] for name in names if name in self._named), None)
        if source is None and len(self._named) == 1:
            (source,) = self._named.values()
        if source is None:
            raise ConfigError(
                "model",
                f"has the chat templates {', '.join(self._named)}, and none is the default",
                "call one of them default in its chat_template",
            )
        require(
            not tools or "tools" in source,
            "tools", "this model's chat template takes none", "leave them out, or use a model that calls tools",
        )  # fmt: skip
        return source


def _switches(messages: Messages, source: str) -> dict[str, bool]:
    """The template's own variables that switch thinking."""
    if messages.thinking is None:
        return {}
    switches = {name: messages.thinking for name in _THINKING_SWITCHES if name in source}
    plain = not messages.thinking and "think" not in source  # a model that does not think need not be told
    require(bool(switches) or plain, "thinking", "this model's chat template has no thinking switch", "leave it out")
    return switches


def _forms(turns: Turns) -> Iterator[Turns]:
    """The turns as they are, then in the forms that templates ask for, the closest first."""
    folded = _without_system(turns)
    forms = (turns, folded, _alternating(turns), _alternating(folded))
    yield from dict.fromkeys(forms)


def _without_system(turns: Turns) -> Turns:
    """What system turns say opens the next user turn."""
    waiting: list[str] = []
    kept: list[Message] = []
    for turn in turns:
        if turn.role == "system":
            waiting.append(turn.content)
        elif turn.role == "user":
            kept.append(_joined(turn, [*waiting, turn.content]))
            waiting = []
        else:
            kept.append(turn)
    return (*kept, *(Message(role="user", content=text) for text in waiting))


def _alternating(turns: Turns) -> Turns:
    """Neighbours of one role become one turn, unless they call tools or tell what those said."""
    kept: list[Message] = []
    for turn in turns:
        last = kept[-1] if kept else None
        if last is None or last.role != turn.role or turn.role == "tool" or last.tool_calls or turn.tool_calls:
            kept.append(turn)
        else:
            kept[-1] = _joined(last, [last.content, turn.content])
    return tuple(kept)


def _joined(turn: Message, texts: Sequence[str]) -> Message:
    return turn.model_copy(update={"content": "\n\n".join(texts)})


def _tells_system(turns: Turns, text: str, guard: Guard) -> bool:
    """Whether the text holds what every system turn says: some templates leave them out without a word."""
    return all(guard.text(turn.content).strip() in text for turn in turns if turn.role == "system")


def _prints_objects(messages: Messages, text: str, guard: Guard) -> bool:
    """Whether the template prints the arguments of a call as Python does, where the model was trained on JSON."""
    arguments = [guard.arguments(call) for turn in messages.turns for call in turn.tool_calls]
    return any(
        isinstance(value, dict) and repr(value) in text and repr(value) != json.dumps(value, ensure_ascii=False)
        for value in arguments
    )


def _turn(message: Message, guard: Guard, as_text: bool) -> dict[str, object]:
    """A message as chat templates take it."""
    content = guard.text(message.content, answer=message.role == "assistant")
    turn: dict[str, object] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": guard.text(call.id),
                "type": "function",
                "function": {
                    "name": guard.text(call.name),
                    "arguments": guard.text(call.arguments) if as_text else guard.arguments(call),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = guard.text(message.tool_call_id)
    if message.name is not None:
        turn["name"] = guard.text(message.name)
    return turn
