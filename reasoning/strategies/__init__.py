"""Strategies: the protocol, the actions and events exchanged with the driver, and the base classes.

The voting strategies are in branchwise.strategies.voting, the tree searches in branchwise.search.
"""

from branchwise.strategies.actions import (
    Action,
    Cancel,
    Completion,
    Event,
    Extend,
    Failed,
    Finished,
    Progress,
    Request,
    Root,
    Rooted,
    Score,
    Scored,
    Verified,
    Verify,
)
from branchwise.strategies.per_question import BatchStrategy, PerQuestion
from branchwise.strategies.samples import Samples
from branchwise.strategies.strategy import AnyStrategy, Decision, Strategy, Tally

__all__ = [
    "Action",
    "AnyStrategy",
    "BatchStrategy",
    "Cancel",
    "Completion",
    "Decision",
    "Event",
    "Extend",
    "Failed",
    "Finished",
    "PerQuestion",
    "Progress",
    "Request",
    "Root",
    "Rooted",
    "Samples",
    "Score",
    "Scored",
    "Strategy",
    "Tally",
    "Verified",
    "Verify",
]
