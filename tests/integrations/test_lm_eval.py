"""lm-eval itself, over strategies: what it asks for is honoured, and what it gets it can grade."""

import json
import math
import os
import pickle
import re
import signal
import string
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

import branchwise as bw
from branchwise.backends.engine.engine import Engine
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.prompt import pack, unpack
from branchwise.integrations.generation import sampling_for
from branchwise.integrations.likelihood import likelihoods, rolling
from tests.support.recording import RecordingBackend

os.environ["HF_HUB_OFFLINE"] = "1"  # lm-eval's data sets are local files here; read at its import

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from branchwise.integrations.lm_eval import BranchwiseLM

del os.environ["HF_HUB_OFFLINE"]  # other tests ask a hub of their own

DOCS = (Path(__file__).parents[2] / "docs" / "harnesses.md").read_text()
ROWS = [{"q": "What is 6 times 7?", "a": "42"}, {"q": "What is 2 and 2?", "a": "4"}]
GREEDY = {"until": ["Q:"], "do_sample": False}
SAMPLED = {"until": ["Q:"], "do_sample": True, "temperature": 0.9, "max_gen_toks": 20}

CORRECT = ("The answer is 4.", "So. The answer is 42. Q: and", "It is 42: the answer is 42.")


class Evaluate(Protocol):
    """Runs the task over a model; keywords go to lm-eval."""

    def __call__(self, model: object, **options: object) -> dict[str, dict[str, Any]]: ...


def write_task(folder: Path, name: str = "sums", **changes: object) -> None:
    """A task over a local file; JSON is YAML, too."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": SAMPLED,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "filter_list": [
            {"name": "stated", "filter": [{"function": "regex", "regex_pattern": "answer is (\\d+)"},
                                          {"function": "take_first"}]}
        ],
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(
        json.dumps({key: value for key, value in {**task, **changes}.items() if value is not None})
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands that tests run."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    # It asks pip for every package there is, which takes a second.
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)

    def run(model: object, **options: object) -> dict[str, dict[str, Any]]:
        task: dict[str, Any] = {name: options.pop(name) for name in list(options) if name not in SIMPLE}
        write_task(tmp_path, **task)
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        done: dict[str, dict[str, Any]] = lm_eval.simple_evaluate(
            model, tasks=["sums"], task_manager=manager, bootstrap_iters=0, **options
        )
        return done

    return run


SIMPLE = ("model_args", "apply_chat_template", "system_instruction", "num_fewshot", "use_cache", "gen_kwargs", "limit")


def texts(done: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Each question's texts."""
    return [sample["resps"][0] for sample in done["samples"]["sums"]]


# Generating


def test_the_first_path_with_the_winning_answer_is_graded_whole(evaluate: Evaluate) -> None:
    backend = RecordingBackend(*CORRECT)
    done = evaluate(BranchwiseLM(backend=backend, strategy="self-consistency", paths=3))
    assert texts(done) == [["So. The answer is 42. "]] * 2
    assert done["results"]["sums"]["exact_match,stated"] == 0.5
    assert backend.turns == [[("user", row["q"])] for row in ROWS]  # untouched
    assert {(a.sampling.temperature, a.sampling.stop, a.sampling.max_tokens) for a in backend.requests} == {
        (0.9, ("Q:",), 20)
    }
    assert [len(asked.keys) for asked in backend.requests] == [3, 3]


def test_the_results_hold_the_arguments_and_the_ledger(evaluate: Evaluate) -> None:
    done = evaluate(BranchwiseLM(backend=RecordingBackend(*CORRECT), strategy="self-consistency", paths=3, seed=5))
    told = done["config"]["branchwise"]
    assert isinstance(told, dict)
    assert (told["model"], told["arguments"]["seed"], told["outcomes"]) == ("scripted", 5, {"complete": 2})
    usage = bw.Usage.model_validate(told["usage"])
    assert usage.prompt == usage.reused + usage.prefilled
    assert usage.sampled == 2 * (5 + 8 + 10)  # every path of both questions, a stop's own tokens included
    json.dumps(told)


def test_the_engine_answers_and_repeats_are_samples_of_their_own(evaluate: Evaluate, tiny_model_folder: Path) -> None:
    given = {
        "model": str(tiny_model_folder),
        "strategy": "self-consistency",
        "paths": 2,
        "device": "cpu",
        "speculation": "off",
    }
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 6}
    once = texts(evaluate("branchwise", model_args=given, repeats=3, generation_kwargs=sampled))
    assert [len(set(own)) for own in once] == [3, 3]
    again = ",".join(f"{name}={value}" for name, value in given.items())
    assert texts(evaluate("branchwise", model_args=again, repeats=3, generation_kwargs=sampled)) == once


def test_a_chat_keeps_its_turns_and_the_opening_of_the_answer(evaluate: Evaluate) -> None:
    backend = RecordingBackend(" the answer is 42.")
    done = evaluate(
        BranchwiseLM(backend=backend, strategy="self-consistency", paths=2),
        apply_chat_template=True,
        system_instruction="Be brief.",
        num_fewshot=1,
        gen_prefix="Well,",
        limit=1,
    )
    (asked,) = backend.requests
    assert [turn.role for turn in asked.prompt.turns] == ["system", "user", "assistant", "user"]
    assert backend.turns[0][0] == ("system", "Be brief.")
    assert backend.turns[0][3] == ("user", ROWS[0]["q"])
    assert asked.prompt.prefix == "Well,"
    assert texts(done) == [[" the answer is 42."]]


def test_a_packed_chat_survives_being_kept_in_a_file() -> None:
    chat = pack([{"role": "user", "content": "Où ?"}])
    assert unpack(pickle.loads(pickle.dumps(chat))) == unpack(chat)
    assert unpack(chat).turns == (bw.Message(role="user", content="Où ?"),)
    assert unpack(str(chat)).turns[0].content == str(chat)  # not packed: a question like any other


def test_a_cached_text_is_not_asked_for_again(evaluate: Evaluate, tmp_path: Path) -> None:
    backend = RecordingBackend("The answer is 42.")
    lm = BranchwiseLM(backend=backend, strategy="greedy")
    options = {"use_cache": str(tmp_path / "cache"), "apply_chat_template": True, "generation_kwargs": GREEDY}
    first = texts(evaluate(lm, **options))
    assert (len(backend.requests), texts(evaluate(lm, **options))) == (2, first)
    assert len(backend.requests) == 2


def test_a_question_that_fails_gets_an_empty_text_and_the_run_goes_on(
    evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    lm = BranchwiseLM(backend=RecordingBackend("The answer is 42."), strategy="self-consistency", paths=2)
    done = evaluate(lm, doc_to_text="{{ q if a == '42' else ' ' }}")
    assert texts(done) == [["The answer is 42."], [""]]
    assert lm.outcomes == {bw.Outcome.COMPLETE: 1, bw.Outcome.FAILED: 1}
    assert (
        "1 of 2 questions failed and got an empty text; the first: question: has no message with content" in caplog.text
    )


def test_a_run_in_which_everything_fails_has_no_score(evaluate: Evaluate) -> None:
    lm = BranchwiseLM(backend=ScriptedBackend({"": [Reply("It is", fail_after=1)]}), strategy="greedy")
    with pytest.raises(bw.BackendError, match="every question failed, the first with: the script says so"):
        evaluate(lm, generation_kwargs=GREEDY)


def test_a_vote_without_answers_is_logged(evaluate: Evaluate, caplog: pytest.LogCaptureFixture) -> None:
    lm = BranchwiseLM(
        backend=RecordingBackend("Rather B.", "ANSWER: none", "Rather C."), strategy="self-consistency", paths=3
    )
    assert texts(evaluate(lm)) == [["Rather B."]] * 2  # the first path's
    assert "2 of 2 questions: no path states an answer in the format math" in caplog.text
    lettered = BranchwiseLM(
        backend=RecordingBackend("ANSWER: B", "ANSWER: C", "ANSWER: C"),
        strategy="self-consistency",
        paths=3,
        answers="choice",
    )
    assert texts(evaluate(lettered)) == [["ANSWER: C"]] * 2


def test_a_task_that_is_named_adds_its_instruction(evaluate: Evaluate) -> None:
    backend = RecordingBackend("The answer is yes.")
    evaluate(BranchwiseLM(backend=backend, task="yes-no", strategy="self-consistency", paths=1), limit=1)
    assert backend.turns == [[("system", bw.task("yes-no").instruction), ("user", ROWS[0]["q"])]]


def test_thoughts_are_no_part_of_the_text(evaluate: Evaluate) -> None:
    backend = RecordingBackend("<think>The answer is 7.</think>The answer is 42.")
    assert texts(evaluate(BranchwiseLM(backend=backend, paths=2, strategy="best-of-n")))[0] == ["The answer is 42."]


def test_paths_that_would_all_be_the_same_are_refused(evaluate: Evaluate) -> None:
    backend = RecordingBackend("The answer is 42.")
    lm = BranchwiseLM(backend=backend, strategy="self-consistency", paths=4)
    with pytest.raises(bw.ConfigError, match="temperature: is 0, so all 4 paths would be the same"):
        evaluate(lm, generation_kwargs=GREEDY)
    assert backend.requests == []
    evaluate(
        BranchwiseLM(backend=backend, strategy="self-consistency", paths=4, temperature=0.5), generation_kwargs=GREEDY
    )
    assert {asked.sampling.temperature for asked in backend.requests} == {0.5}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, bw.Sampling(temperature=0.0)),
        ({"do_sample": False, "temperature": 0.9}, bw.Sampling(temperature=0.0)),
        ({"do_sample": True}, bw.Sampling(temperature=1.0)),
        ({"temperature": "0.5", "top_k": -1, "num_beams": 1}, bw.Sampling(temperature=0.5)),
        (
            {"temperature": 1, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "max_new_tokens": 7, "until": "\n"},
            bw.Sampling(1.0, 0.9, 5, 0.1, max_tokens=7, stop=("\n",)),
        ),
        ({"max_gen_toks": 3, "max_tokens": 9, "until": ["", "a"]}, bw.Sampling(0.0, max_tokens=3, stop=("a",))),
    ],
)
def test_generation_arguments(given: dict[str, object], expected: bw.Sampling) -> None:
    assert sampling_for(given) == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [({"num_beams": 4}, "num_beams"), ({"temperature": "hot"}, "temperature"), ({"until": [1]}, "until")],
)
def test_generation_arguments_that_cannot_be_honoured(given: dict[str, object], field: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        sampling_for(given)
    assert caught.value.field == f"gen_kwargs.{field}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("strategie=greedy", "strategie: is not an argument; did you mean strategy?"),
        ("strategy=self-consistancy", "strategy: 'self-consistancy' is unknown; did you mean self-consistency?"),
        ("paths=many", "paths: is 'many'"),
        ("paths=0", "paths: is 0; use at least 1"),
        ("answers=maths", "answers: 'maths' is unknown; did you mean math?"),
        ("answers=math,task=math", "answers: is given together with task"),
        ("temperature=0,strategy=best-of-n", "temperature: is 0, so all 16 paths"),
        ("budget_tokens=-1", "budget_tokens: is -1"),
        ("max_tokens=0", "max_tokens: is 0"),
        ("concurrency=0", "concurrency: is 0; use at least 1"),
    ],
)
def test_arguments_that_make_no_sense(given: str, message: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        BranchwiseLM.create_from_arg_string(given, {"batch_size": 1})
    assert message in str(caught.value)


def test_an_interrupted_run_has_no_score_and_keeps_what_is_done(evaluate: Evaluate, tmp_path: Path) -> None:
    asked = []

    def reply(path: bw.Path, before: int) -> Reply:
        prompt = path.root.messages
        assert prompt is not None
        asked.append(prompt.turns[0].content)
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            return Reply("The answer is 4. " * 50, delay=0.01)
        return Reply("The answer is 42.")

    lm = BranchwiseLM(backend=ScriptedBackend(reply), strategy="greedy", concurrency=1)
    options = {"use_cache": str(tmp_path / "cache"), "generation_kwargs": GREEDY}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate(lm, **options)
    finally:
        signal.signal(signal.SIGINT, before)
    for thread in threading.enumerate():
        if thread.name == "branchwise-run":
            thread.join(5)
            assert not thread.is_alive()
    assert texts(evaluate(lm, **options)) == [["The answer is 42."]] * 2
    assert asked == [ROWS[0]["q"], ROWS[1]["q"], ROWS[1]["q"]]


def test_the_documented_arguments_are_taken() -> None:
    given = re.findall(r"model=([\w.-]+,[^\s\"]+)", DOCS)
    assert len(given) == 2
    for arguments in given:
        BranchwiseLM.create_from_arg_string(arguments.partition(",")[2], {"backend": RecordingBackend()})


# Log-likelihoods


def requests(context: str, continuations: Sequence[str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, (context, text), place) for place, text in enumerate(continuations)]


def test_log_likelihoods_are_those_of_lm_evals_own_model(tiny_model_folder: Path) -> None:
    """To a token: lm-eval's `hf` over the same chat, with the context's last line break left in the context."""
    theirs = HFLM(pretrained=str(tiny_model_folder), device="cpu", dtype="float32", batch_size=8)
    ours = BranchwiseLM(str(tiny_model_folder), device="cpu", dtype="float32")
    texts = [*string.ascii_letters, "yes", "no, sir"]
    for question in ("What?", "Why?", "How?"):
        chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        context = theirs.apply_chat_template(chat)
        expected = theirs._loglikelihood_tokens(
            [(("", ""), theirs.tok_encode(context), theirs.tok_encode(text)) for text in texts], disable_tqdm=True
        )
        found = ours.loglikelihood(requests(ours.apply_chat_template(chat), texts), disable_tqdm=True)
        assert [logprob for logprob, _ in found] == pytest.approx([logprob for logprob, _ in expected], abs=1e-3)
        assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
        # Asked the usual way, theirs counts that line break as part of every continuation.
        usual = theirs.loglikelihood(requests(context, texts), disable_tqdm=True)
        (first, *others) = [logprob - mine for (logprob, _), (mine, _) in zip(usual, found, strict=True)]
        assert others == pytest.approx([first] * len(others), abs=1e-3)
        assert first < -1


async def test_greedy_is_what_greedy_decoding_writes(tiny_engine: Engine) -> None:
    prompt = bw.Messages(turns=(bw.Message(role="user", content="What?"),))
    root = await tiny_engine.root(prompt, 0)
    letters = [chr(code) for code in range(32, 127)]
    scores = await tiny_engine.score(root, letters)
    every = await likelihoods(tiny_engine, prompt, letters)
    best = max(range(len(letters)), key=lambda place: scores.logprobs[place])
    assert sum(each.greedy for each in every.each) <= 1
    assert [place for place, each in enumerate(every.each) if each.greedy] in ([], [best])


async def test_greedy_stops_where_no_text_agrees_any_more() -> None:
    backend = RecordingBackend("yes, it is so and so on and on")
    prompt = bw.Messages(turns=(bw.Message(role="user", content="Is it?"),))
    found = await likelihoods(backend, prompt, ["yes", "yes, it is", "yes, it was not", "no", ""])
    assert [each.greedy for each in found.each] == [True, True, False, False, True]
    assert found.each[4].logprob == 0
    assert found.cost.sampled == 4  # "yes", ",", " it", " is"
    assert found.cost.scored == 1 + 4 + 5 + 1


def test_a_multiple_choice_task_is_scored(evaluate: Evaluate) -> None:
    backend = RecordingBackend("42", scores={" 42": -1.0, " 4": -3.0})
    lm = BranchwiseLM(backend=backend)
    done = evaluate(
        lm,
        output_type="multiple_choice",
        doc_to_choice=["42", "4"],
        doc_to_target="{{ ['42', '4'].index(a) }}",
        metric_list=[{"metric": "acc"}],
        filter_list=None,
        generation_kwargs=None,
    )
    assert done["results"]["sums"]["acc,none"] == 0.5
    assert lm.usage.scored == 4


async def test_a_text_longer_than_the_context_is_scored_window_by_window(tiny_engine: Engine) -> None:
    long = "To be, or not to be: that is the question. " * 20  # a token for each letter, the context is 512
    found = await rolling(tiny_engine, long)
    assert found.cost.scored == len(long)
    assert math.isfinite(found.logprob)
    short = long[:100]
    prompt = bw.Messages(turns=(bw.Message(role="user"),))
    (alone,) = (await likelihoods(tiny_engine, prompt, [short])).each
    assert (await rolling(tiny_engine, short)).logprob == pytest.approx(alone.logprob)
    assert await rolling(tiny_engine, "") == (0.0, bw.Usage())


def test_perplexities_come_from_the_rolling_log_likelihood() -> None:
    lm = BranchwiseLM(backend=RecordingBackend(scores={"a b": -2.0, "c": -0.5}))
    asked = [Instance("loglikelihood_rolling", {}, (text,), place) for place, text in enumerate(["a b", "c"])]
    assert lm.loglikelihood_rolling(asked, disable_tqdm=True) == [-2.0, -0.5]


def test_a_backend_that_cannot_score_says_so() -> None:
    able = bw.Capabilities(model="mute", context=100, score=False)
    lm = BranchwiseLM(backend=ScriptedBackend({}, capabilities=able))
    with pytest.raises(bw.ConfigError, match="model: cannot score given texts; use tasks that generate"):
        lm.loglikelihood(requests("q", ["a"]), disable_tqdm=True)


# Being found


def test_the_default_device_of_lm_eval_means_a_gpu_if_there_is_one() -> None:
    assert (
        BranchwiseLM.create_from_arg_obj({"backend": RecordingBackend()}, {"device": "cuda:0"}).arguments.device is None
    )
    assert (
        BranchwiseLM.create_from_arg_obj({"backend": RecordingBackend()}, {"device": "cpu"}).arguments.device == "cpu"
    )


def test_it_has_a_name() -> None:
    assert get_model("branchwise") is BranchwiseLM
    assert BranchwiseLM(backend=RecordingBackend()).tokenizer_name == "scripted"


def test_lm_evals_command_line_knows_it() -> None:
    code = """
import contextlib, runpy, sys
sys.argv = ["lm-eval", "run", "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_module("branchwise.integrations.lm_eval", run_name="__main__")
from lm_eval.api.registry import get_model
print(get_model("branchwise"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "--model_args" in run.stdout
    assert run.stdout.splitlines()[-1] == "<class '__main__.BranchwiseLM'>"


@pytest.mark.parametrize(("package", "module"), [("lm_eval", "lm_eval"), ("inspect_ai", "inspect_ai")])
def test_a_harness_that_is_missing_is_named(package: str, module: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import branchwise.integrations.{module}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert f"MissingExtraError: {package}" in run.stderr
    assert "pip install 'branchwise[harness]'" in run.stderr
