"""Benchmarks of serving: load on `branchwise serve`, and strategies through vLLM's plugin against plain sampling.

python -m benchmarks.serving load|compare DATA
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import cores, describe
from benchmarks.servers import ServerError, branchwise_server, vllm_server
from benchmarks.serving_compare import ComparisonPlan, QuestionResult, compare, comparisons, table
from benchmarks.serving_load import MAX_GROWTH, WaveShape, growth, load
from branchwise.evaluation.dataset import read_rows
from branchwise.registry import STRATEGIES


def measure_load(args: argparse.Namespace) -> int:
    """Run waves of questions; return 1 if a question failed or memory grew."""
    rows = read_rows(args.data)
    shape = WaveShape(args.questions, args.paths, args.max_tokens, args.strategy)
    options = ["--max-questions", str(args.questions), "--queue", str(args.questions), *args.option]
    with branchwise_server(args.model, options, args.out.with_suffix(".log")) as server:
        waves = asyncio.run(load(server, rows, shape, args.waves))
    tokens = sum(wave.tokens for wave in waves)
    seconds = sum(wave.seconds for wave in waves)
    cpu = sum(wave.serving_cpu for wave in waves)
    errors = {error: count for wave in waves for error, count in wave.errors.items()}
    report = {
        "answered": sum(wave.answered for wave in waves),
        "errors": errors,
        "tokens": tokens,
        "tokens_not_told": sum(wave.counted - wave.tokens for wave in waves),
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "serving_us_per_token": round(1e6 * cpu / max(1, tokens), 1),
        "engine_us_per_token": round(1e6 * seconds / max(1, tokens), 1),
        "overhead": round(cpu / seconds, 4),
        "slowest_seconds": round(max(wave.slowest for wave in waves), 1),
        "resident_mb": [wave.memory[-1] >> 20 for wave in waves],
        "growth": round(growth(waves), 3),
    }
    _write(args, report, [{**asdict(wave), "tokens_per_second": wave.tokens_per_second} for wave in waves])
    print(json.dumps(report, indent=1))
    return 0 if not errors and growth(waves) <= MAX_GROWTH else 1


def measure_comparison(args: argparse.Namespace) -> int:
    """Compare strategies with plain sampling on the same questions; return 0."""
    rows = read_rows(args.data, args.skip, args.questions)
    plan = ComparisonPlan(
        strategies=tuple(args.strategy or ["path-consistency"]),
        paths=args.paths,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        concurrency=args.at_once,
    )

    def report(result: QuestionResult) -> None:
        grade = "right" if result.correct else "wrong"
        print(f"{result.row}: {result.way} {grade}, {result.sampled} tokens, {result.seconds:.1f} s", file=sys.stderr)

    with vllm_server(args.vllm_python, args.model, args.option, args.out.with_suffix(".log")) as server:
        results = asyncio.run(compare(server, rows, plan, report))
    compared = comparisons(results)
    _write(args, {"comparisons": [asdict(one) for one in compared]}, [asdict(one) for one in results])
    print(table(compared))
    return 0


def _write(args: argparse.Namespace, report: dict[str, object], samples: Sequence[dict[str, object]]) -> None:
    options = {name: value for name, value in vars(args).items() if isinstance(value, str | int | float | list)}
    document = {"machine": describe(cores())._asdict(), "options": options, **report, "samples": [*samples]}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=1, default=str) + "\n")


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    kinds = parse.add_subparsers(required=True, metavar="load|compare")
    loaded = kinds.add_parser("load", help="many questions at once, wave after wave, on `branchwise serve`")
    loaded.set_defaults(measure=measure_load)
    loaded.add_argument("--model", default="SmolLM2-135M-Instruct")
    loaded.add_argument("--questions", type=int, default=64, help="questions of a wave, all at once")
    loaded.add_argument("--paths", type=int, default=8)
    loaded.add_argument("--waves", type=int, default=5, help="measured waves, after one to warm up")
    loaded.add_argument("--max-tokens", type=int, default=128, help="limit of a path")
    loaded.add_argument("--strategy", default="path-consistency", help=", ".join(STRATEGIES))
    loaded.add_argument("--out", type=Path, default=Path("build/bench/serving_load.json"))
    compared = kinds.add_parser("compare", help="strategies through the plugin against plain `n` and a vote, on vLLM")
    compared.set_defaults(measure=measure_comparison)
    compared.add_argument("--vllm-python", type=Path, default=Path(".venv-vllm/bin/python"))
    compared.add_argument("--model", default="Qwen2.5-Coder-0.5B-Instruct")
    compared.add_argument("--questions", type=int, default=30)
    compared.add_argument("--skip", type=int, default=0, help="leave out the first questions of the file")
    compared.add_argument("--paths", type=int, default=16, help="paths of a question")
    compared.add_argument("--max-tokens", type=int, default=256, help="limit of a path")
    compared.add_argument("--at-once", type=int, default=4, help="questions answered at the same time")
    compared.add_argument("--temperature", type=float, default=0.7)
    compared.add_argument("--strategy", action="append", help="repeatable (default: path-consistency)")
    compared.add_argument("--out", type=Path, default=Path("build/bench/serving_compare.json"))
    for command in (loaded, compared):
        command.add_argument("data", help="questions: a JSON Lines file, or its name in BRANCHWISE_DATA")
        command.add_argument(
            "--option", action="append", default=[], help="further option of the server: --option=--seed=1"
        )
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the arguments name; return 2 if the server does not start."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM, too, ends the server
    try:
        measured: int = args.measure(args)
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return measured


if __name__ == "__main__":
    sys.exit(main())
