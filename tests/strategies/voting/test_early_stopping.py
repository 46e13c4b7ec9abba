"""Early-stopping self-consistency, window by window."""

import pytest

import branchwise as bw
from tests.support.vote_scripts import BROKEN, TEXT_ONLY, answers_of, delayed, run


@pytest.mark.parametrize(
    ("strategy", "answers", "windows"),
    [
        (bw.EarlyStopping(), "1111222212111111", "111122221211111"),
        (bw.EarlyStopping(), "1111-11111", "1111-11111"),  # a path without an answer does not agree
        (bw.EarlyStopping(), "-----11111", "-----11111"),  # five paths without an answer do not agree
        (bw.EarlyStopping(12), "12", "121212121212"),  # the last window is shorter
        (bw.EarlyStopping(7), "1212111", "1212111"),
        (bw.EarlyStopping(8, window=2), "122111", "122111"),
        (bw.EarlyStopping(3, window=5), "111", "111"),
    ],
)
def test_it_stops_at_the_first_unanimous_window(strategy: bw.EarlyStopping, answers: str, windows: str) -> None:
    result = run(strategy, answers)
    assert answers_of(result) == windows
    assert result.answer == "1"
    assert result.votes == {answer: windows.count(answer) for answer in "12" if answer in windows}


def test_all_paths_vote_not_only_those_that_agree() -> None:
    result = run(bw.EarlyStopping(), "111121111222222")
    assert result.votes == {"1": 8, "2": 7}
    assert result.answer == "1"
    assert result.confidence == pytest.approx(0.5 + 12870 / 2**17)  # P(Bin(16, 1/2) <= 8), C(16, 8) = 12870


def test_windows_follow_the_order_of_the_requests() -> None:
    """Five wrong answers, spread over two windows, finish first. No window is unanimous before the third."""
    result = run(bw.EarlyStopping(), delayed("2", "122212111211111"))
    assert answers_of(result) == "122212111211111"
    assert result.answer == "1"


def test_the_next_window_waits_for_all_paths_of_this_one() -> None:
    strategy = bw.EarlyStopping(10)
    state = strategy.start([bw.Path(parent=None, key=1, token_ids=(1,), text="")])
    (window,) = strategy.ask(state)
    assert isinstance(window, bw.Extend)
    for branch in range(5):
        assert not strategy.ask(state)
        strategy.tell(state, bw.Failed(0, window, branch, None))
    assert [action.count for action in strategy.ask(state) if isinstance(action, bw.Extend)] == [5]


def test_a_failed_path_breaks_only_its_window() -> None:
    result = run(bw.EarlyStopping(), [*"1111", BROKEN, *"11111"])
    assert answers_of(result) == "111111111"
    # A window that failed as a whole changes neither the window before it nor the one after it.
    assert answers_of(run(bw.EarlyStopping(), [*"11112", *[BROKEN] * 5, *"11111"])) == "1111211111"


def test_a_text_only_backend_is_enough() -> None:
    assert answers_of(run(bw.EarlyStopping(), "11111", TEXT_ONLY)) == "11111"


@pytest.mark.parametrize(("field", "value"), [("paths", 0), ("window", 1)])
def test_fields_are_validated_at_construction(field: str, value: int) -> None:
    with pytest.raises(bw.ConfigError, match=field) as caught:
        bw.EarlyStopping(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
