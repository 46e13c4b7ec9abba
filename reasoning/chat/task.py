"""Tasks for chats: which answer format reads the paths, and whether the task changes the prompt."""

from dataclasses import replace

from branchwise.chat.tool_calls import ToolCallFormat
from branchwise.chat.tool_set import ToolSet
from branchwise.core.errors import ConfigError, require
from branchwise.prompts.library import task as find_task
from branchwise.prompts.task import Task


def chat_task(task: str | None, answers: str | None, default: str) -> Task:
    """Return the task named `task` with its instruction, or the answer format of `answers` with no instruction.

    With neither, the format is that of the task `default`, as a guess (`Task.tentative`). Raises ConfigError if both
    are given or the name is unknown.
    """
    require(
        task is None or answers is None,
        "answers",
        "is given together with task, which has an answer format of its own",
        "leave one of them out",
    )
    if task:
        return find_task(task)
    try:
        source = find_task(answers or default)
    except ConfigError as error:
        raise ConfigError("answers", error.problem, error.fix) from error
    return Task(name=source.name, format=source.format, tentative=not answers)


def with_tools(task: Task, tools: ToolSet, *, must_call: bool) -> Task:
    """Return the task that votes on tool calls before answers; without tools, the same task.

    With `must_call`, paths without a tool call do not vote.
    """
    if not tools.tools:
        return task
    format_ = ToolCallFormat(tools, None if must_call else task.format, prose=not must_call)
    return replace(task, format=format_, tentative=False)
