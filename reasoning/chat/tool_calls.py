"""Tool calls as answers: the answer format for paths that call tools, and the calls of a reply."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from branchwise.answers.formats import AnswerFormat
from branchwise.chat.call import Call, canonical
from branchwise.chat.tool_call_parser import UNFINISHED, parse_bare_calls, parse_calls
from branchwise.chat.tool_set import ToolSet
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

    tools: ToolSet
    """The offered tools; a call of any other tool is plain text."""
    fallback: AnswerFormat | None = None
    """Reads the paths without calls; None: they state no answer."""
    prose: bool = False
    """Paths with neither a call nor an answer vote for PROSE; otherwise they do not vote and a single call wins. Paths
    with a call that a strict tool does not accept never vote for it."""

    def extract(self, text: str) -> str | None:
        if calls := parse_calls(text, self.tools).calls:
            return json.dumps([call._asdict() for call in calls], ensure_ascii=False)
        stated = None if self.fallback is None else self.fallback.extract(text)
        is_prose = stated is None and self.prose and text.strip() and not parse_calls(text, self.tools.loose).calls
        return PROSE if is_prose else stated

    def extract_cut(self, text: str) -> str | None:
        if parse_calls(text, self.tools).calls:
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
        return parse_bare_calls(answer, self.tools).calls if answer.startswith("[{") else ()


def split_calls(text: str, tools: ToolSet, salt: str = "") -> SplitCalls:
    """Split the calls of the tools from a text.

    Call ids depend on the text and `salt` alone: pass a path's key as salt if a chat may contain the same text twice. A
    text without calls is returned unchanged; malformed calls and calls of other tools stay in the text.
    """
    content, calls = parse_calls(text, tools)
    return SplitCalls(content, tuple(_with_id(call, f"{salt}\n{index}\n{text}") for index, call in enumerate(calls)))


def _with_id(call: Call, source: str) -> ToolCall:
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return ToolCall(id=f"call_{digest[:16]}", name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False))
