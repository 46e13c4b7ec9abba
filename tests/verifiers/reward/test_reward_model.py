"""Reward models over random weights: batching, failures and loading."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.registry import make_strategy
from branchwise.verifiers.registry import verifier
from branchwise.verifiers.reward.reward_model import RewardModel
from branchwise.verifiers.reward.settings import RewardSettings
from tests.support.architectures import moved
from tests.support.reward_models import OUTCOME, TEXTS, classifier, path, score

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> FilePath:
    """A reward model as it is kept."""
    kept = tmp_path_factory.mktemp("reward") / "model"
    moved(classifier(OUTCOME), torch.float32).save_pretrained(kept)
    tokenizer.save_pretrained(kept)
    return kept


def test_no_more_than_a_batch_is_scored_at_a_time(tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer, RewardSettings(batch=3))
    rows: list[int] = []
    network.get_submodule("score").register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    paths = [path(f"{text} {i}") for text in TEXTS for i in range(2)]
    together = score(model, *paths)
    assert [count for count in rows if count > 1] == [3, 3, 2]
    assert together == pytest.approx([score(model, one)[0] for one in paths], abs=1e-9)


def test_the_event_loop_runs_on_and_later_calls_form_a_batch(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)
    go_on, rows = threading.Event(), []

    async def scores() -> list[float]:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def wait(_: object, given: tuple[Tensor, ...]) -> None:
            rows.append(len(given[0]))
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(20)

        network.get_submodule("score").register_forward_pre_hook(wait)
        first = asyncio.create_task(model(path(TEXTS[0])))
        await begun.wait()  # this loop turns while the model computes
        others = [asyncio.create_task(model(path(text))) for text in TEXTS[1:]]
        await asyncio.sleep(0.01)
        others[-1].cancel()
        go_on.set()
        return [await first, *[await other for other in others[:-1]]]

    found = asyncio.run(scores())
    network.get_submodule("score")._forward_pre_hooks.clear()
    assert rows == [1, 1, 2]  # the second pass is over what two have in common
    assert found == pytest.approx([score(model, path(text))[0] for text in TEXTS[:3]], abs=1e-9)
    assert model._queues == {}


def test_a_path_that_cannot_be_scored_costs_no_other(tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)
    poison = tokenizer.convert_tokens_to_ids("</think>")
    with torch.no_grad():
        network.get_parameter("model.embed_tokens.weight")[poison] = float("nan")
    orphan = bw.Path(bw.Path(None, 1, (1,), ""), 2, (1,), "4", (1,))
    paths = [path(TEXTS[0]), path("word " * 200), path("Hm.</think>"), orphan, path(TEXTS[1])]

    async def together() -> Sequence[float | BaseException]:
        return await asyncio.gather(*map(model, paths), return_exceptions=True)

    first, long, nan, lost, last = asyncio.run(together())
    assert [first, last] == pytest.approx([score(model, path(text))[0] for text in TEXTS[:2]], abs=1e-9)
    assert [type(error) for error in (long, nan, lost)] == [bw.BackendError] * 3
    assert "tokens long, the model takes at most 512; use one with a longer context" in str(long)
    assert "its score is not a number; try dtype=float32" in str(nan)
    assert "the path has no conversation" in str(lost)


def test_what_fails_together_is_scored_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    """As where memory is too short for a batch."""
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)

    def refuse(_: object, given: tuple[Tensor, ...]) -> None:
        if len(given[0]) > 1 or given[0].shape[1] > 300:
            raise RuntimeError("out of\nmemory")

    network.get_submodule("score").register_forward_pre_hook(refuse)
    assert score(model, *map(path, TEXTS)) == pytest.approx([score(model, path(text))[0] for text in TEXTS], abs=1e-9)
    with pytest.raises(bw.BackendError, match="failed with RuntimeError: out of memory; a smaller batch"):
        score(model, path("word " * 60))


def test_a_folder_is_loaded_by_its_spec_and_chooses_among_paths(
    folder: FilePath, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = verifier(f"reward:{folder},dtype=float64,batch=2", device="cpu")
    assert found.name == f"reward:{folder},batch=2,dtype=float64"
    model = found.make(lambda *_: None)
    assert isinstance(model, RewardModel)
    replies = [f"It is {i}. The answer is {i}." for i in range(5)]
    expected = RewardModel(moved(moved(classifier(OUTCOME), torch.float32), torch.float64), tokenizer)
    backend = ScriptedBackend({"": replies})
    chosen = make_strategy("best-of-n:value=verifier", 5, bw.Sampling())
    results = [bw.solve_sync("What is it?", backend, strategy=chosen, verifier=model) for _ in range(2)]  # two loops
    root = results[0].paths[0].path.root.messages
    assert root is not None
    scores = score(expected, *[path(reply, root) for reply in replies])
    assert [result.answer for result in results] == [str(scores.index(max(scores)))] * 2
    assert all(result.errors == () for result in results)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "has LlamaForCausalLM, which is not a classifier; use a folder with"),
        ({"architectures": ["LlamaForTokenClassification"]}, "lacks weights (score.bias)"),
        ({"id2label": {i: str(i) for i in range(3)}}, "reward model: cannot load"),
        ({"model_type": "no-such-model"}, "reward model: cannot load"),
        (None, "has no tokenizer; add the tokenizer files"),
    ],
)
def test_what_cannot_be_loaded_says_why(
    folder: FilePath, tmp_path: FilePath, change: dict[str, object] | None, said: str
) -> None:
    for file in folder.iterdir():
        if change is not None or "token" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | (change or {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(bw.ModelError) as refusal:
        RewardModel.load(tmp_path, RewardSettings(device="cpu"))
    assert said in str(refusal.value)


def test_what_is_no_reward_model_is_refused(tokenizer: PreTrainedTokenizerBase, folder: FilePath) -> None:
    with pytest.raises(bw.ModelError, match="it has 3 labels; use one with a single score"):
        RewardModel(classifier(OUTCOME, labels=3), tokenizer)
    causal = transformers.AutoModelForCausalLM.from_config(classifier(OUTCOME).config)
    with pytest.raises(bw.ModelError, match="LlamaForCausalLM is not a classifier"):
        RewardModel(causal, tokenizer)
    with pytest.raises(bw.ConfigError, match="device: 'abacus' cannot be used"):
        RewardModel.load(folder, RewardSettings(device="abacus"))


def test_it_is_imported_without_torch_and_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from branchwise.verifiers.reward.reward_model import RewardModel\n"
        "import branchwise.verifiers.registry\n"
        "assert 'transformers' not in sys.modules\n"
        "try: RewardModel.load(Path('x'))\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingExtraError torch is not installed; run: pip install 'branchwise[engine]'")
