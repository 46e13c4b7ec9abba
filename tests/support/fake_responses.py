"""Streamed responses of the fake server: a reply cut at stops and limits, and its events in each format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.support.fake_tokenizer import END, SPECIAL_TOKEN, TOKENIZER, Json


@dataclass(frozen=True)
class FakeReply:
    """A scripted reply."""

    text: str
    deltas: tuple[Json, ...] = ()
    """Deltas of a server that separates reasoning and tool calls from the text (chat completions alone)."""
    delay: float = 0.0
    """Seconds after each event."""


@dataclass(frozen=True)
class ResponseChunk:
    """Tokens of one event."""

    tokens: list[int]
    strings: list[str]
    text: str
    finish: str | None
    delta: Json | None = None


@dataclass(frozen=True)
class PlannedResponse:
    """The tokens of a response and the text that each adds."""

    tokens: list[int]
    texts: list[str]
    finish: str

    def chunks(self, size: int, deltas: Sequence[Json]) -> Iterator[ResponseChunk]:
        """Yield chunks of `size` tokens, or one chunk for each delta if there are some."""
        for number, delta in enumerate(deltas):
            token = self.tokens[number % len(self.tokens)]
            finish = self.finish if number == len(deltas) - 1 else None
            yield ResponseChunk([token], [""], "", finish, delta)
        if deltas:
            return
        for start in range(0, len(self.tokens), size):
            tokens = self.tokens[start : start + size]
            finish = self.finish if start + size >= len(self.tokens) else None
            strings = [TOKENIZER.decode((token,)) for token in tokens]
            yield ResponseChunk(tokens, strings, "".join(self.texts[start : start + size]), finish)


def plan_response(text: str, body: Json, *, includes_stop: bool) -> PlannedResponse:
    """Return a reply cut at a stop string as vLLM does, or at the most tokens.

    `includes_stop`: the server honours `include_stop_str_in_output`.
    """
    tokens = TOKENIZER.encode(text + END)
    limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or len(tokens))  # type: ignore[call-overload]
    stops: list[str] = list(body.get("stop") or ())  # type: ignore[call-overload]
    whole, texts, finish = "", list[str](), "length"
    for token in tokens[:limit]:
        string = TOKENIZER.decode((token,))
        texts.append("" if SPECIAL_TOKEN.fullmatch(string) else string)
        whole += texts[-1]
        found = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
        if found:
            end, at = min(found)
            keeps_stop = includes_stop and bool(body.get("include_stop_str_in_output"))
            texts, finish = _cut(texts, end if keeps_stop else at), "stop"
            break
        if string == END:
            finish = "stop"
    return PlannedResponse(tokens[: len(texts)], texts, finish)


def _cut(texts: list[str], length: int) -> list[str]:
    """Return the texts of tokens after their total is cut to a length."""
    left, cut = length, []
    for text in texts:
        cut.append(text[: max(0, left)])
        left -= len(text)
    return cut


class EventFormat:
    """Format of a response's events."""

    def deltas(self, reply: FakeReply) -> Sequence[Json]:
        """Return the deltas of a reply that this format streams as they are."""
        return ()

    def event(self, chunk: ResponseChunk, prompt: list[int] | None) -> Json:
        """Return the event of a chunk; `prompt` is added to the first."""
        raise NotImplementedError


class CompletionsFormat(EventFormat):
    """Events of completions with token ids."""

    def __init__(self, body: Json) -> None:
        self._logprobs = body.get("logprobs")
        self._by_id = bool(body.get("return_tokens_as_token_ids"))

    def event(self, chunk: ResponseChunk, prompt: list[int] | None) -> Json:
        choice: Json = {"index": 0, "text": chunk.text, "token_ids": chunk.tokens, "finish_reason": chunk.finish}
        if prompt is not None:
            choice["prompt_token_ids"] = prompt
        if self._logprobs is not None:
            names = [f"token_id:{t}" for t in chunk.tokens] if self._by_id else chunk.strings
            others = range(int(self._logprobs))  # type: ignore[call-overload]
            top = [{name: -0.1} | {f"token_id:{100_000 + i}": -3.0 - i for i in others} for name in names]
            choice["logprobs"] = {"tokens": names, "token_logprobs": [-0.1] * len(names), "top_logprobs": top}
        return {"choices": [choice]}


class ChatFormat(EventFormat):
    """Events of chat completions."""

    def __init__(self, body: Json) -> None:
        self._logprobs = bool(body.get("logprobs"))

    def deltas(self, reply: FakeReply) -> Sequence[Json]:
        return reply.deltas

    def event(self, chunk: ResponseChunk, prompt: list[int] | None) -> Json:
        delta = {"content": chunk.text} if chunk.delta is None else chunk.delta
        choice: Json = {"index": 0, "delta": delta, "finish_reason": chunk.finish}
        if self._logprobs:
            choice["logprobs"] = {"content": [{"token": s, "logprob": -0.1, "bytes": None} for s in chunk.strings]}
        return {"choices": [choice]}
