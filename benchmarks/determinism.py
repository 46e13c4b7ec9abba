"""Repeat runs with equal seeds and count how many results differ, in one process and across processes.

    python -m benchmarks.determinism --model SmolLM2-135M-Instruct
    python -m benchmarks.determinism --speed

`--speed` measures the cost instead: the same evaluation with the setting on and off, in turns, in one process.
"""

import argparse
import functools
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import branchwise as bw
from branchwise.backends import EngineSettings
from branchwise.backends.engine.engine import Engine
from branchwise.driver import Stop, run_sync
from branchwise.evaluation.answered import Answered
from branchwise.evaluation.row import Row
from branchwise.evaluation.run import Plan, evaluate
from branchwise.prompts.exemplars import ARITHMETIC
from branchwise.registry import parse_strategy

QUESTION = "Ann has 3 bags with 4 apples each and eats 5 apples. How many apples are left?"
SOLVED = ("adaptive-path-consistency", "path-consistency", "mcts")
ROWS = [
    Row(id=str(i), question=one.question, answer=one.solution.rsplit(maxsplit=1)[-1].rstrip("."))
    for i, one in enumerate(ARITHMETIC[:8])
]
OUT = Path("build/bench")
Case = Callable[[Engine], str]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _solve(strategy: str, paths: int, tokens: int, engine: Engine) -> str:
    """Return a digest of everything that a result holds except passes, caching, drafts and time."""
    chosen = parse_strategy(strategy, paths, bw.Sampling(temperature=0.8, max_tokens=tokens)).strategy
    result = bw.solve_sync(QUESTION, engine, strategy=chosen, seed=3)
    branches = [(branch.number, branch.path.all_token_ids(), branch.path.logprobs) for branch in result.paths]
    return _digest((result.answer, result.confidence, dict(result.votes), result.usage.sampled, branches))


def _answer(engine: Engine, paths: int, tokens: int, concurrency: int, budget: int | None) -> str:
    """Return a digest of the answers of an evaluation."""
    chosen = parse_strategy(SOLVED[0], paths, bw.Sampling(temperature=0.8, max_tokens=tokens))
    answered: list[Answered] = []
    plan = Plan(
        data="arithmetic",
        rows=ROWS,
        strategies={chosen.name: chosen.strategy},
        seed=3,
        concurrency=concurrency,
        budget_tokens=budget,
    )
    stop = Stop()
    run_sync(functools.partial(evaluate, plan, lambda _: engine, answered.append, stop), stop)
    kept = [
        (one.id, one.answer, one.outcome, dict(one.votes), one.usage.sampled, [path.text for path in one.paths])
        for one in answered
    ]
    return _digest(sorted(kept, key=lambda one: one[0]))


def _cases(paths: int, tokens: int) -> dict[str, Case]:
    cases: dict[str, Case] = {f"solve {name}": functools.partial(_solve, name, paths, tokens) for name in SOLVED}
    for concurrency in (1, 4):
        for budget in (None, paths * tokens // 2):
            name = f"eval concurrency={concurrency} budget={budget}"
            cases[name] = functools.partial(_answer, paths=paths, tokens=tokens, concurrency=concurrency, budget=budget)
    return cases


def _load(model: str, deterministic: bool | None = None) -> Engine:
    engine = bw.load(model, settings=EngineSettings(deterministic=deterministic, memory=1 << 30))
    assert isinstance(engine, Engine)
    return engine


def _run(arguments: argparse.Namespace, repeats: int) -> dict[str, list[str]]:
    """Return the digests of every case, in the order of the repetitions; the cases of one follow each other."""
    engine, cases = _load(arguments.model), _cases(arguments.paths, arguments.tokens)
    digests: dict[str, list[str]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            digests[name].append(case(engine))
    return digests


def _run_process(arguments: argparse.Namespace) -> dict[str, list[str]]:
    options = ["--model", arguments.model, "--paths", str(arguments.paths), "--tokens", str(arguments.tokens)]
    command = [sys.executable, "-m", "benchmarks.determinism", *options, "--child"]
    found: dict[str, list[str]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def _measure_speed(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of equal evaluations, by setting. Both engines start each with an empty cache."""
    engines = {"on": _load(arguments.model, True), "off": _load(arguments.model, False)}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(arguments.repeats + 1):
        for name, engine in sorted(engines.items(), reverse=bool(number % 2)):
            started = time.perf_counter()
            _answer(engine, arguments.paths, arguments.tokens, 4, None)
            if number:  # the first round measures the cost model and compiles kernels
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--repeats", type=int, default=20, help="runs in one process")
    parser.add_argument("--processes", type=int, default=20, help="further runs, each in a process of its own")
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a path")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_run(arguments, 1)))
        return
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.speed:
        seconds = _measure_speed(arguments)
        cost = median(on / off for on, off in zip(seconds["on"], seconds["off"], strict=True)) - 1
        _write(arguments, {"seconds": seconds, "cost": cost})
        print(f"{arguments.model}: on {median(seconds['on']):.2f} s, off {median(seconds['off']):.2f} s, {cost:+.1%}")
        return
    digests = _run(arguments, arguments.repeats) if arguments.repeats else {}
    for _ in range(arguments.processes):
        for name, found in _run_process(arguments).items():
            digests.setdefault(name, []).extend(found)
    _write(arguments, {"digests": digests})
    print(f"{'case':40} {'runs':>5} {'results':>8}")
    for name, found in digests.items():
        print(f"{name:40} {len(found):5} {len(set(found)):8}")


def _write(arguments: argparse.Namespace, measured: dict[str, object]) -> None:
    kind = "speed" if arguments.speed else "results"
    file = OUT / f"determinism-{kind}-{arguments.model.replace('/', '--')}.json"
    file.write_text(json.dumps({**vars(arguments), **measured}, indent=1))


if __name__ == "__main__":
    main()
