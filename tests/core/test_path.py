"""Paths, their prefixes and keys."""

import pytest

from branchwise.core.keys import child_key, choose, cut_key, root_key
from branchwise.core.messages import as_messages
from branchwise.core.path import Path, StopReason
from branchwise.prompts.steps import step_ends

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


WORDS = ("One", " two.", "\n\n", "Thr", "ee", " four", ".\n", "\n", "End")


def grown(*lengths: int, reason: StopReason | None = StopReason.END) -> Path:
    """The same sample, drawn in steps of these lengths; every step but the last ends at a stop."""
    path, at = ROOT, 0
    for number, length in enumerate(lengths, 1):
        words, last = WORDS[at : at + length], number == len(lengths)
        text = "".join(words)
        ends = tuple(len("".join(words[:count])) for count in range(1, length + 1))
        tokens, logprobs = tuple(range(at, at + length)), tuple(-float(n) for n in range(at, at + length))
        shown = None if last else len(text.rstrip("\n"))
        why = reason if last else StopReason.STOP
        path = Path(path, 7, tokens, text, ends, logprobs, stop_reason=why, shown=shown)
        at += length
    assert at == len(WORDS)
    return path


@pytest.mark.parametrize("reason", [StopReason.END, None])
@pytest.mark.parametrize("steps", [(3, 4, 2), (1, 8), (8, 1), (3, 3, 3), (1,) * 9])
def test_a_path_grown_in_steps_has_the_prefixes_of_one_grown_at_once(
    steps: tuple[int, ...], reason: StopReason | None
) -> None:
    whole, stepped = grown(9, reason=reason), grown(*steps, reason=reason)
    assert whole.answer_text == stepped.answer_text == "".join(WORDS)
    assert step_ends(whole) == step_ends(stepped)
    for length in range(10):
        one, other = whole.cut(length), stepped.cut(length)
        assert (one.key, one.whole_text, one.token_ends()) == (other.key, other.whole_text, other.token_ends())
        assert (one.answer_text, one.shown, one.stop_reason) == (other.answer_text, other.shown, None)
        assert one.sampled_logprobs() == other.sampled_logprobs()
        assert one.all_token_ids() == other.all_token_ids() == (1, 2, 3, *range(length))


def test_the_end_of_an_inner_step_is_a_prefix_with_a_key_of_its_own() -> None:
    stepped = grown(3, 4, 2)
    assert stepped.cut(3).key == cut_key(7, 3)
    assert stepped.cut(3).cut_from == 7
    assert stepped.cut(3).cut(2).cut_from == 7
    assert grown(9, reason=None).cut(9).key == 7  # nothing is cut


def test_a_stop_is_trimmed_from_the_last_segment_alone() -> None:
    first = Path(ROOT, 7, (10, 11), "step1\n", (5, 6), stop_reason=StopReason.STOP, shown=5)
    second = Path(first, 7, (12, 13), "step2\n", (5, 6), stop_reason=StopReason.STOP, shown=5)
    assert (first.answer_text, second.answer_text) == ("step1", "step1\nstep2")
    assert (first.whole_text, second.whole_text) == ("step1\n", "step1\nstep2\n")
    assert second.token_ends() == (5, 6, 11, 12)
    assert first.cut(2).answer_text == "step1\n"


def test_an_opening_comes_before_the_text_of_every_token() -> None:
    messages = as_messages("q").model_copy(update={"prefix": "So "})
    path = Path(Path(None, 1, (1,), "", messages=messages), 7, (2, 3), "it is", (2, 5))
    assert (path.answer_text, path.token_ends()) == ("So it is", (5, 8))


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
