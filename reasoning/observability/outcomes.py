"""Names of outcomes in traces and logs."""

from asyncio import CancelledError

from branchwise.core.result import Outcome


def outcome_name(outcome: Outcome | None, raised: BaseException | None) -> str:
    """Return the outcome's name as results record it. Without an outcome, the run raised: cancelled or failed."""
    if outcome is None:
        outcome = Outcome.CANCELLED if isinstance(raised, CancelledError) else Outcome.FAILED
    return outcome.name.lower()
