"""The input of a reward model: tokens of the conversation and the scored positions."""

import pytest
import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase

import branchwise as bw
from branchwise.core.messages import Message, Messages
from branchwise.core.path import StopReason
from branchwise.prompts.steps import step_ends
from branchwise.verifiers.reward.reward_model import RewardModel
from branchwise.verifiers.reward.settings import RewardSettings
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


def word_tokenizer() -> PreTrainedTokenizerBase:
    """One token for each word, without a chat template; it closes a text with a mark."""
    words = ["[UNK]", "[END]", "What", "is", "6", "times", "7?", "one", "two.", "three", "four."]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A [END]", special_tokens=[("[END]", 1)])
    made.add_special_tokens([tokenizers.AddedToken("[MARK]", special=True)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")


@pytest.mark.parametrize("reduce", ["last", "min", "product"])
def test_a_process_model_is_asked_where_steps_end(reduce: str, tokenizer: PreTrainedTokenizerBase) -> None:
    network = classifier(PROCESS, "qwen2", labels=2)
    model = RewardModel(network, tokenizer, RewardSettings(reduce=reduce))  # type: ignore[arg-type]
    known = {TEXTS[0]: ["First, 6 times 7 is 42.", TEXTS[0]], TEXTS[3]: ["No idea — à peu près 40.\n\n", TEXTS[3]]}
    for text, steps in known.items():
        one = path(text, size=1)
        assert [one.token_ends()[count - 1] for count in step_ends(one)] == [len(step) for step in steps]
        logits = own_logits(network, tokenizer.encode(rendered(tokenizer, text), add_special_tokens=False))
        values = [float(logits[last_token(tokenizer, text, len(step))].softmax(dim=0)[1]) for step in steps]
        expected = {"last": values[-1], "min": min(values), "product": values[0] * values[1]}[reduce]
        assert score(model, one, path(text + " More.")) == pytest.approx(
            [expected, score(model, path(text + " More."))[0]], abs=1e-9
        )


def test_a_step_that_ends_inside_a_token_is_scored_at_that_token() -> None:
    """Words are this model's tokens; the path was cut within them."""
    tokenizer = word_tokenizer()
    reader = RewardModel(classifier(PROCESS), tokenizer)._reader
    reading = reader.read(path("one two. three four.", size=1))
    words = tokenizer.convert_ids_to_tokens(list(reading.tokens))
    assert [words[place] for place in reading.places] == ["two.", "four."]


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


def test_a_template_may_trim_the_text_but_not_change_it(
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
        with pytest.raises(bw.BackendError, match=r"refuses it \(it leaves out assistant, user turns\); use roles"):
            reader.read(path("So 42."))
        tokenizer.chat_template = "{{ raise_exception('nothing pleases me') }}"
        with pytest.raises(bw.BackendError, match=r"refuses it \(nothing pleases me\); use"):
            RewardModel(classifier(OUTCOME), tokenizer)._reader.read(path("So 42."))
    finally:
        tokenizer.chat_template = own


def test_a_template_that_reads_parts_gets_parts(tokenizer: PreTrainedTokenizerBase) -> None:
    own = tokenizer.chat_template
    try:
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ p.text }}{% endfor %};{% endfor %}"
        )
        for kind in (PROCESS, OUTCOME):
            reading = RewardModel(classifier(kind), tokenizer)._reader.read(path("So 42.", "6 * 7?"))
            assert str(tokenizer.decode(list(reading.tokens))).endswith("user: 6 * 7?;assistant: So 42.;")
        tokenizer.chat_template = "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}"
        with pytest.raises(bw.BackendError, match=r"refuses it \(it leaves out assistant turns\)"):
            RewardModel(classifier(OUTCOME), tokenizer)._reader.read(path("So 42."))
    finally:
        tokenizer.chat_template = own


def test_a_path_without_steps_is_scored_as_a_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    model = RewardModel(classifier(PROCESS), tokenizer)
    shown = bw.Path(path("").root, 2, (), "So 42.")  # of a backend that shows no tokens
    assert score(model, shown) == pytest.approx(score(model, path("So 42.")), abs=1e-9)
    assert 0 <= score(model, path(""))[0] <= 1
    stopped = path("So 42. Question: what", size=1)
    stopped = bw.Path(stopped.parent, 2, stopped.token_ids, stopped.text, stopped.ends, shown=6,
                      stop_reason=StopReason.STOP)  # fmt: skip
    assert score(model, stopped) == pytest.approx(score(model, path("So 42.")), abs=1e-9)
