"""`branchwise mcp`: a tool server for clients of the Model Context Protocol."""

import asyncio
import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from branchwise.chat.config import ChatConfig
from branchwise.chat.limits import Limits
from branchwise.cli import options, server_options
from branchwise.cli.address import Address
from branchwise.cli.model_options import ModelOptions
from branchwise.registry import DEFAULT_STRATEGY

_DEFAULTS = Limits()


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
    context: options.Context = None,
    allow_fallback: options.AllowFallback = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    speculation: options.Speculation = "auto",
    deterministic: options.ServedDeterministic = False,
    draft_model: options.DraftModel = None,
    temperature: options.Temperature = 0.7,
    max_tokens: options.MaxTokens = None,
    http: Annotated[
        bool,
        typer.Option(
            "--http",
            help="Serve over HTTP, in place of standard input and output.",
            rich_help_panel=server_options.SERVER,
        ),
    ] = False,
    host: server_options.Host = "127.0.0.1",
    port: server_options.Port = 8000,
    api_key_env: server_options.APIKeyVariable = "BRANCHWISE_API_KEY",
    no_auth: server_options.NoAuth = False,
    keys_file: server_options.KeysFile = None,
    drain_seconds: server_options.DrainSeconds = 30.0,
    log_format: server_options.LogFormat = "text",
    max_paths: Annotated[
        int | None,
        typer.Option(
            help=f"Maximum number of paths per question. [default: --paths, or {_DEFAULTS.paths}]",
            rich_help_panel=server_options.LIMITS,
        ),
    ] = None,
    max_body_bytes: server_options.MaxBodyBytes = _DEFAULTS.body_bytes,
    max_questions: server_options.MaxQuestions = _DEFAULTS.questions,
    queue: server_options.Queue = _DEFAULTS.queue,
    max_queue_seconds: server_options.MaxQueueSeconds = _DEFAULTS.queue_seconds,
) -> None:
    """Serve `solve` as a tool of the Model Context Protocol.

    Speaks the protocol over standard input and output; everything else goes to standard error. With --http it speaks
    the streamable HTTP transport at /mcp, and also serves /health and /metrics. The model is loaded once, before the
    first call. The options under Reasoning and Sampling are defaults of calls. No call exceeds --budget-tokens (65536
    if it is not given), --budget-seconds (600) and the options under Limits.
    """
    limits = Limits(
        paths=(paths or _DEFAULTS.paths) if max_paths is None else max_paths,
        tokens=budget_tokens or _DEFAULTS.tokens,
        seconds=budget_seconds or _DEFAULTS.seconds,
        body_bytes=max_body_bytes,
        questions=max_questions,
        queue=queue,
        queue_seconds=max_queue_seconds,
    )
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
            "allow_fallback": allow_fallback,
        }
    )
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
    model_options.check()
    limits.check_paths(paths)
    address = Address(
        host=host,
        port=port,
        api_key_env=api_key_env,
        no_auth=no_auth,
        keys_file=keys_file,
        drain_seconds=drain_seconds,
        log_format=log_format,
    )
    from branchwise.cli.tool_server import ToolServer  # needs the extra `agents`

    if not http:
        with redirect_stdout(sys.stderr):
            loaded = model_options.load()
        asyncio.run(ToolServer(loaded, defaults, limits).serve_stdio())
        return
    keys = address.check()
    with address.listen() as listener:
        loaded = model_options.load()
        asyncio.run(ToolServer(loaded, defaults, limits).serve_http(listener, address, keys))
