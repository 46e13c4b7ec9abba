"""Every tree search, and a small world in which tests run them."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.search.beam import Beam
from branchwise.search.best_first import BestFirst
from branchwise.search.best_of_n import BestOfN
from branchwise.search.dvts import DVTS
from branchwise.search.mcts import MCTS
from branchwise.search.particle import ParticleFilter
from branchwise.search.rebase import Rebase
from branchwise.search.search import Search
from branchwise.search.tree_of_thoughts import ToTBFS, ToTDFS
from branchwise.search.tree_search import TreeSearch
from tests.support.search_lab import named, said

FULL = bw.Capabilities(model="scripted", context=100_000)
DRAW = bw.Sampling(max_tokens=12)
SEARCHES: dict[str, TreeSearch[Search]] = {  # type: ignore[dict-item]
    "best-of-n": BestOfN(4),
    "best-of-n-by-steps": BestOfN(4, step="line", over="mean", choose="weighted"),
    "beam": Beam(4, width=2),
    "dvts": DVTS(4, width=2),
    "rebase": Rebase(4),
    "particle": ParticleFilter(4),
    "particle-systematic": ParticleFilter(4, systematic=True, choose="vote"),
    "mcts-one": MCTS(6, parallel=1),
    "mcts-three": MCTS(6, parallel=3),
    "mcts-puct": MCTS(6, rule="puct", parallel=2),
    "tot-bfs": ToTBFS(4, keep=2),
    "tot-dfs": ToTDFS(6, width=2, answers=2),
    "best-first": BestFirst(6, width=2),
    "a-star": BestFirst(6, width=2, parallel=2, cost="nats", answers=2),
}
SEARCHES = {name: replace(search, value="verifier", sampling=DRAW) for name, search in SEARCHES.items()}
every_search = pytest.mark.parametrize("name", SEARCHES)


def number(text: str) -> int:
    """One that looks random."""
    return zlib.crc32(text.encode())


def step(path: str, before: int) -> str:
    """The step a path goes on with: two lines and the answer, or the answer earlier."""
    depth = len(path.split())
    if depth == 2 or (depth == 1 and before % 4 == 3):
        return f"={1 + number(f'{path} {before}') % 3}"
    return f"n{before % 4}"


def rest(path: str, before: int) -> str:
    """All the steps to the end."""
    while not path.split()[-1:] or not path.split()[-1].startswith("="):
        path = f"{path} {step(path, before)}".strip()
    return path


async def judge(path: bw.Path) -> float:
    """From .01 to .97."""
    return (1 + number(named(path.answer_text)) % 97) / 100


def backend(
    delay: Callable[[str], float] = lambda text: 0.0,
    fails: Callable[[str, int], bool] = lambda path, before: False,
    able: bw.Capabilities = FULL,
    kind: type[ScriptedBackend] = ScriptedBackend,
) -> ScriptedBackend:
    """Says all that is left of a path, step by step where it is stopped after each."""

    def reply(path: bw.Path, before: int) -> Reply:
        name = named(path.whole_text)
        text = said(rest(name, before))[len(path.whole_text) :]
        fail = 1 if fails(name, before) else None
        return Reply(text, -0.1 - before % 3 / 10, delay(f"{name} {before}"), fail_after=fail)

    return kind(reply, capabilities=able, scores={"True": -0.2, "False": -2.0})


def ask(strategy: bw.Strategy, **given: object) -> bw.Result:  # type: ignore[type-arg]
    given = {"verifier": judge, **given}
    made = given.pop("backend", None) or backend()
    return bw.solve_sync("q", made, strategy=strategy, **given)  # type: ignore[arg-type]


def shape(result: bw.Result) -> tuple[object, ...]:
    """What a search found; not what it cost, which depends on what was held when."""
    nodes = [(n.number, n.parent, n.text, n.value, n.visits, n.state, n.answer, n.note) for n in result.tree.nodes]
    keys = [branch.path.key for branch in result.paths]
    return nodes, keys, result.answer, result.votes, result.tallies, result.outcome, result.degraded
