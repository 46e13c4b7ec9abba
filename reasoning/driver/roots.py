"""Where paths come from: the prompts of a run, and the keys of the samples drawn from them."""

from dataclasses import dataclass, field, replace

from branchwise.core.errors import ConfigError
from branchwise.core.keys import child_key
from branchwise.core.path import Path
from branchwise.driver.account import Account
from branchwise.prompts.task import Task
from branchwise.strategies.actions import Extend


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What a prompt is for: who pays, and how its branches are read."""

    account: Account
    task: Task
    aside: bool = False


@dataclass(slots=True)
class Roots:
    """The prompts of a run, and how many samples were drawn from every path."""

    _origins: dict[Path, Origin] = field(default_factory=dict)
    _drawn: dict[tuple[int, int], int] = field(default_factory=dict)  # by question and the path's key
    _resumed: set[tuple[int, int, int, int]] = field(default_factory=set)

    def add(self, path: Path, origin: Origin) -> Path:
        """Take in a prompt; the path that stands for it in this run."""
        if path in self._origins:  # a backend may hand out one path for equal prompts
            path = replace(path)
        self._origins[path] = origin
        return path

    def origin(self, path: Path) -> Origin:
        """What the prompt of `path` is for. Raises ConfigError for a path of another run."""
        if path.root not in self._origins:
            raise ConfigError("path", "grew from no prompt of this run", "use paths from this run's roots and events")
        return self._origins[path.root]

    def keys(self, action: Extend) -> list[int]:
        """The keys of the samples an Extend asks for: never used before, except to resume one.

        Samples are counted for each question alone, so that equal questions in a run get what they get
        by themselves. Raises ConfigError where a path can't be resumed.
        """
        path, question = action.path, self.origin(action.path).account.question
        if action.resume:
            mark = (question, path.key, path.generated, len(path.whole_text))
            if path.parent is None or mark in self._resumed:
                raise ConfigError("Extend.resume", "the path is a prompt, or was resumed before", "draw a new sample")
            self._resumed.add(mark)
            return [path.key]
        first = self._drawn.get((question, path.key), 0)
        self._drawn[question, path.key] = first + action.count
        return [child_key(path.key, first + i) for i in range(action.count)]
