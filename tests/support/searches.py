"""Every tree search, and a pseudo-random tree on which tests run them."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.search import DVTS, MCTS, Beam, BestFirst, BestOfN, ParticleFilter, Rebase, ToTBFS, ToTDFS
from branchwise.search.tree import TreeSearch
from tests.support.search_scripts import name_of, text_of

FULL = bw.Capabilities(model="scripted", context=100_000)
SHORT = bw.Sampling(max_tokens=12)
SEARCHES: dict[str, TreeSearch[Any]] = {
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
SEARCHES = {name: replace(search, value="verifier", sampling=SHORT) for name, search in SEARCHES.items()}
every_search = pytest.mark.parametrize("name", SEARCHES)


def pseudorandom(text: str) -> int:
    """Return a 32-bit number that depends on the text alone."""
    return zlib.crc32(text.encode())


def next_step(path: str, before: int) -> str:
    """Return the next step of a path: two lines and the answer, or the answer one line earlier."""
    depth = len(path.split())
    if depth == 2 or (depth == 1 and before % 4 == 3):
        return f"={1 + pseudorandom(f'{path} {before}') % 3}"
    return f"n{before % 4}"


def whole_path(path: str, before: int) -> str:
    """Return the path with all steps to its end."""
    while not path.split()[-1:] or not path.split()[-1].startswith("="):
        path = f"{path} {next_step(path, before)}".strip()
    return path


async def score(path: bw.Path) -> float:
    """Return a score from .01 to .97 that depends on the path alone."""
    return (1 + pseudorandom(name_of(path.answer_text)) % 97) / 100


def backend(
    delay: Callable[[str], float] = lambda text: 0.0,
    fails: Callable[[str, int], bool] = lambda path, before: False,
    capabilities: bw.Capabilities = FULL,
    kind: type[ScriptedBackend] = ScriptedBackend,
) -> ScriptedBackend:
    """Return a backend that replies with the rest of a path; stop strings split it into steps."""

    def reply(path: bw.Path, before: int) -> Reply:
        name = name_of(path.whole_text)
        text = text_of(whole_path(name, before))[len(path.whole_text) :]
        fail = 1 if fails(name, before) else None
        return Reply(text, -0.1 - before % 3 / 10, delay(f"{name} {before}"), fail_after=fail)

    return kind(reply, capabilities=capabilities, scores={"True": -0.2, "False": -2.0})


def solve(strategy: bw.Strategy, **given: object) -> bw.Result:  # type: ignore[type-arg]
    """Solve a question with a search; `given` are arguments of `bw.solve_sync`."""
    given = {"verifier": score, **given}
    used = given.pop("backend", None) or backend()
    return bw.solve_sync("q", used, strategy=strategy, **given)  # type: ignore[arg-type]


def outcome(result: bw.Result) -> tuple[object, ...]:
    """Return the parts of a result that must repeat: everything but the costs, which depend on the cache."""
    nodes = [(n.number, n.parent, n.text, n.value, n.visits, n.state, n.answer, n.note) for n in result.tree.nodes]
    keys = [branch.path.key for branch in result.paths]
    return nodes, keys, result.answer, result.votes, result.tallies, result.outcome, result.degraded
