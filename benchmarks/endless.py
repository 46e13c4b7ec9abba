"""A model that never ends its turn: every system then generates the same number of tokens."""

import json
from pathlib import Path

_CHANGED = {
    "config.json": "eos_token_id",
    "generation_config.json": "eos_token_id",
    "tokenizer_config.json": "eos_token",
    "special_tokens_map.json": "eos_token",
}


def endless(model: Path, folder: Path) -> Path:
    """`folder`, made a view of `model` with no end token: links to its files, but for a few short ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.iterdir():
        target = folder / file.name
        target.unlink(missing_ok=True)
        if (key := _CHANGED.get(file.name)) is None:
            target.symlink_to(file.resolve())
        else:
            target.write_text(json.dumps({**json.loads(file.read_text()), key: None}))
    return folder
