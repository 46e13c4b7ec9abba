"""Tool calls as answers: the answer format for paths that call tools, and the calls of a reply."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from branchwise.answers.formats import AnswerFormat
from branchwise.chat.tool_call_parser import UNFINISHED, Call, canonical, parse_bare_calls, parse_calls
from branchwise.core.errors import require
from branchwise.core.messages import ToolCall

PROSE = "(prose)"
"""The vote of a path whose text has neither a tool call nor an answer."""


class SplitCalls(NamedTuple):
    """The text without its tool calls, and the calls."""

    content: str
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolCallFormat(AnswerFormat):
    """Answer format that reads the tool calls of a path; a path without calls is read by another format.

    Two lists of calls are the same answer if the names and arguments agree in order, whatever the syntax. The order of
    object keys does not matter, 1 equals 1.0, and arguments given as JSON text equal the parsed object.
    """

    names: frozenset[str]
    """The offered tools; a call of any other tool is plain text."""
    fallback: AnswerFormat | None = None
    """Reads the paths without calls; None: they state no answer."""
    prose: bool = False
    """Paths with neither a call nor an answer vote for PROSE; otherwise they do not vote and a single call wins."""

    @classmethod
    def of(
        cls, tools: Sequence[Mapping[str, JsonValue]], fallback: AnswerFormat, *, must_call: bool
    ) -> "ToolCallFormat":
        """Return the format for tools as in `Messages.tools`. With `must_call`, paths without a call do not vote."""
        return cls(frozenset(tool_names(tools)), None if must_call else fallback, prose=not must_call)

    def extract(self, text: str) -> str | None:
        if calls := parse_calls(text, self.names).calls:
            return json.dumps([call._asdict() for call in calls], ensure_ascii=False)
        stated = None if self.fallback is None else self.fallback.extract(text)
        return PROSE if stated is None and self.prose and text.strip() else stated

    def extract_cut(self, text: str) -> str | None:
        if parse_calls(text, self.names).calls:
            return AnswerFormat.extract_cut(self, text)
        return None if self.fallback is None or UNFINISHED.search(text) else self.fallback.extract_cut(text)

    def normal(self, answer: str) -> str:
        if calls := self._calls(answer):
            return canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.normal(answer)

    def display(self, answer: str) -> str:
        if calls := self._calls(answer):
            return canonical(calls)
        return answer if self.fallback is None or answer == PROSE else self.fallback.display(answer)

    def is_symbolic(self, normal: str) -> bool:
        """Return whether the answer may equal another one in a different notation; calls never do."""
        return self.fallback is not None and self.fallback.symbolic and normal != PROSE and not self._calls(normal)

    def _calls(self, answer: str) -> Sequence[Call]:
        """Return the calls that an answer in canonical form holds; empty for an answer of the fallback."""
        return parse_bare_calls(answer, self.names).calls if answer.startswith("[{") else ()


def tool_names(tools: Sequence[Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """Return the names of tools as in `Messages.tools`. Raises ConfigError for a tool without a name."""
    functions = [tool.get("function", tool) for tool in tools]
    names = [function.get("name") if isinstance(function, Mapping) else None for function in functions]
    require(all(isinstance(name, str) for name in names), "tools", "hold a tool without a name", "name each function")
    return tuple(map(str, names))


def split_calls(text: str, names: Collection[str], salt: str = "") -> SplitCalls:
    """Split the calls of the tools in `names` from a text.

    Call ids depend on the text and `salt` alone: pass a path's key as salt if a chat may contain the same text twice. A
    text without calls is returned unchanged; malformed calls and calls of other tools stay in the text.
    """
    content, calls = parse_calls(text, names)
    return SplitCalls(content, tuple(_with_id(call, f"{salt}\n{index}\n{text}") for index, call in enumerate(calls)))


def _with_id(call: Call, source: str) -> ToolCall:
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return ToolCall(id=f"call_{digest[:16]}", name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False))
