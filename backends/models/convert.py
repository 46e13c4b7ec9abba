"""Convert GGUF files to folders that transformers loads in seconds: bf16 safetensors and tokenizer files."""

import os
import re
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from branchwise.backends.models.cache import is_disk_error, unwritable
from branchwise.backends.models.manifest import write_manifest
from branchwise.core.errors import MissingExtraError, ModelError

# Loading takes 15 to 90 s from GGUF and 1 to 3 s from safetensors: one conversion pays off at the second start.


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` to `folder`, which appears complete or not at all.

    Raises ModelError if the file is not a GGUF model that transformers can read, MissingExtraError if a
    package that reads it is missing.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise unwritable(partial.parent, error.strerror or str(error)) from error
    try:
        _save(gguf, partial)
        write_manifest(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except ImportError as error:
        raise MissingExtraError(error.name or "gguf", "engine") from error
    except Exception as error:  # the readers raise errors of every kind for a broken file
        reason = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
        if is_disk_error(error):
            raise unwritable(partial.parent, reason[:300]) from error
        raise ModelError(
            f"cannot convert {gguf.name} ({reason[:300]})", "use a GGUF file of an architecture transformers supports"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(gguf: Path, folder: Path) -> None:
    """Load the model and the tokenizer from `gguf` and save them to `folder`."""
    transformers_logging.disable_progress_bar()
    source, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
    # The loaded model is marked as quantized and refuses save_pretrained. A new model of the same
    # configuration takes the dequantized weights.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
