"""`branchwise solve`: answer one question."""

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console

from branchwise.backends.base import Backend
from branchwise.cli import options
from branchwise.cli.model_options import ModelOptions
from branchwise.cli.options import OUTPUT, REASONING, SAMPLING
from branchwise.cli.render.lines import print_summary
from branchwise.cli.render.live import LiveDisplay
from branchwise.cli.render.terminal import stderr
from branchwise.cli.trace import check_trace_file, write_trace
from branchwise.cli.verifier import find_verifier_for, load_verifier
from branchwise.core.budget import Budget
from branchwise.core.errors import ConfigError
from branchwise.core.question import as_messages
from branchwise.core.result import Result
from branchwise.core.sampling import Sampling
from branchwise.driver import solve_sync
from branchwise.prompts.library import TASKS
from branchwise.prompts.library import task as find_task
from branchwise.prompts.thinking import Thinking
from branchwise.registry import DEFAULT_STRATEGY, parse_strategy
from branchwise.strategies.actions import check_paths
from branchwise.verifiers.registry import NamedVerifier


def solve(
    question: Annotated[str, typer.Argument(help="The question, or - to read it from standard input.")],
    strategy: options.StrategySpec = DEFAULT_STRATEGY,
    verifier: options.VerifierSpec = None,
    paths: options.Paths = None,
    task: Annotated[
        str | None,
        typer.Option(
            help=f"Prompt and answer format: {', '.join(TASKS)}. [default: math; free-form for strategies that compare "
            "replies]",
            rich_help_panel=REASONING,
        ),
    ] = None,
    seed: options.Seed = 0,
    budget_tokens: options.BudgetTokens = None,
    budget_seconds: options.BudgetSeconds = None,
    model: options.ModelName = None,
    backend: options.BackendName = None,
    base_url: options.BaseURL = None,
    context: options.Context = None,
    allow_fallback: options.AllowFallback = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    speculation: options.Speculation = "auto",
    deterministic: options.Deterministic = None,
    draft_model: options.DraftModel = None,
    temperature: options.Temperature = 0.7,
    top_p: options.TopP = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Sample from the k most probable tokens; 0 turns it off.", rich_help_panel=SAMPLING)
    ] = 0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Sample from tokens at least this probable relative to the most probable one.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0.0,
    max_tokens: options.MaxTokens = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Text that ends a path; repeatable.", metavar="<str>", rich_help_panel=SAMPLING),
    ] = None,
    thinking: options.ThinkingSwitch = None,
    thinking_budget: options.ThinkingBudget = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=OUTPUT)
    ] = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write the result with all paths to this file, for `branchwise show`.", rich_help_panel=OUTPUT
        ),
    ] = None,
) -> None:
    """Answer one question with many reasoning paths.

    Prints the answer, its confidence, the votes and the cost. Exit status: 0 with an answer, 1 without one, 2 for
    invalid arguments. Ctrl-C stops early and prints the best answer so far.
    """
    if paths is not None:
        check_paths(paths)
    text = _read_question(question)
    sampling = Sampling(temperature, top_p, top_k, min_p, max_tokens, tuple(stop or ()))
    chosen = parse_strategy(strategy, paths, sampling)
    chosen_task = replace(find_task(task or chosen.strategy.default_task), thinking=Thinking(thinking, thinking_budget))
    budget = Budget(budget_tokens, budget_seconds)
    as_messages(text)  # raises for an empty question
    if trace is not None:
        check_trace_file(trace)
    named_verifier = find_verifier_for({chosen.name: chosen.strategy}, verifier, device)
    model_options = ModelOptions(
        model=model,
        backend=backend,
        base_url=base_url,
        context=context,
        device=device,
        dtype=dtype,
        speculation=speculation,
        deterministic=deterministic,
        draft_model=draft_model,
    )
    model_options.check()  # before a verifier is loaded
    loaded_verifier = load_verifier(named_verifier)
    loaded = model_options.load()
    live = LiveDisplay(stderr) if sys.stderr.isatty() and not as_json else None
    with live or nullcontext():
        result = solve_sync(
            text,
            loaded,
            strategy=chosen.strategy,
            task=chosen_task,
            budget=budget,
            seed=seed,
            verifier=loaded_verifier,
            observer=live.observe if live else None,
            allow_fallback=allow_fallback,
        )
    setup = _setup(text, chosen.name, named_verifier, loaded, chosen_task.name, seed)
    try:
        if trace is not None:
            write_trace(trace, {**setup, **result.record()})
    finally:  # print the answer even if the trace can't be written
        _print(result, setup, as_json=as_json)
    raise typer.Exit(0 if result.answer is not None else 1)


def _setup(
    question: str, strategy: str, verifier: NamedVerifier | None, backend: Backend, task: str, seed: int
) -> Mapping[str, JsonValue]:
    """Return the fields that a trace and JSON output have in addition to the result."""
    return {
        "question": question,
        "strategy": strategy,
        "verifier": None if verifier is None else verifier.name,
        "model": backend.capabilities.model,
        "task": task,
        "seed": seed,
    }


def _print(result: Result, setup: Mapping[str, JsonValue], *, as_json: bool) -> None:
    if as_json:
        record = {**result.record(), **setup}
        del record["paths"], record["tree"]
        typer.echo(json.dumps(record, ensure_ascii=False))
    else:
        print_summary(Console(), result.summary())


def _read_question(argument: str) -> str:
    """Return the question, read from standard input for `-`. Raises ConfigError if it is not valid UTF-8."""
    try:
        text = sys.stdin.read() if argument == "-" else argument
        text.encode()  # bytes that are invalid in the locale's encoding arrive as surrogates
    except UnicodeError as error:
        raise ConfigError("question", "is not text in UTF-8", "convert it") from error
    return text
