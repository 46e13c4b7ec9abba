"""Prefix Consistency: regenerate the end of every path, and weight answers by how often they are reproduced."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import DEFAULT_PATHS, Action, Event, Extend, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import AnyStrategy, Decision
from branchwise.strategies.voting.self_consistency import SelfConsistency


@dataclass(slots=True)
class RegeneratedSamples(Samples):
    """The branches of one question, grouped into each path and the paths regenerated from its prefix."""

    groups: dict[Path, list[Answer | None]] = field(default_factory=dict)
    """Answers by prefix: the original path's, then the regenerated ones'. A path too short to cut is its own key."""
    unrequested: list[Path] = field(default_factory=list)
    """Prefixes whose regeneration is not requested yet."""


@dataclass(frozen=True, slots=True)
class PrefixConsistency(PerQuestion[RegeneratedSamples]):
    """Cut every path late, regenerate its end, and weight answers by how often they are reproduced (arXiv 2605.07654).

    A path and the paths regenerated from its prefix are a group. An answer with a share c of the group votes with
    c^power for each time it is stated there. Paths without an answer are not regenerated. If paths can't be cut,
    because the backend reports no tokens, the majority answers, and the result has a note.
    """

    name: ClassVar[str] = "prefix-consistency"

    paths: int = DEFAULT_PATHS // 2
    """Number of paths from the prompt; `regrow` paths more are regenerated for each of them."""
    keep: float = 0.75
    """Share of a path's tokens in its prefix."""
    regrow: int = 1
    """Number of regenerated paths for each path."""
    power: float = 3.0
    """Exponent of the share of a group that states an answer; 0 is a plain vote of all paths."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling settings of the paths."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0 < self.keep < 1, "keep", f"is {self.keep}", "use a share above 0, below 1")
        require(self.regrow >= 1, "regrow", f"is {self.regrow}", "use at least 1")
        require(self.power >= 0, "power", f"is {self.power}", "use 0 or more")

    @property
    def fallback(self) -> AnyStrategy | None:
        return SelfConsistency(self.paths * (1 + self.regrow), self.sampling)

    def initial_state(self, root: Path) -> RegeneratedSamples:
        return RegeneratedSamples(root)

    def next_actions(self, samples: RegeneratedSamples) -> Sequence[Action]:
        if not samples.requested:
            return samples.sample_once(self.paths, self.sampling)
        prefixes, samples.unrequested = samples.unrequested, []
        samples.requested += self.regrow * len(prefixes)
        return [Extend(prefix, self.regrow, self.sampling) for prefix in prefixes]

    def observe(self, samples: RegeneratedSamples, event: Event) -> None:
        if not isinstance(event, Finished) or event.aside:
            return
        if event.action.path in samples.groups:
            samples.groups[event.action.path].append(event.answer)
        elif event.answer is not None:
            prefix = late_prefix(event, self.keep)
            samples.groups[prefix or event.path] = [event.answer]
            if prefix is not None:
                samples.unrequested.append(prefix)

    def decide(self, samples: RegeneratedSamples) -> Decision:
        if samples.groups and all(path.stop_reason is not None for path in samples.groups):
            return samples.unweighted(f"{self.name}: no path can be cut, so the majority answered")
        return samples.weighted(weigh(group_votes(samples.groups.values(), self.power)))


def late_prefix(branch: Finished, keep: float) -> Path | None:
    """Return the first `keep` of a path's tokens, or None if it has too few."""
    length = int(keep * branch.path.generated)
    return branch.path.cut(length) if 0 < length < branch.path.generated else None


def group_votes(groups: Iterable[Sequence[Answer | None]], power: float) -> Iterator[tuple[Answer, float]]:
    """Yield the vote of every answer in every group: its count times its share of the group to the `power`."""
    for group in groups:
        for answer, times in Counter(answer for answer in group if answer is not None).items():
            yield answer, times * (times / len(group)) ** power
