"""What a strategy asks for (actions) and what it is told (events).

Every event names the question it belongs to, by its place among the roots the strategy started with.
"""

from dataclasses import dataclass, field

from branchwise.core.answer import Answer
from branchwise.core.errors import BranchwiseError, require
from branchwise.core.messages import Messages
from branchwise.core.path import Path, TopLogprob
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from branchwise.prompts.task import Task

MAX_BRANCHES = 100_000
"""Most branches of one Extend; every one is held in memory."""


def check_paths(paths: int) -> None:
    """ConfigError unless a strategy can ask for so many paths."""
    require(paths >= 1, "paths", f"is {paths}", "use at least 1")
    require(paths <= MAX_BRANCHES, "paths", f"is {paths}", f"use at most {MAX_BRANCHES}")


@dataclass(frozen=True, slots=True, eq=False)
class Extend:
    """Grow `count` new branches from `path`.

    Branches are numbered 0, 1, 2, ... over the whole run in the order they are asked for.
    `resume=True` (with count 1) goes on with the path's own sample instead of drawing a new one:
    a path generated step by step has the same tokens as one generated at once. A path can be
    resumed once.
    """

    path: Path
    count: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    watch_every: int | None = None  # tell Progress at every multiple of so many new tokens; None: only the end
    resume: bool = False
    priority: int = 0  # lower is served first, where the backend has more to do than it can
    tag: int = 0  # the strategy's own mark

    def __post_init__(self) -> None:
        require(1 <= self.count <= MAX_BRANCHES, "Extend.count", f"is {self.count}", f"use 1 to {MAX_BRANCHES}")
        require(not self.resume or self.count == 1, "Extend.resume", "goes with count 1", "ask for one branch")
        require(
            self.watch_every is None or self.watch_every >= 1,
            "Extend.watch_every", f"is {self.watch_every}", "use at least 1, or None",
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Log-probabilities of given texts as continuations of `path`."""

    path: Path
    continuations: tuple[str, ...]
    tag: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.continuations) and all(self.continuations),
            "Score.continuations", "are missing or empty", "give at least one text",
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Verify:
    """The run's verifier's opinion of `path`."""

    path: Path
    tag: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """A new prompt on behalf of question number `question`.

    Without a `task`, branches that grow from it are read like those of the question's own prompt and
    are among the result's paths. With one (a value prompt, a judge) they are asides: their answers are
    read in that task's format, as they are written, and are no answers to the question.
    """

    messages: Messages
    question: int = 0
    task: Task | None = None
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a branch; its tokens count as discarded, and it is told as Failed without an error.

    That holds even where it ended meanwhile. A branch whose end was told is left alone.
    """

    branch: int


Action = Extend | Score | Verify | Root | Cancel
Request = Extend | Score | Verify | Root  # the actions that are answered by an event


@dataclass(frozen=True, slots=True)
class Progress:
    """The next `Extend.watch_every` new tokens of a branch, `count` of them by now.

    `count` is always a multiple of `watch_every`, whatever the backend delivers at a time; the rest at
    a branch's end is told with its end alone. A backend without token ids is counted by the
    log-probabilities it reports, and where there are none, by its pieces of text.

    Progress of one branch comes in order and before its end. That of different branches interleaves
    as it arrives: decide on a branch by its own counts.
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
    """A branch ended. `answer` is None where none was found; `steps` are the token counts, from the
    prompt on, at which its steps end (`path.cut(steps[k - 1])` is its first k steps). An aside grew
    from a Root with a task of its own: its answer is none to the question."""

    question: int
    action: Extend
    branch: int
    path: Path
    answer: Answer | None
    steps: tuple[int, ...]
    cost: Usage = field(default_factory=Usage)
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """[continuations][tokens] log-probabilities in nats."""

    question: int
    action: Score
    logprobs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The verifier's score."""

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
    """A request failed, or a branch did (then `branch` is its number) or was cancelled (`error` is None)."""

    question: int
    action: Request
    branch: int | None
    error: BranchwiseError | None
    aside: bool = False


Completion = Finished | Scored | Verified | Rooted | Failed  # what answers an action
Event = Progress | Completion
