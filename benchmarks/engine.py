"""Compare the engine with HF `generate`, vLLM and the floor in one run: `python -m benchmarks.engine`."""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.client import Client, WorkerError
from benchmarks.machine import cores, describe, fast_dtype
from benchmarks.prompts import Prompts
from benchmarks.report import as_json, profile_table, rows, table
from benchmarks.run import Cell, Options, Record, Run
from benchmarks.without_eos import without_eos
from branchwise.backends.models.resolve import resolve

_MAX_IDLERS = 0.02
SYSTEMS = ("branchwise", "hf", "vllm", "floor")


def parse_integers(text: str) -> tuple[int, ...]:
    """Return the integers of a list such as `1,4,16`."""
    return tuple(int(part) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = Options()
    parse = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    add = parse.add_argument
    add("--model", default="Qwen2.5-Coder-0.5B-Instruct", help="a folder, or a name branchwise knows")
    add("--branches", type=parse_integers, default=(1, 4, 16, 64), metavar="N,...")
    add("--prompts", type=parse_integers, default=(83, 1500), metavar="N,...", help="tokens of the shared prompts")
    add("--new-tokens", type=int, default=options.new_tokens, help="tokens of each branch; no branch ends earlier")
    add("--repeat", type=int, default=options.repeat, help="repetitions of each combination of branches and prompt")
    add(
        "--dtype",
        help="dtype of every system (default: the checkpoint's where the processor computes it fast, else float32)",
    )
    add("--systems", type=lambda text: tuple(text.split(",")), default=SYSTEMS, metavar="NAME,...")
    add("--threads", type=int, default=cores(), help="threads of every system")
    add("--max-seconds", type=float, default=options.max_seconds, help="leave out a system that would take longer")
    add(
        "--max-others",
        type=float,
        default=options.max_others,
        help="measure again if other processes used a larger share of the machine",
    )
    add("--retries", type=int, default=options.retries, help="maximum number of repeated measurements")
    add("--quiet-seconds", type=float, default=options.quiet_seconds, help="longest wait for a quiet machine")
    add(
        "--vllm-python",
        type=Path,
        default=Path(".venv-vllm/bin/python"),
        help="python of the environment that make vllm-env sets up",
    )
    add("--out", type=Path, default=Path("build/bench/engine.json"))
    add("--profile", action="store_true", help="also report the parts of this engine's decode step")
    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return 1 if no system could be measured."""
    args = parser().parse_args(arguments)
    if unknown := set(args.systems) - set(SYSTEMS):
        parser().error(f"--systems: unknown system {', '.join(sorted(unknown))}, use {', '.join(SYSTEMS)}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # SIGTERM then reports what was measured, as an interrupt does
    machine = describe(args.threads)
    options = Options(
        new_tokens=args.new_tokens,
        repeat=args.repeat,
        max_seconds=args.max_seconds,
        max_others=args.max_others,
        retries=args.retries,
        quiet_seconds=args.quiet_seconds,
    )
    with tempfile.TemporaryDirectory() as temporary:
        model = resolve(args.model, lambda *_: None)
        dtype = args.dtype or fast_dtype(model)
        folder = without_eos(model, Path(temporary) / model.name, dtype)
        skipped: list[str] = []
        clients = start(args.systems, folder, args, skipped)
        run = Run(clients, Prompts(folder), options, log)
        try:
            for prompt in args.prompts:
                for branches in args.branches:
                    run.measure(Cell(branches, prompt))
                    if args.profile:
                        run.profile(Cell(branches, prompt))
        except KeyboardInterrupt:
            log("interrupted: reporting what was measured")
        finally:
            for client in clients:
                client.close()
    versions = {client.name: client.versions for client in clients}
    run.record.skipped[:0] = skipped
    write(
        args.out,
        model.name,
        {"dtype": dtype, "machine": machine._asdict(), "versions": versions, "options": asdict(options)},
        run.record,
    )
    return 0 if run.record.samples else 1


def start(systems: Sequence[str], folder: Path, args: argparse.Namespace, skipped: list[str]) -> list[Client]:
    """Load the systems one after the other and return their clients; append the others to `skipped`."""
    clients = []
    for name in systems:
        python = str(args.vllm_python.absolute()) if name == "vllm" else sys.executable
        if name == "vllm" and not args.vllm_python.exists():
            skipped.append(f"vllm: {args.vllm_python} is missing; run make vllm-env")
            continue
        log(f"loading {name}")
        try:
            clients.append(Client(name, python, folder, args.threads, args.out.parent.absolute() / f"{name}.log"))
        except WorkerError as error:
            skipped.append(str(error))
    return clients


def write(out: Path, model: str, conditions: dict[str, object], record: Record) -> None:
    """Write the JSON file and print the table."""
    found = rows(record.samples)
    profiles = [{**asdict(cell), **parts} for cell, parts in record.profiles.items()]
    document = {"model": model, **conditions, "rows": as_json(found), "profiles": profiles, "skipped": record.skipped}
    document["samples"] = [asdict(sample) | {"use": sample.use._asdict()} for sample in record.samples]
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(table(found))
    if record.profiles:
        print(profile_table(record.profiles))
    if (idlers := max((row.idlers or 0.0 for row in found), default=0.0)) > _MAX_IDLERS:
        print(f"warning: idle workers used up to {idlers:.0%} of the machine")
    for reason in record.skipped:
        print(f"left out: {reason}")
    print(f"\nWritten to {out}")


def log(text: str) -> None:
    """Print a line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
