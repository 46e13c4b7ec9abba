"""How good a node is: what the model thinks of it, where it leads, or what a verifier says."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from branchwise.core.sampling import Sampling
from branchwise.search.node import Node
from branchwise.search.search import Search
from branchwise.search.thoughts import rest_of
from branchwise.strategies.actions import Event, Extend, Failed, Finished, Rooted, Score, Scored, Verified, Verify
from branchwise.strategies.judgment import IS_CORRECT, VERDICTS, expected, judgment

Settled = Callable[[], None]
"""Called once a node has its value, or has failed."""
ValueName = Literal["p-true", "rating", "logprob", "rollouts", "verifier"]
"""Values by name: the probability that the model calls the node correct; how likely it says it leads to the answer;
the geometric mean of its tokens' probabilities; how far paths grown from it agree with the others; the verifier's."""


class Valuer(ABC):
    """Values nodes. A node that can't be valued fails, and costs the search nothing but itself."""

    @abstractmethod
    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        """Value a node, now or when what was asked for has come."""


def _give(node: Node, value: float | None, why: str) -> None:
    if value is None or math.isnan(value):
        node.failed = why
    else:
        node.value = value


def _why(event: Event) -> str:
    """What to say of a request that failed."""
    return str(event.error) if isinstance(event, Failed) and event.error is not None else "it was stopped"


@dataclass(frozen=True, slots=True)
class LogProb(Valuer):
    """The geometric mean of the path's tokens' probabilities, 0 to 1."""

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        logprobs = node.path.sampled_logprobs()
        mean = math.exp(sum(logprobs) / len(logprobs)) if logprobs else None
        _give(node, mean, "its tokens have no log-probabilities")
        settled()


@dataclass(frozen=True, slots=True)
class Checked(Valuer):
    """What the run's verifier says of the path."""

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        search.send(Verify(node.path, node.number), partial(self._checked, node, settled))

    def _checked(self, node: Node, settled: Settled, event: Event) -> None:
        if isinstance(event, Verified):
            _give(node, event.score, "the verifier's score is no number")
        else:
            node.failed = _why(event)
        settled()


_SO_FAR = "Is the reasoning above correct so far? Reply with one word, True or False."
_RATE = "Will going on like this lead to the right answer? Reply with one word: sure, likely or impossible."
_RATINGS: Mapping[str, float] = {"sure": 1.0, "likely": 0.5, "impossible": 0.0}


@dataclass(frozen=True, slots=True)
class SelfEvaluation(Valuer):
    """What the model thinks of the path: the mean worth of one-word verdicts under their probabilities."""

    unfinished: str = _SO_FAR
    """What is asked about a path that goes on."""
    ended: str = IS_CORRECT
    """What is asked about one that has ended."""
    verdicts: tuple[tuple[str, float], ...] = tuple(VERDICTS.items())
    """Words, and what each is worth."""

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        ask = self.ended if node.ended else self.unfinished
        root = judgment(node.path, search.question, ask=ask, tag=node.number)
        search.send(root, partial(self._posed, search, node, settled))

    def _posed(self, search: Search, node: Node, settled: Settled, event: Event) -> None:
        if isinstance(event, Rooted):
            score = Score(event.path, tuple(word for word, _ in self.verdicts), node.number)
            search.send(score, partial(self._scored, node, settled))
        else:
            node.failed = _why(event)
            settled()

    def _scored(self, node: Node, settled: Settled, event: Event) -> None:
        if isinstance(event, Scored):
            value = expected(event.logprobs, [worth for _, worth in self.verdicts])
            _give(node, value, "the model gives no verdict any probability")
        else:
            node.failed = _why(event)
        settled()


class Agreement(Valuer):
    """The share that an ended path's answer has of all answers so far; 0 without one."""

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        node.value = 0.0 if node.answer is None else search.shares()[node.answer]
        settled()


@dataclass(frozen=True, slots=True)
class Rollouts(Valuer):
    """Where paths grown from the node to their ends lead.

    The value is the mean, over the node's paths, of what `judge` makes of their ends; a path without an answer counts
    0, one that failed, or that can't be judged, not at all. A node that has ended is its own only path. In the order of
    asking, so it repeats.
    """

    sampling: Sampling
    count: int
    judge: Valuer

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        if node.ended:
            self.judge.begin(search, node, settled)
            return
        ends: list[Event] = []
        grown = partial(self._grown, search, node, ends, settled)
        search.send(Extend(node.path, self.count, rest_of(self.sampling, node.path)), grown)

    def _grown(self, search: Search, node: Node, ends: list[Event], settled: Settled, event: Event) -> None:
        ends.append(event)
        if len(ends) < self.count:
            return
        paths = [search.roll_out(node, end.path, end.answer) for end in ends if isinstance(end, Finished)]
        if paths:
            self._judge(search, node, paths, settled)
        else:
            node.failed = _why(event)
            settled()

    def _judge(self, search: Search, node: Node, paths: Sequence[Node], settled: Settled) -> None:
        waiting = len(paths)

        def judged() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting:
                return
            values = [path.value for path in paths if path.value is not None]
            _give(node, sum(values) / len(values) if values else None, paths[-1].failed)
            settled()

        for path in paths:
            if path.answer is None:
                path.value = 0.0
                judged()
            else:
                self.judge.begin(search, path, judged)


@dataclass(frozen=True, slots=True)
class ByEnd(Valuer):
    """One value for paths that go on, another for those that have ended."""

    unfinished: Valuer
    ended: Valuer

    def begin(self, search: Search, node: Node, settled: Settled) -> None:
        (self.ended if node.ended else self.unfinished).begin(search, node, settled)


def valuer(name: ValueName, sampling: Sampling, rollouts: int, final: ValueName | None = None) -> Valuer:
    """The value called `name`; of paths that have ended, and of rollouts' ends, the one called `final`."""
    ended = None if final is None else valuer(final, sampling, rollouts)
    if name == "rollouts":
        return Rollouts(sampling, rollouts, ended or Agreement())
    rating = SelfEvaluation(_RATE, verdicts=tuple(_RATINGS.items()))
    going = {"p-true": SelfEvaluation(), "rating": rating, "logprob": LogProb(), "verifier": Checked()}[name]
    return going if ended is None else ByEnd(going, ended)
