"""Tokenizer and chat template of the fake server."""

import json
import re
import threading
from collections.abc import Sequence

Json = dict[str, object]

_TOKEN = re.compile(r"<\|\w+\|>|[^\S\n]+(?=<\|\w+\|>)|\n|[^\S\n]*[^\s\w]|[^\S\n]*\w+|[^\S\n]+(?=\n|$)")
SPECIAL_TOKEN = re.compile(r"<\|\w+\|>")
ASSISTANT, END = "<|assistant|>\n", "<|end|>"


class FakeTokenizer:
    """Tokenizer of words, punctuation marks and special tokens, numbered in order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._strings: list[str] = []
        self._lock = threading.Lock()

    def encode(self, text: str) -> list[int]:
        return [self._id(string) for string in _TOKEN.findall(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(self._strings[token] for token in tokens)

    def _id(self, string: str) -> int:
        with self._lock:
            if string not in self._ids:
                self._strings.append(string)
                self._ids[string] = len(self._strings) - 1
            return self._ids[string]


TOKENIZER = FakeTokenizer()
"""Shared by all fake servers, as replicas of one model share theirs."""


def render_chat(body: Json, continuation: str) -> str:
    """Return the prompt of a chat request. Tools and tool calls are rendered as JSON.

    `continuation`: what makes the server continue the last turn of the assistant: `fields` of the request, the `flag`
    of the message, nothing at all (`plain`), or `never`.
    """
    turns: list[Json] = list(body["messages"])  # type: ignore[call-overload]
    asked = {
        "fields": body.get("continue_final_message"),
        "flag": turns[-1].get("prefix"),
        "plain": turns[-1]["role"] == "assistant",
    }
    last = turns.pop() if asked.get(continuation) else None
    text = f"<|tools|>\n{json.dumps(body['tools'])}{END}\n" if body.get("tools") else ""
    for turn in turns:
        calls = json.dumps(turn["tool_calls"]) if turn.get("tool_calls") else ""
        text += f"<|{turn['role']}|>\n{turn['content']}{calls}{END}\n"
    if body.get("chat_template_kwargs"):
        text += f"<|switches|>\n{json.dumps(body['chat_template_kwargs'])}{END}\n"
    return text + ASSISTANT + (str(last["content"]) if last else "")
