"""Step generators: the next steps of a path, sampled token by token or proposed by the model as a list."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from branchwise.core.messages import Message, Messages
from branchwise.core.path import Path, StopReason
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.prompts.library import TASKS
from branchwise.prompts.steps import STEP_STOPS, StepKind, first_step, last_cut
from branchwise.search.expansion import Expansion
from branchwise.search.limits import remaining_sampling
from branchwise.strategies.actions import Event, Extend, Finished, Root, Rooted

Step = StepKind | Literal["path"] | int
"""Unit of a step: a kind of text, the whole path, or a number of tokens."""


class StepGenerator(ABC):
    """Generates the children of a node."""

    @abstractmethod
    def start(self, expansion: Expansion, count: int) -> None:
        """Send the requests for `count` children."""


@dataclass(frozen=True, slots=True)
class SampledSteps(StepGenerator):
    """Children sampled from the model up to the end of a step, and cut between tokens.

    A stop string inside a step (in a number, a formula, a heading) does not end it: the same sample is resumed.
    """

    step: Step
    sampling: Sampling
    """`max_tokens` limits the whole path; without it, the task's limit applies to each step."""

    def start(self, expansion: Expansion, count: int) -> None:
        path = expansion.node.path
        handler = partial(self._sampled, expansion, Usage())
        expansion.send(Extend(path, count, self._step_sampling(path)), handler, count)

    def _step_sampling(self, path: Path) -> Sampling:
        """Return the sampling settings of one step after `path`."""
        rest = remaining_sampling(self.sampling, path)
        if isinstance(self.step, int):
            return replace(rest, max_tokens=min(rest.max_tokens or self.step, self.step))
        stops = () if self.step == "path" else STEP_STOPS[self.step]
        return replace(rest, stop=(*rest.stop, *stops))

    def _sampled(self, expansion: Expansion, spent: Usage, event: Event) -> None:
        """Add a sampled step, or resume its sample; `spent` is the cost of the sample so far."""
        if not isinstance(event, Finished):
            return  # a failed sample adds no child
        path, cost = event.path, spent + event.cost
        if not self._continues(event):
            expansion.add_child(path, ended=True, answer=event.answer, cost=cost)
            return
        length = self._step_end(expansion.node.path, event)
        if length is not None:
            expansion.add_child(path.cut(length), ended=False, answer=event.answer, cost=cost)
        elif not path.ends:  # such a path can't be cut, so the stop string ends the step
            expansion.add_child(path, ended=False, answer=event.answer, cost=cost)
        else:
            handler = partial(self._sampled, expansion, cost)
            expansion.send(Extend(path, 1, self._step_sampling(path), resume=True), handler)

    def _continues(self, event: Finished) -> bool:
        """Return True if the path stopped at a possible end of a step, and not at its own end."""
        path, request, limit = event.path, event.action, self.sampling.max_tokens
        if limit is not None and path.generated >= limit:
            return False
        if isinstance(self.step, int):  # fewer tokens than requested mean that the context or the budget is spent
            complete = path.generated - request.path.generated == request.sampling.max_tokens
            return path.stop_reason is StopReason.LENGTH and (complete if path.token_ids else bool(path.text))
        if self.step == "path" or path.stop_reason is not StopReason.STOP:
            return False
        return path.text[path.shown :].startswith(STEP_STOPS[self.step])

    def _step_end(self, parent: Path, event: Finished) -> int | None:
        """Return the number of tokens at which the step after `parent` ends, or None if it continues."""
        if isinstance(self.step, int):  # text before the resumed sample was already searched
            return last_cut(event.path, len(event.action.path.whole_text))
        return None if self.step == "path" else first_step(event.path, len(parent.whole_text), self.step)


_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_CONCLUDES = re.compile(r"\banswer\b|\\boxed", re.IGNORECASE)
PROPOSE = (
    "Write {count} different ways to go on from here: one next step on each line, and nothing else. "
    'A step that solves the problem begins with "Answer:".'
)


@dataclass(frozen=True, slots=True)
class ProposedSteps(StepGenerator):
    """Children from the lines of a list that the model writes (Yao et al. 2023, arXiv 2305.10601, section 3).

    A path whose step mentions the answer is sampled to its end.
    """

    sampling: Sampling
    prompt: str = PROPOSE

    def start(self, expansion: Expansion, count: int) -> None:
        node = expansion.node
        conversation = node.path.root.messages
        assert conversation is not None
        text = node.path.whole_text
        so_far = (Message(role="assistant", content=text),) if text.strip() else ()
        request = Message(role="user", content=self.prompt.replace("{count}", str(count)))
        turns = (*conversation.turns, *so_far, request)
        root = Root(
            Messages(turns=turns, tools=conversation.tools, thinking=False), expansion.state.question, TASKS["text"]
        )
        expansion.send(root, partial(self._sample_list, expansion, count))

    def _sample_list(self, expansion: Expansion, count: int, event: Event) -> None:
        if isinstance(event, Rooted):
            expansion.send(Extend(event.path, 1, self.sampling), partial(self._root_steps, expansion, count))

    def _root_steps(self, expansion: Expansion, count: int, event: Event) -> None:
        """Send one prompt for each of the first `count` distinct lines; the prompt ends with the line."""
        if not isinstance(event, Finished):
            return
        conversation = expansion.state.root.messages
        assert conversation is not None
        text, cost = expansion.node.path.whole_text, event.cost
        for line in list(dict.fromkeys(_list_items(event.path.answer_text)))[:count]:
            prompt = conversation.model_copy(update={"prefix": f"{text}{line}\n"})
            handler = partial(self._add_step, expansion, bool(_CONCLUDES.search(line)), cost)
            expansion.send(Root(prompt, expansion.state.question), handler)
            cost = Usage()  # the cost of the list counts for the first child

    def _add_step(self, expansion: Expansion, concludes: bool, cost: Usage, event: Event) -> None:
        if not isinstance(event, Rooted):
            return
        if concludes:
            expansion.send(Extend(event.path, 1, self.sampling), partial(self._add_end, expansion, cost))
        else:
            expansion.add_child(event.path, ended=False, answer=None, cost=cost)

    def _add_end(self, expansion: Expansion, cost: Usage, event: Event) -> None:
        if isinstance(event, Finished):
            expansion.add_child(event.path, ended=True, answer=event.answer, cost=cost + event.cost)


def _list_items(text: str) -> Iterator[str]:
    """Yield the items of a list without their bullets."""
    for line in text.splitlines():
        if item := _BULLET.sub("", line).strip():
            yield item
