"""Events that observers of a run receive."""

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.driver import BranchEnded, BranchStarted, Standing


async def test_an_observer_receives_every_branch_and_standing() -> None:
    seen: list[bw.RunEvent] = []
    await bw.solve(
        "q", ScriptedBackend({"": ["The answer is 1."]}), strategy=bw.SelfConsistency(3), observer=seen.append
    )
    assert [e.branch for e in seen if isinstance(e, BranchStarted)] == [0, 1, 2]
    assert [(e.branch, e.kept) for e in seen if isinstance(e, BranchEnded)] == [(0, True), (1, True), (2, True)]
    standing = [e.decision.votes for e in seen if isinstance(e, Standing)]
    assert [sum(votes.values()) for votes in standing] == [1, 2, 3]
