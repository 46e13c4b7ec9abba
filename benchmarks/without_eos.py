"""View of a model without an end token, so that every system generates the same number of tokens."""

import json
from pathlib import Path

_END_TOKEN_KEYS = {
    "config.json": "eos_token_id",
    "generation_config.json": "eos_token_id",
    "tokenizer_config.json": "eos_token",
    "special_tokens_map.json": "eos_token",
}


def without_eos(model: Path, folder: Path, dtype: str) -> Path:
    """Make `folder` a copy of `model` with no end token and weights in `dtype`, and return it.

    Large files are links; only the short JSON files that name the end token are rewritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        target = folder / file.name
        target.unlink(missing_ok=True)
        if (key := _END_TOKEN_KEYS.get(file.name)) is None:
            target.symlink_to(file.resolve())
        else:
            changed = {**json.loads(file.read_text()), key: None}
            target.write_text(json.dumps(changed | ({"dtype": dtype} if file.name == "config.json" else {})))
    return folder
