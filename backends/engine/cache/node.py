"""The pieces of the token tree: runs of tokens, places in them, and those who stand there."""

from array import array
from typing import NamedTuple

from branchwise.backends.engine.cache.snapshots import Snapshot


class Run:
    """Consecutive tokens after a common prefix, with nothing branching off in between."""

    __slots__ = ("children", "cursors", "marks", "parent", "readable", "slots", "start", "tokens", "used")

    def __init__(self, parent: "Run | None", start: int) -> None:
        self.parent = parent
        self.start = start  # tokens before the first of this run
        self.tokens = array("q")  # [length]
        self.slots = array("q")  # [length]
        self.readable = bytearray()  # [length] whether the pool holds what the output head read there
        self.children: dict[int, Run] = {}  # by their first token
        self.cursors: set[Cursor] = set()
        self.marks: dict[int, Snapshot] = {}  # states kept behind so many of the tokens
        self.used = 0  # when it was last matched or grown, in ticks of the tree's clock

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pinned(self) -> int:
        """How many of the first tokens somebody stands on or behind."""
        return len(self) if self.children else max((cursor.offset for cursor in self.cursors), default=0)


class Place(NamedTuple):
    """A position in the tree: after the first `offset` tokens of `run`."""

    run: Run
    offset: int

    @property
    def depth(self) -> int:
        """Tokens from the start of the path."""
        return self.run.start + self.offset


class Cursor:
    """Somebody standing on the tree: the tokens up to here stay held."""

    __slots__ = ("offset", "run")

    def __init__(self, run: Run, offset: int) -> None:
        self.run, self.offset = run, offset

    @property
    def place(self) -> Place:
        return Place(self.run, self.offset)

    @property
    def depth(self) -> int:
        """Tokens from the start of the path."""
        return self.run.start + self.offset

    def chain(self) -> list[Place]:
        """The runs from the start of the path to here, each with how many of its tokens are on the path."""
        chain, run, offset = [], self.run, self.offset
        while (parent := run.parent) is not None:
            chain.append(Place(run, offset))
            run, offset = parent, len(parent)
        chain.reverse()
        return chain
