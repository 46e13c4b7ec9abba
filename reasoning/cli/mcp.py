"""`branchwise mcp`: a tool server for clients of the Model Context Protocol."""

import sys
from contextlib import redirect_stdout

from branchwise.chat.config import ChatConfig
from branchwise.cli import options
from branchwise.cli.model_options import ModelOptions
from branchwise.registry import DEFAULT_STRATEGY


def mcp(
    strategy: options.StrategySpec = DEFAULT_STRATEGY,
    paths: options.Paths = None,
    task: options.TaskName = "math",
    seed: options.Seed = 0,
    budget_tokens: options.BudgetTokens = None,
    budget_seconds: options.BudgetSeconds = None,
    model: options.ModelName = None,
    backend: options.BackendName = None,
    base_url: options.BaseURL = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    speculation: options.Speculation = "auto",
    deterministic: options.ServedDeterministic = False,
    draft_model: options.DraftModel = None,
    temperature: options.Temperature = 0.7,
    max_tokens: options.MaxTokens = None,
) -> None:
    """Serve `solve` as a tool of the Model Context Protocol.

    Speaks the protocol over standard input and output; everything else goes to standard error. The model is loaded
    once, before the first call. The options under Reasoning and Sampling are defaults that a call may override.
    """
    defaults = ChatConfig.parse(
        {
            "strategy": strategy,
            "paths": paths,
            "task": task,
            "seed": seed,
            "budget_tokens": budget_tokens,
            "budget_seconds": budget_seconds,
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
    )
    model_options = ModelOptions(
        model=model,
        backend=backend,
        base_url=base_url,
        device=device,
        dtype=dtype,
        speculation=speculation,
        deterministic=deterministic,
        draft_model=draft_model,
    )
    model_options.check()
    from branchwise.integrations.mcp import server  # needs the extra `agents`

    with redirect_stdout(sys.stderr):
        loaded = model_options.load()
    server(loaded, defaults).run("stdio")
