"""What tests of tree search share: trees written down as scripts, and searches written down as tables.

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
from branchwise.search.search import Search
from branchwise.strategies.strategy import AnyStrategy


class Step(NamedTuple):
    """A reply: the steps it says, what the verifier makes of the path then, and the mean probability of its tokens."""

    steps: str
    value: float
    chance: float = 0.9


Script = Mapping[str, Sequence[tuple[str, float] | tuple[str, float, float]]]
"""Replies after every path, in the order in which they are drawn, over and over."""


def said(steps: str) -> str:
    """The text of a path, or of a part of one."""
    return "".join(f"The answer is {one[1:]}." if one.startswith("=") else f"{one}\n" for one in steps.split())


def named(text: str) -> str:
    """The steps of a text."""
    lines = [line for line in text.split("\n") if line]
    return " ".join(f"={line.split()[-1][:-1]}" if line.startswith("The answer") else line for line in lines)


def priced(script: Script) -> Script:
    """A script whose steps' third numbers are costs in nats, with what makes them cost that."""

    def chance(steps: str, cost: float) -> float:
        tokens = sum(5 if step.startswith("=") else 2 for step in steps.split())  # The, answer, is, 1, "."; a, newline
        return math.exp(-cost / tokens)

    return {path: [(steps, value, chance(steps, *cost)) for steps, value, *cost in row] for path, row in script.items()}


def backend(script: Script, *, delay: Callable[[str, int], float] = lambda path, before: 0.0) -> ScriptedBackend:
    """A backend that replies by a script; `delay` in seconds before each token."""

    def reply(path: bw.Path, before: int) -> Reply:
        name = named(path.whole_text)
        step = Step(*script[name][before % len(script[name])])
        return Reply(said(step.steps), logprob=math.log(step.chance), delay=delay(name, before))

    return ScriptedBackend(reply)


def verifier(script: Script) -> Callable[[bw.Path], object]:
    """Says of each path what its script does, and raises where that is no number."""
    values = {f"{path} {step[0]}".strip(): step[1] for path, steps in script.items() for step in steps}

    async def check(path: bw.Path) -> float:
        value = values[named(path.answer_text)]
        if math.isnan(value):
            raise ValueError("it can't be judged")
        return value

    return check


@dataclass
class Watched(bw.Strategy[list[Search]]):
    """A strategy that writes down what it is asked for, and keeps its state."""

    inner: AnyStrategy
    asked: list[tuple[str, int]] = field(default_factory=list)
    """What was expanded by how many, in order."""
    state: list[Search] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.inner.name  # type: ignore[misc]

    def start(self, roots: Sequence[bw.Path]) -> list[Search]:
        self.state = self.inner.start(roots)
        return self.state

    def ask(self, state: list[Search]) -> Sequence[bw.Action]:
        actions = self.inner.ask(state)
        self.asked += [(named(a.path.whole_text), a.count) for a in actions if isinstance(a, bw.Extend)]
        return actions

    def tell(self, state: list[Search], event: bw.Event) -> None:
        self.inner.tell(state, event)

    def finish(self, state: list[Search]) -> Sequence[bw.Decision]:
        return self.inner.finish(state)


class Searched(NamedTuple):
    """A search that is over."""

    result: bw.Result
    watched: Watched

    @property
    def order(self) -> list[str]:
        """The paths that were expanded, in order."""
        return [path for path, _ in self.watched.asked]

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name; of equal ones the last."""
        return {named(node.path.answer_text): node for node in self.watched.state[0].nodes}


def run(strategy: AnyStrategy, script: Script, **given: object) -> Searched:
    """Search a script's tree, with the script's values."""
    watched = Watched(strategy)
    given = {"verifier": verifier(script), **given}
    made = given.pop("backend", None) or backend(script)
    return Searched(asyncio.run(bw.solve("q", made, strategy=watched, **given)), watched)  # type: ignore[arg-type]


def table(tree: Tree) -> list[str]:
    """A line for each node but the prompt: its number, its parent's, its step, its value and its state."""
    return [f"{n.number} <{n.parent} {named(n.text)} {n.value:g} {n.state}" for n in tree.nodes[1:]]


def rows(text: str) -> list[str]:
    """A table's lines as it is written down in a test; what follows # is a remark."""
    lines = (line.split("#")[0].split() for line in text.strip().splitlines())
    return [" ".join(line) for line in lines if line]
