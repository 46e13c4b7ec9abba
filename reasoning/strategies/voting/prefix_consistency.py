"""Prefix Consistency: an answer counts for as much as paths to it lead there again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from branchwise.core.answer import Answer
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.votes import weigh
from branchwise.strategies.actions import Action, Event, Extend, Finished, check_paths
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision


@dataclass(slots=True)
class RegeneratedSamples(Samples):
    """One question: its paths, and those that were drawn again from a prefix of each."""

    groups: dict[Path, list[Answer | None]] = field(default_factory=dict)
    """By prefix, the answers of its path and of what was regrown; by the path itself where it is too short to cut."""
    regrowing: list[Path] = field(default_factory=list)  # prefixes that were not asked for yet


@dataclass(frozen=True, slots=True)
class PrefixConsistency(PerQuestion[RegeneratedSamples]):
    """Cut every path late, draw its end again, and weigh answers by how often they come back (arXiv 2605.07654).

    A path and what was regrown from it are a group; an answer that a share c of the group states votes with c^power
    for each time it is stated there. Paths without an answer are not regrown. Where paths can't be cut, for want of
    tokens, the majority answers, and the result says so.
    """

    name: ClassVar[str] = "prefix-consistency"

    paths: int = 20
    """How many paths to draw from the prompt; as many again are regrown, times `regrow`."""
    keep: float = 0.75
    """Share of a path's tokens that its prefix has."""
    regrow: int = 1
    """Ends drawn again for each path."""
    power: float = 3.0
    """How much more answers count that come back; 0 is a plain vote of all paths."""
    sampling: Sampling = field(default_factory=Sampling)
    """How to draw them."""

    def __post_init__(self) -> None:
        check_paths(self.paths)
        require(0 < self.keep < 1, "keep", f"is {self.keep}", "use a share above 0, below 1")
        require(self.regrow >= 1, "regrow", f"is {self.regrow}", "use at least 1")
        require(self.power >= 0, "power", f"is {self.power}", "use 0 or more")

    def begin(self, root: Path) -> RegeneratedSamples:
        return RegeneratedSamples(root)

    def more(self, samples: RegeneratedSamples) -> Sequence[Action]:
        if not samples.asked:
            return samples.ask_once(self.paths, self.sampling)
        prefixes, samples.regrowing = samples.regrowing, []
        samples.asked += self.regrow * len(prefixes)
        return [Extend(prefix, self.regrow, self.sampling) for prefix in prefixes]

    def take(self, samples: RegeneratedSamples, event: Event) -> None:
        if not isinstance(event, Finished) or event.aside:
            return
        if event.action.path in samples.groups:
            samples.groups[event.action.path].append(event.answer)
        elif event.answer is not None:
            prefix = cut_late(event, self.keep)
            samples.groups[prefix or event.path] = [event.answer]
            if prefix is not None:
                samples.regrowing.append(prefix)

    def decide(self, samples: RegeneratedSamples) -> Decision:
        if samples.groups and all(path.stop_reason is not None for path in samples.groups):
            return samples.unweighted(f"{self.name}: no path can be cut, so the majority answered")
        return samples.weighted(weigh(group_votes(samples.groups.values(), self.power)))


def cut_late(branch: Finished, keep: float) -> Path | None:
    """The first `keep` of a path's tokens; None where there are too few."""
    length = int(keep * branch.path.generated)
    return branch.path.cut(length) if 0 < length < branch.path.generated else None


def group_votes(groups: Iterable[Sequence[Answer | None]], power: float) -> Iterator[tuple[Answer, float]]:
    """Of every answer in every group: its share of the group to the `power`, for each time it is stated."""
    for group in groups:
        for answer, times in Counter(answer for answer in group if answer is not None).items():
            yield answer, times * (times / len(group)) ** power
