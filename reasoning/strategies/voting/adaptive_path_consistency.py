"""Adaptive path-consistency: stop once the answer is final; optionally continue prefixes and break ties until then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import beta_confidence, confidence, count, final_confidence, runner_up, weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, Extend, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.strategy import AnyStrategy, Decision
from branchwise.strategies.voting.prefix_consistency import group_votes, late_prefix
from branchwise.strategies.voting.prefixes import PrefixSamples


@dataclass(slots=True)
class AdaptiveSamples(PrefixSamples):
    """The branches of one question, and the paths regenerated to break a tie."""

    groups: dict[Path, list[Answer | None]] = field(default_factory=dict)
    """Answers by late prefix: the original path's, then the regenerated one's."""
    grouped: set[int] = field(default_factory=set)
    """Original and regenerated branches whose answers are in a group."""
    tie_checked: bool = False
    """True once the vote was checked for a tie."""
    uncuttable: bool = False
    """True if a path that breaks the tie could not be cut."""


@dataclass(frozen=True, slots=True)
class AdaptivePathConsistency(PerQuestion[AdaptiveSamples]):
    """Sample paths until the answer is final with high probability, at the least cost each question allows. It is
    branchwise's own combination of

    - windows no larger than the number of paths that could end the question, and a stop as in Adaptive-Consistency,
      decided by paths from the bare prompt alone. An answer is final if it would still lead after all `paths`, which
      takes fewer paths than a lead after endlessly many;
    - a stop that weighs the risk by the leader's share of the votes. The leader of scattered votes is seldom right, and
      so is the answer that would replace it, so less is at stake;
    - prefixes of agreeing paths on open questions, with the bias control of path-consistency, if `max_level` allows it.
      A path that continues a prefix carries less information than it saves (docs/results.md), so it is off by default;
    - a tie-break: if two answers, ahead of all others, are nearly even towards the end, the last paths regenerate the
      ends of their paths, and votes are weighted as in Prefix Consistency.

    Each part can be switched off: `stop_at=None`, `horizon=False`, `stakes=False`, `max_level=0`, `ties=0`.
    """

    name: ClassVar[str] = "adaptive-path-consistency"

    paths: int = DEFAULT_PATHS
    """Maximum number of paths."""
    window: int = 5
    """Maximum number of paths sampled between two decisions."""
    probe: bool = True
    """Sample the first path alone, so that later ones can be drafted from it; paths and votes are the same."""
    stop_at: float | None = 0.96
    """Stop if the leader among paths from the bare prompt is final with this probability. With `stakes`, stop if the
    weighted risk that it is not final is at most one minus this. None never stops."""
    horizon: bool = True
    """Call a leader final if it would lead after `paths` paths; False: after endlessly many."""
    stakes: bool = True
    """Weigh the risk by the leader's share, (its votes + 1) / (all votes + 2)."""
    max_level: int = 0
    """Maximum number of steps of a prefix; 0 starts every path at the prompt."""
    threshold: float = 0.8
    """Confidence of the leading answer at which prefixes become one step longer."""
    root_share: float = 0.5
    """Share of the paths after the first prefix that still start at the bare prompt; only they can end a question."""
    step_back: bool = True
    """Shorten the prefixes by a step when confidence falls below the threshold."""
    ties: int = 3
    """Paths of each of the two leading answers to regenerate in place of the last paths, if the vote is nearly even and
    each of the two has that many; at most a sixth of `paths`; 0 regenerates none."""
    tie_below: float = 0.8
    """Confidence below which the vote counts as nearly even."""
    keep: float = 0.75
    """Share of a path's tokens to keep when its end is regenerated."""
    power: float = 3.0
    """Exponent of the share of a group that states an answer; see PrefixConsistency."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

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

    @property
    def fallback(self) -> AnyStrategy | None:
        # Without continued paths a tie is left to the vote, which is no other strategy.
        return replace(self, max_level=0) if self.max_level and self.paths > 1 else None

    def initial_state(self, root: Path) -> AdaptiveSamples:
        return AdaptiveSamples(root, prefixes=[root])

    def next_actions(self, samples: AdaptiveSamples) -> Sequence[Action]:
        if samples.pending:
            return ()
        if samples.ended > samples.decided_at and not self._probed(samples):
            samples.decided_at = samples.ended
            # After a tie-break the weighted votes decide, which a stop by plain votes would ignore.
            remaining = self.paths - samples.requested
            samples.stopped = not samples.groups and self._is_final(samples.stopping_votes(), remaining)
            samples.update_level(self.threshold, self.max_level, self.step_back)
        if samples.stopped:
            return ()
        limit = self._limit(samples)
        if samples.requested == limit < self.paths and (regenerated := self._break_tie(samples)):
            return regenerated
        first = samples.requested
        samples.requested += min(self._next_window(samples), self._limit(samples) - first)
        return samples.extend(range(first, samples.requested), self.name, self.root_share, self.sampling)

    def observe(self, samples: AdaptiveSamples, event: Event) -> None:
        samples.observe_failure(event)
        if isinstance(event, Finished) and event.action.path in samples.groups:
            samples.groups[event.action.path].append(event.answer)
            samples.grouped.add(event.branch)

    def decide(self, samples: AdaptiveSamples) -> Decision:
        plain = ((branch.answer, 1.0) for branch in samples.finished if branch.branch not in samples.grouped)
        votes = weigh([*group_votes(samples.groups.values(), self.power), *plain])
        notes = samples.uncut_notes(self.name) if self.max_level or samples.uncuttable else ()
        return samples.conclude(votes, self.root_share, notes)

    def _is_final(self, root_votes: Mapping[Answer, float], remaining: int) -> bool:
        if not root_votes or not remaining:
            return False
        return self._stops(max(root_votes.values()), runner_up(root_votes), sum(root_votes.values()), remaining)

    def _stops(self, leading: float, second: float, votes: float, remaining: int) -> bool:
        """Return True if the strategy stops at these counts of the first two answers and of all votes."""
        if self.stop_at is None:
            return False
        final = final_confidence(leading, second, remaining) if self.horizon else beta_confidence(leading, second)
        stake = (leading + 1) / (votes + 2) if self.stakes else 1.0
        return 1 - (1 - final) * stake >= self.stop_at

    def _probed(self, samples: AdaptiveSamples) -> bool:
        """Return True after the probe, before the rest of the first window is requested."""
        return self.probe and samples.requested == 1 < self._deciding_window({}, self.paths)

    def _next_window(self, samples: AdaptiveSamples) -> int:
        if self.probe and not samples.requested:
            return 1
        if self._probed(samples):
            return self._deciding_window({}, self.paths) - 1
        remaining = self.paths - samples.requested
        if samples.level:
            return min(self.window, remaining)
        return self._deciding_window(samples.stopping_votes(), remaining)

    def _deciding_window(self, root_votes: Mapping[Answer, float], remaining: int) -> int:
        """Return the fewest paths that would end the question if all of them stated the leader; at most a window."""
        largest = min(self.window, remaining)
        leading, second, votes = max(root_votes.values(), default=0.0), runner_up(root_votes), sum(root_votes.values())
        for size in range(1, largest):
            if self._stops(leading + size, second, votes + size, remaining - size):
                return size
        return largest

    def _limit(self, samples: AdaptiveSamples) -> int:
        """Return the number of paths before the vote is checked for a tie, or before the end after the check."""
        return self.paths if samples.tie_checked else self.paths - 2 * self._regenerated

    @property
    def _regenerated(self) -> int:
        """Return the number of paths of each leading answer to regenerate."""
        return min(self.ties, self.paths // 6)

    def _break_tie(self, samples: AdaptiveSamples) -> Sequence[Action]:
        """Return requests that regenerate paths of the two leading answers, if the vote is nearly even. Runs once."""
        samples.tie_checked = True
        actions = []
        for branch in self._tied_branches(samples):
            prefix = late_prefix(branch, self.keep)
            if prefix is None:
                samples.uncuttable = True
                continue
            samples.groups[prefix] = [branch.answer]
            samples.grouped.add(branch.branch)
            actions.append(Extend(prefix, 1, self.sampling))
        samples.requested += len(actions)
        return actions

    def _tied_branches(self, samples: AdaptiveSamples) -> list[Finished]:
        """Return the first root branches of each of the two leading answers, or none if there is no tie of two.

        Scattered votes have no two leaders. Regenerating answers with one vote each would add no information, and
        would skip other answers with the same count.
        """
        votes = count(samples.answers)
        if len(votes) < 2 or (confidence(votes) or 0.0) >= self.tie_below:
            return []
        first, second, *others = votes
        if others and votes[others[0]] == votes[second]:
            return []
        groups = [
            [branch for branch in samples.root_branches() if branch.answer == answer] for answer in (first, second)
        ]
        if min(map(len, groups)) < self._regenerated:
            return []
        return [branch for group in groups for branch in group[: self._regenerated]]
