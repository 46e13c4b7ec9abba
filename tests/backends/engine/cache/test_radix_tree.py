"""The token tree against a plain list of paths: whatever is done to it, in any order."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from branchwise.backends.engine.cache.node import Cursor, Place
from branchwise.backends.engine.cache.radix_tree import TokenTree
from tests.support.lab import runs_of

SIZE = 40
ALPHABET = st.integers(0, 2)  # few tokens, so that paths share a lot


def path_of(place: Place) -> list[int]:
    """The tokens that lead to a place."""
    tokens: list[int] = []
    run, offset = place
    while run is not None:
        tokens[:0] = run.tokens[:offset]
        run, offset = run.parent, len(run.parent) if run.parent is not None else 0
    return tokens


def slots_of(cursor: Cursor) -> list[int]:
    return [slot for run, offset in cursor.chain() for slot in run.slots[:offset]]


class TreeMachine(RuleBasedStateMachine):
    """Every cursor is mirrored by the tokens it should stand behind, and the slots they were given."""

    @initialize()
    def make(self) -> None:
        self.tree = TokenTree(range(1, SIZE + 1))
        self.mirror: dict[Cursor, list[int]] = {}
        self.written: dict[int, list[int]] = {}  # slot -> the path whose token was put there

    @rule(tokens=st.lists(ALPHABET, max_size=12))
    def start(self, tokens: list[int]) -> None:
        place = self.tree.match(tokens)
        found = path_of(place)
        assert found == tokens[: len(found)]
        cursor = self.tree.pin(place)
        if len(found) < len(tokens):
            assert self.tree.ahead(cursor, tokens[len(found) :]) == [], "the match ended early"
        self.mirror[cursor] = found

    @rule(data=st.data(), tokens=st.lists(ALPHABET, min_size=1, max_size=8))
    def extend(self, data: st.DataObject, tokens: list[int]) -> None:
        if not self.mirror:
            return
        cursor = data.draw(st.sampled_from(list(self.mirror)))
        slots = self.tree.allocate(len(tokens))
        if slots is None:
            assert self.pinned() + len(tokens) > SIZE, "there was room"
            return
        assert len(set(slots)) == len(tokens)
        spare, ahead = [], self.tree.ahead(cursor, tokens)
        for token, slot in zip(tokens, slots, strict=True):
            held = self.tree.ahead(cursor, (token,))
            inserted = self.tree.advance(cursor, token, slot)
            assert inserted == (not held)
            self.mirror[cursor] = [*self.mirror[cursor], token]
            if inserted:
                self.written[slot] = self.mirror[cursor]
            else:
                spare.append(slot)
        assert len(ahead) == len(spare), "what is held ahead is not inserted"
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
    def retreat(self, data: st.DataObject) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            if cursor.depth:
                self.tree.retreat(cursor)
                self.mirror[cursor] = self.mirror[cursor][:-1]

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.mirror:
            cursor = data.draw(st.sampled_from(list(self.mirror)))
            self.tree.release(cursor)
            del self.mirror[cursor]

    @rule(count=st.integers(1, SIZE))
    def evict(self, count: int) -> None:
        before, pinned = self.tree.held, self.pinned()
        dropped = self.tree.evict(count)
        assert dropped == before - self.tree.held
        assert dropped == min(count, before - pinned), "what nobody stands on can go, and nothing else"

    @rule(tokens=st.lists(ALPHABET, max_size=12))
    def forget(self, tokens: list[int]) -> None:
        self.tree.forget(self.tree.match(tokens))

    def pinned(self) -> int:
        """How many tokens somebody stands on or behind."""
        return len({tuple(path[:end]) for path in self.mirror.values() for end in range(1, len(path) + 1)})

    @invariant()
    def every_cursor_stands_where_it_should(self) -> None:
        for cursor, path in getattr(self, "mirror", {}).items():
            assert path_of(cursor.place) == path
            assert cursor.depth == len(path)
            assert cursor in cursor.run.cursors
            for end, slot in enumerate(slots_of(cursor), 1):
                assert self.written[slot] == path[:end], "a slot is read that holds something else"

    @invariant()
    def every_slot_is_owned_once(self) -> None:
        if not hasattr(self, "tree"):
            return
        owned = [slot for run in runs_of(self.tree) for slot in run.slots]
        assert len(set(owned)) == len(owned) == self.tree.held
        assert sorted([*owned, *self.tree._free]) == list(range(1, SIZE + 1))

    @invariant()
    def the_runs_are_a_radix_tree(self) -> None:
        for run in runs_of(self.tree) if hasattr(self, "tree") else ():
            assert len(run) > 0
            assert len(run) == len(run.slots) == len(run.readable)
            assert run.parent is not None
            assert run.parent.children[run.tokens[0]] is run
            assert run.start == run.parent.start + len(run.parent)
            assert all(0 < cursor.offset <= len(run) and cursor.run is run for cursor in run.cursors)

    def teardown(self) -> None:
        for cursor in list(getattr(self, "mirror", {})):
            self.tree.release(cursor)
        if hasattr(self, "tree"):
            self.tree.evict(SIZE)
            assert self.tree.held == 0
            assert not self.tree.root.children


TreeMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTree = pytest.mark.filterwarnings("ignore")(TreeMachine.TestCase)


def test_slots_are_handed_out_in_ascending_runs() -> None:
    tree = TokenTree(range(1, 101))
    cursor = tree.pin(tree.match(()))
    first = tree.allocate(60)
    assert first == list(range(1, 61))
    for token, slot in enumerate(first):
        tree.advance(cursor, token, slot)
    tree.release(cursor)
    assert tree.allocate(70) == list(range(31, 101)), "after an eviction, too"


def test_what_was_used_last_stays_longest() -> None:
    tree = TokenTree(range(8))
    for start in (10, 20, 30):
        cursor = tree.pin(tree.match(()))
        for token, slot in zip((start, start + 1), tree.allocate(2) or (), strict=True):
            tree.advance(cursor, token, slot)
        tree.release(cursor)
    tree.match((10, 11))
    tree.evict(2)
    assert [tree.match((start, start + 1)).depth for start in (10, 20, 30)] == [2, 0, 2]
    tree.forget(tree.match((30, 31)))
    tree.evict(2)
    assert [tree.match((start, start + 1)).depth for start in (10, 20, 30)] == [2, 0, 0]


def test_a_rollback_gives_up_only_what_is_nobody_elses() -> None:
    tree = TokenTree(range(20))
    cursor = tree.pin(tree.match(()))
    for token, slot in zip(range(10, 18), tree.allocate(8) or (), strict=True):
        tree.advance(cursor, token, slot)
    other = tree.fork(cursor)
    tree.truncate(other, 3)
    assert (other.depth, tree.held) == (5, 8)
    tree.truncate(cursor, 6)
    assert (cursor.depth, tree.held) == (2, 5)
    tree.truncate(other, 5)
    assert (other.depth, tree.held) == (0, 2)
