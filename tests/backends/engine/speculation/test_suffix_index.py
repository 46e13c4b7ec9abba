"""The suffix index against a search through all sequences."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from branchwise.backends.engine.speculation.suffix_index import SuffixIndex
from tests.support.drafts import index_of_sequences

TOKENS = st.lists(st.integers(0, 3), max_size=30)


def occurrences(
    sequences: Sequence[Sequence[int]], recent: Sequence[int], max_length: int
) -> dict[int, set[tuple[int, int]]]:
    """Return every place that a token followed, as (sequence, end) by the number of latest tokens before it."""
    found: dict[int, set[tuple[int, int]]] = {}
    for number, sequence in enumerate(sequences):
        for end in range(1, len(sequence)):
            most = min(max_length, end, len(recent))
            lengths = range(most, 0, -1)
            same = next((k for k in lengths if list(sequence[end - k : end]) == list(recent[-k:])), 0)
            found.setdefault(same, set()).add((number, end))
    return found


@given(st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=3), TOKENS, st.integers(2, 8))
def test_matches_come_in_order_of_length(sequences: list[list[int]], recent: list[int], max_length: int) -> None:
    index = index_of_sequences(*sequences)
    numbers = {id(sequence): number for number, sequence in enumerate(index._sequences)}
    known = occurrences(sequences, recent, max_length)
    found = index.matches(recent, max_length)
    assert [match.length for match in found if match.length > 1] == sorted((k for k in known if k > 1), reverse=True)
    assert any(match.length == 1 for match in found) == any(k >= 1 for k in known)
    for match in found:
        wanted = {place for k, places in known.items() if k >= match.length for place in places}
        assert {(numbers[id(one.sequence)], one.end) for one in match.occurrences} == wanted
        assert len(match.occurrences) == len(wanted)


@given(st.lists(TOKENS, max_size=6), st.integers(1, 40))
def test_the_oldest_sequences_are_evicted_first(sequences: list[list[int]], capacity: int) -> None:
    index = index_of_sequences(*sequences, capacity=capacity)
    kept = list(index._sequences)
    assert [list(one.tokens) for one in kept] == [list(s) for s in sequences][len(sequences) - len(kept) :]
    assert sum(len(one.tokens) for one in kept) <= capacity or len(kept) == 1
    indexed = [one for places in index._occurrences.values() for one in places]
    assert all(one.sequence in kept for one in indexed)
    assert len(indexed) == sum(max(0, 2 * len(one.tokens) - 1) for one in kept)


def test_nothing_is_appended_to_an_evicted_sequence() -> None:
    index = SuffixIndex(4)
    old, new = index.begin(), index.begin()
    index.extend(old, [1, 2, 3])
    index.extend(new, [4, 5])
    index.extend(old, [4, 6])
    assert old.evicted
    assert [list(one.tokens) for one in index._sequences] == [[4, 5]]
    assert [one.next_token for match in index.matches([4], 8) for one in match.occurrences] == [5]
