"""Judge calls: prompts whose sampled replies judge the branches of a question. Their tokens count as the question's."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from branchwise.core.answer import Answer
from branchwise.core.errors import BudgetError, ContextLengthError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.validation import shortened, whole_number
from branchwise.prompts.task import Task
from branchwise.strategies.actions import MAX_BRANCHES, Action, Event, Extend, Failed, Finished, Root, Rooted
from branchwise.strategies.judging.prompts import judge_sampling
from branchwise.strategies.per_question import PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import Decision, Tally


def check_votes(votes: int) -> None:
    """Raise ConfigError unless `votes` is a valid number of replies to one prompt of a judge."""
    whole_number("votes", votes, "use a whole number, at least 1")
    require(1 <= votes <= MAX_BRANCHES, "votes", f"is {votes}", f"use 1 to {MAX_BRANCHES}")


@dataclass(slots=True)
class JudgeCall:
    """One prompt of a judge, and the answers of the replies to it."""

    messages: Messages
    task: Task
    copies: int
    """Number of replies that are sampled."""
    prompt: Path | None = None
    answers: list[Answer | None] = field(default_factory=list)
    """One for each reply that ended; None if it states no answer or failed."""
    sent: bool = False
    extended: bool = False
    failed: bool = False
    """True if there is no prompt, and so no reply."""
    too_long: bool = False
    """True if it failed because it is longer than the model's context."""

    @property
    def done(self) -> bool:
        return self.failed or len(self.answers) == self.copies


@dataclass(slots=True)
class JudgedSamples(Samples):
    """The branches of one question, and the judge's calls about them."""

    calls: list[JudgeCall] = field(default_factory=list)
    """By tag, in the order in which they were made."""
    replies: int = 0
    """Replies of the judge that ended on their own."""
    unread: list[str] = field(default_factory=list)
    """Those of them that could not be read."""
    out_of_budget: bool = False

    @property
    def candidates(self) -> list[Finished]:
        """Return the branches that state an answer, the only ones that are judged."""
        return [branch for branch in self.finished if branch.answer is not None]

    @property
    def waiting(self) -> bool:
        """Return True while a branch or a reply of the judge has not ended."""
        return self.pending or not all(call.done for call in self.calls)

    def call(self, messages: Messages, task: Task, copies: int = 1) -> JudgeCall:
        """Add a call; its requests are sent with the next actions."""
        self.calls.append(JudgeCall(messages, task, copies))
        return self.calls[-1]


JudgedT = TypeVar("JudgedT", bound=JudgedSamples)


class JudgingStrategy(PerQuestion[JudgedT]):
    """A strategy that samples paths, and lets the model judge them once all have ended."""

    __slots__ = ()

    default_task: ClassVar[str] = "free-form"

    paths: int
    sampling: Sampling

    @abstractmethod
    def judge(self, samples: JudgedT) -> None:
        """Add the next calls to `samples`; none if nothing is left to judge. Called when no call is open."""

    def is_valid(self, samples: JudgedT, answer: Answer) -> bool:
        """Return whether a judge's answer means something, unlike the number of a response that does not exist."""
        return True

    def next_actions(self, samples: JudgedT) -> Sequence[Action]:
        if not samples.requested:
            return samples.sample_once(self.paths, self.sampling)
        if not samples.waiting and not samples.out_of_budget:
            self.judge(samples)
        return [action for tag, call in enumerate(samples.calls) if (action := self._next(samples, tag, call))]

    def _next(self, samples: JudgedT, tag: int, call: JudgeCall) -> Action | None:
        """Return the next request of a call, or None."""
        if not call.sent:
            call.sent = True
            question = samples.finished[0].question
            return Root(call.messages, question, call.task, tag)
        if call.prompt is not None and not call.extended:
            call.extended = True
            return Extend(call.prompt, call.copies, judge_sampling(self.sampling), tag=tag)
        return None

    def observe(self, samples: JudgedT, event: Event) -> None:
        if isinstance(event, Rooted):
            samples.calls[event.action.tag].prompt = event.path
        elif isinstance(event, Failed) and isinstance(event.action, Root):
            call = samples.calls[event.action.tag]
            call.failed = True
            call.too_long = isinstance(event.error, ContextLengthError)
        elif isinstance(event, Finished) and event.aside:
            samples.calls[event.action.tag].answers.append(event.answer)
            samples.replies += 1
            if event.answer is None or not self.is_valid(samples, event.answer):
                samples.unread.append(event.path.answer_text)
        elif isinstance(event, Failed) and event.aside and isinstance(event.action, Extend):
            samples.calls[event.action.tag].answers.append(None)
            samples.out_of_budget |= isinstance(event.error, BudgetError)

    def judged(self, samples: JudgedT, answer: Answer | None, votes: Mapping[Answer, float]) -> Decision:
        """Return the judge's decision. It has no confidence: the judge's replies are not samples of the answer."""
        plain = samples.majority()
        return self.noted(samples, Decision(answer, None, votes, {"plain": Tally(plain.votes, plain.confidence)}))

    def noted(self, samples: JudgedT, decision: Decision) -> Decision:
        """Return the decision with a note on replies of the judge that could not be read."""
        if not samples.unread:
            return decision
        example = shortened(" ".join(samples.unread[0].split()))
        note = f"judge: {len(samples.unread)} of {samples.replies} replies could not be read, such as {example}"
        return replace(decision, degraded=(*decision.degraded, note))
