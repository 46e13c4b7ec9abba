"""Build a draft tree from matches of a suffix index, the most probable nodes first."""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.suffix_index import Match, Occurrence


class _Candidate(NamedTuple):
    """A node that may be added next. The most probable sorts first, of equals the one found first."""

    cost: float  # minus the probability of the node and its ancestors
    number: int
    depth: int
    node: Node
    occurrences: Sequence[Occurrence]  # of the tokens up to the node


def expand(draft: Draft, matches: Sequence[Match], *, budget: int, max_depth: int, drafter: str) -> None:
    """Add what followed the matches until the draft has `budget` nodes, at most `max_depth` deep.

    A node's priority is the product of count(child) / count(siblings) along its path (2503.05330). Of equals, the most
    recent one comes first. Weighing by the target's noise, which is known too, was tried: fewer drafts were accepted.
    """
    heap: list[_Candidate] = []
    count = 0
    for match in matches:
        for candidate in _candidates(ROOT, match, probability=1.0, depth=0, drafter=drafter, number=count):
            heapq.heappush(heap, candidate)
            count += 1
    while heap and len(draft) < budget:
        added = heapq.heappop(heap)
        if draft.child(added.node.parent, added.node.token) is not None:
            continue
        place = draft.add(added.node)
        if added.depth < max_depth:
            match = Match(added.node.match_length + 1, added.occurrences)
            for candidate in _candidates(
                place, match, probability=-added.cost, depth=added.depth, drafter=drafter, number=count
            ):
                heapq.heappush(heap, candidate)
                count += 1


def _candidates(
    parent: int, match: Match, *, probability: float, depth: int, drafter: str, number: int
) -> Iterator[_Candidate]:
    """Yield a child of `parent`, which is `depth` deep, for each token that followed the match."""
    following: dict[int, list[Occurrence]] = {}
    for occurrence in match.occurrences:
        token = occurrence.next_token
        if token is not None:
            following.setdefault(token, []).append(Occurrence(occurrence.sequence, occurrence.end + 1))
    total = sum(map(len, following.values()))
    for i, (token, occurrences) in enumerate(following.items()):
        share = len(occurrences) / total
        node = Node(parent, token, share, match.length, total, drafter)
        yield _Candidate(-probability * share, number + i, depth + 1, node, occurrences)
