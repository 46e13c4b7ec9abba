"""GGUF to a folder transformers loads in seconds: bf16 safetensors and tokenizer files."""

import os
import re
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from branchwise.backends.models.cache import is_disk_error, unwritable
from branchwise.core.errors import MissingExtraError, ModelError

# Loading from GGUF takes 15 to 90 s, from safetensors 1 to 3 s: converting once pays at the second start.


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` to `folder`, which appears whole or not at all.

    Raises ModelError when the file is not a GGUF model transformers can read, MissingExtraError without
    the packages that read it.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise unwritable(partial.parent, error.strerror or str(error)) from error
    transformers_logging.disable_progress_bar()
    try:
        source, name = str(gguf.parent), gguf.name
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
        # The loaded model is marked as quantized and refuses save_pretrained: a fresh one of its
        # configuration takes over the dequantized weights.
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        fresh.load_state_dict(loaded.state_dict())
        fresh.tie_weights()
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except ImportError as error:
        raise MissingExtraError(error.name or "gguf", "engine") from error
    except Exception as error:  # a broken file fails anywhere in the readers, with errors of every kind
        reason = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
        if is_disk_error(error):
            raise unwritable(partial.parent, reason[:300]) from error
        raise ModelError(
            f"cannot convert {gguf.name} ({reason[:300]})", "use a GGUF file of an architecture transformers supports"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
