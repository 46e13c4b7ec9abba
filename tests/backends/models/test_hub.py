"""Models of the hub: its cache, and a hub on this machine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from branchwise.backends.models.hub import hub_models
from branchwise.backends.models.progress import no_progress
from branchwise.backends.models.resolve import resolve
from branchwise.core.errors import ModelError
from tests.support.files import serve
from tests.support.hub import COMMIT, HubHandler, hide_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the hub's cache, which is empty. The hub refuses connections."""
    monkeypatch.setenv("BRANCHWISE_CACHE", str(tmp_path / "cache"))
    hide_hub(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


def test_a_cached_snapshot_is_used_if_it_is_complete(tiny_model_folder: Path, hub: Path) -> None:
    repository = hub / "models--x--y"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(tiny_model_folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    assert resolve("x/y", no_progress).resolve() == snapshot
    assert [(model.name, model.folder.resolve()) for model in hub_models()] == [("x/y", snapshot)]
    parts = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}  # the second is missing
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match="'x/y' is not cached and the model hub cannot be reached"):
        resolve("x/y", no_progress)
    assert hub_models() == []


@pytest.fixture
def online(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder with the files of x/y, the one repository of a hub."""
    (tmp_path / "y").mkdir()
    with serve(tmp_path / "y", HubHandler) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield tmp_path / "y"


def test_pytorch_weights_are_fetched_if_there_are_no_others(tiny_model_folder: Path, online: Path) -> None:
    for file in tiny_model_folder.glob("*.json"):
        shutil.copy(file, online)
    weights = AutoModelForCausalLM.from_pretrained(tiny_model_folder).state_dict()
    torch.save(weights, online / "pytorch_model.bin")
    (online / "training_args.bin").touch()
    folder = resolve("x/y", no_progress)
    assert {file.name for file in folder.glob("*.bin")} == {"pytorch_model.bin"}
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(loaded[name].equal(weight) for name, weight in weights.items())


def test_one_kind_of_weights_is_fetched_of_two(tiny_model_folder: Path, online: Path) -> None:
    for file in tiny_model_folder.iterdir():
        shutil.copy(file, online)
    shutil.copy(online / "model.safetensors", online / "consolidated.safetensors")
    (online / "pytorch_model.bin").touch()
    (online / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-00001.bin"}}')
    folder = resolve("x/y", no_progress)
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]
    assert not list(folder.glob("*.bin"))
    assert resolve("x/y", no_progress) == folder


def test_a_repository_without_weights_is_one_clear_error(online: Path) -> None:
    (online / "config.json").write_text("{}")
    (online / "model.Q4.gguf").touch()
    with pytest.raises(ModelError, match="the hub's 'x/y' holds no weights transformers can load"):
        resolve("x/y", no_progress)
