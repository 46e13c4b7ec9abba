"""One self-contained page on which a person reads every question's paths as a tree."""

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import MissingExtraError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.path_tree import Segment, path_tree
from branchwise.evaluation.report.summary import DataSummary

if TYPE_CHECKING:
    from jinja2 import Template


class Section(NamedTuple):
    """What the page shows of one file."""

    summary: DataSummary
    plot: str | None
    """An SVG element."""
    questions: Sequence["Asked"]


class Asked(NamedTuple):
    """One question, and what each strategy made of it."""

    id: str
    question: str
    reference: str
    answers: Sequence["Shown"]


class Shown(NamedTuple):
    """One strategy's answer."""

    answered: Answered
    tree: Segment


def section(summary: DataSummary, answered: Sequence[Answered], plot: str | None) -> Section:
    """The section of one file; questions in the order of their ids' first appearance."""
    order = {one.strategy: place for place, one in enumerate(summary.strategies)}
    by_id: dict[str, list[Answered]] = {}
    for one in answered:
        if one.strategy in order:
            by_id.setdefault(one.id, []).append(one)
    asked = []
    for id_, answers in by_id.items():
        answers.sort(key=lambda one: order[one.strategy])
        shown = [Shown(one, path_tree(one)) for one in answers]
        asked.append(Asked(id_, answers[0].question, answers[0].reference, shown))
    return Section(summary, plot, asked)


def render(title: str, sections: Sequence[Section]) -> str:
    """The page. Whatever models and data sets wrote is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    return template("branchwise.evaluation", "page.html").render(title=title, sections=sections)


def template(package: str, name: str) -> "Template":
    """A page of a package, which may include the common `style.html`; what it is given is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(error.name or "jinja2", "plot") from error

    def read(file: str) -> str:
        owner = package if file == name else __package__
        return files(owner).joinpath(file).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(read)
    )
    return environment.get_template(name)
