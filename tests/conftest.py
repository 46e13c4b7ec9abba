"""Shared pieces of the tests: a tiny model with a real tokenizer, and the real small models."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model import plan
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_budget import Fixed
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.drafting import Drafting
from tests.support.architectures import DEVICE, network
from tests.support.lab import Make

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, one token for each byte, with chat and thinking marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|end|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=CHAT_TEMPLATE, clean_up_tokenization_spaces=False
    )


def tiny_llama(dtype: torch.dtype = torch.float64, seed: int = 0, context: int = 512) -> LlamaForCausalLM:
    """A random two-layer model: nothing it says makes sense, all of it is reproducible."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        eos_token_id=256,
        bos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).to(DEVICE, dtype)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[Engine]:
    """The engine over a tiny float64 model."""
    settings = EngineSettings(memory=1 << 24, speculation="off")
    engine = Engine(tiny_llama(), tiny_tokenizer(), name="tiny", settings=settings)
    yield engine
    engine._loop.close()


@pytest.fixture(scope="session")
def tokenizer(tiny_engine: Engine) -> PreTrainedTokenizerBase:
    """The tiny model's."""
    return tiny_engine._tokenizer


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerBase) -> Iterator[Make]:
    """Engines over `architectures.network(name)`, closed when the test is over; any drafters always draft."""
    made: list[Engine] = []

    def build(name: str, *drafters: Drafter, budget: int = 8, **settings: int) -> Engine:
        known = EngineSettings(**{"memory": 1 << 24, "speculation": "off", **settings})
        engine = Engine(network(name), tokenizer, name=name, settings=known)
        made.append(engine)
        if drafters:
            engine._loop.batch.drafting = Drafting(drafters, Fixed(budget))
        return engine

    yield build
    for engine in made:
        engine._loop.close()


@pytest.fixture(params=["few segments", "every segment"])
def segments(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared tokens are read once for all branches, or (few as they are in tests) gathered for each."""
    if request.param == "every segment":
        monkeypatch.setattr(plan, "_WORTH_A_SEGMENT", 1)
        monkeypatch.setattr(plan, "_WORTH_PADDING", 0)


@pytest.fixture(scope="session")
def drafting_engine() -> Iterator[Engine]:
    """The same, always drafting."""
    settings = EngineSettings(memory=1 << 24, draft_budget=8)
    engine = Engine(tiny_llama(), tiny_tokenizer(), name="tiny", settings=settings)
    yield engine
    engine._loop.close()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and its tokenizer, as a folder `load` takes."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama(torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    model, tokenizer = tiny_llama(torch.float32), tiny_tokenizer()
    config, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(list(range(config.vocab_size))))
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 5)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        if (count := heads.get(name.split(".")[-2])) is not None:  # GGUF interleaves the halves that rotate
            weight = weight.view(count, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
