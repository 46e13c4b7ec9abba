"""Semantic consistency: paths whose replies mean the same vote together; the model decides which do."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import confidence, leader, weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Finished, check_paths
from branchwise.strategies.judging.calls import JudgeCall, JudgedSamples, JudgingStrategy
from branchwise.strategies.judging.prompts import SAME, reply_of, same_prompt
from branchwise.strategies.strategy import Decision


@dataclass(slots=True)
class GroupedSamples(JudgedSamples):
    """The branches of one question, and the groups of those that mean the same."""

    groups: list[list[Finished]] = field(default_factory=list)
    placed: int = 0
    """Candidates that are in a group."""
    compared: Sequence[JudgeCall] = ()
    """Calls that compare the next candidate with the first member of each group."""


@dataclass(frozen=True, slots=True)
class SemanticConsistency(JudgingStrategy[GroupedSamples]):
    """Sample paths, group the replies that mean the same, and take the first reply of the largest group.

    The groups of semantic entropy (Farquhar et al. 2024, Nature 630, 625-630): each reply is compared with the first
    one of every group, by a question to the model. Replies need no common form: use it with the task `free-form`.
    """

    name: ClassVar[str] = "semantic-consistency"

    paths: int = DEFAULT_PATHS
    """Number of paths."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths and of the comparisons."""

    def __post_init__(self) -> None:
        check_paths(self.paths)

    def initial_state(self, root: Path) -> GroupedSamples:
        return GroupedSamples(root)

    def judge(self, samples: GroupedSamples) -> None:
        if samples.compared:
            self._place_compared(samples)
        candidates = samples.candidates
        while samples.placed < len(candidates) and not samples.compared:
            branch = candidates[samples.placed]
            same = [group for group in samples.groups if any(member.answer == branch.answer for member in group)]
            if same or not samples.groups:
                _place(samples, branch, same[0] if same else None)
            else:
                reply = reply_of(branch.path)
                samples.compared = [
                    samples.call(same_prompt(samples.root, reply_of(group[0].path), reply), SAME)
                    for group in samples.groups
                ]

    def _place_compared(self, samples: GroupedSamples) -> None:
        compared = zip(samples.groups, samples.compared, strict=True)
        same = [group for group, call in compared if any(a is not None and a.value == "yes" for a in call.answers)]
        _place(samples, samples.candidates[samples.placed], same[0] if same else None)
        samples.compared = ()

    def decide(self, samples: GroupedSamples) -> Decision:
        unplaced = samples.candidates[samples.placed :]
        votes = weigh(
            [
                *((group[0].answer, float(len(group))) for group in samples.groups),
                *((branch.answer, 1.0) for branch in unplaced),
            ]
        )
        decision = Decision(leader(votes), confidence(votes), votes)
        if unplaced and samples.out_of_budget:
            count = f"{len(unplaced)} of {len(samples.candidates)} replies"
            decision = replace(decision, degraded=(f"{self.name}: the budget ended before {count} were grouped",))
        return self.noted(samples, decision)


def _place(samples: GroupedSamples, branch: Finished, group: list[Finished] | None) -> None:
    """Add a candidate to its group, or to a new one."""
    if group is None:
        samples.groups.append([branch])
    else:
        group.append(branch)
    samples.placed += 1
