"""Measure a model's cost model on this machine, once, and keep it on disk."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import SCRATCH_SLOT, KVPool, slot_index
from branchwise.backends.engine.cache.node import RadixNode, TreePosition
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import DecodeSequence, Plan
from branchwise.backends.engine.sampling.sampler import SampleRequest, sample
from branchwise.backends.engine.speculation.cost_model import CostModel
from branchwise.core.sampling import Sampling

_PATHS = (1, 4, 16, 64)
_ROWS = (1, 2, 4, 8, 16, 32)  # for each path
_MAX_ROWS = 128  # of a step
_DRAFTED = 4  # one of this many paths has all the drafts: drafts are uneven
_CONTEXT = 128  # cached tokens of each path
_REPEATS = 5  # of every size, after one that is dropped
_PATIENCE = 4.0  # seconds, after which no repeat starts
_CONFIDENT = Sampling(temperature=0.1)
"""Makes sampling as fast as on real text: a model without a context is far less certain than one that has read some."""


def load_or_measure(
    model: EngineModel,
    pool: KVPool,
    folder: Path,
    layers: Sequence[int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> CostModel:
    """Return the costs saved in `folder` for this model and machine, or measure and save them.

    `layers`: those that a step runs, None for all of them.
    """
    file = folder / f"{_fingerprint(model, layers)}.json"
    try:
        saved = json.loads(file.read_text())
        return CostModel(saved["paths"], saved["rows"], saved["seconds"], saved["draw"])
    except (OSError, ValueError, KeyError, TypeError):
        costs = measure(model, pool, layers, clock)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        fields = {"paths": costs.paths, "rows": costs.rows, "seconds": costs.seconds, "draw": costs.seconds_per_sample}
        temporary.write_text(json.dumps(fields))
        temporary.replace(file)
    except OSError:  # then the next process measures again
        pass
    return costs


def measure(model: EngineModel, pool: KVPool, layers: Sequence[int] | None, clock: Callable[[], float]) -> CostModel:
    """Return the median costs of steps that write to the trash slot, never higher for fewer rows than for more."""
    depths = _ROWS if layers is None else _ROWS[:1]
    cells = {paths: [rows for rows in depths if paths * rows <= _MAX_ROWS] for paths in _PATHS}
    steps: dict[tuple[int, int], list[float]] = {(paths, rows): [] for paths in cells for rows in cells[paths]}
    samples: dict[int, list[float]] = {paths: [] for paths in _PATHS}
    began = clock()
    for _ in range(_REPEATS + 1):
        for (paths, rows), taken in steps.items():
            start = clock()
            logits = _step(model, pool, paths, rows, layers)
            taken.append(clock() - start)
            if rows == 1:
                start = clock()
                sample(logits, [SampleRequest(_CONFIDENT, row, 0, row) for row in range(paths)]).tokens.tolist()
                samples[paths].append(clock() - start)
        if clock() - began > _PATIENCE:
            break
    seconds = [[median(steps[paths, rows][1:] or steps[paths, rows]) for rows in cells[paths]] for paths in _PATHS]
    for line in seconds:
        for i in reversed(range(len(line) - 1)):
            line[i] = min(line[i], line[i + 1])
    per_sample = (median(samples[_PATHS[-1]]) - median(samples[_PATHS[0]])) / (_PATHS[-1] - _PATHS[0])
    return CostModel(_PATHS, [cells[paths] for paths in _PATHS], seconds, max(0.0, per_sample))


def _step(model: EngineModel, pool: KVPool, paths: int, rows: int, layers: Sequence[int] | None) -> Tensor:
    """Return logits [paths * rows, vocabulary] of a step in which some of the paths have a chain of drafts."""
    drafted = max(1, paths // _DRAFTED)
    chains = [1 + (rows - 1) * paths // drafted] * drafted + [1] * (paths - drafted)
    tips = [
        DecodeSequence((TreePosition(_context(), _CONTEXT),), [SCRATCH_SLOT] * chain, range(-1, chain - 1))
        for chain in chains
    ]
    count = sum(chains)
    positions = [_CONTEXT + depth for chain in chains for depth in range(chain)]
    plan = Plan(pool, slot_index([SCRATCH_SLOT] * count, pool.device), tips)
    tokens = [0] * count
    if layers is None:
        logits = model.step(tokens, positions, plan, range(count)).logits
    else:
        logits = model.step_layers(tokens, positions, plan, layers)
    logits.amax().item()  # waits for the device
    return logits


def _context() -> RadixNode:
    """Return the cached tokens of a path, all in the trash slot."""
    run = RadixNode(None, 0)
    run.tokens.extend([0] * _CONTEXT)
    run.slots.extend([SCRATCH_SLOT] * _CONTEXT)
    return run


_NAME_FIELDS = {"_name_or_path", "transformers_version"}
"""Fields of a config that do not describe the model's shape."""


def _fingerprint(model: EngineModel, layers: Sequence[int] | None) -> str:
    """Return a hash of everything that a step's time depends on."""
    fields = model.network.config.to_dict()
    config = json.dumps({name: fields[name] for name in sorted(fields.keys() - _NAME_FIELDS)}, default=str)
    parts = (
        config,
        str(model.network.dtype),
        str(model.device),
        torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else _processor(),
        str(torch.get_num_threads()),
        str(layers),
        str(model.deterministic),
        torch.__version__,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line for line in lines if line.startswith("model name")), "")
    except OSError:
        name = platform.processor()
    return f"{name} x {os.cpu_count()}"
