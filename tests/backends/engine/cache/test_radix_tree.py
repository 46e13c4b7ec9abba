"""The radix tree against a plain list of paths, under any sequence of operations."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from branchwise.backends.engine.cache.node import Cursor, RadixNode, TreePosition
from branchwise.backends.engine.cache.radix_tree import RadixTree
from tests.support.branches import nodes_of

SIZE = 40
ALPHABET = st.integers(0, 2)  # few tokens, so that paths share a lot


def path_of(position: TreePosition) -> list[int]:
    """Return the tokens from the root to a position."""
    tokens: list[int] = []
    node: RadixNode | None
    node, offset = position
    while node is not None:
        tokens[:0] = node.tokens[:offset]
        parent = node.parent
        node, offset = parent, len(parent) if parent is not None else 0
    return tokens


def slots_of(cursor: Cursor) -> list[int]:
    return [slot for node, offset in cursor.prefix_nodes() for slot in node.slots[:offset]]


class TreeMachine(RuleBasedStateMachine):
    """Operations on a tree, mirrored by the tokens before every cursor and the path of every slot."""

    @initialize()
    def make(self) -> None:
        self.tree = RadixTree(range(1, SIZE + 1))
        self.mirror: dict[Cursor, list[int]] = {}
        self.written: dict[int, list[int]] = {}  # slot -> the path that ends with its token

    @rule(tokens=st.lists(ALPHABET, max_size=12))
    def start(self, tokens: list[int]) -> None:
        position = self.tree.match(tokens)
        found = path_of(position)
        assert found == tokens[: len(found)]
        cursor = self.tree.pin(position)
        if len(found) < len(tokens):
            assert self.tree.cached_slots(cursor, tokens[len(found) :]) == [], "the match ended early"
        self.mirror[cursor] = found

    @rule(data=st.data(), tokens=st.lists(ALPHABET, min_size=1, max_size=8))
    def extend(self, data: st.DataObject, tokens: list[int]) -> None:
        if not self.mirror:
            return
        cursor = data.draw(st.sampled_from(list(self.mirror)))
        slots = self.tree.allocate(len(tokens))
        if slots is None:
            assert self.pinned() + len(tokens) > SIZE, "enough slots could be evicted"
            return
        assert len(set(slots)) == len(tokens)
        spare, cached = [], self.tree.cached_slots(cursor, tokens)
        for token, slot in zip(tokens, slots, strict=True):
            was_cached = bool(self.tree.cached_slots(cursor, (token,)))
            inserted = self.tree.advance(cursor, token, slot)
            assert inserted == (not was_cached)
            self.mirror[cursor] = [*self.mirror[cursor], token]
            if inserted:
                self.written[slot] = self.mirror[cursor]
            else:
                spare.append(slot)
        assert len(cached) == len(spare), "cached tokens are not inserted"
        self.tree.free(spare)

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            self.mirror[self.tree.fork(cursor)] = self.mirror[cursor]

    @rule(data=st.data(), count=st.integers(1, 9))
    def truncate(self, data: st.DataObject, count: int) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            count = min(count, cursor.depth)
            self.tree.truncate(cursor, count)
            self.mirror[cursor] = self.mirror[cursor][: len(self.mirror[cursor]) - count]

    @rule(data=st.data())
    def step_back(self, data: st.DataObject) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            if cursor.depth:
                self.tree.step_back(cursor)
                self.mirror[cursor] = self.mirror[cursor][:-1]

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            self.tree.release(cursor)
            del self.mirror[cursor]

    @rule(count=st.integers(1, SIZE))
    def evict(self, count: int) -> None:
        before, pinned = self.tree.used, self.pinned()
        evicted = self.tree.evict(count)
        assert evicted == before - self.tree.used
        assert evicted == min(count, before - pinned), "all unpinned tokens can be evicted, and no others"

    @rule(tokens=st.lists(ALPHABET, max_size=12))
    def demote(self, tokens: list[int]) -> None:
        self.tree.demote(self.tree.match(tokens))

    def pinned(self) -> int:
        """Return the number of tokens that cursors pin."""
        return len({tuple(path[:end]) for path in self.mirror.values() for end in range(1, len(path) + 1)})

    @invariant()
    def every_cursor_is_at_its_mirrored_path(self) -> None:
        for cursor, path in getattr(self, "mirror", {}).items():
            assert path_of(cursor.position) == path
            assert cursor.depth == len(path)
            assert cursor in cursor.node.cursors
            for end, slot in enumerate(slots_of(cursor), 1):
                assert self.written[slot] == path[:end], "a slot on the path has another token"

    @invariant()
    def every_slot_is_owned_once(self) -> None:
        if not hasattr(self, "tree"):
            return
        owned = [slot for node in nodes_of(self.tree) for slot in node.slots]
        assert len(set(owned)) == len(owned) == self.tree.used
        assert sorted([*owned, *self.tree._free]) == list(range(1, SIZE + 1))

    @invariant()
    def the_nodes_form_a_radix_tree(self) -> None:
        for node in nodes_of(self.tree) if hasattr(self, "tree") else ():
            assert len(node) > 0
            assert len(node) == len(node.slots) == len(node.has_hidden)
            assert node.parent is not None
            assert node.parent.children[node.tokens[0]] is node
            assert node.start == node.parent.start + len(node.parent)
            assert all(0 < cursor.offset <= len(node) and cursor.node is node for cursor in node.cursors)

    def teardown(self) -> None:
        for cursor in list(getattr(self, "mirror", {})):
            self.tree.release(cursor)
        if hasattr(self, "tree"):
            self.tree.evict(SIZE)
            assert self.tree.used == 0
            assert not self.tree.root.children


TreeMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTree = pytest.mark.filterwarnings("ignore")(TreeMachine.TestCase)


def test_allocated_slots_are_consecutive() -> None:
    tree = RadixTree(range(1, 101))
    cursor = tree.pin(tree.match(()))
    first = tree.allocate(60)
    assert first == list(range(1, 61))
    for token, slot in enumerate(first):
        tree.advance(cursor, token, slot)
    tree.release(cursor)
    assert tree.allocate(70) == list(range(31, 101)), "also after an eviction"


def test_the_least_recently_used_tokens_are_evicted_first() -> None:
    tree = RadixTree(range(8))
    for start in (10, 20, 30):
        cursor = tree.pin(tree.match(()))
        for token, slot in zip((start, start + 1), tree.allocate(2) or (), strict=True):
            tree.advance(cursor, token, slot)
        tree.release(cursor)
    tree.match((10, 11))
    tree.evict(2)
    assert [tree.match((start, start + 1)).depth for start in (10, 20, 30)] == [2, 0, 2]
    tree.demote(tree.match((30, 31)))
    tree.evict(2)
    assert [tree.match((start, start + 1)).depth for start in (10, 20, 30)] == [2, 0, 0]


def test_truncating_evicts_only_unpinned_tokens() -> None:
    tree = RadixTree(range(20))
    cursor = tree.pin(tree.match(()))
    for token, slot in zip(range(10, 18), tree.allocate(8) or (), strict=True):
        tree.advance(cursor, token, slot)
    other = tree.fork(cursor)
    tree.truncate(other, 3)
    assert (other.depth, tree.used) == (5, 8)
    tree.truncate(cursor, 6)
    assert (cursor.depth, tree.used) == (2, 5)
    tree.truncate(other, 5)
    assert (other.depth, tree.used) == (0, 2)
