"""The report of an evaluation as one self-contained HTML page: tables, plots and the paths of every question.

A page has a limited size. What doesn't fit is counted on the page, and stays in results.jsonl.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from branchwise.core.errors import MissingExtraError
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.report.summary import DataSummary
from branchwise.evaluation.report.text_trie import PathEnd, TrieNode, build_trie

if TYPE_CHECKING:
    from jinja2 import Template

_SHARED = ("notes.html", "style.html")  # for all pages
_PAGE_CHARS = 20_000_000  # of all questions on a page; each data set has an equal share
_TREE_CHARS = 1_000_000  # of the texts of one answer's paths
_TREE_PATHS = 1_000
_TREE_LEVELS = 30  # deeper levels are not indented further
_VALUE_CHARS = 100_000  # of any one text on a page
_LIST_ITEMS = 100  # of votes and of notes


class Section(NamedTuple):
    """One data set on the page."""

    summary: DataSummary
    plot: str | None
    """An SVG element."""
    questions: Sequence[Sequence[Answered]]
    """The answers of all strategies to each question."""


class TreeRow(NamedTuple):
    """A node of the trie of an answer's paths."""

    level: int
    text: str
    hidden_chars: int
    """Characters of its text that the page leaves out."""
    paths: int
    ends: Sequence[PathEnd]


class AnswerReport(NamedTuple):
    """One strategy's answer and its paths."""

    answered: Answered
    votes: Sequence[tuple[str, float]]
    """The answers with the most votes."""
    rows: Sequence[TreeRow]
    hidden_paths: int
    """Number of paths that the page leaves out."""


def make_section(summary: DataSummary, answered: Sequence[Answered], plot: str | None) -> Section:
    """Return the section of one data set, with its questions in the order in which they were first answered."""
    order = {one.strategy: place for place, one in enumerate(summary.strategies)}
    by_id: dict[str, list[Answered]] = {}
    for one in answered:
        if one.strategy in order:
            by_id.setdefault(one.id, []).append(one)
    for answers in by_id.values():
        answers.sort(key=lambda one: order[one.strategy])
    return Section(summary, plot, list(by_id.values()))


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page. Text of models and data sets is escaped.

    The first questions are shown, as many as fit the page; a note counts the others.

    Raises MissingExtraError without the extra `plot`.
    """
    from markupsafe import Markup

    page = load_template(__package__ or "", "page.html")
    template = load_template(__package__ or "", "question.html")
    shown: list[list[Markup]] = []
    for section in sections:
        left = _PAGE_CHARS // len(sections)
        questions: list[Markup] = []
        for answers in section.questions:
            html = template.render(answers=[_report(one) for one in answers], items=_LIST_ITEMS)
            left -= len(html)
            if left < 0:
                break
            questions.append(Markup(html))  # the template escaped its values
        shown.append(questions)
    return page.render(title=title, sections=list(zip(sections, shown, strict=True)))


def _report(answered: Answered) -> AnswerReport:
    paths, right = answered.paths[:_TREE_PATHS], answered.right[:_TREE_PATHS]
    votes = sorted(answered.votes.items(), key=lambda vote: -vote[1])[:_LIST_ITEMS]
    return AnswerReport(answered, votes, list(_rows(build_trie(paths, right))), len(answered.paths) - len(paths))


def _rows(root: TrieNode) -> Iterator[TreeRow]:
    """Yield the nodes depth first. An only child is on its parent's level, so that only branches are indented."""
    left = _TREE_CHARS
    stack = [(root, 0)]
    while stack:
        node, level = stack.pop()
        text = node.text[: min(left, _VALUE_CHARS)]
        left -= len(text)
        if node.text or node.ends:
            yield TreeRow(min(level, _TREE_LEVELS), text, len(node.text) - len(text), node.paths, node.ends)
        child_level = level + 1 if len(node.children) > 1 else level
        stack.extend((child, child_level) for child in reversed(node.children))


def load_template(package: str, name: str) -> "Template":
    """Return a template of a package, which may include `style.html` and import `notes.html`.

    When it is rendered, values are escaped, and a text of more than 100,000 characters is cut.

    Raises MissingExtraError without the extra `plot`.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(error.name or "jinja2", "plot") from error

    def read(file: str) -> str:
        owner = __package__ if file in _SHARED else package
        return files(owner).joinpath(file).read_text(encoding="utf-8")

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(read),
        finalize=_cut,
    )
    return environment.get_template(name)


def _cut(value: object) -> object:
    """Return a value of a template. Text is cut; markup, a subclass of `str`, is not."""
    if type(value) is not str or len(value) <= _VALUE_CHARS:
        return value
    return f"{value[:_VALUE_CHARS]}… ({len(value) - _VALUE_CHARS:,} more characters)"
