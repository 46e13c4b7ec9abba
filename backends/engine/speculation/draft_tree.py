"""How a draft grows from what was seen before: the likeliest nodes first."""

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from branchwise.backends.engine.speculation.corpus import Match, Place
from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node


class _Bud(NamedTuple):
    """A node that could be added next. The likeliest sorts first, among equals the one found first."""

    weight: float  # below zero
    number: int
    depth: int
    node: Node
    places: Sequence[Place]  # behind it


def grow(draft: Draft, matches: Sequence[Match], budget: int, depth: int, drafter: str) -> None:
    """Add what followed the matches, the longest first, until the draft has `budget` nodes; at most `depth` deep.

    A node weighs its share of what followed its parent, times its parent's weight; of equals, the one seen
    last goes first. (The noise the target will choose with is known, too: weighing the shares by it was tried,
    and foresaw less than recency does.)
    """
    heap: list[_Bud] = []
    count = 0
    for match in matches:
        for bud in _buds(ROOT, match, 1.0, 0, drafter, count):
            heapq.heappush(heap, bud)
            count += 1
    while heap and len(draft) < budget:
        bud = heapq.heappop(heap)
        if draft.child(bud.node.parent, bud.node.token) is not None:
            continue
        place = draft.add(bud.node)
        if bud.depth < depth:
            behind = Match(bud.node.match + 1, bud.places)
            for further in _buds(place, behind, -bud.weight, bud.depth, drafter, count):
                heapq.heappush(heap, further)
                count += 1


def _buds(parent: int, match: Match, weight: float, depth: int, drafter: str, number: int) -> Iterator[_Bud]:
    """What followed at some places, `depth` tokens ahead."""
    following: dict[int, list[Place]] = {}
    for place in match.places:
        token = place.ahead
        if token is not None:
            following.setdefault(token, []).append(Place(place.stream, place.at + 1))
    seen = sum(map(len, following.values()))
    for i, (token, places) in enumerate(following.items()):
        share = len(places) / seen
        node = Node(parent, token, share, match.length, seen, drafter)
        yield _Bud(-weight * share, number + i, depth + 1, node, places)
