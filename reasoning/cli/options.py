"""Command-line options that several commands share. Each is declared once; a command names it as a parameter's type."""

from pathlib import Path
from typing import Annotated

import typer

from branchwise.backends.models.names import DEFAULT_MODEL
from branchwise.prompts.library import TASKS
from branchwise.registry import DEFAULT_STRATEGY
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.verifiers.registry import VERIFIERS

# The groups of options in the help.
DATA, REASONING, MODEL, SAMPLING, THINKING, OUTPUT = (
    "Data",
    "Reasoning",
    "Model",
    "Sampling",
    "Thinking models",
    "Output",
)

# Where a model runs: the engine or vLLM in this process, or a server.
ENGINE, VLLM, SERVER = "engine", "vllm", "openai"
BACKENDS = (ENGINE, VLLM, SERVER)

_STRATEGY_HELP = (
    "NAME or NAME:option=value,option=value; `branchwise strategies` lists the names. MODULE:CLASS and FILE.py:CLASS "
    "name your own."
)
COMPARED = ("self-consistency", DEFAULT_STRATEGY)
"""Strategies that an evaluation compares by default."""

StrategySpec = Annotated[str, typer.Option(help=_STRATEGY_HELP, metavar="<strategy>", rich_help_panel=REASONING)]
StrategySpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        help=f"{_STRATEGY_HELP} Repeat it for every strategy. [default: {', '.join(COMPARED)}]",
        metavar="<strategy>",
        rich_help_panel=REASONING,
    ),
]
VerifierSpec = Annotated[
    str | None,
    typer.Option(
        help="Scores paths for strategies with value=verifier: "
        f"{', '.join(VERIFIERS)}, reward:MODEL, MODULE:FUNCTION or FILE.py:FUNCTION.",
        metavar="<verifier>",
        rich_help_panel=REASONING,
    ),
]
Paths = Annotated[
    int | None,
    typer.Option(
        help=f"Maximum number of paths per question. [default: {DEFAULT_PATHS}, or that of a strategy of your own]",
        rich_help_panel=REASONING,
    ),
]
TaskName = Annotated[
    str, typer.Option(help=f"Prompt and answer format: {', '.join(TASKS)}.", rich_help_panel=REASONING)
]
Seed = Annotated[
    int, typer.Option(help="Equal seeds give equal paths; see --no-deterministic.", rich_help_panel=REASONING)
]
BudgetTokens = Annotated[
    int | None, typer.Option(help="Maximum number of sampled tokens per question.", rich_help_panel=REASONING)
]
BudgetSeconds = Annotated[
    float | None, typer.Option(help="Time limit per question in seconds.", rich_help_panel=REASONING)
]

ModelName = Annotated[
    str | None,
    typer.Option(
        help="Model name, hub id, local folder or GGUF file; with --base-url, the name on the server. "
        f"[default: {DEFAULT_MODEL}, or the server's only model]",
        rich_help_panel=MODEL,
    ),
]
BackendName = Annotated[
    str | None,
    typer.Option(
        help=f"What runs the model: {', '.join(BACKENDS)}. [default: {ENGINE}, or {SERVER} with --base-url]",
        rich_help_panel=MODEL,
    ),
]
BaseURL = Annotated[
    list[str] | None,
    typer.Option(
        help="OpenAI-compatible server that runs the model, e.g. http://localhost:8000. Repeat it for replicas. "
        "The API key is read from OPENAI_API_KEY.",
        metavar="<url>",
        rich_help_panel=MODEL,
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        help="Context length of the server's model in tokens. [default: the length it reports, else 4096]",
        rich_help_panel=MODEL,
    ),
]
AllowFallback = Annotated[
    bool,
    typer.Option(
        "--allow-fallback",
        help="Vote with paths from the prompt, with a warning, if the strategy continues paths and the server does "
        "not continue text. [default: an error]",
        show_default=False,
        rich_help_panel=REASONING,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, ... [default: a GPU if there is one]", rich_help_panel=MODEL)
]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16, ... [default: the dtype of the checkpoint]", rich_help_panel=MODEL),
]
Speculation = Annotated[
    str,
    typer.Option(
        help="Speculative decoding: auto drafts tokens when that is faster, off never does. In deterministic runs "
        "both sample the same tokens; otherwise rounding may choose others.",
        rich_help_panel=MODEL,
    ),
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        " /--no-deterministic",
        help="Let rounding depend on what else the engine computes: equal seeds may give other paths. Faster with "
        "long prompts.",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
ServedDeterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Equal seeds give equal paths, whatever other requests are served. A few percent slower.",
        rich_help_panel=MODEL,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(help="Smaller model with the same tokenizer that drafts tokens as well.", rich_help_panel=MODEL),
]

Temperature = Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.", rich_help_panel=SAMPLING)]
TopP = Annotated[
    float, typer.Option(help="Sample from the most probable tokens that sum to p.", rich_help_panel=SAMPLING)
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Maximum number of tokens per path. [default: set by the task]", rich_help_panel=SAMPLING),
]

ThinkingSwitch = Annotated[
    bool | None,
    typer.Option(
        "--thinking/--no-thinking",
        help="Turn the model's thinking on or off. [default: set by the model]",
        rich_help_panel=THINKING,
    ),
]
ThinkingBudget = Annotated[
    int | None, typer.Option(help="Maximum number of thinking tokens per path.", rich_help_panel=THINKING)
]

OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in a browser.", rich_help_panel=OUTPUT)]
FolderArgument = Annotated[Path, typer.Argument(help="Folder that `branchwise eval --out` wrote.", metavar="DIR")]
