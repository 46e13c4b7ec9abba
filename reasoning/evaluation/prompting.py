"""The prompts of an evaluation: the task of a row, thinking, and rows shown as worked examples (few-shot)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from branchwise.core.errors import ConfigError, require
from branchwise.evaluation.columns import Columns
from branchwise.evaluation.dataset import read_rows
from branchwise.evaluation.row import TASK_NAMES, Row
from branchwise.prompts.library import TASKS
from branchwise.prompts.library import task as find_task
from branchwise.prompts.task import Exemplar, Task
from branchwise.prompts.thinking import Thinking
from branchwise.verifiers.game24 import is_solution, read_numbers
from branchwise.verifiers.programs import assemble

_STATEMENTS: Mapping[str, str] = {
    "math": "The answer is $\\boxed{{{}}}$.",
    "choice": "The answer is ({}).",
    "yes-no": "The answer is {}.",
    "true-false": "The answer is {}.",
    "text": "Answer: {}",
    "code": "```python\n{}\n```",
    "game24": "Answer: {}",
}
"""The last line of a worked example, by the name of its task, as the task's instruction requires it."""
_VERDICTS = ("choice", "yes-no", "true-false")  # tasks whose answers have one form


@dataclass(frozen=True, slots=True)
class Prompting:
    """The prompts of a data set's rows."""

    task: Task | None = None
    """The task of every row; None: that of its answer type."""
    thinking: Thinking = field(default_factory=Thinking)
    examples: tuple[Exemplar, ...] | None = None
    """Worked examples shown before every question; None: those of the task."""

    def task_for(self, row: Row) -> Task:
        """Return the task of a row with thinking and examples."""
        task = self.task or row.task
        exemplars = task.exemplars if self.examples is None else self.examples
        return replace(task, thinking=self.thinking, exemplars=exemplars)

    @property
    def digest(self) -> str:
        """Digest of the examples; "" if they are those of the task."""
        return "" if self.examples is None else hashlib.sha256(repr(self.examples).encode()).hexdigest()[:12]


class AskedRows(NamedTuple):
    """The rows of a data set that are asked, and their prompts."""

    rows: Sequence[Row]
    prompting: Prompting


class FewShot(NamedTuple):
    """The rows that are shown as examples: the first `number` rows of `source`. None: all of them, of the data set."""

    number: int | None = None
    source: str | None = None


def read_asked(
    source: str, skip: int, limit: int | None, columns: Columns, prompting: Prompting, few_shot: FewShot
) -> AskedRows:
    """Return up to `limit` rows to ask, and `prompting` with the examples. A row with the question of an example is not
    asked.

    Raises as `read_rows` does, and ConfigError if there are too few rows.
    """
    count, other = few_shot.number, few_shot.source
    if count is None and other is None:
        return AskedRows(read_rows(source, skip, limit, columns), prompting)
    if count == 0:
        return AskedRows(read_rows(source, skip, limit, columns), replace(prompting, examples=()))
    require(count is None or count > 0, "few_shot", f"is {count}", "use 0 (no examples) or more")
    shown = read_rows(other or source, 0, count, columns)
    problem = f"is {count}, but {other or source} has {len(shown)} rows"
    require(count is None or len(shown) == count, "few_shot", problem, "use fewer")
    questions = {row.question for row in shown}
    rows = read_rows(source, skip, None if limit is None else limit + len(shown), columns)
    asked = [row for row in rows if row.question not in questions][:limit]
    require(bool(asked), "few_shot", f"leaves no row of {source} to ask", "show fewer examples")
    tasks = [prompting.task] if prompting.task else list({row.task.name: row.task for row in asked}.values())
    examples = tuple(worked_example(row, tasks[0] if len(tasks) == 1 else row.task) for row in shown)
    return AskedRows(asked, replace(prompting, examples=examples))


def worked_example(row: Row, task: Task) -> Exemplar:
    """Return a row as an example: its worked solution, which ends with the answer as the task requires it.

    Raises ConfigError if the row has no answer.
    """
    solution, answer = row.solution.strip(), row.answer
    if row.answer_type == "expression24" and not is_solution(answer, read_numbers(row.question)):
        answer = solution if is_solution(solution, read_numbers(row.question)) else ""
    require(
        bool(answer.strip()), "few_shot", f"shows row {row.id}, which has no answer", "give it one, or leave it out"
    )
    if task.name == "code":
        return Exemplar(row.question, _STATEMENTS["code"].format(assemble(row.question, answer).strip("\n")))
    stated = task.format.extract(solution)
    if stated is not None and task.format.normal(stated) == task.format.normal(answer) and stated != solution:
        return Exemplar(row.question, solution)
    statement = _STATEMENTS.get(task.name, "The answer is {}.")
    final = task.format.display(answer) if task.name in _VERDICTS else answer
    return Exemplar(row.question, f"{solution if solution != answer else ''}\n{statement.format(final)}".strip())


def find_eval_task(name: str) -> Task:
    """Return the task of a name, or of an answer type. Raises ConfigError, which suggests the closest name."""
    if name in TASK_NAMES:
        return TASKS[TASK_NAMES[name]]
    try:
        return find_task(name)
    except ConfigError as error:
        raise ConfigError("task", error.problem, f"{error.fix}, or an answer type") from error
