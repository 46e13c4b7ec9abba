"""Paths, their prefixes and keys."""

import pytest

from branchwise.keys import child_key, choose, cut_key, root_key
from branchwise.messages import as_messages
from branchwise.path import Path, StopReason

ROOT = Path(None, key=1, token_ids=(1, 2, 3), text="", messages=as_messages("q"))
FIRST = Path(ROOT, 7, (10, 11, 12), "abc", (1, 2, 3), logprobs=(-1.0, -2.0, -3.0), stop_reason=StopReason.LENGTH)
SECOND = Path(FIRST, 8, (13, 14), "de", (1, 2), logprobs=(-4.0, -5.0), stop_reason=StopReason.END)


def test_a_path_is_its_segments() -> None:
    assert SECOND.root is ROOT
    assert SECOND.generated == 5
    assert SECOND.answer_text == "abcde"
    assert SECOND.all_token_ids() == (1, 2, 3, 10, 11, 12, 13, 14)
    assert SECOND.sampled_logprobs() == (-1.0, -2.0, -3.0, -4.0, -5.0)


@pytest.mark.parametrize("length", range(6))
def test_a_cut_keeps_exactly_the_first_tokens(length: int) -> None:
    cut = SECOND.cut(length)
    assert cut.generated == length
    assert cut.all_token_ids() == SECOND.all_token_ids()[: 3 + length]
    assert cut.answer_text == "abcde"[:length]
    assert cut.root is ROOT


@pytest.mark.parametrize("length", [-1, 6])
def test_a_cut_outside_the_path_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="length"):
        SECOND.cut(length)


def test_a_cut_has_a_key_of_its_own_and_no_stop() -> None:
    cut = SECOND.cut(4)
    assert cut.key not in (FIRST.key, SECOND.key)
    assert cut.key == SECOND.cut(4).key != SECOND.cut(5).key
    assert cut.stop_reason is None
    assert SECOND.cut(5).stop_reason is None  # a path that ended can be continued as a prefix


def test_forced_text_has_no_log_probabilities_to_average() -> None:
    forced = Path(FIRST, FIRST.key, (99,), "!", (1,), forced=True)
    assert forced.sampled_logprobs() == (-1.0, -2.0, -3.0)


def test_keys_are_pure_functions_that_differ() -> None:
    assert root_key(0, "q") == root_key(0, "q")
    keys = {root_key(0, "q"), root_key(1, "q"), root_key(0, "r"), child_key(1, 0), child_key(0, 1), cut_key(1, 0)}
    assert len(keys) == 6


def test_choose_is_uniform_over_keys() -> None:
    counts = [0] * 4
    for key in range(4000):
        counts[choose(key, "test", 0, 4)] += 1
    # Chi-square with 3 degrees of freedom: above 40 has odds below 1e-8.
    assert sum((seen - 1000) ** 2 / 1000 for seen in counts) < 40
