"""A model that never ends its turn: every system then generates the same number of tokens."""

import json
from pathlib import Path

_CHANGED = {
    "config.json": "eos_token_id",
    "generation_config.json": "eos_token_id",
    "tokenizer_config.json": "eos_token",
    "special_tokens_map.json": "eos_token",
}


def endless(model: Path, folder: Path, dtype: str) -> Path:
    """`folder`, made a view of `model` with no end token, of weights in `dtype`: links to its files, but for a few
    short ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        target = folder / file.name
        target.unlink(missing_ok=True)
        if (key := _CHANGED.get(file.name)) is None:
            target.symlink_to(file.resolve())
        else:
            changed = {**json.loads(file.read_text()), key: None}
            target.write_text(json.dumps(changed | ({"dtype": dtype} if file.name == "config.json" else {})))
    return folder
