"""Judge: the model compares the replies in pairs, or rates each by a rubric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, Literal

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import leader, weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Finished, check_paths
from branchwise.strategies.judging.calls import JudgeCall, JudgedSamples, JudgingStrategy, check_votes
from branchwise.strategies.judging.prompts import (
    COMPARE,
    RATE,
    RUBRIC,
    compare_prompt,
    rate_prompt,
    rating_of,
    reply_of,
)
from branchwise.strategies.strategy import Decision

Method = Literal["pairwise", "rubric"]


@dataclass(slots=True)
class JudgedReplies(JudgedSamples):
    """The branches of one question, one reply for each different answer, and the state of the tournament."""

    entrants: list[Finished] = field(default_factory=list)
    """One branch for each different answer, most votes first."""
    remaining: list[int] = field(default_factory=list)
    """Entrants that have lost no match, in the order of `entrants`."""
    matches: list[tuple[int, int]] = field(default_factory=list)
    """Matches of the round that is judged; each has two calls, the last ones made."""
    wins: dict[int, float] = field(default_factory=dict)
    """Judged comparisons that each entrant won."""

    def enter(self) -> None:
        """Enter one branch for each different answer."""
        first = {branch.answer: branch for branch in reversed(self.candidates)}
        votes = weigh((branch.answer, 1.0) for branch in self.candidates)
        self.entrants = [first[answer] for answer in votes]
        self.remaining = list(range(len(self.entrants)))
        self.wins = dict.fromkeys(self.remaining, 0.0)


@dataclass(frozen=True, slots=True)
class Judge(JudgingStrategy[JudgedReplies]):
    """Sample paths, and let the model judge their replies in plain chat. Replies need no common form.

    `pairwise` plays a knockout tournament: each match is judged in both orders, because judges prefer the first or the
    second place, and the answer with more votes advances on a tie (after PairJudge RM, Liu et al. 2025, arXiv
    2501.13007). `rubric` rates every reply from 1 to 10 (after Zheng et al. 2023, arXiv 2306.05685). Different answers
    are judged once each. If no reply of the judge can be read, the plain vote decides.
    """

    name: ClassVar[str] = "judge"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    method: Method = "pairwise"
    """pairwise compares two replies at a time; rubric rates each reply alone."""
    votes: int = 1
    """Number of judgments that are sampled for each prompt of the judge."""
    rubric: str = RUBRIC
    """Criteria of the ratings."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths and of the judgments."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.method in ("pairwise", "rubric"), "method", f"is {self.method!r}", "use pairwise or rubric")
        check_votes(self.votes)
        require(bool(self.rubric.strip()), "rubric", "is empty", "write what a good reply is")

    def initial_state(self, root: Path) -> JudgedReplies:
        return JudgedReplies(root)

    def judge(self, samples: JudgedReplies) -> None:
        if not samples.entrants:
            samples.enter()
            if self.method == "rubric" and len(samples.entrants) > 1:
                for entrant in samples.entrants:
                    prompt = rate_prompt(samples.root, reply_of(entrant.path), self.rubric)
                    samples.call(prompt, RATE, self.votes)
        if self.method == "pairwise":
            self._end_round(samples)
            self._start_round(samples)

    def _start_round(self, samples: JudgedReplies) -> None:
        order = samples.remaining
        samples.matches = list(zip(order[::2], order[1::2], strict=False))  # an odd last one advances
        for match in samples.matches:
            first, second = (reply_of(samples.entrants[entrant].path) for entrant in match)
            samples.call(compare_prompt(samples.root, first, second), COMPARE, self.votes)
            samples.call(compare_prompt(samples.root, second, first), COMPARE, self.votes)

    def _end_round(self, samples: JudgedReplies) -> None:
        """Remove the losers of the round that was judged."""
        calls = samples.calls[len(samples.calls) - 2 * len(samples.matches) :]
        for (first, second), one, other in zip(samples.matches, calls[::2], calls[1::2], strict=True):
            for_first = _count(one, "A") + _count(other, "B")
            for_second = _count(one, "B") + _count(other, "A")
            samples.wins[first] += for_first
            samples.wins[second] += for_second
            samples.remaining.remove(first if for_second > for_first else second)
        samples.matches = []

    def is_valid(self, samples: JudgedReplies, answer: Answer) -> bool:
        return self.method == "pairwise" or rating_of(answer) is not None

    def decide(self, samples: JudgedReplies) -> Decision:
        weights = self._ratings(samples) if self.method == "rubric" else self._wins(samples)
        if not any(weights.values()):
            return self.noted(samples, samples.majority())
        best = leader(weights)
        if self.method == "pairwise":
            best = samples.entrants[samples.remaining[0]].answer
        return self.judged(samples, best, weights)

    def _wins(self, samples: JudgedReplies) -> Mapping[Answer, float]:
        return weigh((entrant.answer, samples.wins[number]) for number, entrant in enumerate(samples.entrants))

    def _ratings(self, samples: JudgedReplies) -> Mapping[Answer, float]:
        """Return the mean rating of each answer that has one, from 0 to 1."""
        rated = zip(samples.entrants, samples.calls, strict=False)  # a single answer is not rated
        return weigh(
            (entrant.answer, fmean(ratings)) for entrant, call in rated if (ratings := _valid_ratings(call.answers))
        )


def _count(call: JudgeCall, letter: str) -> int:
    return sum(answer is not None and answer.value == letter for answer in call.answers)


def _valid_ratings(answers: Sequence[Answer | None]) -> list[float]:
    return [rating for answer in answers if (rating := rating_of(answer)) is not None]
