"""Path-consistency, window by window against a table worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend

# Twenty answers in the order of the requests. Pooled counts of (1, 2) after each window, and the decision at 0.8
# (smallest leads: 3 against 1, 9 against 5):
#   window 0: (4, 1) reaches 0.8: level 1     window 1: (5, 5) does not
#   window 2: (10, 5) reaches 0.8             window 3: (15, 5)
ANSWERS = "11121222211111111111"


def backend_for(answers: Sequence[str]) -> ScriptedBackend:
    """Return a backend whose branch n adds three steps to its prefix; the last one states the n-th answer."""
    numbers = iter(range(len(answers)))

    def reply(path: bw.Path, before: int) -> str:
        n = next(numbers)
        gap = " " if path.generated else ""
        return f"{gap}M{n} it is. N{n} follows. The answer is {answers[n]}."

    return ScriptedBackend(reply)


def run(strategy: bw.PathConsistency, answers: Sequence[str] = ANSWERS) -> bw.Result:
    return bw.solve_sync("question", backend_for(answers), strategy=strategy)


def origins(result: bw.Result) -> list[str]:
    """Return the text that each branch continued."""
    return [branch.path.parent.answer_text for branch in result.paths if branch.path.parent is not None]


CONTROLLED = bw.PathConsistency(20, window=5, max_level=3)


def test_the_papers_form_follows_the_table() -> None:
    result = run(replace(bw.PathConsistency.plain(20), window=5, max_level=3))
    seen = origins(result)
    assert len(seen) == 20
    assert seen[:5] == [""] * 5
    # Level 1: first steps of the four branches of window 0 that answer 1.
    level_1 = {f"M{n} it is." for n in (0, 1, 2, 4)}
    assert set(seen[5:10]) <= level_1
    assert set(seen[10:15]) <= level_1  # confidence fell: level and prefixes stay
    # Level 2: the first two steps of every branch so far that answers 1.
    own = {f"M{n} it is. N{n} follows." for n in (0, 1, 2, 4)}
    continued = {f"{seen[n]} M{n} it is." for n in (9, 10, 11, 12, 13, 14)}
    assert set(seen[15:]) <= own | continued
    assert result.answer == "1"
    assert result.votes == {"1": 15, "2": 5}
    assert result.confidence == pytest.approx(1 - sum(COMB_21[16:]) / 2**21)


# Row 21 of Pascal's triangle: P(Beta(16, 6) > 1/2) = P(Bin(21, 1/2) <= 15).
COMB_21 = [1, 21, 210, 1330, 5985, 20349, 54264, 116280, 203490, 293930, 352716]
COMB_21 += COMB_21[::-1]


def test_bias_control_follows_the_table() -> None:
    result = run(CONTROLLED)
    seen = origins(result)
    # Every fourth branch starts at the prompt: 3, 7, 11, ... After window 1 confidence fell to 1/2, so
    # window 2 steps back to level 0. Then branches from the prompt alone have 9 votes to 2, above 0.95.
    assert len(seen) == 15
    assert seen[:5] == [""] * 5
    assert [origin == "" for origin in seen[5:10]] == [False, False, True, False, False]
    assert {origin for origin in seen[5:10] if origin} <= {f"M{n} it is." for n in (0, 1, 2, 4)}
    assert seen[10:15] == [""] * 5
    assert result.answer == "1"
    assert result.tallies["pooled"].votes == {"1": 10, "2": 5}
    assert result.tallies["root"].votes == {"1": 9, "2": 2}
    assert result.confidence == pytest.approx(1 - (66 + 12 + 1) / 2**12)  # P(Bin(12, 1/2) <= 9)
    assert result.outcome is bw.Outcome.COMPLETE


@pytest.mark.parametrize(
    ("strategy", "window_2_at_root", "paths"),
    [
        (replace(CONTROLLED, step_back=False, stop_at=None), False, 20),
        (replace(CONTROLLED, root_share=0.0, stop_at=None), True, 20),
        (replace(CONTROLLED, root_share=0.0, step_back=False, stop_at=0.85), None, 5),
    ],
)
def test_each_part_of_the_bias_control_can_be_switched_off(
    strategy: bw.PathConsistency, window_2_at_root: bool | None, paths: int
) -> None:
    seen = origins(run(strategy))
    assert len(seen) == paths
    if window_2_at_root is not None:
        assert all(origin == "" for origin in seen[12:15]) is window_2_at_root


def test_root_paths_do_not_stop_for_an_answer_that_is_behind() -> None:
    """After two windows 2 leads (6, 4), but from the prompt alone 1 leads (4, 2): P(Bin(7, 1/2) <= 4) = 0.77."""
    strategy = bw.PathConsistency(15, window=5, max_level=1, threshold=0.6, root_share=0.2, stop_at=0.7)
    result = run(strategy, "1112222221" + "1" * 5)
    assert [origin == "" for origin in origins(result)[5:10]] == [False, False, False, False, True]
    assert len(result.paths) == 15
    assert (result.answer, result.votes) == ("1", {"1": 9, "2": 6})


def test_prefixes_are_chosen_with_multiplicity() -> None:
    """Two of three agreeing branches have equal first steps, chosen twice as often (odds of a false alarm < 1e-9)."""
    openings = iter(["Same start.", "Same start.", "Other start."] + ["x"] * 300)

    def reply(path: bw.Path, before: int) -> str:
        return " The answer is 1." if path.generated else f"{next(openings)} The answer is 1."

    strategy = bw.PathConsistency(303, window=3, max_level=1, root_share=0.0, step_back=False, stop_at=None)
    result = bw.solve_sync("q", ScriptedBackend(reply), strategy=strategy)
    same = origins(result)[3:].count("Same start.")
    assert 150 < same < 250  # 200 expected, standard deviation 8


def test_the_level_stays_where_no_path_is_long_enough() -> None:
    backend = ScriptedBackend({"": ["The answer is 1."]})
    result = bw.solve_sync("q", backend, strategy=bw.PathConsistency.plain(20))
    assert origins(result) == [""] * 20


def test_missing_answers_never_lead() -> None:
    backend = ScriptedBackend({"": ["I do not know. Sorry.", "A. The answer is 1.", "Who knows. Not me."]})
    result = bw.solve_sync("q", backend, strategy=bw.PathConsistency.plain(15))
    assert result.answer == "1"
    assert sum(result.votes.values()) == 5
    assert len(result.paths) == 15


@pytest.mark.parametrize("paths", [1, 4, 5, 6, 64])
def test_the_number_of_paths_need_not_fill_windows(paths: int) -> None:
    result = bw.solve_sync("q", backend_for("1" * paths), strategy=bw.PathConsistency.plain(paths))
    assert len(result.paths) == paths


@pytest.mark.parametrize(
    ("field", "value"),
    [("paths", 0), ("window", 0), ("max_level", -1), ("threshold", 0.2), ("root_share", 2), ("stop_at", 1.5)],
)
def test_fields_are_validated_at_construction(field: str, value: float) -> None:
    with pytest.raises(bw.ConfigError, match=field):
        bw.PathConsistency(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("form", ["plain", "controlled"])
def test_a_probe_leaves_paths_and_votes_unchanged(form: str, window: int) -> None:
    strategy = bw.PathConsistency.plain(20) if form == "plain" else bw.PathConsistency(20)
    strategy = replace(strategy, window=window)
    plain = run(strategy)
    probed = run(replace(strategy, probe=True))
    assert [path.path.key for path in probed.paths] == [path.path.key for path in plain.paths]
    assert origins(probed) == origins(plain)
    assert (probed.answer, probed.votes, probed.confidence) == (plain.answer, plain.votes, plain.confidence)


def test_a_probe_is_sampled_before_any_other_path() -> None:
    strategy = bw.PathConsistency(6, window=3, probe=True)
    state = strategy.start([bw.Path(parent=None, key=1, token_ids=(1,), text="")])
    (probe,) = strategy.ask(state)
    assert isinstance(probe, bw.Extend)
    assert probe.count == 1
    assert strategy.ask(state) == []
