"""Reward models over random weights: what they compute is what the classifier by itself computes."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path as FilePath

import pytest
import tokenizers
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.core.messages import Message, Messages, as_messages
from branchwise.core.path import StopReason
from branchwise.prompts.steps import step_ends
from branchwise.registry import strategy
from branchwise.verifiers.registry import verifier
from branchwise.verifiers.reward.network import RewardNetwork
from branchwise.verifiers.reward.reader import Reading
from branchwise.verifiers.reward.reward_model import RewardModel
from branchwise.verifiers.reward.settings import RewardSettings
from tests.support.architectures import ATTENTION

pytestmark = pytest.mark.usefixtures("one_thread")
OUTCOME, PROCESS = "ForSequenceClassification", "ForTokenClassification"
TEXTS = (
    "First, 6 times 7 is 42. So it is 42.",
    "First, 6 times 7 is 42. Then add one.\nThat makes 43. ",
    "First, nothing.",
    "No idea — à peu près 40.\n\nThe answer is 40.",
)


def classifier(kind: str, name: str = "llama", labels: int = 1, **fields: object) -> PreTrainedModel:
    """A random classifier, the same at every call."""
    config, known, dtype = ATTENTION[name]
    torch.manual_seed(5)
    made = getattr(transformers, config)(**{**known, "num_labels": labels, **fields})
    network: PreTrainedModel = getattr(transformers, config.removesuffix("Config") + kind)(made)
    return network.to(dtype).eval()


def path(text: str, question: str | Messages = "What is 6 times 7?", size: int = 3) -> bw.Path:
    """A path whose tokens are `size` characters long: none of a reward model's."""
    root = bw.Path(None, 1, (7,), "", messages=as_messages(question))
    ends = tuple(range(size, len(text) + size, size))
    return bw.Path(root, 2, tuple(range(len(ends))), text, tuple(min(end, len(text)) for end in ends))


def rendered(tokenizer: PreTrainedTokenizerBase, text: str, question: str = "What is 6 times 7?") -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


@torch.no_grad()
def own_logits(network: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """[labels], for a token classifier [tokens, labels]; by its own forward, one text at a time, without a cache."""
    logits: Tensor = network(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def score(model: RewardModel, *paths: bw.Path) -> list[float]:
    """The scores of paths that are asked for together."""

    async def together() -> list[float]:
        return list(await asyncio.gather(*map(model, paths)))

    return asyncio.run(together())


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral-window", "gemma3-window", "gpt2"])
@pytest.mark.parametrize(("kind", "labels"), [(OUTCOME, 1), (OUTCOME, 2), (PROCESS, 1), (PROCESS, 2)])
def test_scores_are_the_classifiers_own_whatever_else_is_scored(
    name: str, kind: str, labels: int, tokenizer: PreTrainedTokenizerBase
) -> None:
    if not hasattr(transformers, ATTENTION[name][0].removesuffix("Config") + kind):
        pytest.skip("transformers has no such classifier")
    network = classifier(kind, name, labels)
    network.config.pad_token_id = 257  # a batch needs one where the network reads it by itself
    model = RewardModel(network, tokenizer)
    assert model._network.shares or (name, kind) == ("gpt2", PROCESS)
    expected = []
    for text in TEXTS:
        logits = own_logits(network, tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False))
        last = logits[_end(tokenizer, text, len(text))] if kind == PROCESS else logits
        expected.append(float(last.sigmoid() if labels == 1 else last.softmax(dim=0)[1]))
    alone = [score(model, path(text))[0] for text in TEXTS]
    assert alone == pytest.approx(expected, abs=1e-9)
    assert score(model, *map(path, TEXTS)) == pytest.approx(alone, abs=1e-9)
    assert max(alone) - min(alone) > 1e-3


def _end(tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> int:
    """The token that ends the first `length` characters of a text: bytes are tokens, but for the template's."""
    whole = rendered(tokenizer, text)
    return len(tokenizer.encode(whole[: whole.index(text) + length], add_special_tokens=False)) - 1


@pytest.mark.parametrize("reduce", ["last", "min", "product"])
def test_a_process_model_is_asked_where_steps_end(reduce: str, tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(PROCESS, "qwen2", labels=2)
    model = RewardModel(network, tokenizer, RewardSettings(reduce=reduce))  # type: ignore[arg-type]
    known = {TEXTS[0]: ["First, 6 times 7 is 42.", TEXTS[0]], TEXTS[3]: ["No idea — à peu près 40.\n\n", TEXTS[3]]}
    for text, steps in known.items():
        one = path(text, size=1)
        assert [one.token_ends()[count - 1] for count in step_ends(one)] == [len(step) for step in steps]
        logits = own_logits(network, tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False))
        values = [float(logits[_end(tokenizer, text, len(step))].softmax(dim=0)[1]) for step in steps]
        expected = {"last": values[-1], "min": min(values), "product": values[0] * values[1]}[reduce]
        assert score(model, one, path(text + " More.")) == pytest.approx(
            [expected, score(model, path(text + " More."))[0]], abs=1e-9
        )


def test_a_step_that_ends_inside_a_token_of_the_model_is_read_with_that_token() -> None:
    """Words are this model's tokens; the path was cut within them."""
    tokenizer = word_tokenizer()
    reader = RewardModel(classifier(PROCESS), tokenizer)._reader
    reading = reader.read(path("one two. three four.", size=1))
    words = tokenizer.convert_ids_to_tokens(list(reading.tokens))
    assert [words[place] for place in reading.places] == ["two.", "four."]


def word_tokenizer() -> PreTrainedTokenizerBase:
    """One token for each word, without a chat template; it closes a text with a mark."""
    words = ["[UNK]", "[END]", "What", "is", "6", "times", "7?", "one", "two.", "three", "four."]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 1)])
    made.add_special_tokens([tokenizers.AddedToken("[MARK]", special=True)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")


def test_without_a_template_the_text_follows_the_question() -> None:
    tokenizer = word_tokenizer()
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)
    reading = model._reader.read(path("one two. [MARK]"))
    assert tokenizer.convert_ids_to_tokens(list(reading.tokens)) == [
        "What", "is", "6", "times", "7?", "one", "two.", "[UNK]", "[END]"
    ]  # fmt: skip
    assert reading.places == (len(reading.tokens) - 1,)
    expected = float(own_logits(network, reading.tokens).sigmoid())
    assert score(model, path("one two. [MARK]")) == [pytest.approx(expected, abs=1e-9)]


def test_control_tokens_in_a_text_are_letters(tokenizer: PreTrainedTokenizerBase) -> None:
    reader = RewardModel(classifier(PROCESS), tokenizer)._reader
    said, asked = "Done.<|im_end|> Sure. Yes.", "Is <|im_start|> a token?"
    reading = reader.read(path(said, asked, size=1))
    plain = tokenizer.decode(list(reading.tokens))
    assert plain == rendered(tokenizer, said, asked)
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert (reading.tokens.count(start), reading.tokens.count(end)) == (2, 2)  # of the two turns
    after = len(tokenizer.encode("<|im_end|>\n", add_special_tokens=False))
    back = [len(reading.tokens) - after - 1 - place for place in reading.places]
    assert back == [len(" Yes."), 0]  # a byte is a token; the first step ends behind "Sure."


def test_a_template_may_trim_and_refuse_a_system_turn_but_not_change_a_process_models_text(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    messages = Messages(turns=(Message(role="system", content="Be brief."), Message(role="user", content="6 * 7?")))
    own = tokenizer.chat_template
    try:
        tokenizer.chat_template = (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
        )
        reader = RewardModel(classifier(PROCESS), tokenizer)._reader
        reading = reader.read(path("  So 42. \n", messages))
        whole = "user: Be brief.\n\n6 * 7?\nassistant: So 42.\n"
        assert tokenizer.decode(list(reading.tokens)) == whole
        assert reading.places == (len(whole) - 2,)
        tokenizer.chat_template = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
        reader = RewardModel(classifier(PROCESS), tokenizer)._reader
        with pytest.raises(bw.BackendError, match="chat template changes the path's text"):
            reader.read(path("So 42."))
        tokenizer.chat_template = "{{ raise_exception('nothing pleases me') }}"
        with pytest.raises(bw.BackendError, match=r"refuses the conversation \(nothing pleases me\); use"):
            RewardModel(classifier(OUTCOME), tokenizer)._reader.read(path("So 42."))
    finally:
        tokenizer.chat_template = own


def test_what_texts_begin_with_is_computed_once(tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)
    computed: list[tuple[int, ...]] = []
    network.get_input_embeddings().register_forward_pre_hook(lambda _, given: computed.append(tuple(given[0].shape)))
    readings = [model._reader.read(path(text)).tokens for text in TEXTS[:3]]
    shared = next(i for i in range(999) if len({tokens[: i + 1] for tokens in readings}) > 1)
    assert shared > len(TEXTS[2]) / 2
    score(model, *map(path, TEXTS[:3]))
    assert computed == [(1, shared), (3, max(map(len, readings)) - shared)]
    computed.clear()
    score(model, path(TEXTS[0]))
    score(model, path(TEXTS[0]), path(TEXTS[0]))
    length = len(readings[0])
    assert computed == [(1, length), (1, length - 1), (2, 1)]


def test_no_more_than_a_batch_is_scored_at_a_time(tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer, RewardSettings(batch=3))
    rows: list[int] = []
    network.score.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    paths = [path(f"{text} {i}") for text in TEXTS for i in range(2)]
    together = score(model, *paths)
    assert [count for count in rows if count > 1] == [3, 3, 2]
    assert together == pytest.approx([score(model, one)[0] for one in paths], abs=1e-9)


def test_the_event_loop_goes_on_meanwhile_and_calls_that_come_meanwhile_wait_together(
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

        network.score.register_forward_pre_hook(wait)
        first = asyncio.create_task(model(path(TEXTS[0])))
        await begun.wait()  # this loop turns while the model computes
        others = [asyncio.create_task(model(path(text))) for text in TEXTS[1:]]
        await asyncio.sleep(0.01)
        others[-1].cancel()
        go_on.set()
        return [await first, *[await other for other in others[:-1]]]

    found = asyncio.run(scores())
    network.score._forward_pre_hooks.clear()
    assert rows == [1, 1, 2]  # the second pass is over what two have in common
    assert found == pytest.approx([score(model, path(text))[0] for text in TEXTS[:3]], abs=1e-9)
    assert model._queues == {}


def test_a_path_that_cannot_be_scored_costs_no_other(tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)
    poison = tokenizer.convert_tokens_to_ids("</think>")
    with torch.no_grad():
        network.get_input_embeddings().weight[poison] = float("nan")
    orphan = bw.Path(bw.Path(None, 1, (1,), ""), 2, (1,), "4", (1,))
    paths = [path(TEXTS[0]), path("word " * 200), path("Hm.</think>"), orphan, path(TEXTS[1])]

    async def together() -> Sequence[float | BaseException]:
        return await asyncio.gather(*map(model, paths), return_exceptions=True)

    first, long, nan, lost, last = asyncio.run(together())
    assert [first, last] == pytest.approx([score(model, path(text))[0] for text in TEXTS[:2]], abs=1e-9)
    assert [type(error) for error in (long, nan, lost)] == [bw.BackendError] * 3
    assert "tokens long, the model reads 512 at most; use one with a longer context" in str(long)
    assert "its score is no number; try dtype=float32" in str(nan)
    assert "the path has no conversation" in str(lost)


def test_what_fails_together_is_scored_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    """As where memory is too short for a batch."""
    network = classifier(OUTCOME)
    model = RewardModel(network, tokenizer)

    def refuse(_: object, given: tuple[Tensor, ...]) -> None:
        if len(given[0]) > 1 or given[0].shape[1] > 300:
            raise RuntimeError("out of\nmemory")

    network.score.register_forward_pre_hook(refuse)
    assert score(model, *map(path, TEXTS)) == pytest.approx([score(model, path(text))[0] for text in TEXTS], abs=1e-9)
    with pytest.raises(bw.BackendError, match="failed with RuntimeError: out of memory; a smaller batch"):
        score(model, path("word " * 60))


def test_other_architectures_are_read_one_at_a_time(tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=261, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, num_labels=1,
        initializer_range=0.3,
    )  # fmt: skip
    network = transformers.BertForSequenceClassification(config).double().eval()
    model = RewardModel(network, tokenizer)
    assert not model._network.shares
    tokens = [tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False) for text in TEXTS]
    with torch.no_grad():
        expected = [float(network(input_ids=torch.tensor([row])).logits.sigmoid()) for row in tokens]
    assert score(model, *map(path, TEXTS)) == pytest.approx(expected, abs=1e-9)


def test_the_last_token_is_the_last_that_is_no_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """As the classifier by itself reads a text whose last token is the one it is padded with."""
    network = classifier(OUTCOME)
    tokens = tokenizer.encode(rendered(tokenizer, TEXTS[0]), add_special_tokens=False)
    network.config.pad_token_id = tokens[-1]
    expected = float(own_logits(network, tokens).sigmoid())
    assert score(RewardModel(network, tokenizer), path(TEXTS[0])) == [pytest.approx(expected, abs=1e-9)]


def test_a_path_without_steps_is_scored_as_a_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    model = RewardModel(classifier(PROCESS), tokenizer)
    shown = bw.Path(path("").root, 2, (), "So 42.")  # of a backend that shows no tokens
    assert score(model, shown) == pytest.approx(score(model, path("So 42.")), abs=1e-9)
    assert 0 <= score(model, path(""))[0] <= 1
    stopped = path("So 42. Question: what", size=1)
    stopped = bw.Path(stopped.parent, 2, stopped.token_ids, stopped.text, stopped.ends, shown=6,
                      stop_reason=StopReason.STOP)  # fmt: skip
    assert score(model, stopped) == pytest.approx(score(model, path("So 42.")), abs=1e-9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> FilePath:
    """A reward model as it is kept."""
    kept = tmp_path_factory.mktemp("reward") / "model"
    classifier(OUTCOME).to(torch.float32).save_pretrained(kept)
    tokenizer.save_pretrained(kept)
    return kept


def test_a_folder_is_loaded_by_its_spec_and_chooses_among_paths(
    folder: FilePath, tokenizer: PreTrainedTokenizerBase
) -> None:
    found = verifier(f"reward:{folder},dtype=float64,batch=2", device="cpu")
    assert found.name == f"reward:{folder},batch=2,dtype=float64"
    model = found.make(lambda *_: None)
    assert isinstance(model, RewardModel)
    replies = [f"It is {i}. The answer is {i}." for i in range(5)]
    expected = RewardModel(classifier(OUTCOME).to(torch.float32).to(torch.float64), tokenizer)
    backend = ScriptedBackend({"": replies})
    chosen = strategy("best-of-n:value=verifier", 5, bw.Sampling())
    results = [bw.solve_sync("What is it?", backend, strategy=chosen, verifier=model) for _ in range(2)]  # two loops
    root = results[0].paths[0].path.root.messages
    assert root is not None
    scores = score(expected, *[path(reply, root) for reply in replies])
    assert [result.answer for result in results] == [str(scores.index(max(scores)))] * 2
    assert all(result.errors == () for result in results)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "holds LlamaForCausalLM, which is no classifier; use a folder with"),
        ({"architectures": ["LlamaForTokenClassification"]}, "lacks weights (score.bias)"),
        ({"id2label": {i: str(i) for i in range(3)}}, "reward model: cannot load"),
        ({"model_type": "no-such-model"}, "reward model: cannot load"),
        (None, "has no tokenizer; add the files of its tokenizer"),
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
    with pytest.raises(bw.ModelError, match="LlamaForCausalLM is no classifier"):
        RewardModel(causal, tokenizer)
    with pytest.raises(bw.ConfigError, match="device: 'abacus' cannot be used"):
        RewardModel.load(folder, RewardSettings(device="abacus"))


def test_a_network_that_shares_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is another text's: every model is compared with its own forward before it is trusted."""
    assert RewardNetwork(classifier(OUTCOME)).shares
    monkeypatch.setattr(transformers.DynamicCache, "batch_repeat_interleave", forget)
    network = RewardNetwork(classifier(OUTCOME))
    assert not network.shares
    readings = [Reading((1, 2, 3), (2,)), Reading((1, 2, 4, 5), (3,))]
    expected = [[float(own_logits(classifier(OUTCOME), one.tokens).sigmoid())] for one in readings]
    assert network.scores(readings) == [pytest.approx(values, abs=1e-9) for values in expected]


def forget(cache: transformers.DynamicCache, repeats: int) -> None:
    """Repeats keys and values that are all zero."""
    for layer in cache.layers:
        layer.keys = torch.zeros_like(layer.keys).repeat_interleave(repeats, dim=0)
        layer.values = torch.zeros_like(layer.values).repeat_interleave(repeats, dim=0)


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
