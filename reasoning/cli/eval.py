"""`branchwise eval`: compare strategies on questions with known answers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from branchwise.cli import options
from branchwise.cli.eval_job import EvalJob, PathSource
from branchwise.cli.model_options import ModelOptions
from branchwise.cli.options import COMPARED, DATA, OUTPUT, REASONING, SAMPLING
from branchwise.cli.verifier import find_verifier_for, load_verifier
from branchwise.core.budget import Budget
from branchwise.core.errors import require
from branchwise.core.sampling import Sampling
from branchwise.evaluation.columns import Columns
from branchwise.evaluation.dataset import source_name, source_origin
from branchwise.evaluation.journal import Journal, check_folder
from branchwise.evaluation.pool import Pool
from branchwise.evaluation.prompting import FewShot, Prompting, find_eval_task, read_asked
from branchwise.evaluation.results import results_file
from branchwise.evaluation.row import TASK_NAMES
from branchwise.evaluation.settings import RunSettings
from branchwise.prompts.library import TASKS
from branchwise.prompts.thinking import Thinking
from branchwise.registry import parse_strategy
from branchwise.strategies.actions import check_paths


def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files of JSON Lines, JSON arrays, CSV or TSV, also .gz, by path or by name in the folder "
            "BRANCHWISE_DATA, or Hugging Face datasets as hf:OWNER/NAME or hf:OWNER/NAME/CONFIG@SPLIT."
        ),
    ],
    strategy: options.StrategySpecs = None,
    verifier: options.VerifierSpec = None,
    paths: options.Paths = None,
    task: Annotated[
        str | None,
        typer.Option(
            help=f"Prompt and answer format: {', '.join(TASKS)}, or an answer type. [default: by answer type]",
            rich_help_panel=REASONING,
        ),
    ] = None,
    seed: options.Seed = 0,
    budget_tokens: options.BudgetTokens = None,
    skip: Annotated[int, typer.Option(help="Skip the first rows of each data set.", rich_help_panel=DATA)] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of rows per data set.", rich_help_panel=DATA)
    ] = None,
    question_column: Annotated[
        str | None,
        typer.Option(help="Column of the questions. [default: detected]", rich_help_panel=DATA),
    ] = None,
    answer_column: Annotated[
        str | None,
        typer.Option(help="Column of the answers. [default: detected]", rich_help_panel=DATA),
    ] = None,
    answer_type: Annotated[
        str | None,
        typer.Option(
            help=f"Type of all answers: {', '.join(TASK_NAMES)}. [default: that of each row, else detected]",
            rich_help_panel=DATA,
        ),
    ] = None,
    few_shot: Annotated[
        int | None,
        typer.Option(
            help="Number of worked examples before each question: the first rows, which are not asked. "
            "[default: those of the task]",
            rich_help_panel=DATA,
        ),
    ] = None,
    examples: Annotated[
        str | None,
        typer.Option(
            help="File or dataset with the worked examples, with the same columns. [default: the data set itself]",
            metavar="<data>",
            rich_help_panel=DATA,
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Number of questions answered at a time.", rich_help_panel=DATA)] = 4,
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
    max_tokens: options.MaxTokens = None,
    alternatives: Annotated[
        int,
        typer.Option(
            help="Number of log-probabilities to record per token. DeepConf needs 20 in its pool.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0,
    thinking: options.ThinkingSwitch = None,
    thinking_budget: options.ThinkingBudget = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for branches, answers and summary. The same command resumes a run that was interrupted.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(help="Replay paths from the folder of an earlier run, without a model.", rich_help_panel=OUTPUT),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Sample paths that the pool lacks from the model.", rich_help_panel=OUTPUT),
    ] = False,
) -> None:
    """Compare strategies on questions with known answers.

    Prints accuracy, sampled tokens and time of each strategy; the first one is the baseline.
    """
    if paths is not None:
        check_paths(paths)
    _check_counts(alternatives=alternatives, concurrency=concurrency, skip=skip, limit=limit)
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, logprobs=alternatives)
    strategies = dict(parse_strategy(spec, paths, sampling) for spec in strategy or COMPARED)
    Budget(tokens=budget_tokens)  # raises if it is invalid
    named_verifier = find_verifier_for(strategies, verifier, device)
    sources = _name_sources(data)
    columns = Columns(question_column, answer_column, answer_type)
    prompting = Prompting(None if task is None else find_eval_task(task), Thinking(thinking, thinking_budget))
    shown = FewShot(few_shot, examples)
    asked = {name: read_asked(source, skip, limit, columns, prompting, shown) for name, source in sources.items()}
    opened_pool = None if pool is None else Pool(pool)
    if opened_pool is not None:
        opened_pool.check(seed, model, dtype)
        model, dtype = opened_pool.settings.model, opened_pool.settings.dtype
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
    uses_model = opened_pool is None or live
    if uses_model:
        model_options.check()
    if uses_model and out is not None:
        check_folder(out)
    loaded_verifier = load_verifier(named_verifier)
    source = PathSource.load(model_options if uses_model else None, opened_pool)
    job = EvalJob(
        data=asked,
        strategies=strategies,
        source=source,
        verifier=loaded_verifier,
        seed=seed,
        budget_tokens=budget_tokens,
        concurrency=concurrency,
        allow_fallback=allow_fallback,
    )
    origins = {name: source_origin(source) for name, source in sources.items()}
    _run(job, job.settings(dtype, None if named_verifier is None else named_verifier.name, origins), out)


def _run(job: EvalJob, settings: RunSettings, out: Path | None) -> None:
    """Run the job with a journal in the folder `out`, if there is one; exit with status 1 if Ctrl-C stopped it."""
    with nullcontext() if out is None else Journal(out, settings) as journal:
        if journal is not None and journal.damaged:
            file = results_file(journal.folder)
            typer.echo(f"{file}: damaged lines ({journal.damaged}) moved to {file.name}.damaged", err=True)
        completed = job.run(journal)
    if not completed:
        typer.echo("stopped: questions that were not answered are left out", err=True)
        raise typer.Exit(1)


def _check_counts(*, alternatives: int, concurrency: int, skip: int, limit: int | None) -> None:
    require(alternatives >= 0, "alternatives", f"is {alternatives}", "use 0 (none) or more")
    require(concurrency >= 1, "concurrency", f"is {concurrency}", "use at least 1")
    require(skip >= 0, "skip", f"is {skip}", "use 0 or more")
    require(limit is None or limit >= 1, "limit", f"is {limit}", "use at least 1")


def _name_sources(sources: Sequence[str]) -> Mapping[str, str]:
    """Return the sources by their names in the results; sources of the same name are called as they were typed."""
    counts = Counter(map(source_name, dict.fromkeys(sources)))
    return {source if counts[source_name(source)] > 1 else source_name(source): source for source in sources}
