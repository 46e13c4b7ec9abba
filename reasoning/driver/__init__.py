"""Run strategies over backends: `solve` and its variants, budgets, run events and results."""

from branchwise.driver.events import (
    BranchEnded,
    BranchGrew,
    BranchStarted,
    Observer,
    QuestionEnded,
    QuestionStarted,
    RequestEnded,
    RequestStarted,
    RunEnded,
    RunEvent,
    RunStarted,
    Standing,
    together,
)
from branchwise.driver.fallbacks import retry
from branchwise.driver.scheduler import GRACE_SECONDS, Verifier
from branchwise.driver.solve import SolveOptions, run_sync, solve, solve_batch, solve_sync
from branchwise.driver.stop import Stop

__all__ = [
    "GRACE_SECONDS",
    "BranchEnded",
    "BranchGrew",
    "BranchStarted",
    "Observer",
    "QuestionEnded",
    "QuestionStarted",
    "RequestEnded",
    "RequestStarted",
    "RunEnded",
    "RunEvent",
    "RunStarted",
    "SolveOptions",
    "Standing",
    "Stop",
    "Verifier",
    "retry",
    "run_sync",
    "solve",
    "solve_batch",
    "solve_sync",
    "together",
]
