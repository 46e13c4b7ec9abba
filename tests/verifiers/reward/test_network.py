"""Scores equal those of the classifier alone, whatever shares the batch."""

import pytest
import torch
import transformers
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import CacheLayerMixin

from branchwise.verifiers.reward.network import RewardNetwork
from branchwise.verifiers.reward.reader import Reading
from branchwise.verifiers.reward.reward_model import RewardModel
from tests.support.architectures import ATTENTION
from tests.support.reward_models import (
    OUTCOME,
    PROCESS,
    TEXTS,
    classifier,
    last_token,
    own_logits,
    path,
    rendered,
    score,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def forget(cache: transformers.DynamicCache, repeats: int) -> None:
    """Repeats keys and values that are all zero."""
    for layer in cache.layers:
        assert isinstance(layer, CacheLayerMixin)
        assert layer.keys is not None
        assert layer.values is not None
        layer.keys = torch.zeros_like(layer.keys).repeat_interleave(repeats, dim=0)
        layer.values = torch.zeros_like(layer.values).repeat_interleave(repeats, dim=0)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral-window", "gemma3-window", "gpt2"])
@pytest.mark.parametrize(("kind", "labels"), [(OUTCOME, 1), (OUTCOME, 2), (PROCESS, 1), (PROCESS, 2)])
def test_scores_are_the_classifiers_own_whatever_else_is_scored(
    name: str, kind: str, labels: int, tokenizer: PreTrainedTokenizerBase
) -> None:
    if not hasattr(transformers, ATTENTION[name][0].removesuffix("Config") + kind):
        pytest.skip("transformers has no such classifier")
    network = classifier(kind, name, labels)
    network.config.pad_token_id = 257  # a batch needs one when the network computes it alone
    model = RewardModel(network, tokenizer)
    assert model._network.shares or (name, kind) == ("gpt2", PROCESS)
    expected = []
    for text in TEXTS:
        logits = own_logits(network, tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False))
        last = logits[last_token(tokenizer, text, len(text))] if kind == PROCESS else logits
        expected.append(float(last.sigmoid() if labels == 1 else last.softmax(dim=0)[1]))
    alone = [score(model, path(text))[0] for text in TEXTS]
    assert alone == pytest.approx(expected, abs=1e-9)
    assert score(model, *map(path, TEXTS)) == pytest.approx(alone, abs=1e-9)
    assert max(alone) - min(alone) > 1e-3


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


def test_other_architectures_are_read_one_at_a_time(tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(5)
    config = transformers.BertConfig(
        vocab_size=261, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        initializer_range=0.3,
    )  # fmt: skip
    config.num_labels = 1
    network = transformers.BertForSequenceClassification(config).double().eval()
    model = RewardModel(network, tokenizer)
    assert not model._network.shares
    tokens = [tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False) for text in TEXTS]
    with torch.no_grad():
        expected = [float(network(input_ids=torch.tensor([row])).logits.sigmoid()) for row in tokens]
    assert score(model, *map(path, TEXTS)) == pytest.approx(expected, abs=1e-9)


def test_the_last_token_is_the_last_that_is_no_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Like the classifier alone, on a text whose last token equals the padding token."""
    network = classifier(OUTCOME)
    tokens = tokenizer.encode(rendered(tokenizer, TEXTS[0]), add_special_tokens=False)
    network.config.pad_token_id = tokens[-1]
    expected = float(own_logits(network, tokens).sigmoid())
    assert score(RewardModel(network, tokenizer), path(TEXTS[0])) == [pytest.approx(expected, abs=1e-9)]


def test_a_network_that_shares_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is another text's: every model is compared with its own forward before it is trusted."""
    assert RewardNetwork(classifier(OUTCOME)).shares
    monkeypatch.setattr(transformers.DynamicCache, "batch_repeat_interleave", forget)
    network = RewardNetwork(classifier(OUTCOME))
    assert not network.shares
    readings = [Reading((1, 2, 3), (2,)), Reading((1, 2, 4, 5), (3,))]
    expected = [[float(own_logits(classifier(OUTCOME), one.tokens).sigmoid())] for one in readings]
    assert network.scores(readings) == [pytest.approx(values, abs=1e-9) for values in expected]
