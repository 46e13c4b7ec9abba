"""Evaluation of strategies on questions with known answers.

`read_rows` reads a data set, `evaluate` answers a `Plan`, `summarize` compares the strategies. `branchwise eval` adds a
journal, which makes a run resumable, and `branchwise report` writes the tables, plots and page.
"""

from branchwise.evaluation.answered import Answered, AnsweredPath
from branchwise.evaluation.columns import Columns
from branchwise.evaluation.dataset import read_rows
from branchwise.evaluation.grading import Grade, grade, is_correct
from branchwise.evaluation.journal import Journal
from branchwise.evaluation.metrics import perplexity
from branchwise.evaluation.pool import Pool
from branchwise.evaluation.report.summary import DataSummary, StrategySummary, summarize
from branchwise.evaluation.results import read_results
from branchwise.evaluation.row import Row
from branchwise.evaluation.run import Plan, evaluate
from branchwise.evaluation.settings import RunSettings
from branchwise.evaluation.statistics import Calibration, Estimate

__all__ = [
    "Answered",
    "AnsweredPath",
    "Calibration",
    "Columns",
    "DataSummary",
    "Estimate",
    "Grade",
    "Journal",
    "Plan",
    "Pool",
    "Row",
    "RunSettings",
    "StrategySummary",
    "evaluate",
    "grade",
    "is_correct",
    "perplexity",
    "read_results",
    "read_rows",
    "summarize",
]
