"""Reward functions: code of the user that scores a reply by its text, used as the run's verifier."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields

from branchwise.core.errors import BranchwiseError, CallError, ConfigError
from branchwise.core.path import Path
from branchwise.driver.scheduler import Verifier, is_async
from branchwise.search.best_of_n import BestOfN
from branchwise.strategies.judging.prompts import reply_of
from branchwise.strategies.options import apply_options, options_of, uses_verifier
from branchwise.strategies.strategy import AnyStrategy

RewardFunction = Callable[[str, str], float | Awaitable[float]]
"""Takes the text of the question's last user turn and of a reply, and returns the reply's score; sync or async.

A plain function is called in a thread, for one reply at a time; an async one is awaited, for all replies at once."""


def as_verifier(reward: RewardFunction) -> Verifier:
    """Return the verifier that calls `reward`. It raises CallError if the function fails."""

    def score(path: Path) -> float:
        with _named_errors():
            return float(reward(_question_of(path), reply_of(path)))  # type: ignore[arg-type]  # it is not async

    async def score_async(path: Path) -> float:
        with _named_errors():
            return float(await reward(_question_of(path), reply_of(path)))  # type: ignore[misc]  # it is async

    return score_async if is_async(reward) else score


@contextmanager
def _named_errors() -> Iterator[None]:
    """Raise what a reward function raises as CallError, with the name of the argument."""
    try:
        yield
    except BranchwiseError:
        raise
    except Exception as error:
        raise CallError("reward_fn", error) from error


def with_reward(strategy: AnyStrategy | None) -> AnyStrategy:
    """Return the strategy with the reward as its value of replies; without a strategy, best-of-N.

    A value that differs from the strategy's default stays. Raises ConfigError if the strategy then scores no replies.
    """
    if strategy is None:
        return BestOfN(value="verifier")
    if uses_verifier(strategy):
        return strategy
    value = options_of(strategy).get("value")
    if value is None or "verifier" not in value.kinds or value.value != _default(strategy):
        fix = 'use strategy="best-of-n", or a search with value="verifier"'
        raise ConfigError("reward_fn", f"is given, but {strategy.name} scores no replies with it", fix)
    return apply_options(strategy, ["value=verifier"], "reward_fn", strategy.name)[0]


def _default(strategy: AnyStrategy) -> object:
    return next(field.default for field in fields(strategy) if field.name == "value")  # type: ignore[arg-type]


def _question_of(path: Path) -> str:
    """Return the text of the last user turn."""
    messages = path.root.messages
    turns = () if messages is None else messages.turns
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
