"""Chat template: writes messages as a model was trained to read them, in the first form its template accepts."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from branchwise.backends.tokenization.special_tokens import Escaper
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, Messages

_THINKING_SWITCHES = ("enable_thinking", "thinking")  # names of the variable in templates

Turns = tuple[Message, ...]


class ChatTemplate:
    """The chat template of one model. False if the model has none."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: str | None = None,
        variables: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """`source` replaces the model's own template, `variables` are passed to it."""
        found = tokenizer.chat_template if source is None else source
        self._tokenizer = tokenizer
        self._variables = dict(variables or {})
        self._named: dict[str, str] = {"default": found} if isinstance(found, str) else dict(found or {})

    def __bool__(self) -> bool:
        return bool(self._named)

    def render(self, messages: Messages, escaper: Escaper) -> str:
        """Return the prompt up to the assistant's reply, its content escaped.

        If the template supports no system turns, they open the next user turn; if it requires roles to alternate,
        neighbours of one role are joined. Raises ConfigError for a prompt that the template refuses or would truncate.
        """
        source = self._source(bool(messages.tools))
        switches = _switches(messages, source)
        require(
            not any(turn.tool_calls for turn in messages.turns) or "tool_calls" in source,
            "tool_calls",
            "this model's chat template leaves them out",
            "use a model that calls tools",
        )
        refusal: Exception | None = None
        for turns in _forms(messages.turns):
            for as_text in (False, True):  # some templates print arguments, and need them as text
                try:
                    text = self._write(source, turns, messages, escaper, switches, as_text)
                except Exception as error:  # a template is code of the model's authors, and may raise anything
                    refusal = refusal or error
                    continue
                if not as_text and _prints_python_objects(messages, text, escaper):
                    continue
                if _contains_system_turns(turns, text, escaper):
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
        escaper: Escaper,
        switches: dict[str, bool],
        as_text: bool,
    ) -> str:
        text = self._tokenizer.apply_chat_template(
            [_turn(turn, escaper, as_text) for turn in turns],  # type: ignore[arg-type]  # tool calls are not strings
            tools=[escaper.value(dict(tool)) for tool in messages.tools] or None,  # type: ignore[misc]
            chat_template=source,
            add_generation_prompt=True,
            tokenize=False,
            **{**self._variables, **switches},  # type: ignore[arg-type]  # the template's own variables
        )
        return str(text)

    def _source(self, tools: bool) -> str:
        """Return the template to use. Raises ConfigError if none of several is the default."""
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
            "tools",
            "this model's chat template takes none",
            "leave them out, or use a model that calls tools",
        )
        return source


def _switches(messages: Messages, source: str) -> dict[str, bool]:
    """Return the template's variables that switch thinking. Raises ConfigError if it has none."""
    if messages.thinking is None:
        return {}
    switches = {name: messages.thinking for name in _THINKING_SWITCHES if name in source}
    plain = not messages.thinking and "think" not in source  # without a switch: the model never thinks
    require(bool(switches) or plain, "thinking", "this model's chat template has no thinking switch", "leave it out")
    return switches


def _forms(turns: Turns) -> Iterator[Turns]:
    """Yield the turns as they are, then in forms that more templates accept, the most faithful first."""
    folded = _without_system(turns)
    forms = (turns, folded, _alternating(turns), _alternating(folded))
    yield from dict.fromkeys(forms)


def _without_system(turns: Turns) -> Turns:
    """Return turns in which the content of system turns opens the next user turn."""
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
    """Return turns in which neighbours of one role are joined, except tool results and turns with tool calls."""
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


def _contains_system_turns(turns: Turns, text: str, escaper: Escaper) -> bool:
    """Return whether the text contains every system turn: some templates drop them silently."""
    return all(escaper.text(turn.content).strip() in text for turn in turns if turn.role == "system")


def _prints_python_objects(messages: Messages, text: str, escaper: Escaper) -> bool:
    """Return whether the template prints arguments as Python objects, where the model was trained on JSON."""
    arguments = [escaper.arguments(call) for turn in messages.turns for call in turn.tool_calls]
    return any(
        isinstance(value, dict) and repr(value) in text and repr(value) != json.dumps(value, ensure_ascii=False)
        for value in arguments
    )


def _turn(message: Message, escaper: Escaper, as_text: bool) -> dict[str, object]:
    """Return an escaped message in the form that chat templates read."""
    content = escaper.text(message.content, answer=message.role == "assistant")
    turn: dict[str, object] = {"role": message.role, "content": content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": escaper.text(call.id),
                "type": "function",
                "function": {
                    "name": escaper.text(call.name),
                    "arguments": escaper.text(call.arguments) if as_text else escaper.arguments(call),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = escaper.text(message.tool_call_id)
    if message.name is not None:
        turn["name"] = escaper.text(message.name)
    return turn
