"""Scripted backend: a deterministic test double, for tests, examples and strategies without a model.

Its usage is exact: it counts prefixes that it has seen before as reused. It behaves as its capabilities say, for
example without tokens, log-probabilities or a prefix cache.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from branchwise.backends.base import Backend, Capabilities, ExtendRequest, Scores, closed_error
from branchwise.backends.scripted.reply import Cancellation, PlannedBranch, Reply, plan_branch, wait_or_stop
from branchwise.backends.scripted.vocabulary import PrefixTree, Vocabulary
from branchwise.backends.stream import Broken, Ended, Extension, Tokens
from branchwise.core.errors import BackendError
from branchwise.core.messages import Messages
from branchwise.core.path import Path, StopReason, TopLogprob, word_ends
from branchwise.core.usage import Usage

__all__ = ["Reply", "Script", "ScriptedBackend"]

Script = Mapping[str, Sequence[str | Reply]] | Callable[[Path, int], str | Reply]


class ScriptedBackend(Backend):
    """Backend that replies from a script.

    `script` maps the text that a path has generated so far ("" at the prompt) to the replies of its branches, which
    repeat in order; or it is a function of the path and of the number of branches requested from it before. Words and
    punctuation marks are the tokens. The end of a reply ends the model's turn. `scores` has the log-probabilities of
    whole continuations, in nats; others have -10.
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
        self._requested: dict[tuple[str, str], int] = {}
        """Number of branches requested from each prompt and generated text."""
        self._prefixes = PrefixTree()
        self.running: dict[asyncio.Task[None], asyncio.Event] = {}
        """Running branches and the events that stop them. Tests of cancellation read it, too."""
        self.released: list[Path] = []
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def root(self, messages: Messages, key: int) -> Path:
        tokens = await self.tokenize(messages)
        self._capabilities.check_prompt(len(tokens))
        return Path(parent=None, key=key, token_ids=tokens, text="", messages=messages)

    async def tokenize(self, text: str | Messages) -> tuple[int, ...]:
        if isinstance(text, Messages):
            text = "\n".join(f"{turn.role}: {turn.content}" for turn in text.turns) + text.prefix
        return self.vocabulary.tokens(text)

    def extend(self, request: ExtendRequest) -> Extension:
        if self._closed:
            raise closed_error()
        # The script may raise: no branch starts before each has its reply.
        planned = [plan_branch(self._reply(request.path), request.sampling, self.vocabulary) for _ in request.keys]
        cancellation = Cancellation(len(planned), per_branch=self._capabilities.per_branch_cancel)
        extension = Extension(len(planned), cancellation.cancel)
        for copy, (branch, stop) in enumerate(zip(planned, cancellation.events, strict=True)):
            task = asyncio.create_task(self._run(extension, copy, request, branch, stop))
            self.running[task] = stop
            task.add_done_callback(self.running.pop)
        return extension

    async def score(self, path: Path, continuations: Sequence[str]) -> Scores:
        if not self._capabilities.score:
            raise BackendError("score: this backend does not support it", retryable=False, hint="use one that does")
        prompt = self._prompt_tokens(path)
        reused = self._prefixes.insert(prompt, self._capabilities.prefix_reuse)
        rows = []
        for text in continuations:
            tokens = self.vocabulary.tokens(text)
            total = self._scores.get(text, -10.0)
            rows.append(tuple(total / len(tokens) for _ in tokens))
        cost = Usage(
            prompt=len(prompt),
            reused=reused,
            prefilled=len(prompt) - reused,
            scored=sum(map(len, rows)),
            forward_passes=1,
        )
        return Scores(tuple(rows), cost)

    async def force(self, path: Path, text: str) -> Path:
        tokens = self.vocabulary.tokens(text)
        if not self._capabilities.token_out:
            ends = word_ends(text) if self._capabilities.continues else ()
            return Path(parent=path, key=path.key, token_ids=(), text=text, ends=ends, forced=True)
        return Path(
            parent=path, key=path.key, token_ids=tokens, text=text, ends=self.vocabulary.ends(tokens), forced=True
        )

    def release(self, paths: Sequence[Path]) -> None:
        self.released.extend(paths)

    def clear(self) -> None:
        self._prefixes = PrefixTree()

    async def close(self) -> None:
        self._closed = True
        current, stopped = asyncio.get_running_loop(), []
        for task, stop in list(self.running.items()):
            if task.get_loop() is current:
                stop.set()
                stopped.append(task)
            elif not task.get_loop().is_closed():
                task.get_loop().call_soon_threadsafe(stop.set)
        await asyncio.gather(*stopped)

    def _reply(self, path: Path) -> Reply:
        generated = "".join(segment.text for segment in path.segments())
        position = (str(path.root.token_ids), generated)
        before = self._requested.get(position, 0)
        self._requested[position] = before + 1
        if callable(self._script):
            reply = self._script(path, before)
        elif generated in self._script:
            replies = self._script[generated]
            reply = replies[before % len(replies)]
        else:
            raise BackendError(f"the script has no reply after {generated!r}", retryable=False, hint="add one")
        return Reply(reply) if isinstance(reply, str) else reply

    async def _run(
        self, extension: Extension, copy: int, request: ExtendRequest, branch: PlannedBranch, stop: asyncio.Event
    ) -> None:
        """Deliver the branch's events until it ends or is stopped."""
        prompt, sampled, trimmed = self._prompt_tokens(request.path), 0, ""
        reused = self._prefixes.insert(prompt, self._capabilities.prefix_reuse)
        for chunk in branch.chunks():
            if await wait_or_stop(stop, branch.reply.delay):
                break
            start = len(self.vocabulary.decode(branch.tokens[:sampled]))
            text = self.vocabulary.decode(chunk)
            shown = max(0, branch.shown - start)
            trimmed += text[shown:]
            extension.deliver(self._tokens(copy, request, branch, sampled, chunk, text[:shown]))
            sampled += len(chunk)
        is_complete = sampled == len(branch.tokens)
        cost = Usage(
            prompt=len(prompt),
            reused=reused,
            prefilled=len(prompt) - reused,
            sampled=sampled,
            discarded=0 if is_complete and branch.reason is not None else sampled,
            forward_passes=sampled,
        )
        self._prefixes.insert((*prompt, *branch.tokens[:sampled]), 1)
        if is_complete and branch.reason is None:
            error = BackendError("the script says so", retryable=branch.reply.retryable, hint="change the script")
            extension.deliver(Broken(copy, error, cost))
        elif self._closed and not is_complete:
            extension.deliver(Broken(copy, closed_error(), cost))
        else:
            reason = (is_complete and branch.reason) or StopReason.CANCELLED
            extension.deliver(Ended(copy, reason, cost, trimmed if reason is StopReason.STOP else ""))

    def _tokens(
        self, copy: int, request: ExtendRequest, branch: PlannedBranch, before: int, chunk: Sequence[int], text: str
    ) -> Tokens:
        """Return the event for new tokens, with the fields that the capabilities have."""
        capabilities, logprob = self._capabilities, branch.reply.logprob
        ends = self.vocabulary.ends(branch.tokens[: before + len(chunk)])[before:]
        top = None
        if capabilities.logprobs and min(request.sampling.logprobs, capabilities.top_k_logprobs):
            top = tuple((TopLogprob(token, logprob),) for token in chunk)
        return Tokens(
            copy=copy,
            token_ids=tuple(chunk) if capabilities.token_out else (),
            text=text,
            ends=ends if capabilities.token_out else (),
            logprobs=(logprob,) * len(chunk) if capabilities.logprobs else None,
            top_logprobs=top,
        )

    def _prompt_tokens(self, path: Path) -> tuple[int, ...]:
        """Return the input tokens of a request: those of the path, or of its text if the path has none."""
        if self._capabilities.token_in and self._capabilities.token_out:
            return path.all_token_ids()
        return path.root.token_ids + self.vocabulary.tokens("".join(segment.text for segment in path.segments()))
