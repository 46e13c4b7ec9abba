"""Arguments of solve: names are resolved, and what can't be used is explained in one line."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy
import pytest
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends import ScriptedBackend
from branchwise.core.question import Question
from branchwise.driver import SolveOptions
from branchwise.driver.arguments import seed_of

USER = {"role": "user", "content": "What is 6 times 7?"}


def backend() -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, number: "The answer is 42.")


def solve(question: object = "q", **options: object) -> bw.Result:
    return bw.solve_sync(question, backend(), **options)  # type: ignore[arg-type]  # wrong types are the point


def refusal(**options: object) -> str:
    """Return the error for options that can't be used."""
    with pytest.raises(bw.ConfigError) as caught:
        solve(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def batch(questions: object) -> list[bw.Result]:
    return asyncio.run(bw.solve_batch(questions, backend()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "paths"), [("self-consistency:paths=5", 5), ("self-consistency", 16), (" greedy", 1), ("esc:window=2", 2)]
)
def test_a_strategy_may_be_a_spec(spec: str, paths: int) -> None:
    assert len(solve(strategy=spec).paths) == paths


def test_a_strategy_may_be_in_a_file() -> None:
    example = Path(__file__).parents[2] / "examples" / "own_strategy.py"
    result = solve(strategy=f"{example}:UntilTwoAgree:paths=6")
    assert (result.answer, len(result.paths)) == ("42", 2)


def test_a_task_may_be_a_name() -> None:
    by_name, by_object = solve(task="yes-no"), solve(task=bw.task("yes-no"))
    assert by_name.paths[0].path.root.messages == by_object.paths[0].path.root.messages


def test_a_list_of_messages_is_answered() -> None:
    assert solve([USER], strategy="greedy").answer == "42"


def test_nothing_is_the_default() -> None:
    every = {"strategy": None, "task": None, "budget": None, "verifier": None, "observer": None, "stop": None}
    assert solve(**every, seed=0).answer == solve().answer == "42"


class Model(BaseModel):
    answer: int


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"strategy": bw.SelfConsistency}, "strategy: is the class SelfConsistency; make an object of it: SelfConsis"),
        ({"strategy": bw.MCTS}, "strategy: is the class MCTS; make an object of it: MCTS(...)"),
        ({"strategy": bw.SelfConsistency(4, 0.7)}, "sampling: is 0.7, of type float; use Sampling("),  # type: ignore[arg-type]
        ({"strategy": 8}, "strategy: is 8, of type int; use its name or an object"),
        ({"strategy": "self-consistancy"}, "strategy: 'self-consistancy' is unknown; did you mean self-consistency?"),
        ({"strategy": "esc:window=one"}, "strategy: esc: window is 'one'; use an integer"),
        ({"strategy": "nowhere.py:Own"}, "strategy: there is no file nowhere.py; check its path"),
        ({"strategy": ""}, "strategy: '' is unknown"),
        ({"task": "maths"}, "task: 'maths' is unknown; did you mean math?"),
        ({"task": bw.Task}, "task: is the class Task; make an object of it: Task(...)"),
        ({"task": Model}, "task: is <class"),
        ({"answer_type": Model(answer=1)}, "answer_type: is Model(answer=1); use a class derived from pydantic"),
        ({"answer_type": int}, "answer_type: is <class 'int'>; use a class derived from pydantic.BaseModel"),
        ({"budget": 100}, "budget: is 100, of type int; use Budget(tokens="),
        ({"budget": {"tokens": 100}}, "budget: is {'tokens': 100}, of type dict; use Budget(tokens="),
        ({"budget": bw.Budget}, "budget: is the class Budget; make an object of it"),
        ({"seed": None}, "seed: is None, of type NoneType; use a whole number, or leave it out for 0"),
        ({"seed": "7"}, "seed: is '7', of type str; use a whole number"),
        ({"seed": 7.0}, "seed: is 7.0, of type float; use a whole number"),
        ({"seed": True}, "seed: is True, of type bool; use a whole number"),
        ({"seed": 1 << 64}, f"seed: is {1 << 64}; use a number of 64 bits"),
        ({"verifier": "game24"}, "verifier: is 'game24', of type str; use a function"),
        ({"observer": []}, "observer: is [], of type list; use a function"),
        ({"stop": ["\n"]}, "stop: is ['\\n'], of type list; use a bw.Stop; strings that end a path go into Sampling"),
        ({"question": 42}, "question: is 42, of type int; use text"),
    ],
)
def test_what_can_not_be_used_is_explained(options: Mapping[str, object], error: str) -> None:
    assert refusal(**options).startswith(error)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("paths", "it belongs to the strategy: strategy=SelfConsistency(paths=...)"),
        ("max_tokens", "it belongs to the strategy: strategy=SelfConsistency(sampling=Sampling(max_tokens=...))"),
        ("temperature", "it belongs to the strategy: strategy=SelfConsistency(sampling=Sampling(temperature=...))"),
        ("model", "use one of strategy, task,"),
    ],
)
def test_an_unknown_option_is_explained(name: str, hint: str) -> None:
    with pytest.raises(TypeError) as caught:
        solve(**{name: 1})
    assert str(caught.value).startswith(f"{name}: unknown keyword argument; {hint}")


@pytest.mark.parametrize("model", ["SmolLM2-135M-Instruct", "owner/name", Path("models/mine"), "model.gguf"])
def test_the_name_of_a_model_is_no_backend(model: str | Path) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        bw.solve_sync("q", model)  # type: ignore[arg-type]
    assert str(caught.value) == f"backend: is the name {str(model)!r}; load the model: bw.load({str(model)!r})"


@pytest.mark.parametrize(("value", "shown"), [(ScriptedBackend, "is the class Scr"), (None, "is None"), (7, "is 7")])
def test_what_runs_no_model_is_no_backend(value: object, shown: str) -> None:
    with pytest.raises(bw.ConfigError, match=f"^backend: {shown}"):
        bw.solve_sync("q", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, -1, -(1 << 63), (1 << 64) - 1, numpy.int64(3)])
def test_whole_numbers_are_seeds(seed: int) -> None:
    assert seed_of(seed) == int(seed)
    assert type(seed_of(seed)) is int


@pytest.mark.parametrize("questions", ["abc", b"abc", USER, bw.Messages(turns=())])
def test_one_question_is_no_batch(questions: object) -> None:
    with pytest.raises(bw.ConfigError, match=r"^questions: is one question; put it in a list, or call solve$"):
        batch(questions)


@pytest.mark.parametrize(
    ("questions", "error"),
    [
        (
            [USER, {"role": "assistant", "content": "42"}],
            "questions: has messages of one question; put them in",
        ),
        ([], "questions: got 0; give at least one"),
        (42, "questions: is 42, of type int; use a list of questions"),
        (None, "questions: is None, of type NoneType; use a list of questions"),
    ],
)
def test_what_is_no_batch_is_explained(questions: object, error: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        batch(questions)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("questions", [("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}.keys(), [[USER], "b"]])
def test_any_iterable_of_questions_is_a_batch(questions: Iterable[Question]) -> None:
    assert [result.answer for result in batch(questions)] == ["42", "42"]


def test_an_invalid_question_of_a_batch_fails_alone() -> None:
    results = batch(["a", 42, "\ud83d"])
    assert [result.outcome for result in results] == [bw.Outcome.COMPLETE, bw.Outcome.FAILED, bw.Outcome.FAILED]
    assert results[1].errors[0].startswith("question: is 42, of type int")


def test_the_help_of_solve_lists_every_option() -> None:
    for function in (bw.solve, bw.solve_sync, bw.solve_batch):
        assert all(option in str(function.__doc__) for option in SolveOptions.__annotations__)
