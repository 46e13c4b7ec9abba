"""Helpers of the tests of speculation: suffix indexes, drafts, cost models and drafters that know the future."""

import random
from collections.abc import Sequence
from dataclasses import replace

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.speculation.cost_model import CostModel
from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.draft_budget import AdaptiveBudget
from branchwise.backends.engine.speculation.drafter import Drafter, DraftRequest
from branchwise.backends.engine.speculation.suffix_index import SuffixIndex
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling
from branchwise.core.usage import Usage
from tests.support.branches import SAMPLING, BranchResult, MakeEngine, generate, make_root

SAMPLINGS = {
    "greedy": replace(SAMPLING, temperature=0),
    "0.7": replace(SAMPLING, temperature=0.7),
    "top-p": replace(SAMPLING, temperature=0.7, top_p=0.9),
    "top-k": replace(SAMPLING, temperature=0.7, top_k=20),
    "1.2": replace(SAMPLING, temperature=1.2, logprobs=3),
}


async def generate_plain(
    make_engine: MakeEngine, name: str, keys: Sequence[int], sampling: Sampling
) -> tuple[Path, list[BranchResult]]:
    """Return the prompt, and the branches that an engine without drafts generates after it."""
    engine = make_engine(name)
    root = await make_root(engine)
    return root, await generate(engine, root, keys, sampling)


def outputs(branches: Sequence[BranchResult]) -> list[tuple[tuple[int, ...], str, object]]:
    return [(branch.tokens, branch.path.text, branch.path.stop_reason) for branch in branches]


def total_usage(branches: Sequence[BranchResult]) -> Usage:
    return sum((branch.cost for branch in branches), Usage())


def index_of_sequences(*sequences: Sequence[int], capacity: int = 1 << 20) -> SuffixIndex:
    index = SuffixIndex(capacity)
    for sequence in sequences:
        index.extend(index.begin(), sequence)
    return index


def chain_of(*probabilities: float) -> Draft:
    """Return a draft of one chain."""
    draft = Draft()
    for place, probability in enumerate(probabilities):
        draft.add(Node(place - 1, place, probability, 4, 1, "d"))
    return draft


def costs_of_rows(rows: Sequence[int], seconds: Sequence[float]) -> CostModel:
    """Return costs that depend only on the number of rows."""
    return CostModel((1,), (rows,), (seconds,))


def adaptive(costs: CostModel) -> AdaptiveBudget:
    return AdaptiveBudget(lambda: costs)


class OracleTree(Drafter):
    """Proposes the tokens that every branch will sample, among wrong ones."""

    name = "oracle"

    def __init__(self, outcomes: dict[int, Sequence[int]]) -> None:
        """`outcomes`: the tokens of each branch, by key."""
        self._outcomes, self._random = outcomes, random.Random(5)

    def propose(self, requests: Sequence[DraftRequest]) -> None:
        for request in requests:
            self._add(*request)

    def _add(self, draft: Draft, branch: EngineBranch, budget: int) -> None:
        right, count = self._outcomes.get(branch.key, ()), len(branch.sampled)
        parent = ROOT
        while len(draft) < budget:
            ahead = count + (0 if parent == ROOT else self._depth(draft, parent))
            if ahead >= len(right):
                return
            wrong = self._random.choice([t for t in range(256) if t != right[ahead]])
            beside = draft.add(Node(parent, wrong, 0.5, 2, 1, self.name))
            if len(draft) < budget and self._random.random() < 0.5:
                draft.add(Node(beside, right[min(ahead + 1, len(right) - 1)], 0.5, 2, 1, self.name))
            if len(draft) < budget:
                parent = draft.add(Node(parent, right[ahead], 0.5, 2, 1, self.name))

    @staticmethod
    def _depth(draft: Draft, node: int) -> int:
        depth = 0
        while node != ROOT:
            node, depth = draft.nodes[node].parent, depth + 1
        return depth


class OracleChain(OracleTree):
    """Proposes the next four tokens, in every second draft with the last one wrong."""

    _requests = 0

    def _add(self, draft: Draft, branch: EngineBranch, budget: int) -> None:
        right = list(self._outcomes.get(branch.key, ())[len(branch.sampled) :][:4])
        self._requests += 1
        if right and self._requests % 2:
            right[-1] = (right[-1] + 1) % 256
        for token in right:
            draft.add(Node(len(draft) - 1, token, 1.0, 2, 1, self.name))
