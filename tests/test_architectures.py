"""Every architecture against the model itself: the engine's tokens and log-probabilities are the model's own.

Tiny random models, in float64 wherever they run in it, so that rounding never decides a token.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from branchwise.backends.base import Backend
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.settings import EngineSettings
from branchwise.driver.grow import Grown, Growth
from branchwise.errors import ModelError
from branchwise.messages import as_messages
from branchwise.path import Path
from branchwise.prompts.thinking import Thinking
from branchwise.sampling import Sampling

END = 256
SIZES = {
    "vocab_size": 261, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "eos_token_id": END, "bos_token_id": None, "pad_token_id": None, "initializer_range": 0.3,
}  # fmt: skip
USUAL = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 512}
WINDOW = {**USUAL, "head_dim": 8, "sliding_window": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ARCHITECTURES: dict[str, tuple[str, dict[str, object], torch.dtype]] = {
    "llama": ("LlamaConfig", USUAL, torch.float64),
    "llama-float32": ("LlamaConfig", USUAL, torch.float32),
    "qwen2": ("Qwen2Config", USUAL, torch.float64),
    "qwen3": ("Qwen3Config", {**USUAL, "head_dim": 8}, torch.float64),
    "mistral-window": ("MistralConfig", WINDOW, torch.float64),
    "gemma2-softcap": (
        "Gemma2Config",
        {**WINDOW, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0,
         "tie_word_embeddings": False},
        torch.float64,
    ),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 261, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3,
         "eos_token_id": END, "bos_token_id": None},
        torch.float64,
    ),
    "gpt-neox": ("GPTNeoXConfig", {**SIZES, "intermediate_size": 48, "max_position_embeddings": 512}, torch.float64),
    "phi3-window": ("Phi3Config", {**USUAL, "sliding_window": 8}, torch.float64),
    "gpt-oss-sinks": ("GptOssConfig", {**WINDOW, **EXPERTS}, torch.float32),  # its experts refuse float64
    "granite-scaled-logits": ("GraniteConfig", {**USUAL, "logits_scaling": 2.0}, torch.float64),
}  # fmt: skip
HOT = Sampling(temperature=1.0, max_tokens=24)


def network(name: str) -> PreTrainedModel:
    """A random model, the same at every call; it computes its own attention."""
    kind, fields, dtype = ARCHITECTURES[name]
    torch.manual_seed(3)
    config: PreTrainedConfig = getattr(transformers, kind)(**fields)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").to(dtype).eval()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On tensors this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer(tiny_engine: Engine) -> PreTrainedTokenizerBase:
    return tiny_engine._tokenizer


Make = Callable[..., Engine]


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerBase) -> Iterator[Make]:
    """Engines over `network(name)`, closed when the test is over."""
    made: list[Engine] = []

    def build(name: str, **settings: int) -> Engine:
        engine = Engine(network(name), tokenizer, name=name, settings=EngineSettings(**{"memory": 1 << 24, **settings}))
        made.append(engine)
        return engine

    yield build
    for engine in made:
        engine._loop.close()


async def grow(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[Grown]:
    """The branches of one request, in order."""
    grown: dict[int, Grown] = {}
    async with asyncio.timeout(60):
        growth = Growth(backend, path, keys, sampling, Thinking())
        await growth.run(lambda *_: None, grown.__setitem__)
    return [grown[copy] for copy in range(len(keys))]


async def tokens(backend: Backend, path: Path, keys: Sequence[int], sampling: Sampling = HOT) -> list[tuple[int, ...]]:
    return [branch.path.token_ids for branch in await grow(backend, path, keys, sampling)]


async def ask(backend: Backend, question: str = "What is 6 times 7?") -> Path:
    return await backend.root(as_messages(question), key=1)


@torch.no_grad()
def own_logprobs(model: PreTrainedModel, token_ids: Sequence[int]) -> Tensor:
    """[len(token_ids), vocabulary] log-probabilities of what follows each token, by one full pass."""
    return torch.log_softmax(model(torch.tensor([token_ids])).logits[0].double(), dim=-1)


@pytest.mark.parametrize("name", ARCHITECTURES)
async def test_greedy_text_is_what_the_model_itself_generates(make: Make, name: str) -> None:
    model, engine = network(name), make(name, prefill_chunk=7)
    root = await ask(engine)
    given = torch.tensor([root.token_ids])
    own = model.generate(
        given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=30, eos_token_id=END,
        pad_token_id=0,
    )  # fmt: skip
    wanted = tuple(own[0, given.shape[1] :].tolist())
    greedy = Sampling(temperature=0, max_tokens=30)
    assert len(wanted) > 8 + 1  # longer than the windows
    assert await tokens(engine, root, (1, 2), greedy) == [wanted, wanted]
    # And again from what is held, with other branches beside.
    (again, *_), _ = await asyncio.gather(tokens(engine, root, (3,), greedy), tokens(engine, root, range(9, 14)))
    assert again == wanted


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_log_probabilities_are_the_models_own(make: Make, name: str) -> None:
    model, engine = network(name), make(name, max_batch=2)
    root = await ask(engine)
    for branch in await grow(engine, root, (1, 2, 3), replace(HOT, temperature=0.6, top_k=9, logprobs=4)):
        own = own_logprobs(model, branch.path.all_token_ids())[len(root.token_ids) - 1 : -1]
        assert branch.path.logprobs is not None
        chosen = own.gather(1, torch.tensor(branch.path.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(branch.path.logprobs).double(), chosen, atol=1e-5, rtol=0)
        assert branch.path.top_logprobs is not None
        for alternatives, row in zip(branch.path.top_logprobs, own, strict=True):
            assert [top.token_id for top in alternatives] == row.topk(4).indices.tolist()
            assert [top.logprob for top in alternatives] == pytest.approx(row.topk(4).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap", "mistral-window", "granite-scaled-logits"])
async def test_scores_are_the_models_own(make: Make, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    model, engine = network(name), make(name)
    path = (await grow(engine, await ask(engine), (1,)))[0].path.cut(15)
    texts = ("So the answer is 42.", "x", "So it is not.")
    given = path.all_token_ids()
    for _ in range(2):  # the second time, the path is held
        scores = await engine.score(path, texts)
        for text, row in zip(texts, scores.logprobs, strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False)
            own = own_logprobs(model, [*given, *ids])[len(given) - 1 : -1]
            assert row == pytest.approx(own.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist(), abs=1e-5)


@pytest.mark.parametrize("config", ["Mamba2Config", "FalconMambaConfig", "JambaConfig", "BloomConfig"])
def test_an_architecture_it_cannot_compute_is_refused_by_name(tokenizer: PreTrainedTokenizerBase, config: str) -> None:
    fields = {
        "Mamba2Config": {**SIZES, "num_heads": 8, "head_dim": 8, "state_size": 16},
        "FalconMambaConfig": {**SIZES, "state_size": 16},
        "JambaConfig": {**USUAL, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
                        "use_mamba_kernels": False},
        "BloomConfig": {"vocab_size": 261, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, config)(**fields[config]))
    with pytest.raises(ModelError, match=config.removesuffix("Config") + r"ForCausalLM: .*; use"):
        Engine(model, tokenizer, name="odd")


@pytest.mark.parametrize(
    ("kind", "fields", "context"),
    [
        ("Llama4TextConfig", {**USUAL, "head_dim": 8, "attention_chunk_size": 16, "num_local_experts": 1}, 16),
        ("PhimoeConfig", {**USUAL, **EXPERTS, "sliding_window": 16}, 16),
        ("MistralConfig", WINDOW, 512),
        ("Qwen2Config", USUAL, 512),
    ],
)
def test_a_window_that_only_the_models_mask_knows_bounds_the_context(
    tokenizer: PreTrainedTokenizerBase, kind: str, fields: dict[str, object], context: int
) -> None:
    torch.manual_seed(0)
    engine = Engine(AutoModelForCausalLM.from_config(getattr(transformers, kind)(**fields)), tokenizer, name="odd")
    engine._loop.close()
    assert engine.capabilities.context == context
