"""Drafts by themselves: what was seen before, and how much of it is worth computing."""

import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.scheduler.jobs import LiveBranch
from branchwise.backends.engine.speculation import draft_budget as gate_module
from branchwise.backends.engine.speculation import siblings as siblings_module
from branchwise.backends.engine.speculation.corpus import Corpus
from branchwise.backends.engine.speculation.draft import ROOT, Draft, Node
from branchwise.backends.engine.speculation.draft_budget import Fixed, Paying, StepCosts
from branchwise.backends.engine.speculation.draft_tree import grow
from branchwise.backends.engine.speculation.drafter import Ask
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.engine.speculation.step_costs import step_costs
from branchwise.backends.stream import Extension
from branchwise.backends.tokenization.detokenizer import TextStream
from branchwise.core.sampling import Sampling
from tests.support.lab import Make

TOKENS = st.lists(st.integers(0, 3), max_size=30)


def corpus_of(*sequences: Sequence[int], most: int = 1 << 20) -> Corpus:
    corpus = Corpus(most)
    for sequence in sequences:
        corpus.extend(corpus.begin(), sequence)
    return corpus


def places(sequences: Sequence[Sequence[int]], recent: Sequence[int], longest: int) -> dict[int, set[tuple[int, int]]]:
    """Every place something followed at, by how many of the latest tokens are before it, by comparing everything."""
    found: dict[int, set[tuple[int, int]]] = {}
    for number, sequence in enumerate(sequences):
        for at in range(1, len(sequence)):
            most = min(longest, at, len(recent))
            same = next((k for k in range(most, 0, -1) if list(sequence[at - k : at]) == list(recent[-k:])), 0)
            found.setdefault(same, set()).add((number, at))
    return found


@given(st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=3), TOKENS, st.integers(2, 8))
def test_matches_are_the_longest_first_and_then_fewer(
    sequences: list[list[int]], recent: list[int], longest: int
) -> None:
    corpus = corpus_of(*sequences)
    numbers = {id(stream): number for number, stream in enumerate(corpus._streams)}
    known = places(sequences, recent, longest)
    found = corpus.matches(recent, longest)
    assert [match.length for match in found if match.length > 1] == sorted((k for k in known if k > 1), reverse=True)
    assert any(match.length == 1 for match in found) == any(k >= 1 for k in known)
    for match in found:
        wanted = {place for k, those in known.items() if k >= match.length for place in those}
        assert {(numbers[id(place.stream)], place.at) for place in match.places} == wanted
        assert len(match.places) == len(wanted)


@given(st.lists(TOKENS, max_size=6), st.integers(1, 40))
def test_the_oldest_sequences_go_first(sequences: list[list[int]], most: int) -> None:
    corpus = corpus_of(*sequences, most=most)
    kept = list(corpus._streams)
    assert [list(sequence.tokens) for sequence in kept] == [list(s) for s in sequences][len(sequences) - len(kept) :]
    assert sum(len(sequence.tokens) for sequence in kept) <= most or len(kept) == 1
    held = [place for places in corpus._places.values() for place in places]
    assert all(place.stream in kept for place in held)
    assert len(held) == sum(max(0, 2 * len(stream.tokens) - 1) for stream in kept)


def test_a_dropped_stream_grows_no_more() -> None:
    corpus = Corpus(4)
    old, new = corpus.begin(), corpus.begin()
    corpus.extend(old, [1, 2, 3])
    corpus.extend(new, [4, 5])
    corpus.extend(old, [4, 6])
    assert old.dropped
    assert [list(stream.tokens) for stream in corpus._streams] == [[4, 5]]
    assert [place.ahead for match in corpus.matches([4], 8) for place in match.places] == [5]


def test_what_followed_most_often_comes_first() -> None:
    corpus = corpus_of([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6], [9, 2, 7])
    draft = Draft()
    grow(draft, corpus.matches([0, 1, 2], 8)[:1], budget=4, depth=3, drafter="d")
    assert [(node.parent, node.token, node.match, node.seen) for node in draft.nodes] == [
        (ROOT, 3, 2, 3),
        (ROOT, 6, 2, 3),
        (0, 5, 3, 2),  # of two seen as often, the one seen last
        (0, 4, 3, 2),
    ]
    assert [node.share for node in draft.nodes] == pytest.approx([2 / 3, 1 / 3, 0.5, 0.5])


def test_what_followed_less_of_it_comes_after() -> None:
    corpus = corpus_of([1, 2, 3], [9, 2, 7], [9, 2, 7], [9, 2, 3])
    draft = Draft()
    grow(draft, corpus.matches([1, 2], 8), budget=8, depth=1, drafter="d")
    assert [(node.token, node.match, node.seen) for node in draft.nodes] == [(3, 2, 1), (7, 1, 4)]


def test_a_draft_is_no_deeper_than_asked() -> None:
    corpus = corpus_of(list(range(20)))
    draft = Draft()
    grow(draft, corpus.matches([1, 2], 8), budget=100, depth=5, drafter="d")
    assert draft.tokens == [3, 4, 5, 6, 7]


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(0, 2)), max_size=12), st.sets(st.integers(0, 11)))
def test_what_is_kept_of_a_draft_hangs_together(nodes: list[tuple[int, int]], chosen: set[int]) -> None:
    draft = Draft()
    for parent, token in nodes:
        draft.add(Node(min(parent, len(draft) - 1), token, 1.0, 2, 1, "d"))
    kept = draft.kept(chosen)

    def ways(tree: Draft, among: set[int]) -> set[tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {ROOT: ()}
        for place, node in enumerate(tree.nodes):
            if place in among and node.parent in found:
                found[place] = (*found[node.parent], node.token)
        return set(found.values())

    assert ways(kept, set(range(len(kept)))) == ways(draft, chosen)


def test_costs_lie_between_the_measured_ones() -> None:
    costs = line((1, 4, 8), (1.0, 1.0, 3.0))
    assert [costs.at(1, rows) for rows in (1, 2, 4, 6, 8, 12)] == [1, 1, 1, 2, 3, 5]
    costs = StepCosts((1, 3), ((1, 3), (1, 2)), ((1.0, 2.0), (2.0, 4.0)))
    assert [costs.at(1, 2), costs.at(3, 3), costs.at(3, 6), costs.at(2, 2), costs.at(2, 4)] == [1.5, 2, 4, 1.5, 2.75]


def test_drawing_takes_time_too() -> None:
    costs = StepCosts((1,), ((1, 2),), ((1.0, 1.0),), draw=0.5)
    assert costs.rate(1, 1, 1) == pytest.approx(1 / 1.5)
    assert costs.rate(2, 1, 2) == pytest.approx(1.0)


def line(rows: Sequence[int], seconds: Sequence[float]) -> StepCosts:
    """Costs that depend on nothing but the rows."""
    return StepCosts((1,), (rows,), (seconds,))


def paying(costs: StepCosts) -> Paying:
    return Paying(lambda: costs)


def chain(*shares: float) -> Draft:
    draft = Draft()
    for place, share in enumerate(shares):
        draft.add(Node(place - 1, place, share, 4, 1, "d"))
    return draft


def test_free_rows_are_used_and_dear_ones_only_for_what_is_likely() -> None:
    free = paying(line((1, 64), (1.0, 1.0)))
    assert len(free.choose([chain(0.9, 0.5, 0.1)], [1])[0]) == 3
    # Each row costs as much again: no draft is sure enough.
    dear = paying(line((1, 64), (1.0, 64.0)))
    assert len(dear.choose([chain(1.0, 1.0)], [1])[0]) == 0
    # A tenth: the second token of the chain has 0.64 * 0.8 of a chance, the third one half of that.
    some = paying(line((1, 11), (1.0, 3.0)))
    assert len(some.choose([chain(0.8, 0.8, 0.2)], [1])[0]) == 2


def test_the_best_choice_of_all_is_taken() -> None:
    random.seed(1)
    for _ in range(50):
        gate = paying(line((1, 2, 8, 32), (1.0, random.uniform(1, 1.2), random.uniform(1.2, 2), 5.0)))
        drafts = [chain(*(random.random() for _ in range(3))) for _ in range(3)]
        chances = [gate.chances(draft) for draft in drafts]

        def rate(kept: Sequence[int], chances: list[list[float]] = chances, gate: Paying = gate) -> float:
            expected = 3 + sum(sum(of_draft[:count]) for of_draft, count in zip(chances, kept, strict=True))
            return expected / gate.costs.at(3, 3 + sum(kept))

        best = max(rate((a, b, c)) for a in range(4) for b in range(4) for c in range(4))
        plain = rate((0, 0, 0))
        wanted = best if best > plain * gate_module._demanded(3) else plain
        assert rate([len(draft) for draft in gate.choose(drafts, [1, 1, 1])]) == pytest.approx(wanted)


def test_among_many_branches_drafts_must_promise_more() -> None:
    """1.6 tokens for 1.1 of the time are enough for one path; 1.6 for 44/32 of it, a gain of 16%, not for 32."""
    assert gate_module._demanded(1) == pytest.approx(1.15, abs=0.02)
    assert gate_module._demanded(32) == gate_module._demanded(64) == pytest.approx(1.5)
    costs = StepCosts((1, 32), ((1, 2), (1, 2)), ((1.0, 1.1), (32.0, 44.0)))
    assert len(paying(costs).choose([chain(0.8)], [1])[0]) == 1
    assert not any(paying(costs).choose([chain(0.8)] * 32, [1] * 32))


def test_where_drafts_do_not_pay_it_looks_for_them_ever_more_seldom() -> None:
    gate = paying(line((1, 64), (1.0, 64.0)))
    looked = []
    for _ in range(400):
        looked.append(gate.budget(1) > 0)
        if looked[-1]:
            gate.choose([chain(1.0)], [1])
    rests = [len(list(steps)) for looking, steps in groupby(looked) if not looking]
    assert rests[:5] == [8, 16, 32, 64, 128]
    gate.costs = line((1, 64), (1.0, 1.0))
    while not gate.budget(1):
        pass
    assert len(gate.choose([chain(1.0)], [1])[0]) == 1
    assert gate._rest == 8
    gate.choose([Draft()], [1])  # that nothing was proposed says nothing of what pays
    assert gate._poor == 0


def test_a_smaller_batch_ends_its_rest() -> None:
    gate = paying(line((1, 64), (1.0, 64.0)))
    while gate.budget(8):
        gate.choose([chain(1.0)] * 8, [1] * 8)
    assert gate.budget(5) == 0
    assert gate.budget(4) > 0


def test_it_learns_what_is_right_how_often() -> None:
    gate = paying(line((1, 64), (1.0, 1.0)))
    for _ in range(500):
        gate.note(chain(0.85, 0.85), [0])  # the first is always right, the second never
    first, second = gate.chances(chain(0.85, 0.85))
    assert first == pytest.approx(0.5, abs=0.02)  # they look alike
    assert second == pytest.approx(0.25, abs=0.02)
    gate.note(chain(0.3), [])
    assert gate.chances(chain(0.3))[0] < 0.8 * 0.3


def test_what_was_long_ago_counts_less() -> None:
    gate = paying(line((1, 64), (1.0, 1.0)))
    for _ in range(5000):
        gate.note(chain(0.85), [0])
    for _ in range(1000):
        gate.note(chain(0.85), [])
    assert gate.chances(chain(0.85))[0] < 0.2


def test_estimates_that_no_longer_hold_are_doubted_soon() -> None:
    """Of all kinds at once: a question that is answered greedily says little of one that is not."""
    gate = paying(line((1, 64), (1.0, 1.0)))
    for _ in range(1000):
        gate.note(chain(0.85), [0])
    assert gate.chances(chain(0.85))[0] > 0.95
    before = gate.chances(chain(0.45))[0]
    for _ in range(40):
        gate.note(chain(0.85), [])
    assert gate.chances(chain(0.85))[0] < 0.6
    assert gate.chances(chain(0.45))[0] < 0.7 * before
    for _ in range(200):
        gate.note(chain(0.45), [0])
    assert gate.chances(chain(0.45))[0] > 0.9


def test_a_chain_is_as_long_as_its_tokens_pay() -> None:
    flat = paying(line((1, 64), (1.0, 1.0)))
    for _ in range(200):
        flat.note(Draft([Node(ROOT, 1, 0.9, 1, 1, "d")]), [0])
    lengths = [flat.chain("d", lambda _, each=each: each, 1) for each in (0.001, 0.3, 2.0)]
    assert lengths[0] == gate_module._LONGEST_CHAIN
    assert lengths[0] >= lengths[1] > lengths[2] == 0
    for _ in range(2000):
        flat.note(Draft([Node(ROOT, 1, 0.9, 1, 1, "d")]), [])
    assert flat.chain("d", lambda _: 0.3, 1) == 0
    assert flat.chain("d", lambda _: 0.0, 1) == gate_module._MOST_NODES


def test_a_fixed_budget_asks_nobody_what_drafts_take() -> None:
    def seconds(groups: int) -> float:
        raise AssertionError("asked")

    assert Fixed(3).chain("d", seconds, 1) == 3


def test_costs_are_kept_for_a_models_shape_wherever_it_lies(make: Make, tmp_path: Path) -> None:
    class Clock:
        asked = 0

        def __call__(self) -> float:
            self.asked += 1
            return float(self.asked)

    def costs(name: str, folder: str) -> int:
        engine, clock = make(name), Clock()
        engine._model.network.config._name_or_path = folder
        step_costs(engine._model, engine._loop.pool, tmp_path, clock=clock)
        return clock.asked

    assert costs("llama", "/here") > 0
    assert costs("llama", "/there") == 0
    assert costs("qwen3", "/there") > 0


async def test_siblings_keep_so_many_tokens_in_all(tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings_module, "_TOKENS", 60)
    siblings = Siblings()
    text = TextStream(tiny_engine._tokenizer.backend_tokenizer, (1, 2), ())
    branches = [
        LiveBranch(Extension(1, lambda copy: None), 0, question, Sampling(), text, (1, 2), 0, question)
        for question in range(9)
    ]
    for _ in range(3):
        for branch in branches:  # one that went on after its question was dropped begins anew
            branch.drawn.extend([7, 8, 9])
            siblings.learn(branch, [7, 8, 9])
            assert siblings._kept == sum(map(len, siblings._questions.values())) <= 60
    assert list(siblings._questions)[-1] == 8
    assert 0 not in siblings._questions
    draft = Draft()
    branches[8].drawn.extend([7])
    siblings.propose([Ask(draft, branches[8], 4)])
    assert draft.tokens[:2] == [8, 9]
