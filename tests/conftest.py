"""Fixtures of all tests: engines over tiny random models, and the tiny model as files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.model import plan
from branchwise.backends.engine.settings import EngineSettings
from branchwise.backends.engine.speculation.draft_budget import FixedBudget
from branchwise.backends.engine.speculation.drafter import Drafter
from branchwise.backends.engine.speculation.speculator import Speculator
from tests.support.architectures import network
from tests.support.branches import MakeEngine
from tests.support.tiny_models import tiny_llama, tiny_tokenizer, write_gguf


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Run torch on one thread: on tiny tensors more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[Engine]:
    """An engine over a tiny float64 model, without speculation."""
    settings = EngineSettings(memory=1 << 24, speculation="off")
    engine = Engine(tiny_llama(), tiny_tokenizer(), name="tiny", settings=settings)
    yield engine
    engine._loop.close()


@pytest.fixture(scope="session")
def tokenizer(tiny_engine: Engine) -> PreTrainedTokenizerBase:
    """The tiny model's tokenizer."""
    return tiny_engine._tokenizer


@pytest.fixture
def make_engine(tokenizer: PreTrainedTokenizerBase) -> Iterator[MakeEngine]:
    """Make engines over `architectures.network(name)` and close them after the test; given drafters always draft."""
    made: list[Engine] = []

    def build(name: str, *drafters: Drafter, budget: int = 8, **settings: int) -> Engine:
        fields: dict[str, Any] = {"memory": 1 << 24, "speculation": "off", **settings}
        engine = Engine(network(name), tokenizer, name=name, settings=EngineSettings(**fields))
        made.append(engine)
        if drafters:
            engine.set_speculator(Speculator(drafters, FixedBudget(budget)))
        return engine

    yield build
    for engine in made:
        engine._loop.close()


@pytest.fixture(params=["few segments", "every segment"])
def segments(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read shared tokens for each sequence, as for the short prompts of tests, or once for all as a segment."""
    if request.param == "every segment":
        monkeypatch.setattr(plan, "_MIN_SHARED_TOKENS", 1)
        monkeypatch.setattr(plan, "_CHEAP_PADDING", 0)


@pytest.fixture(scope="session")
def drafting_engine() -> Iterator[Engine]:
    """An engine over the same model, which always drafts."""
    settings = EngineSettings(memory=1 << 24, draft_budget=8)
    engine = Engine(tiny_llama(), tiny_tokenizer(), name="tiny", settings=settings)
    yield engine
    engine._loop.close()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and its tokenizer, as a folder that `load` accepts."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama(torch.float32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(file)
    return file
