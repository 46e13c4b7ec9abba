"""Values of nodes: self-evaluation, token probabilities, rollouts, or the run's verifier."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from branchwise.core.errors import UnsupportedError
from branchwise.core.sampling import Sampling
from branchwise.search.limits import remaining_sampling
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.strategies.actions import (
    Event,
    Extend,
    Failed,
    Finished,
    Root,
    Rooted,
    Score,
    Scored,
    Verified,
    Verify,
)
from branchwise.strategies.judging.prompts import RATE, RUBRIC, judge_sampling, rate_prompt, rating_of, reply_of
from branchwise.strategies.self_evaluation import IS_CORRECT, VERDICTS, expected_value, judge_prompt

OnValued = Callable[[], None]
"""Called once, when a node has its value or valuing it has failed."""
ValueName = Literal["p-true", "rating", "rubric", "logprob", "rollouts", "verifier"]
"""p-true: probability that the model calls the node correct. rating: likelihood of a right answer by the model's own
one-word rating. rubric: the model's rating from 1 to 10, which is plain chat and needs no scores of given texts.
logprob: geometric mean of the token probabilities. rollouts: share of the answers that agree with rollouts from the
node. verifier: score of the run's verifier."""


class Valuer(ABC):
    """Computes values of nodes. A node that can't be valued fails and is the only one lost."""

    @abstractmethod
    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        """Value a node, at once or when the necessary requests have completed."""


def _set_value(node: Node, value: float | None, failure: str) -> None:
    if value is None or math.isnan(value):
        node.failure = failure
    else:
        node.value = value


def _failure_of(event: Event) -> str:
    """Return the reason why a request failed."""
    return str(event.error) if isinstance(event, Failed) and event.error is not None else "the request was cancelled"


def _fail(node: Node, event: Event, on_valued: OnValued) -> None:
    node.failure = _failure_of(event)
    on_valued()


@dataclass(frozen=True, slots=True)
class MeanProbability(Valuer):
    """The geometric mean of the path's token probabilities, 0 to 1."""

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        logprobs = node.path.sampled_logprobs()
        mean = math.exp(sum(logprobs) / len(logprobs)) if logprobs else None
        _set_value(node, mean, "its tokens have no log-probabilities")
        on_valued()


@dataclass(frozen=True, slots=True)
class VerifierScore(Valuer):
    """The score of the run's verifier."""

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        state.send(Verify(node.path, node.number), partial(self._verified, node, on_valued))

    def _verified(self, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Verified):
            _set_value(node, event.score, "the verifier's score is not a number")
        else:
            node.failure = _failure_of(event)
        on_valued()


_REPLY = Sampling(max_tokens=16)
"""Sampling settings of a one-word reply."""
_SO_FAR = "Is the reasoning above correct so far? Reply with one word, True or False."
_RATE = "Will going on like this lead to the right answer? Reply with one word: sure, likely or impossible."
_RATINGS: Mapping[str, float] = {"sure": 1.0, "likely": 0.5, "impossible": 0.0}


@dataclass(frozen=True, slots=True)
class SelfEvaluation(Valuer):
    """The model's own evaluation: the mean value of one-word replies, weighted by their probabilities.

    Without scores of given texts, as over a server of chats, the value is that of one sampled reply.
    """

    unfinished: str = _SO_FAR
    """Prompt for a path that continues."""
    ended: str = IS_CORRECT
    """Prompt for a path that has ended."""
    replies: tuple[tuple[str, float], ...] = tuple(VERDICTS.items())
    """Replies and their values."""

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        ask = self.ended if node.ended else self.unfinished
        prompt = judge_prompt(node.path, state.question, ask=ask, tag=node.number)
        state.send(prompt, partial(self._rooted, state, node, on_valued))

    def _rooted(self, state: SearchState, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Rooted):
            score = Score(event.path, tuple(word for word, _ in self.replies), node.number)
            state.send(score, partial(self._scored, state, node, on_valued))
        else:
            _fail(node, event, on_valued)

    def _scored(self, state: SearchState, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Failed) and isinstance(event.error, UnsupportedError) and isinstance(event.action, Score):
            extend = Extend(event.action.path, sampling=_REPLY, tag=node.number)
            state.send(extend, partial(self._replied, node, on_valued))
            return
        if isinstance(event, Scored):
            value = expected_value(event.logprobs, [value for _, value in self.replies])
            _set_value(node, value, "the model gives every reply the probability 0")
        else:
            node.failure = _failure_of(event)
        on_valued()

    def _replied(self, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Finished):
            words = re.findall(r"[^\W\d_]+", reply_of(event.path).lower())
            values = {word.lower(): value for word, value in self.replies}
            found = [values[word] for word in words if word in values]
            _set_value(node, found[0] if found else None, "the model's reply has none of the words it was asked for")
        else:
            node.failure = _failure_of(event)
        on_valued()


@dataclass(frozen=True, slots=True)
class ChatRating(Valuer):
    """The model's rating of the reply by a rubric, sampled in plain chat; 0 to 1."""

    sampling: Sampling

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        prompt = rate_prompt(node.path, reply_of(node.path), RUBRIC, finished=node.ended)
        root = Root(prompt, state.question, RATE, node.number)
        state.send(root, partial(self._rooted, state, node, on_valued))

    def _rooted(self, state: SearchState, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Rooted):
            extend = Extend(event.path, sampling=judge_sampling(self.sampling), tag=node.number)
            state.send(extend, partial(self._rated, node, on_valued))
        else:
            _fail(node, event, on_valued)

    def _rated(self, node: Node, on_valued: OnValued, event: Event) -> None:
        if isinstance(event, Finished):
            _set_value(node, rating_of(event.answer), "the judge's reply has no rating from 1 to 10")
        else:
            node.failure = _failure_of(event)
        on_valued()


class AnswerShare(Valuer):
    """The share of an ended path's answer among all answers so far; 0 without an answer."""

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        node.value = 0.0 if node.answer is None else state.answer_shares()[node.answer]
        on_valued()


@dataclass(frozen=True, slots=True)
class RolloutMean(Valuer):
    """The mean value of rollouts: paths sampled from the node to their ends.

    `judge` values each end. A rollout without an answer counts 0; one that failed or can't be valued does not count. A
    node that has ended is its own only rollout. Rollouts are valued in the order of the requests, so results repeat.
    """

    sampling: Sampling
    count: int
    judge: Valuer

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        if node.ended:
            self.judge.start(state, node, on_valued)
            return
        completions: list[Event] = []
        extend = Extend(node.path, self.count, remaining_sampling(self.sampling, node.path))
        state.send(extend, partial(self._extended, state, node, completions, on_valued))

    def _extended(
        self, state: SearchState, node: Node, completions: list[Event], on_valued: OnValued, event: Event
    ) -> None:
        completions.append(event)
        if len(completions) < self.count:
            return
        ends = [state.add_rollout(node, end.path, end.answer) for end in completions if isinstance(end, Finished)]
        if ends:
            self._value_ends(state, node, ends, on_valued)
        else:
            _fail(node, event, on_valued)

    def _value_ends(self, state: SearchState, node: Node, ends: Sequence[Node], on_valued: OnValued) -> None:
        remaining = len(ends)

        def end_valued() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining:
                return
            values = [end.value for end in ends if end.value is not None]
            _set_value(node, sum(values) / len(values) if values else None, ends[-1].failure)
            on_valued()

        for end in ends:
            if end.answer is None:
                end.value = 0.0
                end_valued()
            else:
                self.judge.start(state, end, end_valued)


@dataclass(frozen=True, slots=True)
class SplitByEnd(Valuer):
    """One value for paths that continue, another for paths that have ended."""

    unfinished: Valuer
    ended: Valuer

    def start(self, state: SearchState, node: Node, on_valued: OnValued) -> None:
        (self.ended if node.ended else self.unfinished).start(state, node, on_valued)


def make_valuer(name: ValueName, sampling: Sampling, rollouts: int, final: ValueName | None = None) -> Valuer:
    """Return the valuer called `name`; `final` names the one for ended paths and the ends of rollouts."""
    ended = None if final is None else make_valuer(final, sampling, rollouts)
    if name == "rollouts":
        return RolloutMean(sampling, rollouts, ended or AnswerShare())
    rating = SelfEvaluation(_RATE, replies=tuple(_RATINGS.items()))
    valuers: Mapping[str, Valuer] = {
        "p-true": SelfEvaluation(),
        "rating": rating,
        "rubric": ChatRating(sampling),
        "logprob": MeanProbability(),
        "verifier": VerifierScore(),
    }
    return valuers[name] if ended is None else SplitByEnd(valuers[name], ended)
