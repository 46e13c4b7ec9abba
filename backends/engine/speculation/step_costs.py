"""How long a step takes by its rows, measured once for a model on a machine and kept on disk."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from branchwise.backends.engine.cache.kv_pool import TRASH, Pool
from branchwise.backends.engine.cache.node import Place, Run
from branchwise.backends.engine.model.causal_lm import EngineModel
from branchwise.backends.engine.model.plan import Plan, Tip, index_of
from branchwise.backends.engine.sampling.sampler import Draw, draw
from branchwise.backends.engine.speculation.draft_budget import StepCosts
from branchwise.core.sampling import Sampling

_PATHS = (1, 4, 16, 64)
_ROWS = (1, 2, 4, 8, 16, 32)  # for each path
_MOST_ROWS = 128
_DRAFTED = 4  # one path of so many has all the drafts
_CONTEXT = 128  # tokens each path reads for itself
_REPEATS, _PATIENCE = 5, 4.0  # seconds after which it makes do with less


def step_costs(
    model: EngineModel,
    pool: Pool,
    folder: Path,
    layers: Sequence[int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> StepCosts:
    """Those kept in `folder` for this model and machine, or measured now and kept there. `layers`: of steps through
    these only; None: all."""
    file = folder / f"{_fingerprint(model, layers)}.json"
    try:
        kept = json.loads(file.read_text())
        return StepCosts(**{name: kept[name] for name in ("paths", "rows", "seconds", "draw")})
    except (OSError, ValueError, KeyError, TypeError):
        costs = measure(model, pool, layers, clock)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(costs)))
        temporary.replace(file)
    except OSError:  # it is measured again next time
        pass
    return costs


def measure(model: EngineModel, pool: Pool, layers: Sequence[int] | None, clock: Callable[[], float]) -> StepCosts:
    """Medians of steps over the trash slot, of every size in turn; no fewer rows take longer than more."""
    depths = _ROWS if layers is None else _ROWS[:1]
    cells = {paths: [rows for rows in depths if paths * rows <= _MOST_ROWS] for paths in _PATHS}
    steps: dict[tuple[int, int], list[float]] = {(paths, rows): [] for paths in cells for rows in cells[paths]}
    draws: dict[int, list[float]] = {paths: [] for paths in _PATHS}
    began = clock()
    for _ in range(_REPEATS + 1):
        for (paths, rows), taken in steps.items():
            start = clock()
            logits = _step(model, pool, paths, rows, layers)
            taken.append(clock() - start)
            if rows == 1:
                start = clock()
                draw(logits, [Draw(_SURE, row, 0, row) for row in range(paths)]).tokens.tolist()
                draws[paths].append(clock() - start)
        if clock() - began > _PATIENCE:
            break
    seconds = [[median(steps[paths, rows][1:] or steps[paths, rows]) for rows in cells[paths]] for paths in _PATHS]
    for line in seconds:
        for i in reversed(range(len(line) - 1)):
            line[i] = min(line[i], line[i + 1])
    each = (median(draws[_PATHS[-1]]) - median(draws[_PATHS[0]])) / (_PATHS[-1] - _PATHS[0])
    return StepCosts(_PATHS, [cells[paths] for paths in _PATHS], seconds, max(0.0, each))


_SURE = Sampling(temperature=0.1)
"""Draws as real ones go: a model that reads nothing but the trash slot is far less sure than one that reads a text."""


def _step(model: EngineModel, pool: Pool, paths: int, rows: int, layers: Sequence[int] | None) -> Tensor:
    """Logits [paths * rows, vocabulary] of a step over so many paths, some with a chain of drafts."""
    drafted = max(1, paths // _DRAFTED)  # drafts are uneven
    chains = [1 + (rows - 1) * paths // drafted] * drafted + [1] * (paths - drafted)
    tips = [Tip((Place(_read(), _CONTEXT),), [TRASH] * chain, range(-1, chain - 1)) for chain in chains]
    count = sum(chains)
    positions = [_CONTEXT + depth for chain in chains for depth in range(chain)]
    plan = Plan(pool, index_of([TRASH] * count, pool.device), tips)
    tokens = [0] * count
    if layers is None:
        logits = model.step(tokens, positions, plan, range(count)).logits
    else:
        logits = model.skipping(tokens, positions, plan, layers)
    logits.amax().item()  # waits for the device
    return logits


def _read() -> Run:
    """What a path reads."""
    run = Run(None, 0)
    run.tokens.extend([0] * _CONTEXT)
    run.slots.extend([TRASH] * _CONTEXT)
    return run


_NAMES = {"_name_or_path", "transformers_version"}
"""Of a config, what says nothing of the model's shape."""


def _fingerprint(model: EngineModel, layers: Sequence[int] | None) -> str:
    """Of whatever a step's time depends on."""
    fields = model.network.config.to_dict()
    config = json.dumps({name: fields[name] for name in sorted(fields.keys() - _NAMES)}, default=str)
    where = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else _processor()
    parts = (
        config,
        str(model.network.dtype),
        str(model.device),
        where,
        str(torch.get_num_threads()),
        str(layers),
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
