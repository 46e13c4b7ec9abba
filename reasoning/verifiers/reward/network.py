"""The network of a reward model: texts that begin alike are computed together, what they share once."""

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

_USE = "use a folder with a trained classifier of sequences (an outcome reward model) or of tokens (a process one)"
_CHECK_TOKENS = 8
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of logits; norms run in float32 in all models


class RewardNetwork:
    """A classifier of sequences or of tokens."""

    def __init__(self, network: PreTrainedModel) -> None:
        """Raises ModelError where it is no reward model."""
        kind, labels = type(network).__name__, network.config.num_labels
        if not kind.endswith(("ForSequenceClassification", "ForTokenClassification")):
            raise ModelError(f"reward model: {kind} is no classifier", _USE)
        if labels not in (1, 2):
            problem = f"reward model: it has {labels} labels"
            raise ModelError(problem, "use one with a single score, or with two labels, the second for what is right")
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
        """Whether texts are computed together; other architectures read one at a time."""

    @torch.inference_mode()
    def scores(self, readings: Sequence[Reading]) -> list[list[float]]:
        """[texts][places] the probability that all is well, 0 to 1."""
        read = self._together(readings) if self.shares else [self._alone(reading) for reading in readings]
        return [_probabilities(logits) for logits in read]

    def _alone(self, reading: Reading) -> Tensor:
        """[places, labels] by the network's own forward."""
        ids = torch.tensor([reading.tokens], device=self._network.device)
        logits: Tensor = self._network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits[0, list(reading.places)] if self.process else logits

    def _together(self, readings: Sequence[Reading]) -> list[Tensor]:
        """[texts] of [places, labels], in one pass after one over what all texts begin with."""
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
        """[texts, tokens, labels]"""
        assert self._cache_name is not None
        assert self._head is not None
        held = {self._cache_name: cache}
        hidden = self._base(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **held)
        logits: Tensor = self._head(hidden.last_hidden_state)
        return logits

    @torch.inference_mode()
    def _agrees(self) -> bool:
        """Whether texts that are computed together get what the network's own forward gives each."""
        tokens = [(7 * i + 3) % self._vocabulary for i in range(_CHECK_TOKENS)]
        tokens = [token if token != self.pad else (token + 1) % self._vocabulary for token in tokens]
        texts = [Reading(tuple(row), (len(row) - 1,)) for row in (tokens, [*tokens[:4], *tokens[5:]], tokens[:6])]
        try:
            together = torch.stack(self._together(texts))
        except (AttributeError, RuntimeError, TypeError, ValueError, LookupError):
            return False
        apart = torch.stack([self._alone(text) for text in texts])
        gap = _TOLERANCE.get(apart.dtype, 0.1)
        return torch.allclose(together, apart, rtol=gap, atol=gap)


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; every row keeps one of its own."""
    first, most = rows[0], min(map(len, rows)) - 1
    return next((i for i in range(most) if any(row[i] != first[i] for row in rows)), most)


def _probabilities(logits: Tensor) -> list[float]:
    """[places] of logits [places, labels]."""
    exact = logits.double()
    values: list[float] = (exact[:, 0].sigmoid() if exact.shape[1] == 1 else exact.softmax(dim=1)[:, 1]).tolist()
    return values


def load_network(folder: Path, settings: RewardSettings) -> PreTrainedModel:
    """The classifier in `folder`. Raises ModelError, ConfigError for a device that can't be used."""
    transformers_logging.disable_progress_bar()
    device = _device(settings.device)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kinds = [name for name in config.architectures or [] if name.endswith("Classification")]
        if not kinds:
            named = ", ".join(config.architectures or ["no architecture"])
            raise ModelError(f"reward model: {folder} holds {named}, which is no classifier", _USE)
        sort = AutoModelForTokenClassification if "ForToken" in kinds[0] else AutoModelForSequenceClassification
        dtype = getattr(torch, settings.dtype) if settings.dtype is not None else _usual(config, device)
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
    """The tokenizer in `folder`. Raises ModelError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"reward model: {folder} has no tokenizer", "add the files of its tokenizer") from error
    if not tokenizer.is_fast:
        raise ModelError(f"reward model: {folder} has only a slow tokenizer", "add a tokenizer.json")
    return tokenizer


def _device(name: str | None) -> torch.device:
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("device", f"{chosen!r} cannot be used ({reason})", "use cpu, or one torch lists") from error


def _usual(config: object, device: torch.device) -> torch.dtype:
    """The model's own type, but float32 where the processor has no fast bfloat16."""
    stored: torch.dtype = getattr(config, "dtype", None) or torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return stored if device.type != "cpu" or fast or stored.itemsize > 2 else torch.float32
