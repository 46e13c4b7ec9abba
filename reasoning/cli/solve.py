"""`branchwise solve`."""

import json
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from branchwise.cli.options import (
    MAX_TOKENS_HELP,
    OUTPUT,
    SAMPLING,
    THINKING,
    BackendName,
    BaseURL,
    Device,
    DraftModel,
    Dtype,
    ModelName,
    ModelOptions,
    Speculation,
    stderr,
)
from branchwise.cli.render.lines import print_answer, print_line
from branchwise.cli.render.live import LiveRun
from branchwise.cli.verifier import VERIFIER_HELP, chosen_verifier, loaded_verifier
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError, require
from branchwise.core.messages import as_messages
from branchwise.core.result import Outcome, Result
from branchwise.core.sampling import Sampling
from branchwise.driver import solve_sync
from branchwise.prompts.library import TASKS
from branchwise.prompts.library import task as find_task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import DEFAULT, STRATEGIES, named
from branchwise.strategies.actions import check_paths


def solve(
    question: Annotated[str, typer.Argument(help="The question, or - to read it from standard input.")],
    strategy: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(STRATEGIES)}; with options: NAME:option=value,option=value.", metavar="<strategy>"
        ),
    ] = DEFAULT,
    verifier: Annotated[str | None, typer.Option(help=VERIFIER_HELP, metavar="<verifier>")] = None,
    paths: Annotated[int, typer.Option(help="Most paths to explore.")] = 16,
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)}.")] = "math",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal paths.")] = 0,
    budget_tokens: Annotated[int | None, typer.Option(help="Most tokens to sample.")] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="Most seconds to take.")] = None,
    model: ModelName = None,
    backend: BackendName = None,
    base_url: BaseURL = None,
    device: Device = None,
    dtype: Dtype = None,
    speculation: Speculation = "auto",
    draft_model: DraftModel = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=SAMPLING)] = 0.7,
    top_p: Annotated[
        float, typer.Option(help="Keep the most probable tokens up to this sum.", rich_help_panel=SAMPLING)
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Keep this many tokens; 0 is all.", rich_help_panel=SAMPLING)] = 0,
    min_p: Annotated[
        float, typer.Option(help="Keep tokens this probable against the best.", rich_help_panel=SAMPLING)
    ] = 0.0,
    max_tokens: Annotated[int | None, typer.Option(help=MAX_TOKENS_HELP, rich_help_panel=SAMPLING)] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End a path at this text; repeatable.", metavar="<str>", rich_help_panel=SAMPLING),
    ] = None,
    thinking: Annotated[
        bool | None,
        typer.Option("--thinking/--no-thinking", help="Switch the model's thinking.", rich_help_panel=THINKING),
    ] = None,
    thinking_budget: Annotated[
        int | None, typer.Option(help="Most tokens of thinking before the answer.", rich_help_panel=THINKING)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write the result, with every path, to this file.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Answer one question by exploring many reasoning paths.

    Ends with the answer, its confidence, the votes and the cost. Exit status 0 with an answer, 1 with
    none, 2 for bad arguments. Ctrl-C stops early and prints the best answer so far.
    """
    check_paths(paths)
    text = _question(question)
    sampling = Sampling(temperature, top_p, top_k, min_p, max_tokens, tuple(stop or ()))
    chosen = named(strategy, paths, sampling)
    asked = replace(find_task(task), thinking=Thinking(thinking, thinking_budget))
    budget = Budget(budget_tokens, budget_seconds)
    as_messages(text)
    if trace is not None:
        _check_writable(trace)
    checked = chosen_verifier(verifier, device, dict([chosen]))
    wanted = ModelOptions(model, device, dtype, speculation, draft_model, backend, tuple(base_url or ()))
    wanted.check()  # before a verifier is loaded
    judge = loaded_verifier(checked)
    loaded = wanted.load()
    live = LiveRun(stderr, paths) if sys.stderr.isatty() and not as_json else None
    with live or nullcontext():
        result = solve_sync(
            text,
            loaded,
            strategy=chosen.strategy,
            task=asked,
            budget=budget,
            seed=seed,
            verifier=judge,
            observer=live.observe if live else None,
        )
    setup: dict[str, JsonValue] = {
        "question": text,
        "strategy": chosen.name,
        "verifier": None if checked is None else checked.name,
        "model": loaded.capabilities.model,
        "task": task,
        "seed": seed,
    }
    try:
        if trace is not None:
            _write(trace, {**setup, **result.record()})
    finally:  # the answer is shown even where it can't be written
        if as_json:
            record = {**result.record(), **setup}
            del record["paths"], record["tree"]
            typer.echo(json.dumps(record, ensure_ascii=False))
        else:
            print_result(Console(), result)
    raise typer.Exit(0 if result.answer is not None else 1)


def print_result(console: Console, result: Result) -> None:
    """The result for a person."""
    print_answer(console, result.answer, result.confidence, result.votes)
    stated = sum(branch.answer is not None for branch in result.paths)
    print_line(console, "paths", f"{len(result.paths)} finished, {stated} with an answer")
    if result.outcome is not Outcome.COMPLETE:
        print_line(console, "outcome", result.outcome.value, style="yellow")
    for note in (*result.degraded, *result.errors):
        print_line(console, "note", note)
    usage = result.usage
    print_line(console, "prompt", f"{usage.prompt} tokens: {usage.reused} reused, {usage.prefilled} prefilled")
    drafts = f", {usage.accepted} of {usage.drafted} drafted ones accepted" if usage.drafted else ""
    print_line(console, "sampled", f"{usage.sampled} tokens, {usage.discarded} of them discarded{drafts}")
    print_line(console, "time", f"{usage.seconds:.1f} s, {usage.forward_passes:.0f} forward passes")


def _question(argument: str) -> str:
    try:
        text = sys.stdin.read() if argument == "-" else argument
        text.encode()  # what is no text in the locale's encoding comes with surrogates
    except UnicodeError as error:
        raise ConfigError("question", "is not text in UTF-8", "convert it") from error
    return text


def _check_writable(file: Path) -> None:
    """Find out before the work, not after it."""
    require(file.parent.is_dir(), "trace", f"the folder {file.parent} does not exist", "create it")
    require(file.is_file() or not file.exists(), "trace", f"{file} is no regular file", "name a file in a folder")
    require(os.access(file.parent, os.W_OK), "trace", f"the folder {file.parent} is not writable", "use another one")


def _write(file: Path, record: dict[str, JsonValue]) -> None:
    """Write a file that appears whole or not at all."""
    file = file.resolve()  # a link stays a link
    partial = file.with_name(file.name + ".partial")
    try:
        partial.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError("trace", f"cannot write {file} ({error.strerror})", "use another file") from error
