"""inspect-ai itself, over strategies: chats go in as they are, and texts, votes and the ledger come out."""

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inspect_ai import Task, eval
from inspect_ai._util.config import parse_cli_args
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.scorer import match
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.chat.config import ChatConfig
from branchwise.integrations.inspect_ai import BranchwiseAPI, model
from tests.support.recording import RecordingBackend

pytestmark = [
    # inspect-ai calls tenacity by a name that tenacity gives up, and leaves its stream of events open.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning:inspect_ai"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function MemoryObjectReceiveStream:pytest.PytestUnraisableExceptionWarning"
    ),
]

CORRECT = ("The answer is 4", "So. The answer is 42", "It is 42: the answer is 42")
SUMS = (("What is 6 times 7?", "42"), ("What is 2 and 2?", "4"))


def run(asked: Model, folder: Path, *, sums: tuple[tuple[str, str], ...] = SUMS, epochs: int = 1) -> EvalLog:
    """Evaluate the sums, graded by their last number; what was logged, read back from the file."""
    samples = [Sample(input=question, target=answer) for question, answer in sums]
    task = Task(dataset=MemoryDataset(samples), solver=generate(), scorer=match(numeric=True), name="sums")
    (log,) = eval(task, model=asked, log_dir=str(folder), display="none", epochs=epochs)
    gc.collect()  # what it leaves open is found here, not in some other test
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def test_the_first_path_with_the_winning_answer_is_graded_whole(tmp_path: Path) -> None:
    backend = RecordingBackend(*CORRECT)
    log = run(model(backend, strategy="self-consistency", paths=3), tmp_path)
    assert log.samples is not None
    assert [sample.output.completion for sample in log.samples] == ["So. The answer is 42"] * 2
    assert [sample.scores["match"].value for sample in log.samples if sample.scores] == ["C", "I"]
    assert sorted(backend.turns) == sorted([[("user", question)] for question, _ in SUMS])  # untouched
    assert log.eval.model == "branchwise/scripted"
    assert log.eval.model_args == {"strategy": "self-consistency", "paths": 3}


def test_the_usage_is_the_ledger(tmp_path: Path) -> None:
    log = run(model(RecordingBackend(*CORRECT), strategy="self-consistency", paths=3), tmp_path, sums=SUMS[:1])
    assert log.samples is not None
    output = log.samples[0].output
    usage, told = output.usage, output.metadata
    assert usage is not None
    assert told is not None
    spent = bw.Usage.model_validate(told["usage"])
    assert spent.sampled == 4 + 6 + 8
    assert (usage.input_tokens, usage.input_tokens_cache_read) == (spent.prefilled, spent.reused)
    assert (usage.output_tokens, usage.total_tokens) == (spent.sampled, spent.prompt + spent.sampled)
    assert spent.prompt == 3 * (output.input_context_tokens or 0) > 0
    assert (told["answer"], told["votes"], told["outcome"]) == ("42", {"42": 2.0, "4": 1.0}, "complete")
    assert 0.5 < told["confidence"] < 1
    assert log.stats.model_usage["branchwise/scripted"].output_tokens == spent.sampled


def test_the_engine_is_found_by_name_and_epochs_are_samples_of_their_own(
    tmp_path: Path, tiny_model_folder: Path
) -> None:
    def texts() -> list[str]:
        asked = get_model(
            f"branchwise/{tiny_model_folder}",
            config=GenerateConfig(max_tokens=6, temperature=1.0, max_connections=1),
            memoize=False,
            strategy="self-consistency",
            paths=2,
            device="cpu",
            speculation="off",
        )
        assert isinstance(asked.api, BranchwiseAPI)
        log = run(asked, tmp_path, sums=SUMS[:1], epochs=3)
        assert log.samples is not None
        assert [sample.output.stop_reason for sample in log.samples] == ["max_tokens"] * 3
        assert all(sample.output.usage and 6 < sample.output.usage.output_tokens <= 12 for sample in log.samples)
        return [sample.output.completion for sample in log.samples]

    once = texts()
    assert len(set(once)) == 3
    assert sorted(texts()) == sorted(once)


def test_inspects_command_line_finds_the_provider_without_an_import() -> None:
    code = "from inspect_ai.model import get_model; get_model('branchwise/anything', pths=3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "ConfigError: pths: is not an argument; did you mean paths?" in done.stderr


def test_the_documented_arguments_are_taken() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "harnesses.md").read_text()
    given = dict(pair.split("=", 1) for pair in re.findall(r"-M (\S+)", docs))
    assert given
    model(RecordingBackend(), **given)
    table = re.findall(r"^\| (`.*?`) \|", docs, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(table))) == sorted(ChatConfig.model_fields)


def test_switches_of_a_command_line_are_read() -> None:
    given = parse_cli_args(["speculation=off", "thinking=off", "paths=3", "temperature=0.5"])
    asked = ChatConfig.parse(given)
    assert (asked.speculation, asked.thinking, asked.paths, asked.temperature) == ("off", False, 3, 0.5)


# What is asked


async def test_a_chat_goes_in_turn_by_turn() -> None:
    backend = RecordingBackend(" 42, the answer is 42.")
    asked = model(backend, strategy="greedy")
    chat: list[ChatMessage] = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content="What is 1 and 1?"),
        ChatMessageAssistant(content=[ContentReasoning(reasoning="Hm."), ContentText(text="2")]),
        ChatMessageUser(content=[ContentText(text="And"), ContentText(text="6 times 7?")]),
        ChatMessageAssistant(content="It is"),
    ]
    output = await asked.generate(chat)
    assert backend.turns == [
        [("system", "Be brief."), ("user", "What is 1 and 1?"), ("assistant", "2"), ("user", "And\n6 times 7?")]
    ]
    assert backend.requests[0].prompt.prefix == "It is"
    assert (output.completion, output.stop_reason) == (" 42, the answer is 42.", "stop")


async def test_options_of_the_harness_are_honoured() -> None:
    backend = RecordingBackend("The answer is 42. END of it")
    asked = model(backend, strategy="self-consistency", paths=2, temperature=0.4, max_tokens=50)
    config = GenerateConfig(temperature=0.9, top_p=0.8, top_k=7, max_tokens=9, stop_seqs=["END"], seed=3)
    output = await asked.generate("q", config=config)
    await asked.generate("r", config=GenerateConfig())
    first, second = (request.sampling for request in backend.requests)
    assert first == bw.Sampling(0.4, 0.8, 7, max_tokens=9, stop=("END",))  # the model's temperature comes first
    assert second == bw.Sampling(0.4, max_tokens=50)
    assert output.completion == "The answer is 42. "


async def test_seeds_and_repeats_name_the_samples() -> None:
    backend = RecordingBackend("The answer is 42.")
    asked = model(backend, strategy="greedy", seed=7)
    for config in (GenerateConfig(), GenerateConfig(), GenerateConfig(seed=8)):
        await asked.generate("q", config=config)
    fresh = model(backend, strategy="greedy", seed=8)
    for config in (GenerateConfig(seed=7), GenerateConfig(seed=7), GenerateConfig()):
        await fresh.generate("q", config=config)
    keys = [request.keys for request in backend.requests]
    assert len(set(keys[:3])) == 3
    assert keys[3:5] == keys[:2]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (GenerateConfig(num_choices=2), "num_choices"),
        (GenerateConfig(frequency_penalty=0.5), "frequency_penalty"),
        (GenerateConfig(temperature=0.0), "temperature"),
        (GenerateConfig(top_p=0.0), "top_p"),
    ],
)
async def test_options_that_cannot_be_honoured(config: GenerateConfig, field: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        await model(RecordingBackend("q")).generate("q", config=config)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ([ChatMessageUser(content=[ContentImage(image="data:image/png;base64,aaaa")])], "input: contains image"),
        ([ChatMessageUser(content="q"), ChatMessageTool(content="3")], "tools: are not supported by strategies here"),
    ],
)
async def test_what_is_no_text_is_refused(chat: list[ChatMessage], message: str) -> None:
    with pytest.raises(bw.ConfigError, match=message):
        await model(RecordingBackend("q")).api.generate(chat, [], "none", GenerateConfig())


async def test_tools_are_refused() -> None:
    tool = ToolInfo(name="add", description="Adds.")
    with pytest.raises(bw.ConfigError, match="tools: are not supported by strategies here"):
        await model(RecordingBackend("q")).api.generate(
            [ChatMessageUser(content="q")], [tool], "auto", GenerateConfig()
        )


# What comes out


def test_a_question_that_fails_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    log = run(model(RecordingBackend("The answer is 42"), strategy="greedy"), tmp_path, sums=((" ", "1"), SUMS[0]))
    assert log.samples is not None
    empty, answered = (sample.output for sample in log.samples)
    assert (empty.completion, empty.error) == ("", "question: has no message with content; ask something")
    assert empty.metadata is not None
    assert empty.metadata["outcome"] == "failed"
    assert (answered.completion, answered.error) == ("The answer is 42", None)
    assert [sample.error for sample in log.samples] == [None, None]


async def test_paths_that_failed_are_paid_for_and_the_others_answer() -> None:
    backend = ScriptedBackend({"": [Reply("It is so", fail_after=2), "The answer is 42."]})
    output = await model(backend, strategy="self-consistency", paths=2).generate("q")
    assert (output.completion, output.error) == ("The answer is 42.", None)
    assert output.usage is not None
    assert output.usage.output_tokens == 2 + 5
    assert output.metadata is not None
    assert output.metadata["errors"] == ["the script says so; change the script"]


async def test_thoughts_are_reasoning_and_no_part_of_the_completion() -> None:
    backend = RecordingBackend("<think>7? No.</think>\n\nThe answer is 42. ", "<think>Still thinking")
    asked = model(backend, strategy="greedy")
    output = await asked.generate("q")
    assert output.completion == "The answer is 42."
    thought = output.message.content[0]
    assert isinstance(thought, ContentReasoning)
    assert thought.reasoning == "7? No."
    unfinished = await asked.generate("q")
    assert unfinished.completion == ""
    assert isinstance(unfinished.message.content[0], ContentReasoning)


async def test_a_spent_budget_is_told() -> None:
    asked = model(RecordingBackend(*CORRECT), strategy="self-consistency", paths=3, budget_tokens=6)
    output = await asked.generate("q")
    assert output.metadata is not None
    assert output.metadata["outcome"] == "tokens_spent"
    assert output.usage is not None
    assert output.usage.output_tokens <= 6


async def test_closing_the_model_closes_what_it_loaded(tiny_model_folder: Path) -> None:
    backend = RecordingBackend("The answer is 42.")
    async with model(backend, strategy="greedy") as asked:
        await asked.generate("q")
    assert (await model(backend, strategy="greedy").generate("q")).error is None
    name = f"branchwise/{tiny_model_folder}"
    async with get_model(name, memoize=False, strategy="greedy", max_tokens=2, speculation="off") as asked:
        assert (await asked.generate("q")).error is None
    assert "closed" in ((await asked.generate("q")).error or "")
