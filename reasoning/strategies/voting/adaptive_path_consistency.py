"""Adaptive path-consistency: stop where the answer is settled, continue agreed beginnings where it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import beta_confidence, confidence, count, final_confidence, runner_up, weigh
from branchwise.strategies.actions import Action, Event, Extend, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import Decision
from branchwise.strategies.voting.prefix_consistency import cut_late, group_votes
from branchwise.strategies.voting.prefixes import PrefixSamples


@dataclass(slots=True)
class AdaptiveSamples(PrefixSamples):
    """One question: its branches, and those that were regrown to break a tie."""

    groups: dict[Path, list[Answer | None]] = field(default_factory=dict)
    """By late prefix, the answers of its path and of what was regrown from it."""
    grouped: set[int] = field(default_factory=set)  # the branches whose answers are in a group
    tie_sought: bool = False  # whether the vote was looked at for a tie
    uncuttable: bool = False  # whether paths were to be regrown that could not be cut


@dataclass(frozen=True, slots=True)
class AdaptivePathConsistency(PerQuestion[AdaptiveSamples]):
    """Draw paths until more of them would hardly change what is right, as cheaply as each question allows. Of
    branchwise; it joins

    - windows no larger than what could settle the answer, and a stop once it is settled by paths from the bare prompt
      alone, as in Adaptive-Consistency; settled is an answer that would still lead after all `paths`, which takes fewer
      of them than one that would lead for ever;
    - less certainty where less is at stake: the leader of scattered votes is seldom right, and so is the one that would
      take its place, so that the risk of a stop is weighed by the leader's share of the votes;
    - prefixes of agreeing paths on the questions left open, with the bias control of path-consistency, where
      `max_level` allows: a path that continues one tells less than it saves (docs/results.md), so by default none does;
    - votes weighted as in Prefix Consistency where two answers, ahead of all others, are nearly even towards the end:
      the last paths are ends of theirs, drawn again.

    Each part can be switched off: `stop_at=None`, `horizon=False`, `stakes=False`, `max_level=0`, `ties=0`.
    """

    name: ClassVar[str] = "adaptive-path-consistency"

    paths: int = 40
    """Most paths to draw."""
    window: int = 5
    """Most paths drawn between decisions."""
    probe: bool = True
    """Draw the first path alone, for later ones to be drafted from; the paths and votes are the same."""
    stop_at: float | None = 0.96
    """Stop when the leader among paths from the bare prompt is final with this probability, or the risk that it is not,
    weighed by what is at stake, is no more than one less this; None: never."""
    horizon: bool = True
    """Final is a leader that would lead after `paths` paths; False: after endlessly many."""
    stakes: bool = True
    """Weigh the risk by the leader's share, (its votes + 1) / (all votes + 2)."""
    max_level: int = 0
    """Most steps a prefix may have; 0: every path starts at the prompt."""
    threshold: float = 0.8
    """The leading answer's confidence at which prefixes grow by a step."""
    root_share: float = 0.5
    """Share of the paths after the first prefix that still start at the bare prompt: they alone settle an answer."""
    step_back: bool = True
    """Shorten the prefixes by a step when confidence falls below the threshold."""
    ties: int = 3
    """Paths of each of the two leading answers to regrow in place of the last ones, where the vote is nearly even and
    each of the two has so many; a sixth of `paths` at most; 0: none."""
    tie_below: float = 0.8
    """The confidence below which it does."""
    keep: float = 0.75
    """Share of a path's tokens that is kept where it is regrown."""
    power: float = 3.0
    """How much more answers count that come back; see PrefixConsistency."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(self.window >= 1, "window", f"is {self.window}", "use at least 1")
        require(self.max_level >= 0, "max_level", f"is {self.max_level}", "use 0 (no prefixes) or more")
        for name in ("threshold", "tie_below"):
            value = getattr(self, name)
            require(0.5 <= value <= 1, name, f"is {value}", "use 0.5 to 1")
        require(
            self.stop_at is None or 0.5 <= self.stop_at <= 1, "stop_at", f"is {self.stop_at}", "use 0.5 to 1, or None"
        )
        require(0 < self.root_share <= 1, "root_share", f"is {self.root_share}", "use a share above 0, at most 1")
        require(self.ties >= 0, "ties", f"is {self.ties}", "use 0 (none) or more")
        require(0 < self.keep < 1, "keep", f"is {self.keep}", "use a share above 0, below 1")
        require(self.power >= 0, "power", f"is {self.power}", "use 0 or more")

    @property
    def alone(self) -> bool:
        return self.paths == 1

    def begin(self, root: Path) -> AdaptiveSamples:
        return AdaptiveSamples(root, prefixes=[root])

    def more(self, samples: AdaptiveSamples) -> Sequence[Action]:
        if samples.waiting:
            return ()
        if samples.settled > samples.looked_at and not self._probed(samples):
            samples.looked_at = samples.settled
            # Weights would not settle what plain votes do, so that after a tie there is no stop.
            samples.settled_early = not samples.groups and self._settled(samples.settling(), self.paths - samples.asked)
            samples.change_level(self.threshold, self.max_level, self.step_back)
        if samples.settled_early:
            return ()
        if samples.asked == self._until(samples) < self.paths and (regrown := self._break_tie(samples)):
            return regrown
        first = samples.asked
        samples.asked += min(self._next_window(samples), self._until(samples) - first)
        return samples.extend(range(first, samples.asked), self.name, self.root_share, self.sampling)

    def take(self, samples: AdaptiveSamples, event: Event) -> None:
        if isinstance(event, Finished) and event.action.path in samples.groups:
            samples.groups[event.action.path].append(event.answer)
            samples.grouped.add(event.branch)

    def decide(self, samples: AdaptiveSamples) -> Decision:
        plain = ((branch.answer, 1.0) for branch in samples.finished if branch.branch not in samples.grouped)
        votes = weigh([*group_votes(samples.groups.values(), self.power), *plain])
        notes = samples.uncut(self.name) if self.max_level or samples.uncuttable else ()
        return samples.conclude(votes, self.root_share, notes)

    def _settled(self, alone: Mapping[Answer, float], left: int) -> bool:
        if not alone or not left:
            return False
        return self._stops(max(alone.values()), runner_up(alone), sum(alone.values()), left)

    def _stops(self, leading: float, second: float, votes: float, left: int) -> bool:
        """Whether it would stop at these votes for the first two answers, of so many."""
        if self.stop_at is None:
            return False
        final = final_confidence(leading, second, left) if self.horizon else beta_confidence(leading, second)
        stake = (leading + 1) / (votes + 2) if self.stakes else 1.0
        return 1 - (1 - final) * stake >= self.stop_at

    def _probed(self, samples: AdaptiveSamples) -> bool:
        """Whether the first path was drawn alone; what is left of the first window comes next."""
        return self.probe and samples.asked == 1 < self._settling({}, self.paths)

    def _next_window(self, samples: AdaptiveSamples) -> int:
        if self.probe and not samples.asked:
            return 1
        if self._probed(samples):
            return self._settling({}, self.paths) - 1
        left = self.paths - samples.asked
        return min(self.window, left) if samples.level else self._settling(samples.settling(), left)

    def _settling(self, alone: Mapping[Answer, float], left: int) -> int:
        """As many paths as could settle the answer if all of them stated it; no more than a window."""
        most = min(self.window, left)
        leading, second, votes = max(alone.values(), default=0.0), runner_up(alone), sum(alone.values())
        settling = (more for more in range(1, most) if self._stops(leading + more, second, votes + more, left - more))
        return next(settling, most)

    def _until(self, samples: AdaptiveSamples) -> int:
        """How many paths are drawn before the vote is looked at for a tie, or the strategy ends."""
        return self.paths if samples.tie_sought else self.paths - 2 * self._regrown

    @property
    def _regrown(self) -> int:
        """Paths of each leading answer to regrow."""
        return min(self.ties, self.paths // 6)

    def _break_tie(self, samples: AdaptiveSamples) -> Sequence[Action]:
        """Regrow paths of the two leading answers, once, where little else will settle which of them leads. Scattered
        votes have no two leaders: to regrow one-vote answers tells nothing, and leaves out others that have as many."""
        samples.tie_sought = True
        votes = count(samples.answers)
        if len(votes) < 2 or (confidence(votes) or 0.0) >= self.tie_below:
            return ()
        first, second, *others = votes
        stating = [[branch for branch in samples.rooted() if branch.answer == answer] for answer in (first, second)]
        scattered = bool(others) and votes[others[0]] == votes[second]
        if scattered or min(map(len, stating)) < self._regrown:
            return ()
        actions = []
        for branch in (branch for branches in stating for branch in branches[: self._regrown]):
            if (prefix := cut_late(branch, self.keep)) is None:
                samples.uncuttable = True
                continue
            samples.groups[prefix] = [branch.answer]
            samples.grouped.add(branch.branch)
            actions.append(Extend(prefix, 1, self.sampling))
        samples.asked += len(actions)
        return actions
