"""What traces and logs call the end of a question."""

from asyncio import CancelledError

from branchwise.core.result import Outcome


def outcome_name(outcome: Outcome | None, raised: BaseException | None) -> str:
    """The name that results are recorded with; what was torn down was cancelled, or failed."""
    if outcome is None:
        outcome = Outcome.CANCELLED if isinstance(raised, CancelledError) else Outcome.FAILED
    return outcome.name.lower()
