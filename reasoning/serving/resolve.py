"""What a request comes to: a prompt, a strategy, how its paths are read, and what it may spend."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from branchwise.answers.formats import AnswerFormat
from branchwise.backends.base import Capabilities
from branchwise.chat.tool_calls import ToolCalls
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import Messages
from branchwise.core.sampling import Sampling
from branchwise.prompts.library import task as find_task
from branchwise.prompts.task import Task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import named
from branchwise.serving.limits import Limits
from branchwise.serving.request import BudgetBody, ChatRequest, Strategised
from branchwise.strategies.spec import options
from branchwise.strategies.strategy import AnyStrategy
from branchwise.strategies.voting.self_consistency import SelfConsistency
from branchwise.verifiers.registry import uses_verifier

_PLAIN_TEMPERATURE = 1.0  # as other servers have it; strategies have their own default
_MULTIPLIERS = ("answers", "keep", "parallel", "regrow", "rollouts", "width")
"""Options of strategies that multiply branches; those called `paths` and `most` are branches themselves."""
_LEAST_MULTIPLE = 8  # what such an option may be whatever the limit on paths

# How fields are called in a request, where the rest of branchwise calls them otherwise.
_IN_KEY = ("strategy", "paths", "task", "answers", "thinking_budget")
_SENT_AS: Mapping[str, str] = {
    "question": "messages",
    "logprobs": "top_logprobs",
    "budget_tokens": "branchwise.budget.tokens",
    "budget_seconds": "branchwise.budget.seconds",
    **{name: f"branchwise.{name}" for name in _IN_KEY},
}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request in branchwise's own terms."""

    messages: Messages
    strategy: AnyStrategy
    name: str
    """The strategy as one asks for it; "plain" for plain sampling."""
    kind: str
    """Its name without options."""
    task: Task
    budget: Budget
    seed: int
    plain: bool
    """Whether the paths are the answer, one choice each, and nothing votes."""
    choices: int
    follows: bool
    """Whether its text can be told while it grows: paths are few and each is shown as it is."""
    details: bool


@dataclass(frozen=True, slots=True)
class Unread(AnswerFormat):
    """Nothing is read: the text is the answer."""

    def extract(self, text: str) -> str | None:
        return None

    def normal(self, answer: str) -> str:
        return answer


@contextmanager
def as_sent() -> Iterator[None]:
    """Calls the field of a ConfigError what the request calls it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_SENT_AS.get(error.field, error.field), error.problem, error.fix) from error


def inquiry(
    request: ChatRequest, able: Capabilities, limits: Limits, *, seed: int, strategy: str, verifies: bool
) -> Inquiry:
    """What `request` comes to; `seed` and `strategy` are for one that names none.

    `verifies` is whether there is a verifier for strategies that ask one. Raises ConfigError with the field as the
    request has it.
    """
    _check_logprobs(request, able)
    key = request.strategised
    with as_sent():
        if key is None:
            return _plain(request, limits, seed)
        return _strategised(request, key, limits, seed, strategy, verifies)


def _plain(request: ChatRequest, limits: Limits, seed: int) -> Inquiry:
    """`n` samples, and nothing read of them."""
    require(request.n <= limits.paths, "n", f"is {request.n}", f"use at most {limits.paths}")
    require(
        not request.must_call,
        "tool_choice", "asks for a call, which a plain sample need not make",
        "ask for a strategy, by branchwise or MODEL@self-consistency: only paths that call a tool then have a vote",
    )  # fmt: skip
    sampling = _sampling(request, _PLAIN_TEMPERATURE, limits)
    most = limits.tokens // request.n
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=max(1, most))
    elif sampling.max_tokens > most:
        raise ConfigError(
            "n", f"is {request.n}, each of {sampling.max_tokens} tokens", f"ask for {limits.tokens} in all"
        )
    return Inquiry(
        messages=request.prompt(),
        strategy=SelfConsistency(request.n, sampling),
        name="plain",
        kind="plain",
        task=Task(name="plain", format=Unread(), thinking=Thinking(request.thinking)),
        budget=Budget(limits.tokens, limits.seconds),
        seed=seed if request.seed is None else request.seed,
        plain=True,
        choices=request.n,
        follows=not request.offered_tools,
        details=False,
    )


def _strategised(
    request: ChatRequest, key: Strategised, limits: Limits, seed: int, usual: str, verifies: bool
) -> Inquiry:
    """A strategy over paths that are read."""
    require(request.n == 1, "n", f"is {request.n}", "ask for more paths instead: branchwise.paths")
    require(1 <= key.paths <= limits.paths, "paths", f"is {key.paths}", f"use 1 to {limits.paths}")
    sampling = _sampling(request, Sampling().temperature, limits)
    chosen = named(usual if key.strategy is None else key.strategy, key.paths, sampling)
    strategy, kind = chosen.strategy, chosen.name.partition(":")[0]
    _check_options(strategy, limits)
    require(
        verifies or not uses_verifier(strategy),
        "strategy", f"{chosen.name} asks a verifier, and this server has none", "use another one",
    )  # fmt: skip
    require(
        sampling.temperature > 0 or strategy.alone,
        "temperature", "is 0, so all paths would be the same", "leave it out, or use the strategy greedy",
    )  # fmt: skip
    task = _task(request, key)
    given = [value for value in (key.seed, request.seed) if value is not None]
    return Inquiry(
        messages=request.prompt(),
        strategy=strategy,
        name=chosen.name,
        kind=kind,
        task=task,
        budget=_budget(key.budget or BudgetBody(), limits),
        seed=given[0] if given else seed,
        plain=False,
        choices=1,
        follows=strategy.alone and not request.offered_tools and task.thinking.budget is None,
        details=key.details,
    )


def _task(request: ChatRequest, key: Strategised) -> Task:
    """How the question is put, and how its paths are read."""
    require(
        key.task is None or key.answers is None,
        "answers", "is given beside task, which has answers of its own", "leave one of them out",
    )  # fmt: skip
    try:
        read_like = find_task(key.task or key.answers or "math")
    except ConfigError as error:
        raise ConfigError("task" if key.task else "answers", error.problem, error.fix) from error
    task = read_like if key.task else Task(name=read_like.name, format=read_like.format)
    if request.offered_tools:
        calls = ToolCalls.of(request.offered_tools, task.format, must_call=request.must_call)
        task = replace(task, format=calls)
    return replace(task, thinking=Thinking(request.thinking, key.thinking_budget))


def _budget(asked: BudgetBody, limits: Limits) -> Budget:
    tokens = limits.tokens if asked.tokens is None else asked.tokens
    seconds = limits.seconds if asked.seconds is None else asked.seconds
    require(tokens <= limits.tokens, "budget_tokens", f"is {tokens}", f"use at most {limits.tokens}")
    require(seconds <= limits.seconds, "budget_seconds", f"is {seconds:g}", f"use at most {limits.seconds:g}")
    return Budget(tokens, seconds)


def _sampling(request: ChatRequest, temperature: float, limits: Limits) -> Sampling:
    both = request.max_tokens is not None and request.max_completion_tokens is not None
    require(not both, "max_completion_tokens", "is given beside max_tokens", "leave one of them out")
    field = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    try:
        sampling = request.sampling(temperature)
    except ConfigError as error:
        raise ConfigError(field if error.field == "max_tokens" else error.field, error.problem, error.fix) from error
    asked = sampling.max_tokens or 0
    require(asked <= limits.tokens, field, f"is {asked}", f"use at most {limits.tokens}")
    return sampling


def _check_options(strategy: AnyStrategy, limits: Limits) -> None:
    """No option multiplies branches beyond what is allowed."""
    most = {"paths": limits.paths, "most": limits.paths}
    most |= dict.fromkeys(_MULTIPLIERS, max(limits.paths, _LEAST_MULTIPLE))
    for option in options(strategy).values():
        if isinstance(option.value, int) and option.value > most.get(option.name, option.value):
            raise ConfigError("strategy", f"{option.name} is {option.value}", f"use at most {most[option.name]}")


def _check_logprobs(request: ChatRequest, able: Capabilities) -> None:
    """Log-probabilities are told with their tokens, so it takes both."""
    if not request.logprobs:
        require(request.top_logprobs == 0, "top_logprobs", "goes with logprobs", "set logprobs to true")
        return
    require(able.logprobs and able.token_out, "logprobs", "this model's backend reports none", "leave it out")
    most = able.top_k_logprobs
    require(0 <= request.top_logprobs <= most, "top_logprobs", f"is {request.top_logprobs}", f"use 0 to {most}")
    require(
        request.top_logprobs == 0 or request.return_tokens_as_token_ids,
        "top_logprobs", "are alternatives that are known here by their ids alone",
        "set return_tokens_as_token_ids to true to take them as token_id:7, or leave it out",
    )  # fmt: skip
