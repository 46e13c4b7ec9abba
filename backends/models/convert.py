"""GGUF to a folder transformers loads in seconds: bf16 safetensors and tokenizer files."""

import os
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from branchwise.errors import ModelError

# Loading from GGUF takes 15 to 90 s, from safetensors 1 to 3 s: converting once pays at the second start.


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` to `folder`, which appears whole or not at all.

    Raises ModelError when the file is not a GGUF model transformers can read.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
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
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ModelError(
            f"cannot convert {gguf.name} ({error})", "use a GGUF file of an architecture transformers supports"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
