"""Search trees written as scripts, and searches that run on them and record their expansions.

A path is named by its steps: "b e =1" is the line "b", then "e", then "The answer is 1." and the end.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.core.tree import Tree
from branchwise.search.node import Node
from branchwise.search.state import SearchState
from branchwise.strategies import AnyStrategy


class ScriptedReply(NamedTuple):
    """A reply of a script."""

    steps: str
    value: float
    """Score of the verifier for the path that ends with these steps."""
    probability: float = 0.9
    """Probability of each token."""


Script = Mapping[str, Sequence[tuple[str, float] | tuple[str, float, float]]]
"""The replies after each path, in the order of the samples; the list repeats."""


def text_of(steps: str) -> str:
    """Return the text of a path, or of a part of one."""
    return "".join(f"The answer is {step[1:]}." if step.startswith("=") else f"{step}\n" for step in steps.split())


def name_of(text: str) -> str:
    """Return the steps of a text."""
    lines = [line for line in text.split("\n") if line]
    return " ".join(f"={line.split()[-1][:-1]}" if line.startswith("The answer") else line for line in lines)


def with_costs(script: Script) -> Script:
    """Return a script with the token probabilities that give each reply its third number as the cost in nats."""

    def probability(steps: str, cost: float) -> float:
        # "The", "answer", "is", "1", "." or the word and its newline
        tokens = sum(5 if step.startswith("=") else 2 for step in steps.split())
        return math.exp(-cost / tokens)

    return {
        path: [(steps, value, probability(steps, *cost)) for steps, value, *cost in replies]
        for path, replies in script.items()
    }


def backend(script: Script, *, delay: Callable[[str, int], float] = lambda path, before: 0.0) -> ScriptedBackend:
    """Return a backend that replies by a script; `delay` is in seconds before each token."""

    def reply(path: bw.Path, before: int) -> Reply:
        name = name_of(path.whole_text)
        scripted = ScriptedReply(*script[name][before % len(script[name])])
        return Reply(text_of(scripted.steps), logprob=math.log(scripted.probability), delay=delay(name, before))

    return ScriptedBackend(reply)


def verifier(script: Script) -> Callable[[bw.Path], object]:
    """Return a verifier with the script's values; it raises for a path whose value is NaN."""
    values = {f"{path} {reply[0]}".strip(): reply[1] for path, replies in script.items() for reply in replies}

    async def check(path: bw.Path) -> float:
        value = values[name_of(path.answer_text)]
        if math.isnan(value):
            raise ValueError("the path can't be valued")
        return value

    return check


@dataclass
class RecordingStrategy(bw.Strategy[list[SearchState]]):
    """A strategy that records its expansions and keeps its state."""

    inner: AnyStrategy
    expansions: list[tuple[str, int]] = field(default_factory=list)
    """The path and the number of children of every expansion, in order."""
    state: list[SearchState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.inner.name  # type: ignore[misc]

    def start(self, roots: Sequence[bw.Path]) -> list[SearchState]:
        self.state = self.inner.start(roots)
        return self.state

    def ask(self, state: list[SearchState]) -> Sequence[bw.Action]:
        actions = self.inner.ask(state)
        self.expansions += [(name_of(a.path.whole_text), a.count) for a in actions if isinstance(a, bw.Extend)]
        return actions

    def tell(self, state: list[SearchState], event: bw.Event) -> None:
        self.inner.tell(state, event)

    def finish(self, state: list[SearchState]) -> Sequence[bw.Decision]:
        return self.inner.finish(state)


class SearchRun(NamedTuple):
    """A finished search."""

    result: bw.Result
    recorder: RecordingStrategy

    @property
    def order(self) -> list[str]:
        """Return the expanded paths in order, without those that were sampled to their ends afterwards."""
        expansions = self.recorder.expansions
        return [path for path, _ in expansions[: len(expansions) - len(self.recorder.state[0].completed)]]

    @property
    def nodes(self) -> dict[str, Node]:
        """Return the nodes by name; of equal names the last."""
        return {name_of(node.path.answer_text): node for node in self.recorder.state[0].nodes}


def run(strategy: AnyStrategy, script: Script, **given: object) -> SearchRun:
    """Run a search on a script's tree with the script's values; `given` are arguments of `solve`."""
    recorder = RecordingStrategy(strategy)
    given = {"verifier": verifier(script), **given}
    used = given.pop("backend", None) or backend(script)
    return SearchRun(asyncio.run(bw.solve("q", used, strategy=recorder, **given)), recorder)  # type: ignore[arg-type]


def table(tree: Tree) -> list[str]:
    """Return a row for each node but the prompt: its number, its parent's, its step, its value and its state."""
    return [f"{n.number} <{n.parent} {name_of(n.text)} {n.value:g} {n.state}" for n in tree.nodes[1:]]


def rows(text: str) -> list[str]:
    """Return the rows of a table written in a test; text after # is a comment."""
    lines = (line.split("#")[0].split() for line in text.strip().splitlines())
    return [" ".join(line) for line in lines if line]
