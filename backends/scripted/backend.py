"""The scripted backend: a deterministic double that answers from a script.

For tests, examples and developing strategies without a model. It tells the truth in its ledger: it
remembers which prefixes it has seen, and counts them as reused. Given other capabilities it acts
accordingly: it shows no tokens, reports no log-probabilities, keeps no prefixes, and so on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.scripted.reply import Reply, Speech, Stops, pause, prepare
from branchwise.backends.scripted.vocabulary import Held, Vocabulary
from branchwise.backends.stream import Broken, Ended, Extension, Tokens
from branchwise.core.errors import BackendError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason, TopLogprob
from branchwise.core.usage import Usage

__all__ = ["Reply", "Script", "ScriptedBackend"]

Script = Mapping[str, Sequence[str | Reply]] | Callable[[Path, int], str | Reply]


class ScriptedBackend(Backend):
    """Replies from a script.

    `script` is a mapping from what a path has generated so far ("" at the prompt) to the replies its
    branches get, in the order in which they are asked for, over and over; or a function of the path
    and of how many branches it has had before. Words and punctuation marks are its tokens; a reply ends its turn
    where its text ends. `scores` gives log-probabilities of whole continuations.
    """

    def __init__(
        self,
        script: Script,
        *,
        scores: Mapping[str, float] | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._script = script
        self._scores = dict(scores or {})
        self._capabilities = capabilities or Capabilities(model="scripted", context=100_000)
        self.vocabulary = Vocabulary()
        self._asked: dict[tuple[str, str], int] = {}
        self._held = Held()
        self.running: dict[asyncio.Task[None], asyncio.Event] = {}
        """Branches under way and how to stop them; for tests of cancellation, too."""
        self.released: list[Path] = []
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        text = "\n".join(f"{turn.role}: {turn.content}" for turn in messages.turns)
        tokens = self.vocabulary.tokens(text + messages.prefix)
        self._capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    def extend(self, request: ExtendRequest) -> Extension:
        if self._closed:
            raise closed_error()
        # The script may fail: nothing is started before it has spoken for every branch.
        speeches = [prepare(self._reply(request.path), request.sampling, self.vocabulary) for _ in request.keys]
        stops = Stops(len(speeches), self._capabilities.per_branch_cancel)
        extension = Extension(len(speeches), stops.cancel)
        for copy, (speech, stop) in enumerate(zip(speeches, stops.events, strict=True)):
            task = asyncio.create_task(self._speak(extension, copy, request, speech, stop))
            self.running[task] = stop
            task.add_done_callback(self.running.pop)
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        if not self._capabilities.score:
            raise BackendError("score: this backend can't", retryable=False, hint="use one that scores given texts")
        given = self._given(path)
        reused = self._held.hold(given, self._capabilities.prefix_reuse)
        rows = []
        for text in continuations:
            tokens = self.vocabulary.tokens(text)
            total = self._scores.get(text, -10.0)
            rows.append(tuple(total / len(tokens) for _ in tokens))
        cost = Usage(
            prompt=len(given),
            reused=reused,
            prefilled=len(given) - reused,
            scored=sum(map(len, rows)),
            forward_passes=1,
        )
        return Scores(tuple(rows), cost)

    async def force(self, path: Path, text: str) -> Path:
        tokens = self.vocabulary.tokens(text)
        if not self._capabilities.token_out:
            return Path(parent=path, key=path.key, token_ids=(), text=text, forced=True)
        return Path(
            parent=path, key=path.key, token_ids=tokens, text=text, ends=self.vocabulary.ends(tokens), forced=True
        )

    def release(self, paths: Sequence[Path]) -> None:
        self.released.extend(paths)

    def clear(self) -> None:
        self._held = Held()

    async def close(self) -> None:
        self._closed = True
        here, mine = asyncio.get_running_loop(), []
        for task, stop in list(self.running.items()):
            if task.get_loop() is here:
                stop.set()
                mine.append(task)
            elif not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(stop.set)
        await asyncio.gather(*mine)

    def _reply(self, path: Path) -> Reply:
        said = "".join(segment.text for segment in path.segments())
        place = (str(path.root.token_ids), said)
        before = self._asked.get(place, 0)
        self._asked[place] = before + 1
        if callable(self._script):
            reply = self._script(path, before)
        elif said in self._script:
            replies = self._script[said]
            reply = replies[before % len(replies)]
        else:
            raise BackendError(f"the script has no reply after {said!r}", retryable=False, hint="add one")
        return Reply(reply) if isinstance(reply, str) else reply

    async def _speak(
        self, extension: Extension, copy: int, request: ExtendRequest, speech: Speech, stop: asyncio.Event
    ) -> None:
        """Say it, some tokens at a time."""
        given, said, trimmed = self._given(request.path), 0, ""
        reused = self._held.hold(given, self._capabilities.prefix_reuse)
        for chunk in speech.chunks():
            if await pause(stop, speech.reply.delay):
                break
            start = len(self.vocabulary.spell(speech.tokens[:said]))
            said += len(chunk)
            text = self.vocabulary.spell(chunk)
            shown = max(0, speech.shown - start)
            trimmed += text[shown:]
            extension.deliver(self._event(copy, request, speech, said - len(chunk), chunk, text[:shown]))
        whole = said == len(speech.tokens)
        kept = whole and speech.reason is not None
        cost = Usage(
            prompt=len(given),
            reused=reused,
            prefilled=len(given) - reused,
            sampled=said,
            discarded=0 if kept else said,
            forward_passes=said,
        )
        self._held.hold((*given, *speech.tokens[:said]), 1)
        if whole and speech.reason is None:
            error = BackendError("the script says so", retryable=speech.reply.retryable, hint="change the script")
            extension.deliver(Broken(copy, error, cost))
        elif self._closed and not whole:
            extension.deliver(Broken(copy, closed_error(), cost))
        else:
            reason = (whole and speech.reason) or StopReason.CANCELLED
            extension.deliver(Ended(copy, reason, cost, trimmed if reason is StopReason.STOP else ""))

    def _event(
        self, copy: int, request: ExtendRequest, speech: Speech, before: int, chunk: Sequence[int], text: str
    ) -> Tokens:
        """New tokens as this backend shows them."""
        able, logprob = self._capabilities, speech.reply.logprob
        ends = self.vocabulary.ends(speech.tokens[: before + len(chunk)])[before:]
        top = None
        if able.logprobs and min(request.sampling.logprobs, able.top_k_logprobs):
            top = tuple((TopLogprob(token, logprob),) for token in chunk)
        return Tokens(
            copy,
            tuple(chunk) if able.token_out else (),
            text,
            ends if able.token_out else (),
            (logprob,) * len(chunk) if able.logprobs else None,
            top,
        )

    def _given(self, path: Path) -> tuple[int, ...]:
        """The tokens of a request's input: the path's own, or what its text makes."""
        if self._capabilities.token_in and self._capabilities.token_out:
            return path.all_token_ids()
        return path.root.token_ids + self.vocabulary.tokens("".join(segment.text for segment in path.segments()))
