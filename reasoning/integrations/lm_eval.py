"""Adapter for EleutherAI's lm-eval: a strategy as the model `branchwise`.

lm-eval finds only models that are already registered, so import this module first:

import lm_eval
import branchwise.integrations.lm_eval

lm_eval.simple_evaluate("branchwise", "model=Qwen2.5-Coder-0.5B-Instruct,strategy=self-consistency,temperature=0.7",
                        tasks=["gsm8k"], apply_chat_template=True)

Or run lm-eval's command line through it: python -m branchwise.integrations.lm_eval run --model branchwise ...
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from pydantic import JsonValue

from branchwise.backends.base import Backend
from branchwise.backends.models.names import DEFAULT_MODEL
from branchwise.chat.config import ChatConfig
from branchwise.chat.prompt import pack, unpack
from branchwise.chat.responder import Responder
from branchwise.core.errors import BackendError, MissingExtraError, require
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.driver import Stop, run_sync
from branchwise.integrations.generation import sampling_for
from branchwise.integrations.likelihood import Likelihood, likelihoods, rolling

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ImportError as error:
    raise MissingExtraError(error.name or "lm_eval", "harness") from error

log = logging.getLogger(__name__)

ArgsT = TypeVar("ArgsT", covariant=True)
Done = TypeVar("Done")


class Request(Protocol[ArgsT]):
    """The part of lm-eval's Instance that is used here."""

    @property
    def args(self) -> ArgsT: ...


class BranchwiseLM(LM):
    """Model that answers each prompt with a strategy.

    A generated text is the whole text of the first path that states the winning answer, so that a task's filters can
    extract from it; it is empty if the question failed. A prompt is one user turn or, with lm-eval's
    apply_chat_template, lm-eval's chat. Log-likelihoods are the model's own, of texts as the assistant's answer,
    without a strategy.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        backend: Backend | None = None,
        concurrency: int = 4,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **arguments: object,
    ) -> None:
        """`arguments` are the fields of `ChatConfig`, such as `base_url`; `backend` replaces loading `model`.

        `concurrency` is the number of questions answered at once. lm-eval's batch sizes are ignored: the engine forms
        its own batches. Raises ConfigError, ModelError or MissingExtraError.
        """
        super().__init__()
        require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
        if arguments.get("device") == "cuda:0":  # the default of lm-eval's command line
            del arguments["device"]
        self.arguments = ChatConfig.parse(arguments)
        if model is None and self.arguments.base_url is None:
            model = DEFAULT_MODEL
        self.backend = backend or self.arguments.load(model)
        self.concurrency = concurrency
        self.usage = Usage()
        """Usage of all requests so far, log-likelihoods included."""
        self.outcomes: Counter[Outcome] = Counter()
        """Outcomes of the questions answered with generated texts."""
        self.degraded: dict[str, None] = {}
        self._responder = Responder(self.backend, self.arguments)

    def generate_until(
        self, requests: Sequence[Request[tuple[str, Mapping[str, object]]]], disable_tqdm: bool = False
    ) -> list[str]:
        """Return one text per prompt. A prompt that occurs n times gets n samples.

        Raises ConfigError, before any question starts, for generation arguments that are invalid with the strategy, and
        BackendError if every question failed.
        """
        repeats: Counter[tuple[str, str]] = Counter()
        jobs = []
        results: list[Result] = []
        for request in requests:
            context, options = request.args
            sampling = sampling_for(options)
            self.arguments.resolve_strategy(self.arguments.override(sampling))
            key = (context, repr(options))
            jobs.append(partial(self._generate, results, context, options, sampling, repeats[key]))
            repeats[key] += 1
        texts = self._run(jobs, "Questions", disable_tqdm)
        self._report(results)
        return texts

    def loglikelihood(
        self, requests: Sequence[Request[tuple[str, str]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return (nats, whether greedy decoding generates it) per continuation of a context. Raises BranchwiseError."""
        places: dict[str, list[int]] = {}  # continuations of one context share its computation
        for place, request in enumerate(requests):
            places.setdefault(request.args[0], []).append(place)

        async def score(context: str, own: Sequence[int], _: Stop) -> tuple[Likelihood, ...]:
            texts = [requests[place].args[1] for place in own]
            found = await likelihoods(self.backend, unpack(context), texts)
            self.usage += found.cost
            return found.each

        jobs = [partial(score, context, own) for context, own in places.items()]
        answers: dict[int, tuple[float, bool]] = {}
        for own, found in zip(places.values(), self._run(jobs, "Contexts", disable_tqdm), strict=True):
            answers.update((place, (each.logprob, each.greedy)) for place, each in zip(own, found, strict=True))
        return [answers[place] for place in range(len(requests))]

    def loglikelihood_rolling(self, requests: Sequence[Request[tuple[str]]], disable_tqdm: bool = False) -> list[float]:
        """Return the nats of each text as the answer to an empty user turn. Raises BranchwiseError."""

        async def score(text: str, _: Stop) -> float:
            found = await rolling(self.backend, text)
            self.usage += found.cost
            return found.logprob

        return self._run([partial(score, request.args[0]) for request in requests], "Texts", disable_tqdm)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Encode the chat as turns; the backend applies the model's own template."""
        return pack(chat_history)

    @property
    def tokenizer_name(self) -> str:
        """Return the model's name, under which lm-eval caches built prompts."""
        return self.backend.capabilities.model.replace("/", "__")

    def get_model_info(self) -> dict[str, JsonValue]:
        """Return what lm-eval stores as `results["config"]["branchwise"]`: arguments, usage and outcomes."""
        return {
            "branchwise": {
                "model": self.backend.capabilities.model,
                "arguments": self.arguments.model_dump(mode="json"),
                "usage": self.usage.model_dump(mode="json"),
                "outcomes": {outcome.name.lower(): count for outcome, count in self.outcomes.items()},
                "degraded": list(self.degraded),
            }
        }

    async def _generate(
        self,
        results: list[Result],
        context: str,
        options: Mapping[str, object],
        sampling: Sampling,
        repeat: int,
        stop: Stop,
    ) -> str:
        reply = await self._responder.answer(unpack(context), sampling, repeat=repeat, stop=stop)
        self.usage += reply.result.usage
        results.append(reply.result)
        if reply.result.outcome not in (Outcome.FAILED, Outcome.CANCELLED):
            self.cache_hook.add_partial("generate_until", (context, options), reply.content)
        return reply.content

    def _run(self, jobs: Sequence[Callable[[Stop], Awaitable[Done]]], title: str, quiet: bool) -> list[Done]:
        """Return every job's result, in order. Raises a job's error, and KeyboardInterrupt: half a run has no score."""
        stop, gate = Stop(), asyncio.Semaphore(self.concurrency)

        async def work(job: Callable[[Stop], Awaitable[Done]]) -> Done:
            async with gate:
                if stop.is_set:
                    raise asyncio.CancelledError
                done = await job(stop)
            bar.update()
            return done

        async def every() -> list[Done]:
            return await asyncio.gather(*map(work, jobs))

        with tqdm(total=len(jobs), desc=title, disable=quiet) as bar:
            try:
                return run_sync(every, stop)
            finally:
                if stop.is_set:
                    raise KeyboardInterrupt

    def _report(self, results: Sequence[Result]) -> None:
        """Count the outcomes and warn about failures. Raises BackendError if every question failed."""
        self.outcomes.update(result.outcome for result in results)
        for result in results:
            self.degraded.update(dict.fromkeys(result.degraded))
        failed = [result for result in results if result.outcome is Outcome.FAILED]
        why = failed[0].errors[0] if failed and failed[0].errors else ""
        if failed and len(failed) == len(results):
            raise BackendError(f"every question failed, the first with: {why}", retryable=False, hint="fix its cause")
        if failed:
            log.warning(
                "%d of %d questions failed and got an empty text; the first: %s", len(failed), len(results), why
            )
        unanswered = sum(result.answer is None for result in results) - len(failed)
        if unanswered:
            reader = self.arguments.task or self.arguments.answers or "math"
            log.warning(
                "%d of %d questions: no path states an answer in the format %s, so there was no vote; "
                "see the arguments answers and task",
                unanswered,
                len(results),
                reader,
            )


register_model("branchwise")(BranchwiseLM)

if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
