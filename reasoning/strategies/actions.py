"""The actions a strategy returns to the driver, and the events the driver sends back.

Every event names its question by the question's index among the roots the strategy was started with.
"""

from dataclasses import dataclass, field

from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path, TopLogprob
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.core.validation import whole_number
from branchwise.prompts.task import Task

MAX_BRANCHES = 100_000
"""Largest `count` of one Extend; every branch is kept in memory."""

DEFAULT_PATHS = 16
"""Maximum number of paths of a question, unless something else is asked for: in every strategy, command and adapter."""


def check_paths(paths: int) -> None:
    """Raise ConfigError unless `paths` is a valid number of branches."""
    whole_number("paths", paths, "use a whole number, at least 1")
    require(paths >= 1, "paths", f"is {paths}", "use at least 1")
    require(paths <= MAX_BRANCHES, "paths", f"is {paths}", f"use at most {MAX_BRANCHES}")


@dataclass(frozen=True, slots=True, eq=False)
class Extend:
    """Sample `count` new branches from `path`.

    The driver numbers branches 0, 1, 2, ... over the whole run, in the order of the requests.
    `resume=True` (with count 1) continues the path's own sample instead of starting a new one: a path
    generated step by step has the same tokens as one generated at once. A path can be resumed once.
    """

    path: Path
    count: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    watch_every: int | None = None
    """Send Progress after every `watch_every` new tokens; None sends no Progress."""
    resume: bool = False
    priority: int = 0
    """Lower values are scheduled first when the backend is at capacity."""
    tag: int = 0
    """A mark for the strategy's own use; the driver ignores it."""

    def __post_init__(self) -> None:
        require(1 <= self.count <= MAX_BRANCHES, "Extend.count", f"is {self.count}", f"use 1 to {MAX_BRANCHES}")
        require(not self.resume or self.count == 1, "Extend.resume", "goes with count 1", "ask for one branch")
        valid = self.watch_every is None or self.watch_every >= 1
        require(valid, "Extend.watch_every", f"is {self.watch_every}", "use at least 1, or None")


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Compute the log-probabilities of given texts as continuations of `path`."""

    path: Path
    continuations: tuple[str, ...]
    tag: int = 0

    def __post_init__(self) -> None:
        valid = bool(self.continuations) and all(self.continuations)
        require(valid, "Score.continuations", "are missing or empty", "give at least one text")


@dataclass(frozen=True, slots=True, eq=False)
class Verify:
    """Score `path` with the run's verifier."""

    path: Path
    tag: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """Turn messages into a new prompt that belongs to question number `question`.

    Without a `task`, the branches of the new prompt count as branches of the question: their answers are
    extracted in the question's format, and they are listed in the result. With a `task` (a value prompt, a
    judge) they are asides: their answers are extracted in that task's format and don't answer the question.
    """

    messages: Messages
    question: int = 0
    task: Task | None = None
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a branch. Its tokens count as discarded, and the driver sends Failed without an error.

    The same holds for a branch that ended before the cancellation took effect. A branch for which Finished or
    Failed was already sent is left unchanged.
    """

    branch: int


Action = Extend | Score | Verify | Root | Cancel
Request = Extend | Score | Verify | Root
"""The actions that are answered by an event."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The next `Extend.watch_every` new tokens of a branch, which now has `count` of them.

    `count` is always a multiple of `watch_every`, independent of the chunks the backend delivers. Tokens after
    the last multiple arrive with Finished only. A backend without token ids is counted by its log-probabilities,
    and one without log-probabilities by its text chunks.

    The Progress events of one branch arrive in order and before its end. Those of different branches interleave
    in arrival order, so a strategy must decide on a branch by that branch's counts alone.
    """

    question: int
    action: Extend
    branch: int
    count: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_logprobs: tuple[tuple[TopLogprob, ...], ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A branch that ended."""

    question: int
    action: Extend
    branch: int
    path: Path
    answer: Answer | None
    """The extracted answer; None if the branch states none."""
    steps: tuple[int, ...]
    """[steps] token counts from the prompt on at which steps end; `path.cut(steps[k - 1])` is the first k steps."""
    cost: Usage = field(default_factory=Usage)
    aside: bool = False
    """True for a branch of a Root with a task of its own, whose answer does not answer the question."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probabilities of a Score's continuations."""

    question: int
    action: Score
    logprobs: tuple[tuple[float, ...], ...]
    """[continuations][tokens] nats."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The verifier's score of a path."""

    question: int
    action: Verify
    score: float


@dataclass(frozen=True, slots=True)
class Rooted:
    """The path of a new prompt."""

    question: int
    action: Root
    path: Path


@dataclass(frozen=True, slots=True)
class Failed:
    """A request or one of its branches that failed or was cancelled."""

    question: int
    action: Request
    branch: int | None
    """The branch's number; None if the whole request failed."""
    error: BranchwiseError | None
    """None for a cancelled branch."""
    aside: bool = False
    """As in Finished."""


Completion = Finished | Scored | Verified | Rooted | Failed
"""The events that answer a request."""
Event = Progress | Completion
