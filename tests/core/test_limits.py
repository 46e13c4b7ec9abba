"""Types and ranges of budgets, sampling parameters and numbers of paths."""

import decimal
import fractions

import numpy
import pytest

import branchwise as bw

NO_NUMBERS: list[object] = ["100", b"1", True, False, [1], {}, 1j, object(), float("nan"), float("inf")]
NO_NUMBERS += [numpy.array([1, 2]), numpy.array([[1.0], [2.0]])]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("field", ["tokens", "seconds", "paths"])
def test_a_budget_takes_numbers_only(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=rf"^budget_{field}: is .*; use a positive (whole )?number, or leave"):
        bw.Budget(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [2.5, 2.0, decimal.Decimal(2)])
@pytest.mark.parametrize("field", ["tokens", "paths"])
def test_tokens_and_paths_are_whole(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=rf"^budget_{field}: is .*, of type \w+; use a positive whole number"):
        bw.Budget(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_a_budget_is_positive(value: float) -> None:
    with pytest.raises(bw.ConfigError, match=rf"^budget_seconds: is {value}; use a positive number, or leave it out$"):
        bw.Budget(seconds=value)


def test_numbers_of_other_types_become_plain() -> None:
    budget = bw.Budget(numpy.int64(100), fractions.Fraction(1, 2), numpy.uint8(3))  # type: ignore[arg-type]
    assert [type(value) for value in (budget.tokens, budget.seconds, budget.paths)] == [int, float, int]
    assert budget == bw.Budget(100, 0.5, 3)


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k", "min_p", "logprobs", "max_tokens"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_sampling_takes_numbers_only(field: str, value: object) -> None:
    with pytest.raises(bw.ConfigError, match=rf"^{field}: is .*, of type \w+; use ") as caught:
        bw.Sampling(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stop", [3, [1], None, {"a"}, b"a"])
def test_stops_are_strings(stop: object) -> None:
    with pytest.raises(bw.ConfigError, match=r"^stop: is .*; use a tuple of strings"):
        bw.Sampling(stop=stop)  # type: ignore[arg-type]
    assert bw.Sampling(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("paths", ["4", 4.0, None, True])
@pytest.mark.parametrize("kind", [bw.SelfConsistency, bw.AdaptivePathConsistency, bw.Beam, bw.MCTS, bw.BlendASC])
def test_paths_are_whole(kind: type[bw.SelfConsistency], paths: int) -> None:
    with pytest.raises(bw.ConfigError, match=r"^paths: is .*, of type \w+; use a whole number, at least 1$"):
        kind(paths)
