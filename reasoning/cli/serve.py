"""`branchwise serve`: an HTTP server with the OpenAI chat completions API."""

import asyncio
from typing import Annotated

import typer

from branchwise.chat.limits import Limits
from branchwise.cli import options, server_options
from branchwise.cli.address import Address
from branchwise.cli.model_options import ModelOptions
from branchwise.cli.model_server import ModelServer
from branchwise.cli.verifier import load_verifier, require_verifier
from branchwise.core.sampling import Sampling
from branchwise.registry import DEFAULT_STRATEGY, parse_strategy
from branchwise.verifiers.registry import verifier as find_verifier

_DEFAULTS = Limits()


def serve(
    strategy: options.StrategySpec = DEFAULT_STRATEGY,
    verifier: options.VerifierSpec = None,
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
    host: server_options.Host = "127.0.0.1",
    port: server_options.Port = 8000,
    api_key_env: server_options.APIKeyVariable = "BRANCHWISE_API_KEY",
    no_auth: server_options.NoAuth = False,
    keys_file: server_options.KeysFile = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose web pages may use the server; repeatable, * for any.",
            rich_help_panel=server_options.SERVER,
        ),
    ] = None,
    drain_seconds: server_options.DrainSeconds = 30.0,
    log_format: server_options.LogFormat = "text",
    telemetry: Annotated[
        bool,
        typer.Option(
            "--telemetry",
            help="Export OpenTelemetry spans as the OTEL_* environment variables configure.",
            rich_help_panel=server_options.SERVER,
        ),
    ] = False,
    max_paths: Annotated[
        int, typer.Option(help="Maximum number of paths per question.", rich_help_panel=server_options.LIMITS)
    ] = _DEFAULTS.paths,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum number of sampled tokens per question.", rich_help_panel=server_options.LIMITS)
    ] = _DEFAULTS.tokens,
    max_seconds: Annotated[
        float, typer.Option(help="Time limit per question in seconds.", rich_help_panel=server_options.LIMITS)
    ] = _DEFAULTS.seconds,
    max_body_bytes: server_options.MaxBodyBytes = _DEFAULTS.body_bytes,
    max_questions: server_options.MaxQuestions = _DEFAULTS.questions,
    queue: server_options.Queue = _DEFAULTS.queue,
    max_queue_seconds: server_options.MaxQueueSeconds = _DEFAULTS.queue_seconds,
) -> None:
    """Serve a model with an OpenAI-compatible API.

    POST /v1/chat/completions samples one plain completion, unless the request has the key `branchwise` or the model
    name MODEL@STRATEGY: then a strategy answers it, by default the one of --strategy. Also serves /v1/models, /health
    and /metrics (Prometheus). Ctrl-C or SIGTERM stops the server after running questions have finished.
    """
    limits = Limits(
        paths=max_paths,
        tokens=max_tokens,
        seconds=max_seconds,
        body_bytes=max_body_bytes,
        questions=max_questions,
        queue=queue,
        queue_seconds=max_queue_seconds,
    )
    address = Address(
        host=host,
        port=port,
        api_key_env=api_key_env,
        no_auth=no_auth,
        keys_file=keys_file,
        drain_seconds=drain_seconds,
        log_format=log_format,
    )
    require_verifier({strategy: parse_strategy(strategy, 1, Sampling()).strategy}, verifier)
    keys = address.check()
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
    named_verifier = None if verifier is None else find_verifier(verifier, device)
    with address.listen() as listener:
        loaded_verifier = load_verifier(named_verifier)
        server = ModelServer(
            backend=model_options.load(),
            limits=limits,
            strategy=strategy,
            verifier=loaded_verifier,
            keys=keys,
            cors=cors or (),
            address=address,
            allow_fallback=allow_fallback,
        )
        asyncio.run(server.serve(listener, spans=telemetry))
