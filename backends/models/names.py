"""Short names of well-known models. The command line, the resolver and vLLM accept them in place of hub ids."""

from collections.abc import Mapping

DEFAULT_MODEL = "Qwen2.5-Coder-0.5B-Instruct"

HUB_IDS: Mapping[str, str] = {
    "SmolLM2-135M-Instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "Qwen2.5-Coder-0.5B-Instruct": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
    "Qwen2.5-Coder-1.5B-Instruct": "Qwen/Qwen2.5-Coder-1.5B-Instruct",
}
"""Hub id of each short name."""


def short_name(name: str) -> str | None:
    """Return the short name of the model that `name` (a short name or a hub id, in any case) denotes, or None."""
    wanted = name.lower()
    for short, hub_id in HUB_IDS.items():
        if wanted in (short.lower(), hub_id.lower()):
            return short
    return None
