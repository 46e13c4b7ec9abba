"""Resolve a chat request into the arguments of a run: prompt, strategy, answer format, budget and seed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from branchwise.answers.formats import AnswerFormat
from branchwise.backends.base import Capabilities
from branchwise.chat.limits import Limits
from branchwise.chat.task import chat_task, with_tools
from branchwise.chat.tool_set import ToolSet
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Messages
from branchwise.core.sampling import Sampling
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import check_named, parse_strategy
from branchwise.serving.request import BudgetBody, ChatRequest, StrategyOptions
from branchwise.strategies.options import uses_verifier
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting.self_consistency import SelfConsistency

PLAIN = "plain"
"""The name of plain sampling where a strategy's name is expected."""
_PLAIN_TEMPERATURE = 1.0  # the default of OpenAI's API; strategies have their own

# Names of fields in a request that differ from their names elsewhere in branchwise.
_IN_KEY = ("strategy", "paths", "task", "answers", "thinking_budget")
_REQUEST_NAMES: Mapping[str, str] = {
    "question": "messages",
    "logprobs": "top_logprobs",
    "budget_tokens": "branchwise.budget.tokens",
    "budget_seconds": "branchwise.budget.seconds",
    **{name: f"branchwise.{name}" for name in _IN_KEY},
}


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """The arguments of the run that answers a request, and what the reply must contain."""

    request: ChatRequest
    messages: Messages
    strategy: AnyStrategy
    strategy_name: str
    """The strategy as the request or the server names it; "plain" for plain sampling."""
    task: Task
    budget: Budget
    seed: int
    choice_count: int = 1
    is_plain: bool = False
    """Each path is one choice, and no vote is taken."""
    streams_text: bool = False
    """The text can be streamed while it is sampled: every sampled path is shown, as it is."""

    @property
    def tools(self) -> ToolSet:
        """Return the tools whose calls the reply may hold."""
        return self.request.tool_set

    @property
    def logprobs(self) -> bool:
        return self.request.logprobs

    @property
    def has_details(self) -> bool:
        """Return whether the reply includes every path and the tree."""
        key = self.request.branchwise
        return key is not None and key.details


@dataclass(frozen=True, slots=True)
class NoAnswer(AnswerFormat):
    """Answer format of plain sampling: no answer is extracted, the text is the reply."""

    has_answers = False

    def extract(self, text: str) -> str | None:
        return None

    def normal(self, answer: str) -> str:
        return answer


@contextmanager
def request_field_names() -> Iterator[None]:
    """Rename the field of a ConfigError to its name in a request."""
    try:
        yield
    except ConfigError as error:
        raise error.renamed(_REQUEST_NAMES.get(error.field, error.field)) from error


def resolve(
    request: ChatRequest,
    capabilities: Capabilities,
    limits: Limits,
    *,
    default_seed: int,
    default_strategy: str,
    has_verifier: bool,
) -> ResolvedRequest:
    """Return the arguments of the run that answers `request`.

    Raises ConfigError, with the field as the request names it, for what is invalid or exceeds the limits.
    """
    _check_logprobs(request, capabilities)
    key = request.strategy_options
    with request_field_names():
        if key is None:
            return _resolve_plain(request, limits, default_seed)
        if key.strategy is not None:
            check_named(key.strategy)  # a client must not name code to load
        strategy = default_strategy if key.strategy is None else key.strategy
        seeds = [seed for seed in (key.seed, request.seed, default_seed) if seed is not None]
        return _resolve_strategy(request, key, strategy, limits, seed=seeds[0], has_verifier=has_verifier)


def _resolve_plain(request: ChatRequest, limits: Limits, default_seed: int) -> ResolvedRequest:
    """Return a run of `n` samples from which no answer is extracted."""
    require(request.n <= limits.paths, "n", f"is {request.n}", f"use at most {limits.paths}")
    require(
        not request.must_call,
        "tool_choice",
        "requires a tool call, which plain sampling can't guarantee",
        "request a strategy, by branchwise or MODEL@self-consistency: then only paths that call a tool vote",
    )
    sampling = _sampling(request, _PLAIN_TEMPERATURE, limits)
    max_tokens = limits.tokens // request.n
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=max(1, max_tokens))
    elif sampling.max_tokens > max_tokens:
        raise ConfigError(
            "n", f"is {request.n}, each of {sampling.max_tokens} tokens", f"use at most {limits.tokens} tokens in all"
        )
    return ResolvedRequest(
        request=request,
        messages=request.prompt(),
        strategy=SelfConsistency(request.n, sampling),
        strategy_name=PLAIN,
        task=Task(name=PLAIN, format=NoAnswer(), thinking=Thinking(request.thinking)),
        budget=Budget(limits.tokens, limits.seconds),
        seed=default_seed if request.seed is None else request.seed,
        choice_count=request.n,
        is_plain=True,
        streams_text=not request.offered_tools,
    )


def _resolve_strategy(
    request: ChatRequest, key: StrategyOptions, strategy_name: str, limits: Limits, *, seed: int, has_verifier: bool
) -> ResolvedRequest:
    """Return a run of a strategy whose paths vote."""
    require(request.n == 1, "n", f"is {request.n}", "request more paths instead: branchwise.paths")
    sampling = _sampling(request, Sampling().temperature, limits)
    chosen = parse_strategy(strategy_name, limits.check_paths(key.paths), sampling)
    strategy = chosen.strategy
    limits.check_options(strategy)
    require(
        has_verifier or not uses_verifier(strategy),
        "strategy",
        f"{chosen.name} needs a verifier, and this server has none",
        "use another strategy",
    )
    require(
        sampling.temperature > 0 or strategy.alone,
        "temperature",
        "is 0, so all paths would be the same",
        "leave it out, or use the strategy greedy",
    )
    budget = key.budget or BudgetBody()
    task = with_tools(
        chat_task(key.task, key.answers, strategy.default_task), request.tool_set, must_call=request.must_call
    )
    task = replace(task, thinking=Thinking(request.thinking, key.thinking_budget))
    return ResolvedRequest(
        request=request,
        messages=request.prompt(),
        strategy=strategy,
        strategy_name=chosen.name,
        task=task,
        budget=limits.budget(budget.tokens, budget.seconds),
        seed=seed,
        streams_text=strategy.alone and not request.offered_tools and task.thinking.budget is None,
    )


def _sampling(request: ChatRequest, temperature: float, limits: Limits) -> Sampling:
    """Return the requested sampling; a ConfigError names the token limit as the request does."""
    limits_given = {request.max_tokens, request.max_completion_tokens} - {None}
    problem = f"is {request.max_completion_tokens}, but max_tokens is {request.max_tokens}"
    require(len(limits_given) < 2, "max_completion_tokens", problem, "leave one of them out")
    field = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    try:
        sampling = request.sampling(temperature)
    except ConfigError as error:
        raise ConfigError(field if error.field == "max_tokens" else error.field, error.problem, error.fix) from error
    max_tokens = sampling.max_tokens or 0
    require(max_tokens <= limits.tokens, field, f"is {max_tokens}", f"use at most {limits.tokens}")
    return sampling


def _check_logprobs(request: ChatRequest, capabilities: Capabilities) -> None:
    """Raise ConfigError if the backend can't report the log-probabilities that the request includes."""
    if not request.logprobs:
        require(request.top_logprobs == 0, "top_logprobs", "needs logprobs", "set logprobs to true")
        return
    is_reported = capabilities.logprobs and capabilities.token_out  # each is sent with the text of its token
    require(is_reported, "logprobs", "are not reported by this model's backend", "leave it out")
    most = capabilities.top_k_logprobs
    require(0 <= request.top_logprobs <= most, "top_logprobs", f"is {request.top_logprobs}", f"use 0 to {most}")
    require(
        request.top_logprobs == 0 or request.return_tokens_as_token_ids,
        "top_logprobs",
        "are known by their token ids only",
        "set return_tokens_as_token_ids to true to get them as token_id:7, or leave it out",
    )
