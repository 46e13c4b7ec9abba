"""Forward passes of a reward model. Texts of a batch share the computation of their common prefix."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from branchwise.core.errors import ConfigError, ModelError
from branchwise.verifiers.reward.reader import Reading
from branchwise.verifiers.reward.settings import RewardSettings

_USE = (
    "use a folder with a trained sequence classifier (outcome reward model) or token classifier (process reward model)"
)
_CHECK_TOKENS = 8
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of logits; norms are computed in float32 in all models


class RewardNetwork:
    """Sequence or token classifier."""

    def __init__(self, network: PreTrainedModel) -> None:
        """Raises ModelError if the network is not a reward model."""
        kind, labels = type(network).__name__, network.config.num_labels
        if not kind.endswith(("ForSequenceClassification", "ForTokenClassification")):
            raise ModelError(f"reward model: {kind} is not a classifier", _USE)
        if labels not in (1, 2):
            problem = f"reward model: it has {labels} labels"
            raise ModelError(problem, "use one with a single score, or with two labels, the second for correct")
        config = network.config.get_text_config()
        self.process = kind.endswith("ForTokenClassification")
        self.context = int(getattr(config, "max_position_embeddings", 1 << 20))
        self.pad: int | None = getattr(config, "pad_token_id", None)
        self._vocabulary = int(config.vocab_size)
        self._network = network.eval().requires_grad_(False)
        self._base, self._head = network.base_model, getattr(network, "score", None)
        accepted = inspect.signature(self._base.forward).parameters
        # The name of the argument changed in transformers 5.24.
        self._cache_name = next((name for name in ("cache", "past_key_values") if name in accepted), None)
        self.shares = self._cache_name is not None and self._head is not None and self._agrees()
        """True if texts are computed together; other architectures compute one at a time."""

    @torch.inference_mode()
    def scores(self, readings: Sequence[Reading]) -> list[list[float]]:
        """Return probabilities [texts][places] of being correct, 0 to 1."""
        logits_of_texts = self._together(readings) if self.shares else [self._alone(reading) for reading in readings]
        return [_probabilities(logits) for logits in logits_of_texts]

    def _alone(self, reading: Reading) -> Tensor:
        """Return logits [places, labels] by the network's own forward pass."""
        ids = torch.tensor([reading.tokens], device=self._network.device)
        logits: Tensor = self._network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits[0, list(reading.places)] if self.process else logits

    def _together(self, readings: Sequence[Reading]) -> list[Tensor]:
        """Return logits [texts] of [places, labels]: one pass over the common prefix, one over the rest."""
        rows, device = [reading.tokens for reading in readings], self._network.device
        shared = _common(rows) if len(rows) > 1 else 0
        cache, before = DynamicCache(config=self._network.config), None
        if shared:
            prefix = torch.tensor([rows[0][:shared]], device=device)
            before = self._logits(prefix, torch.ones_like(prefix), torch.arange(shared, device=device)[None], cache)
            cache.batch_repeat_interleave(len(rows))
        lengths = [len(row) - shared for row in rows]
        width = max(lengths)
        padded = [[*row[shared:], *[0] * (width - length)] for row, length in zip(rows, lengths, strict=True)]
        mask = torch.tensor([[1] * (shared + length) + [0] * (width - length) for length in lengths], device=device)
        positions = torch.arange(shared, shared + width, device=device).expand(len(rows), -1)
        after = self._logits(torch.tensor(padded, device=device), mask, positions, cache)
        wholes = after if before is None else torch.cat([before.expand(len(rows), -1, -1), after], dim=1)
        return [whole[list(reading.places)] for whole, reading in zip(wholes, readings, strict=True)]

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        """Return logits [texts, tokens, labels]."""
        assert self._cache_name is not None
        assert self._head is not None
        cache_argument = {self._cache_name: cache}
        hidden = self._base(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **cache_argument
        )
        logits: Tensor = self._head(hidden.last_hidden_state)
        return logits

    @torch.inference_mode()
    def _agrees(self) -> bool:
        """Return whether texts computed together get the logits of the network's own forward pass."""
        tokens = [(7 * i + 3) % self._vocabulary for i in range(_CHECK_TOKENS)]
        tokens = [token if token != self.pad else (token + 1) % self._vocabulary for token in tokens]
        texts = [Reading(tuple(row), (len(row) - 1,)) for row in (tokens, [*tokens[:4], *tokens[5:]], tokens[:6])]
        try:
            together = torch.stack(self._together(texts))
        except (AttributeError, RuntimeError, TypeError, ValueError, LookupError):
            return False
        separate = torch.stack([self._alone(text) for text in texts])
        gap = _TOLERANCE.get(separate.dtype, 0.1)
        return torch.allclose(together, separate, rtol=gap, atol=gap)


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the common prefix, at most one token less than the shortest row."""
    first, most = rows[0], min(map(len, rows)) - 1
    return next((i for i in range(most) if any(row[i] != first[i] for row in rows)), most)


def _probabilities(logits: Tensor) -> list[float]:
    """Convert logits [places, labels] to probabilities [places]."""
    exact = logits.double()
    values: list[float] = (exact[:, 0].sigmoid() if exact.shape[1] == 1 else exact.softmax(dim=1)[:, 1]).tolist()
    return values


def load_network(folder: Path, settings: RewardSettings) -> PreTrainedModel:
    """Load the classifier in `folder`. Raises ModelError, or ConfigError for an unusable device."""
    transformers_logging.disable_progress_bar()
    device = _device(settings.device)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kinds = [name for name in config.architectures or [] if name.endswith("Classification")]
        if not kinds:
            named = ", ".join(config.architectures or ["no architecture"])
            raise ModelError(f"reward model: {folder} has {named}, which is not a classifier", _USE)
        sort = AutoModelForTokenClassification if "ForToken" in kinds[0] else AutoModelForSequenceClassification
        dtype = getattr(torch, settings.dtype) if settings.dtype is not None else _default_dtype(config, device)
        network, found = sort.from_pretrained(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = re.sub(r"\s+", " ", str(error)).strip()
        raise ModelError(f"reward model: cannot load {folder} ({reason[:300]})", _USE) from error
    if found["missing_keys"]:
        lacking = ", ".join(sorted(found["missing_keys"])[:3])
        raise ModelError(f"reward model: {folder} lacks weights ({lacking})", _USE)
    classifier: PreTrainedModel = network
    nn.Module.to(classifier, device)
    return classifier


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in `folder`. Raises ModelError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"reward model: {folder} has no tokenizer", "add the tokenizer files") from error
    if not tokenizer.is_fast:
        raise ModelError(f"reward model: {folder} has only a slow tokenizer", "add a tokenizer.json")
    return tokenizer


def _device(name: str | None) -> torch.device:
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            "device", f"{chosen!r} cannot be used ({reason})", "use cpu, or a device that torch lists"
        ) from error


def _default_dtype(config: object, device: torch.device) -> torch.dtype:
    """Return the model's own type, but float32 on a processor without fast bfloat16."""
    stored: torch.dtype = getattr(config, "dtype", None) or torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return stored if device.type != "cpu" or fast or stored.itemsize > 2 else torch.float32
