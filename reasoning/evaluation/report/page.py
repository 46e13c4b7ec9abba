"""The report of an evaluation as one self-contained HTML page: tables, plots and the paths of every question."""

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import MissingExtraError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary
from branchwise.evaluation.report.text_trie import TrieNode, build_trie

if TYPE_CHECKING:
    from jinja2 import Template

_STYLE = "style.html"  # shared by all pages


class Section(NamedTuple):
    """One data set on the page."""

    summary: DataSummary
    plot: str | None
    """An SVG element."""
    questions: Sequence["QuestionReport"]


class QuestionReport(NamedTuple):
    """One question with the answers of all strategies."""

    id: str
    question: str
    reference: str
    answers: Sequence["AnswerReport"]


class AnswerReport(NamedTuple):
    """One strategy's answer and its paths."""

    answered: Answered
    trie: TrieNode


def make_section(summary: DataSummary, answered: Sequence[Answered], plot: str | None) -> Section:
    """Return the section of one data set, with its questions in the order in which they were first answered."""
    order = {one.strategy: place for place, one in enumerate(summary.strategies)}
    by_id: dict[str, list[Answered]] = {}
    for one in answered:
        if one.strategy in order:
            by_id.setdefault(one.id, []).append(one)
    questions = []
    for id_, answers in by_id.items():
        answers.sort(key=lambda one: order[one.strategy])
        reports = [AnswerReport(one, build_trie(one)) for one in answers]
        questions.append(QuestionReport(id_, answers[0].question, answers[0].reference, reports))
    return Section(summary, plot, questions)


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page. Text of models and data sets is escaped.

    Raises MissingExtraError without the extra `plot`.
    """
    return load_template(__package__ or "", "page.html").render(title=title, sections=sections)


def load_template(package: str, name: str) -> "Template":
    """Return a template of a package, which may include `style.html`. Values are escaped when it is rendered.

    Raises MissingExtraError without the extra `plot`.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(error.name or "jinja2", "plot") from error

    def read(file: str) -> str:
        owner = __package__ if file == _STYLE else package
        return files(owner).joinpath(file).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(read)
    )
    return environment.get_template(name)
