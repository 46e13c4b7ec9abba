"""Splitting reasoning from the answer, piece by piece."""

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

import branchwise as bw
from branchwise.chat.reasoning import ReasoningSplitter, split_reasoning


@given(
    text=st.text(st.sampled_from("<think>/ \nab"), max_size=30).filter(lambda text: "think>" not in text),
    thoughts=st.none() | st.text(st.sampled_from("<thk/ \nab"), max_size=20),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    enabled=st.sampled_from([None, True]),
)
def test_pieces_add_up_to_the_whole_split(
    text: str, thoughts: str | None, cuts: Sequence[int], enabled: bool | None
) -> None:
    whole = text if thoughts is None else f"<think>{thoughts}</think>{text}"
    thinking = bw.Thinking(enabled)
    splitter = ReasoningSplitter(thinking)
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    pieces = [splitter.add(whole[start:end]) for start, end in itertools.pairwise(places)]
    pieces.append(splitter.end())
    expected = split_reasoning(whole, thinking)
    assert "".join(piece.text for piece in pieces) == expected.text
    assert "".join(piece.reasoning for piece in pieces) == expected.reasoning
