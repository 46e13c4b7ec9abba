"""Run strategies over backends: the front door, the loop, budgets, run events and results."""

from branchwise.driver.attempts import retry
from branchwise.driver.launch import GRACE_SECONDS
from branchwise.driver.observe import (
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
from branchwise.driver.setup import Verifier
from branchwise.driver.solve import run_sync, solve, solve_batch, solve_sync
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
