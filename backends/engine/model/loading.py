"""Loading of transformers' causal LMs from a local folder."""

import re
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from branchwise.backends.engine.model.hooks import ATTENTION
from branchwise.core.errors import ModelError


def load_network(folder: Path, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """Return the causal LM in `folder`. Raises ModelError when the folder has none or it can't be loaded."""
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder)
        if dtype is None:
            dtype = _config_dtype(config, device)
        network = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=ATTENTION, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise ModelError(
            f"model: cannot load {folder} ({reason[:300]})",
            "use a folder with config.json, safetensors weights and tokenizer files",
        ) from error
    nn.Module.to(network, device)
    return network


def default_dtype(folder: Path, device: torch.device) -> torch.dtype:
    """Return the dtype that the model in `folder` is loaded in where the settings name none."""
    return _config_dtype(AutoConfig.from_pretrained(folder), device)


def _config_dtype(config: object, device: torch.device) -> torch.dtype:
    """Return the checkpoint's own dtype, but float32 where the processor has no fast bfloat16."""
    stored: torch.dtype | None = getattr(config, "dtype", None)
    if stored is None or stored not in (torch.float16, torch.bfloat16):
        return torch.float32
    if device.type != "cpu":
        return stored
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
