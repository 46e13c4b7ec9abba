"""Paths: segments, cuts and the text and tokens of prefixes."""

import pytest

from branchwise.core.keys import cut_key
from branchwise.core.path import Path, StopReason
from branchwise.core.question import as_messages
from branchwise.prompts.steps import step_ends

ROOT = Path(None, key=1, token_ids=(1, 2, 3), text="", messages=as_messages("q"))
FIRST = Path(ROOT, 7, (10, 11, 12), "abc", (1, 2, 3), logprobs=(-1.0, -2.0, -3.0), stop_reason=StopReason.LENGTH)
SECOND = Path(FIRST, 8, (13, 14), "de", (1, 2), logprobs=(-4.0, -5.0), stop_reason=StopReason.END)


def test_path_concatenates_its_segments() -> None:
    assert SECOND.root is ROOT
    assert SECOND.generated == 5
    assert SECOND.answer_text == "abcde"
    assert SECOND.all_token_ids() == (1, 2, 3, 10, 11, 12, 13, 14)
    assert SECOND.sampled_logprobs() == (-1.0, -2.0, -3.0, -4.0, -5.0)


@pytest.mark.parametrize("length", range(6))
def test_cut_keeps_exactly_the_first_tokens(length: int) -> None:
    cut = SECOND.cut(length)
    assert cut.generated == length
    assert cut.all_token_ids() == SECOND.all_token_ids()[: 3 + length]
    assert cut.answer_text == "abcde"[:length]
    assert cut.root is ROOT


@pytest.mark.parametrize("length", [-1, 6])
def test_cut_outside_the_path_raises(length: int) -> None:
    with pytest.raises(ValueError, match="length"):
        SECOND.cut(length)


def test_cut_has_its_own_key_and_no_stop_reason() -> None:
    cut = SECOND.cut(4)
    assert cut.key not in (FIRST.key, SECOND.key)
    assert cut.key == SECOND.cut(4).key != SECOND.cut(5).key
    assert cut.stop_reason is None
    assert SECOND.cut(5).stop_reason is None  # a path that ended can be continued as a prefix


WORDS = ("One", " two.", "\n\n", "Thr", "ee", " four", ".\n", "\n", "End")


def stepwise_path(*lengths: int, reason: StopReason | None = StopReason.END) -> Path:
    """Return the same sample in steps of these lengths; every step but the last ends at a stop string."""
    path, start = ROOT, 0
    for number, length in enumerate(lengths, 1):
        words, last = WORDS[start : start + length], number == len(lengths)
        text = "".join(words)
        ends = tuple(len("".join(words[:count])) for count in range(1, length + 1))
        tokens = tuple(range(start, start + length))
        logprobs = tuple(-float(token) for token in tokens)
        shown = None if last else len(text.rstrip("\n"))
        stop_reason = reason if last else StopReason.STOP
        path = Path(path, 7, tokens, text, ends, logprobs, stop_reason=stop_reason, shown=shown)
        start += length
    assert start == len(WORDS)
    return path


@pytest.mark.parametrize("reason", [StopReason.END, None])
@pytest.mark.parametrize("steps", [(3, 4, 2), (1, 8), (8, 1), (3, 3, 3), (1,) * 9])
def test_stepwise_sampling_has_the_prefixes_of_a_single_pass(steps: tuple[int, ...], reason: StopReason | None) -> None:
    whole, stepped = stepwise_path(9, reason=reason), stepwise_path(*steps, reason=reason)
    assert whole.answer_text == stepped.answer_text == "".join(WORDS)
    assert step_ends(whole) == step_ends(stepped)
    for length in range(10):
        one, other = whole.cut(length), stepped.cut(length)
        assert (one.key, one.whole_text, one.token_ends()) == (other.key, other.whole_text, other.token_ends())
        assert (one.answer_text, one.shown, one.stop_reason) == (other.answer_text, other.shown, None)
        assert one.sampled_logprobs() == other.sampled_logprobs()
        assert one.all_token_ids() == other.all_token_ids() == (1, 2, 3, *range(length))


def test_cut_at_an_inner_step_has_its_own_key() -> None:
    stepped = stepwise_path(3, 4, 2)
    assert stepped.cut(3).key == cut_key(7, 3)
    assert stepped.cut(3).cut_from == 7
    assert stepped.cut(3).cut(2).cut_from == 7
    assert stepwise_path(9, reason=None).cut(9).key == 7  # nothing is cut


def test_only_the_last_segment_is_trimmed_at_its_stop() -> None:
    first = Path(ROOT, 7, (10, 11), "step1\n", (5, 6), stop_reason=StopReason.STOP, shown=5)
    second = Path(first, 7, (12, 13), "step2\n", (5, 6), stop_reason=StopReason.STOP, shown=5)
    assert (first.answer_text, second.answer_text) == ("step1", "step1\nstep2")
    assert (first.whole_text, second.whole_text) == ("step1\n", "step1\nstep2\n")
    assert second.token_ends() == (5, 6, 11, 12)
    assert first.cut(2).answer_text == "step1\n"


def test_assistant_prefix_precedes_the_text_of_all_tokens() -> None:
    messages = as_messages("q").model_copy(update={"prefix": "So "})
    path = Path(Path(None, 1, (1,), "", messages=messages), 7, (2, 3), "it is", (2, 5))
    assert (path.answer_text, path.token_ends()) == ("So it is", (5, 8))


def test_sampled_logprobs_skip_forced_segments() -> None:
    forced = Path(FIRST, FIRST.key, (99,), "!", (1,), forced=True)
    assert forced.sampled_logprobs() == (-1.0, -2.0, -3.0)
