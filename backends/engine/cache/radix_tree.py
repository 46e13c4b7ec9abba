"""Radix tree of cached tokens. The scheduler matches and pins prefixes, the batch inserts what it computed.

Every cached token owns one slot of the KV pool. Branches share their common prefix to the token: a fork is one more
cursor, a rollback moves a cursor back. The tree only does the bookkeeping; tensors live in the pool.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence

from branchwise.backends.engine.cache.node import Cursor, RadixNode, TreePosition
from branchwise.backends.engine.cache.snapshots import Snapshot


class RadixTree:
    """Cached tokens, their slots and the cursors that pin them. Not thread-safe: the step loop owns it."""

    def __init__(self, slots: Iterable[int]) -> None:
        """`slots`: slots of the KV pool that the tree may use."""
        self.root = RadixNode(None, 0)
        self._free = sorted(slots, reverse=True)
        self._capacity = len(self._free)
        self._clock = itertools.count(1)

    @property
    def capacity(self) -> int:
        """Number of tokens that fit."""
        return self._capacity

    @property
    def used(self) -> int:
        """Number of slots in use."""
        return self._capacity - len(self._free)

    # Matching and pinning

    def match(self, tokens: Sequence[int]) -> TreePosition:
        """Return the end of the longest cached prefix of `tokens`."""
        node, offset, now = self.root, 0, next(self._clock)
        for token in tokens:
            if offset < len(node):
                if node.tokens[offset] != token:
                    break
                offset += 1
            elif (child := node.children.get(token)) is not None:
                node, offset = child, 1
                node.last_used = now
            else:
                break
        return TreePosition(node, offset)

    def pin(self, position: TreePosition) -> Cursor:
        """Protect the tokens up to `position` from eviction until the returned cursor is released."""
        cursor = Cursor(*position)
        position.node.cursors.add(cursor)
        return cursor

    def fork(self, cursor: Cursor) -> Cursor:
        """Return a second cursor at the same position."""
        return self.pin(cursor.position)

    def release(self, cursor: Cursor) -> None:
        """Remove the pin. The tokens stay cached until their slots are needed."""
        cursor.node.cursors.discard(cursor)

    def cached_slots(self, cursor: Cursor, tokens: Sequence[int]) -> list[int]:
        """Return the slots of the longest prefix of `tokens` that is cached directly after the cursor."""
        node, offset = cursor.position
        slots: list[int] = []
        for token in tokens:
            if offset == len(node):
                child = node.children.get(token)
                if child is None:
                    break
                node, offset = child, 0
            elif node.tokens[offset] != token:
                break
            slots.append(node.slots[offset])
            offset += 1
        return slots

    def has_hidden(self, position: TreePosition) -> bool:
        """Return whether the pool stores the output head's input for the token before `position`."""
        return bool(position.offset and position.node.has_hidden[position.offset - 1])

    def set_has_hidden(self, position: TreePosition) -> None:
        """Record that the pool stores the output head's input for the token before `position`."""
        position.node.has_hidden[position.offset - 1] = True

    def add_snapshot(self, position: TreePosition, snapshot: Snapshot) -> None:
        """Attach the recurrent state after the token before `position`."""
        position.node.snapshots[position.offset] = snapshot

    def nearest_snapshot(self, position: TreePosition) -> tuple[TreePosition, Snapshot | None]:
        """Return the last position on the path to `position` that has a snapshot; the root and None without one."""
        node: RadixNode | None = position.node
        offset = position.offset
        while node is not None:
            kept = [at for at, snapshot in node.snapshots.items() if at <= offset and snapshot.state is not None]
            if kept:
                return TreePosition(node, max(kept)), node.snapshots[max(kept)]
            node = node.parent
            offset = 0 if node is None else len(node)
        return TreePosition(self.root, 0), None

    # Insertion and eviction

    def advance(self, cursor: Cursor, token: int, slot: int, has_hidden: bool = False) -> bool:
        """Move a cursor over `token`, inserting it with `slot` unless it is cached. Return whether it was inserted."""
        node, offset = cursor.position
        if offset < len(node) and node.tokens[offset] != token:
            node = self._split(node, offset)
        if offset < len(node):
            cursor.offset += 1
            return False
        node.last_used = next(self._clock)
        child = node.children.get(token)
        inserted = child is None
        if child is None and (node.children or node is self.root):
            child = node.children[token] = RadixNode(node, node.start + len(node))
            child.last_used = node.last_used
        if child is not None:
            self._move(cursor, child, 0)
            node = child
        if inserted:
            node.tokens.append(token)
            node.slots.append(slot)
            node.has_hidden.append(has_hidden)
        cursor.offset += 1
        return inserted

    def step_back(self, cursor: Cursor) -> None:
        """Move a cursor back by one token. The token stays cached."""
        cursor.offset -= 1
        if cursor.offset == 0 and cursor.node.parent is not None:
            self._move(cursor, cursor.node.parent, len(cursor.node.parent))

    def truncate(self, cursor: Cursor, count: int) -> None:
        """Move a cursor back by `count` tokens and evict those that nothing else pins."""
        for _ in range(count):
            node = cursor.node
            self.step_back(cursor)
            self._trim(node, len(node) - node.pinned)
            self._remove_if_empty(node)

    def allocate(self, count: int) -> list[int] | None:
        """Return `count` free slots, ascending where possible, or None when too few tokens can be evicted for them."""
        if len(self._free) < count:
            self.evict(max(count - len(self._free), self._capacity // 16))
        if len(self._free) < count:
            return None
        taken = self._free[-count:] if count else []
        del self._free[len(self._free) - count :]
        taken.reverse()
        return taken

    def free(self, slots: Iterable[int]) -> None:
        """Return allocated slots that were not inserted."""
        self._free.extend(slots)

    def evict(self, count: int) -> int:
        """Evict up to `count` unpinned tokens, least recently used first. Return the number of evicted tokens."""
        leaves = [(node.last_used, id(node), node) for node in self._nodes() if node.pinned < len(node)]
        heapq.heapify(leaves)
        evicted = 0
        while leaves and evicted < count:
            _, _, node = heapq.heappop(leaves)
            evicted += self._trim(node, min(len(node) - node.pinned, count - evicted))
            parent = node.parent
            if self._remove_if_empty(node) and parent is not None and parent.pinned < len(parent):
                heapq.heappush(leaves, (parent.last_used, id(parent), parent))
        self._free.sort(reverse=True)  # so that later allocations are consecutive, which is read without a copy
        return evicted

    def demote(self, position: TreePosition) -> None:
        """Make the tokens that only lead to `position` the first to be evicted."""
        node: RadixNode | None = position.node
        while node is not None and not node.cursors and not node.children:
            node.last_used = 0
            if node.parent is None or len(node.parent.children) > 1:
                return
            node = node.parent

    # Structure

    def _split(self, node: RadixNode, at: int) -> RadixNode:
        """Split a node after its first `at` tokens. Return the new parent, which has these tokens."""
        assert node.parent is not None
        assert 0 < at < len(node)
        first = RadixNode(node.parent, node.start)
        first.tokens, node.tokens = node.tokens[:at], node.tokens[at:]
        first.slots, node.slots = node.slots[:at], node.slots[at:]
        first.has_hidden, node.has_hidden = node.has_hidden[:at], node.has_hidden[at:]
        first.snapshots = {offset: snapshot for offset, snapshot in node.snapshots.items() if offset <= at}
        node.snapshots = {offset - at: snapshot for offset, snapshot in node.snapshots.items() if offset > at}
        first.last_used = node.last_used
        node.parent.children[first.tokens[0]] = first
        node.parent, node.start = first, node.start + at
        first.children[node.tokens[0]] = node
        for cursor in list(node.cursors):
            if cursor.offset <= at:
                self._move(cursor, first, cursor.offset)
            else:
                cursor.offset -= at
        return first

    def _move(self, cursor: Cursor, node: RadixNode, offset: int) -> None:
        cursor.node.cursors.discard(cursor)
        cursor.node, cursor.offset = node, offset
        node.cursors.add(cursor)

    def _trim(self, node: RadixNode, count: int) -> int:
        """Evict a node's last `count` tokens and return `count`."""
        keep = len(node) - count
        self._free.extend(node.slots[keep:])
        del node.tokens[keep:], node.slots[keep:], node.has_hidden[keep:]
        for offset in [offset for offset in node.snapshots if offset > keep]:
            node.snapshots.pop(offset).state = None
        return count

    def _remove_if_empty(self, node: RadixNode) -> bool:
        """Remove a node that has neither tokens nor children nor cursors. Return whether it was removed."""
        if len(node) or node.children or node.cursors or node.parent is None:
            return False
        for token, child in node.parent.children.items():
            if child is node:
                del node.parent.children[token]
                break
        return True

    def _nodes(self) -> Iterable[RadixNode]:
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())
