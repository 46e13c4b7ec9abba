"""A strategy as a model of EleutherAI's lm-eval, under the name `branchwise`.

lm-eval finds models that were registered before it looks, so import this module first:

import lm_eval
import branchwise.integrations.lm_eval

lm_eval.simple_evaluate("branchwise", "model=Qwen2.5-Coder-0.5B-Instruct,strategy=self-consistency,temperature=0.7",
                        tasks=["gsm8k"], apply_chat_template=True)

or run lm-eval's command line through it: python -m branchwise.integrations.lm_eval run --model branchwise ...
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
    """What lm-eval asks: its Instance, as far as it is used here."""

    @property
    def args(self) -> ArgsT: ...


class BranchwiseLM(LM):
    """Answers each prompt with a strategy.

    Generated texts are whole: what the first path that states the winning answer says, so that a task's own filters
    extract from it; an empty one where a question failed. A prompt is one user turn, or, with lm-eval's
    apply_chat_template, the chat that lm-eval makes of it. Log-likelihoods are those of the model itself, of texts as
    the assistant's answer: no strategy takes part in them.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        backend: Backend | None = None,
        concurrency: int = 4,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **arguments: object,
    ) -> None:
        """`arguments` are those of `ChatConfig`, by name; `backend` takes the place of loading `model`.

        `concurrency` is how many questions are under way at a time. lm-eval's batch sizes are not used: the engine
        batches by itself. Raises ConfigError, ModelError, MissingExtraError.
        """
        super().__init__()
        require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
        if arguments.get("device") == "cuda:0":  # lm-eval's command line says so where nobody chose a device
            del arguments["device"]
        self.arguments = ChatConfig.parse(arguments)
        self.backend = backend or self.arguments.load(model)
        self.concurrency = concurrency
        self.usage = Usage()
        """What everything so far cost, log-likelihoods included."""
        self.outcomes: Counter[Outcome] = Counter()
        """How the questions ended that were answered with generated texts."""
        self.degraded: dict[str, None] = {}
        self._respondent = Responder(self.backend, self.arguments)

    def generate_until(
        self, requests: Sequence[Request[tuple[str, Mapping[str, object]]]], disable_tqdm: bool = False
    ) -> list[str]:
        """One text for each prompt. A prompt that comes n times is answered with n samples.

        Raises ConfigError, before anything is asked, for generation arguments that make no sense with the strategy;
        BackendError where every question failed.
        """
        asked: Counter[tuple[str, str]] = Counter()
        jobs = []
        results: list[Result] = []
        for request in requests:
            context, options = request.args
            sampling = sampling_for(options)
            self.arguments.strategy_for(self.arguments.sampling(sampling))
            mark = (context, repr(options))
            jobs.append(partial(self._generate, results, context, options, sampling, asked[mark]))
            asked[mark] += 1
        texts = self._run(jobs, "Questions", disable_tqdm)
        self._report(results)
        return texts

    def loglikelihood(
        self, requests: Sequence[Request[tuple[str, str]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """(nats, whether greedy decoding writes it) for each continuation of a context. Raises BranchwiseError."""
        places: dict[str, list[int]] = {}  # a context's continuations share its computation
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
        """Nats of each text, as the answer to an empty user turn. Raises BranchwiseError."""

        async def score(text: str, _: Stop) -> float:
            found = await rolling(self.backend, text)
            self.usage += found.cost
            return found.logprob

        return self._run([partial(score, request.args[0]) for request in requests], "Texts", disable_tqdm)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The chat, kept as turns: the backend writes them in the model's own template."""
        return pack(chat_history)

    @property
    def tokenizer_name(self) -> str:
        """The model's name: lm-eval keeps built prompts under it."""
        return self.backend.capabilities.model.replace("/", "__")

    def get_model_info(self) -> dict[str, JsonValue]:
        """For lm-eval's results: `results["config"]["branchwise"]` has the arguments, the ledger over all requests and
        how many questions ended how."""
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
        reply = await self._respondent.answer(unpack(context), sampling, repeat=repeat, stop=stop)
        self.usage += reply.result.usage
        results.append(reply.result)
        if reply.result.outcome not in (Outcome.FAILED, Outcome.CANCELLED):
            self.cache_hook.add_partial("generate_until", (context, options), reply.content)
        return reply.content

    def _run(self, jobs: Sequence[Callable[[Stop], Awaitable[Done]]], title: str, quiet: bool) -> list[Done]:
        """Every job's result, in order. Raises what a job raises, and KeyboardInterrupt: half a run has no score."""
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
        """Count the outcomes, and tell a person what no score says. Raises BackendError where every question failed."""
        self.outcomes.update(result.outcome for result in results)
        for result in results:
            self.degraded.update(dict.fromkeys(result.degraded))
        failed = [result for result in results if result.outcome is Outcome.FAILED]
        why = failed[0].errors[0] if failed and failed[0].errors else ""
        if failed and len(failed) == len(results):
            raise BackendError(f"every question failed, the first with: {why}", retryable=False, hint="see to that")
        if failed:
            log.warning(
                "%d of %d questions failed and got an empty text; the first: %s", len(failed), len(results), why
            )
        silent = sum(result.answer is None for result in results) - len(failed)
        if silent:
            reader = self.arguments.task or self.arguments.answers or "math"
            log.warning(
                "%d of %d questions: no path states an answer as %s reads it, so there was no vote; "
                "see the arguments answers and task",
                silent, len(results), reader,
            )  # fmt: skip


register_model("branchwise")(BranchwiseLM)

if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
