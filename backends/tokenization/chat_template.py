"""Chat template: writes messages as a model was trained to read them, in the first form its template accepts."""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import JsonValue

from branchwise.backends.tokenization.special_tokens import Escaper
from branchwise.backends.tokenization.turn_forms import Form, content_of, prints_parts, template_turn, turn_forms
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Message, Messages, Role
from branchwise.core.question import as_messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_THINKING_SWITCHES = ("enable_thinking", "thinking")  # names of the variable in templates
_MARK = "\ue002"
"""Around a turn's number, ends its content in a trial rendering: a short one is in the text elsewhere, too."""


class _LostTurnsError(ValueError):
    """The template leaves out turns that the model must see."""


class ChatTemplate:
    """The chat template of one model. False if the model has none."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
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

    def render(self, messages: Messages, escaper: Escaper, reply: str | None = None) -> str:
        """Return the prompt up to the assistant's reply, or the conversation with that reply; its content is escaped.

        If the template supports no system turns, they open the next user turn; if it requires roles to alternate,
        neighbours of one role are joined; if it reads content in parts, each content is one part. Raises ConfigError
        for a prompt that the template refuses or would truncate.
        """
        source = self._source(bool(messages.tools))
        require(
            not any(turn.tool_calls for turn in messages.turns) or "tool_calls" in source,
            "tool_calls",
            "this model's chat template leaves them out",
            "use a model that calls tools",
        )
        variables = {**self._variables, **_switches(messages, source)}
        rendering = _Rendering(self._tokenizer, source, variables, messages, ends_with_reply=reply is not None)
        last = () if reply is None else (Message(role="assistant", content=reply),)
        for turns in turn_forms((*messages.turns, *last)):
            for text_arguments in (False, True):  # some templates print arguments, and need them as text
                text = rendering.try_form(Form(turns, text_arguments=text_arguments), escaper)
                if text is not None:
                    return text
        reason = re.sub(r"\s+", " ", str(rendering.refusal)).strip()[:300]
        raise ConfigError(
            "question", f"the model's chat template refuses it ({reason})", "use roles and an order it knows"
        ) from rendering.refusal

    def check(self, escaper: Escaper) -> None:
        """Raise ConfigError if the template leaves out a user's question."""
        try:
            self.render(as_messages("What is 6 times 7?"), escaper)
        except ConfigError as error:
            if isinstance(error.__cause__, _LostTurnsError):
                raise ConfigError(
                    "model", "its chat template leaves out what the user asks", "use a template that prints user turns"
                ) from error

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


class _Rendering:
    """Renders forms of one prompt until one shows the whole prompt."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        source: str,
        variables: Mapping[str, JsonValue],
        messages: Messages,
        *,
        ends_with_reply: bool,
    ) -> None:
        self.refusal: Exception | None = None
        """The first reason for which a form was not used."""
        self._tokenizer = tokenizer
        self._source = source
        self._variables = variables
        self._messages = messages
        self._ends_with_reply = ends_with_reply
        self._may_be_lost = frozenset[Role]() if ends_with_reply else frozenset[Role]({"assistant"})

    def try_form(self, form: Form, escaper: Escaper) -> str | None:
        """Return the prompt in this form, or None if the template refuses it or leaves turns out.

        Content that the template leaves out as text is passed in parts, and as text where it prints the parts.
        """
        usable: str | None = None
        for _ in range(3):  # all text, other forms of what is lost, and once more if the template refused text
            try:
                text = self._write(form, escaper)
                lost = self._lost_roles(form, escaper)
            except Exception as error:  # a template is code of the model's authors, and may raise anything
                self.refusal = self.refusal or error
                form = form._replace(parts=frozenset(turn.role for turn in form.turns))
                continue
            if not form.text_arguments and _prints_python_objects(self._messages, text, escaper):
                return usable
            if not lost:
                return text
            if lost <= self._may_be_lost:
                usable = usable or text
            else:
                self.refusal = self.refusal or _LostTurnsError(
                    f"it leaves out {', '.join(sorted(lost - self._may_be_lost))} turns"
                )
            form = form._replace(parts=form.parts ^ lost)
        return usable

    def _write(self, form: Form, escaper: Escaper) -> str:
        text = self._tokenizer.apply_chat_template(
            [template_turn(turn, escaper, form) for turn in form.turns],  # type: ignore[arg-type]  # tool calls are not strings
            tools=[escaper.value(dict(tool)) for tool in self._messages.tools] or None,  # type: ignore[misc]
            chat_template=self._source,
            add_generation_prompt=not self._ends_with_reply,
            tokenize=False,
            **self._variables,  # type: ignore[arg-type]  # the template's own variables
        )
        return str(text)

    def _lost_roles(self, form: Form, escaper: Escaper) -> frozenset[Role]:
        """Return the roles with a turn whose content the prompt lacks, or shows as the Python or JSON form of parts.

        Spacing may differ, and content may be printed as JSON. Thoughts of the assistant, and its words beside tool
        calls, are left out by design.
        """
        turns = tuple(
            turn.model_copy(update={"content": f"{turn.content}{_MARK}{number}{_MARK}"})
            for number, turn in enumerate(form.turns)
        )
        text = self._write(form._replace(turns=turns), escaper)
        shown, lost = _squeezed(text), set[Role]()
        for turn in turns:
            content = content_of(turn, escaper)
            kept = content.rpartition("</think>")[2] if turn.role == "assistant" else content
            forms = (kept, json.dumps(kept, ensure_ascii=False)[1:-1])
            if not turn.tool_calls and not any(_squeezed(one) in shown for one in forms):
                lost.add(turn.role)
            if turn.role in form.parts and prints_parts(content, text):
                lost.add(turn.role)
        return frozenset(lost)


def _switches(messages: Messages, source: str) -> dict[str, bool]:
    """Return the template's variables that switch thinking. Raises ConfigError if it has none."""
    if messages.thinking is None:
        return {}
    switches = {name: messages.thinking for name in _THINKING_SWITCHES if name in source}
    plain = not messages.thinking and "think" not in source  # without a switch: the model never thinks
    require(bool(switches) or plain, "thinking", "this model's chat template has no thinking switch", "leave it out")
    return switches


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _prints_python_objects(messages: Messages, text: str, escaper: Escaper) -> bool:
    """Return whether the template prints arguments as Python objects, where the model was trained on JSON."""
    arguments = [escaper.arguments(call) for turn in messages.turns for call in turn.tool_calls]
    return any(
        isinstance(value, dict) and repr(value) in text and repr(value) != json.dumps(value, ensure_ascii=False)
        for value in arguments
    )
