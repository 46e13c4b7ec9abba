"""How the next step of a path is found: drawn from the model token by token, or proposed by it in a list."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.prompts.library import TASKS
from branchwise.prompts.steps import STEP_STOPS, StepKind, first_step, last_whole
from branchwise.strategies.actions import Event, Extend, Finished, Root, Rooted

if TYPE_CHECKING:
    from branchwise.search.expansion import Expansion

Step = StepKind | Literal["path"] | int
"""Where a step ends: as its kind says, with the path, or after so many tokens."""


def rest_of(sampling: Sampling, path: Path) -> Sampling:
    """How to draw what follows `path`, where `sampling.max_tokens` is a whole path's limit."""
    limit = sampling.max_tokens
    return sampling if limit is None else replace(sampling, max_tokens=max(1, limit - path.generated))


class Thoughts(ABC):
    """Finds the children of a node."""

    @abstractmethod
    def begin(self, expansion: "Expansion", count: int) -> None:
        """Ask for `count` children."""


@dataclass(frozen=True, slots=True)
class SampledSteps(Thoughts):
    """Children are drawn: the next tokens up to where a step ends, cut between tokens.

    A stop that turns out to be inside a step (a number, a formula, a heading) is passed: the same sample goes on.
    """

    step: Step
    sampling: Sampling
    """`max_tokens` is a whole path's limit; without one, the task's holds for each step."""

    def begin(self, expansion: "Expansion", count: int) -> None:
        path = expansion.node.path
        drawn = partial(self._drawn, expansion, Usage())
        expansion.send(Extend(path, count, self._sampling(path)), drawn, count)

    def _sampling(self, path: Path) -> Sampling:
        """How to draw what follows `path`."""
        rest = rest_of(self.sampling, path)
        if isinstance(self.step, int):
            return replace(rest, max_tokens=min(rest.max_tokens or self.step, self.step))
        stops = () if self.step == "path" else STEP_STOPS[self.step]
        return replace(rest, stop=(*rest.stop, *stops))

    def _drawn(self, expansion: "Expansion", spent: Usage, event: Event) -> None:
        """A step was drawn, or a part of one."""
        if not isinstance(event, Finished):
            return  # the sample is lost
        path, cost = event.path, spent + event.cost
        if not self._goes_on(event):
            expansion.add(path, ended=True, answer=event.answer, cost=cost)
            return
        length = self._end(expansion.node.path, event)
        if length is not None:
            expansion.add(path.cut(length), ended=False, answer=None, cost=cost)
        elif not path.token_ids:  # a backend that shows no tokens: nothing can be cut, so the stop counts
            expansion.add(path, ended=False, answer=None, cost=cost)
        else:
            again = partial(self._drawn, expansion, cost)
            expansion.send(Extend(path, 1, self._sampling(path), resume=True), again)

    def _goes_on(self, event: Finished) -> bool:
        """Whether a path was stopped where a step may end, not at its own end."""
        path, asked, limit = event.path, event.action, self.sampling.max_tokens
        if limit is not None and path.generated >= limit:
            return False
        if isinstance(self.step, int):  # with fewer tokens than were asked for, context or budget have run out
            whole = path.generated - asked.path.generated == asked.sampling.max_tokens
            return path.stop_reason is StopReason.LENGTH and (whole if path.token_ids else bool(path.text))
        if self.step == "path" or path.stop_reason is not StopReason.STOP:
            return False
        return path.text[path.shown :].startswith(STEP_STOPS[self.step])

    def _end(self, parent: Path, event: Finished) -> int | None:
        """At how many tokens the step after `parent` ends; None where it goes on."""
        if isinstance(self.step, int):  # what the sample went on from was looked through before
            return last_whole(event.path, len(event.action.path.whole_text))
        return None if self.step == "path" else first_step(event.path, len(parent.whole_text), self.step)


_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_CONCLUDES = re.compile(r"\banswer\b|\\boxed", re.IGNORECASE)
PROPOSE = (
    "Write {count} different ways to go on from here: one next step on each line, and nothing else. "
    'A step that solves the problem begins with "Answer:".'
)


@dataclass(frozen=True, slots=True)
class ProposedSteps(Thoughts):
    """Children are the lines of a list the model writes when it is asked for next steps (Yao et al. 2023,
    arXiv 2305.10601, section 3). A path with a step that speaks of the answer is grown to its end."""

    sampling: Sampling
    prompt: str = PROPOSE

    def begin(self, expansion: "Expansion", count: int) -> None:
        node = expansion.node
        asked = node.path.root.messages
        assert asked is not None
        said = node.path.whole_text
        so_far = (Message(role="assistant", content=said),) if said.strip() else ()
        request = Message(role="user", content=self.prompt.replace("{count}", str(count)))
        question = Messages(turns=(*asked.turns, *so_far, request), tools=asked.tools, thinking=False)
        expansion.send(Root(question, expansion.search.question, TASKS["text"]), partial(self._posed, expansion, count))

    def _posed(self, expansion: "Expansion", count: int, event: Event) -> None:
        if isinstance(event, Rooted):
            expansion.send(Extend(event.path, 1, self.sampling), partial(self._listed, expansion, count))

    def _listed(self, expansion: "Expansion", count: int, event: Event) -> None:
        """The list was written: each line begins a prompt that ends with it."""
        if not isinstance(event, Finished):
            return
        asked = expansion.search.root.messages
        assert asked is not None
        said, cost = expansion.node.path.whole_text, event.cost
        for line in list(dict.fromkeys(_lines(event.path.answer_text)))[:count]:
            prompt = asked.model_copy(update={"prefix": f"{said}{line}\n"})
            taken = partial(self._taken, expansion, bool(_CONCLUDES.search(line)), cost)
            expansion.send(Root(prompt, expansion.search.question), taken)
            cost = Usage()  # the first child bears it

    def _taken(self, expansion: "Expansion", concludes: bool, cost: Usage, event: Event) -> None:
        if not isinstance(event, Rooted):
            return
        if concludes:
            expansion.send(Extend(event.path, 1, self.sampling), partial(self._concluded, expansion, cost))
        else:
            expansion.add(event.path, ended=False, answer=None, cost=cost)

    def _concluded(self, expansion: "Expansion", cost: Usage, event: Event) -> None:
        if isinstance(event, Finished):
            expansion.add(event.path, ended=True, answer=event.answer, cost=cost + event.cost)


def _lines(text: str) -> Iterator[str]:
    """The items of a list, without what marks them."""
    for line in text.splitlines():
        if item := _BULLET.sub("", line).strip():
            yield item
