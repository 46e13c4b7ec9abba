"""The token tree: a radix tree over token runs, and the cursors of those who stand on it.

Every held token owns one slot of the pools. What several branches have in common is held once, to the
token: a fork is one more cursor, a rollback moves a cursor back. Pure bookkeeping: it computes nothing.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence

from branchwise.backends.engine.cache.node import Cursor, Place, Run
from branchwise.backends.engine.cache.snapshots import Snapshot


class TokenTree:
    """Who holds what. Not thread-safe: it belongs to the engine's step loop."""

    def __init__(self, slots: Iterable[int]) -> None:
        """`slots`: the places there are for tokens."""
        self.root = Run(None, 0)
        self._free = sorted(slots, reverse=True)
        self._size = len(self._free)
        self._clock = itertools.count(1)

    @property
    def size(self) -> int:
        """How many tokens fit."""
        return self._size

    @property
    def held(self) -> int:
        """How many slots are in use."""
        return self._size - len(self._free)

    # Finding and standing

    def match(self, tokens: Sequence[int]) -> Place:
        """The deepest held place along `tokens`."""
        run, offset, now = self.root, 0, next(self._clock)
        for token in tokens:
            if offset < len(run):
                if run.tokens[offset] != token:
                    break
                offset += 1
            elif (child := run.children.get(token)) is not None:
                run, offset = child, 1
                run.used = now
            else:
                break
        return Place(run, offset)

    def pin(self, place: Place) -> Cursor:
        """Stand at `place`: what leads to it stays held until `release`."""
        cursor = Cursor(*place)
        place.run.cursors.add(cursor)
        return cursor

    def fork(self, cursor: Cursor) -> Cursor:
        """One more cursor at the same place."""
        return self.pin(cursor.place)

    def release(self, cursor: Cursor) -> None:
        """Stop standing there; the tokens stay held until their slots are needed."""
        cursor.run.cursors.discard(cursor)

    def ahead(self, cursor: Cursor, tokens: Sequence[int]) -> list[int]:
        """The slots of as many of `tokens` as are held right after the cursor."""
        run, offset = cursor.place
        slots: list[int] = []
        for token in tokens:
            if offset == len(run):
                child = run.children.get(token)
                if child is None:
                    break
                run, offset = child, 0
            elif run.tokens[offset] != token:
                break
            slots.append(run.slots[offset])
            offset += 1
        return slots

    def readable(self, place: Place) -> bool:
        """Whether the pool holds what the output head read there."""
        return bool(place.offset and place.run.readable[place.offset - 1])

    def set_readable(self, place: Place) -> None:
        """The pool holds it from now on."""
        place.run.readable[place.offset - 1] = True

    def mark(self, place: Place, snapshot: Snapshot) -> None:
        """Keep a state at `place`."""
        place.run.marks[place.offset] = snapshot

    def marked(self, place: Place) -> tuple[Place, Snapshot | None]:
        """The last place on the path to `place` whose state was kept; the start, without one, where there is none."""
        run: Run | None = place.run
        offset = place.offset
        while run is not None:
            kept = [at for at, snapshot in run.marks.items() if at <= offset and snapshot.state is not None]
            if kept:
                return Place(run, max(kept)), run.marks[max(kept)]
            run = run.parent
            offset = 0 if run is None else len(run)
        return Place(self.root, 0), None

    # Growing and shrinking

    def advance(self, cursor: Cursor, token: int, slot: int, readable: bool = False) -> bool:
        """Move a cursor over `token`, which is inserted with `slot` unless it is held; whether it was inserted."""
        run, offset = cursor.place
        if offset < len(run) and run.tokens[offset] != token:
            run = self._split(run, offset)
        if offset < len(run):
            cursor.offset += 1
            return False
        run.used = next(self._clock)
        child = run.children.get(token)
        inserted = child is None
        if child is None and (run.children or run is self.root):
            child = run.children[token] = Run(run, run.start + len(run))
            child.used = run.used
        if child is not None:
            self._move(cursor, child, 0)
            run = child
        if inserted:
            run.tokens.append(token)
            run.slots.append(slot)
            run.readable.append(readable)
        cursor.offset += 1
        return inserted

    def retreat(self, cursor: Cursor) -> None:
        """Move a cursor back by one token, which stays held."""
        cursor.offset -= 1
        if cursor.offset == 0 and cursor.run.parent is not None:
            self._move(cursor, cursor.run.parent, len(cursor.run.parent))

    def truncate(self, cursor: Cursor, count: int) -> None:
        """Roll a cursor back by `count` tokens, and give up those that nobody else stands on or behind."""
        for _ in range(count):
            run = cursor.run
            self.retreat(cursor)
            self._trim(run, len(run) - run.pinned)
            self._drop_empty(run)

    def allocate(self, count: int) -> list[int] | None:
        """`count` free slots, ascending where possible; what was used longest ago is given up for them. None
        where everything else is stood on."""
        if len(self._free) < count:
            self.evict(max(count - len(self._free), self._size // 16))
        if len(self._free) < count:
            return None
        taken = self._free[-count:] if count else []
        del self._free[len(self._free) - count :]
        taken.reverse()
        return taken

    def free(self, slots: Iterable[int]) -> None:
        """Give back slots that no token owns."""
        self._free.extend(slots)

    def evict(self, count: int) -> int:
        """Give up to `count` tokens up, those used longest ago first; how many were."""
        leaves = [(run.used, id(run), run) for run in self._runs() if run.pinned < len(run)]
        heapq.heapify(leaves)
        dropped = 0
        while leaves and dropped < count:
            _, _, run = heapq.heappop(leaves)
            dropped += self._trim(run, min(len(run) - run.pinned, count - dropped))
            parent = run.parent
            if self._drop_empty(run) and parent is not None and parent.pinned < len(parent):
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        self._free.sort(reverse=True)  # so that slots are handed out in ascending runs
        return dropped

    def forget(self, place: Place) -> None:
        """Make what only leads to `place` the first to go."""
        run: Run | None = place.run
        while run is not None and not run.cursors and not run.children:
            run.used = 0
            if run.parent is None or len(run.parent.children) > 1:
                return
            run = run.parent

    # Inside

    def _split(self, run: Run, at: int) -> Run:
        """Cut a run in two after `at` tokens; the first part."""
        assert run.parent is not None
        assert 0 < at < len(run)
        first = Run(run.parent, run.start)
        first.tokens, run.tokens = run.tokens[:at], run.tokens[at:]
        first.slots, run.slots = run.slots[:at], run.slots[at:]
        first.readable, run.readable = run.readable[:at], run.readable[at:]
        first.marks = {offset: mark for offset, mark in run.marks.items() if offset <= at}
        run.marks = {offset - at: mark for offset, mark in run.marks.items() if offset > at}
        first.used = run.used
        run.parent.children[first.tokens[0]] = first
        run.parent, run.start = first, run.start + at
        first.children[run.tokens[0]] = run
        for cursor in list(run.cursors):
            if cursor.offset <= at:
                self._move(cursor, first, cursor.offset)
            else:
                cursor.offset -= at
        return first

    def _move(self, cursor: Cursor, run: Run, offset: int) -> None:
        cursor.run.cursors.discard(cursor)
        cursor.run, cursor.offset = run, offset
        run.cursors.add(cursor)

    def _trim(self, run: Run, count: int) -> int:
        """Give up a run's last `count` tokens."""
        keep = len(run) - count
        self._free.extend(run.slots[keep:])
        del run.tokens[keep:], run.slots[keep:], run.readable[keep:]
        for offset in [offset for offset in run.marks if offset > keep]:
            run.marks.pop(offset).state = None
        return count

    def _drop_empty(self, run: Run) -> bool:
        """Take a run without tokens out of the tree; whether it was one."""
        if len(run) or run.children or run.cursors or run.parent is None:
            return False
        for token, child in run.parent.children.items():
            if child is run:
                del run.parent.children[token]
                break
        return True

    def _runs(self) -> Iterable[Run]:
        stack = list(self.root.children.values())
        while stack:
            run = stack.pop()
            yield run
            stack.extend(run.children.values())
