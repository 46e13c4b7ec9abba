"""`branchwise serve`: an HTTP server with the OpenAI chat completions API."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from branchwise.cli import options
from branchwise.cli.model_options import ModelOptions
from branchwise.cli.model_server import ModelServer
from branchwise.cli.verifier import load_verifier, require_verifier
from branchwise.core.errors import require
from branchwise.core.sampling import Sampling
from branchwise.observability.logs import Format
from branchwise.registry import DEFAULT_STRATEGY, parse_strategy
from branchwise.serving.hosts import is_loopback
from branchwise.serving.limits import Limits
from branchwise.verifiers.registry import verifier as find_verifier

if TYPE_CHECKING:
    from branchwise.serving.access import APIKeys
    from branchwise.serving.key_file import KeyFile

SERVER, LIMITS = "Server", "Limits"
_DEFAULTS = Limits()


def serve(
    strategy: options.StrategySpec = DEFAULT_STRATEGY,
    verifier: options.VerifierSpec = None,
    model: options.ModelName = None,
    backend: options.BackendName = None,
    base_url: options.BaseURL = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    speculation: options.Speculation = "auto",
    deterministic: options.ServedDeterministic = False,
    draft_model: options.DraftModel = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=SERVER)] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", rich_help_panel=SERVER)] = 8000,
    api_key_env: Annotated[
        str,
        typer.Option(
            help="Environment variable with the API keys, separated by commas or newlines.", rich_help_panel=SERVER
        ),
    ] = "BRANCHWISE_API_KEY",
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Accept requests without an API key from anyone.", rich_help_panel=SERVER)
    ] = False,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of API keys and quotas, in place of the variable; read again when it changes.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose web pages may use the server; repeatable, * for any.", rich_help_panel=SERVER),
    ] = None,
    drain_seconds: Annotated[
        float,
        typer.Option(
            help="Seconds that running questions may take after a signal. A second signal stops them.",
            rich_help_panel=SERVER,
        ),
    ] = 30.0,
    log_format: Annotated[str, typer.Option(help="Format of the log: text or json.", rich_help_panel=SERVER)] = "text",
    telemetry: Annotated[
        bool,
        typer.Option(
            "--telemetry",
            help="Export OpenTelemetry spans as the OTEL_* environment variables configure.",
            rich_help_panel=SERVER,
        ),
    ] = False,
    max_paths: Annotated[
        int, typer.Option(help="Maximum number of paths per question.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.paths,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum number of sampled tokens per question.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.tokens,
    max_seconds: Annotated[
        float, typer.Option(help="Time limit per question in seconds.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.seconds,
    max_body_bytes: Annotated[
        int, typer.Option(help="Maximum size of a request body in bytes.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.body_bytes,
    max_questions: Annotated[
        int, typer.Option(help="Maximum number of questions answered at a time.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.questions,
    queue: Annotated[
        int, typer.Option(help="Maximum number of questions that wait in the queue.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.queue,
    max_queue_seconds: Annotated[
        float, typer.Option(help="Time limit in the queue in seconds.", rich_help_panel=LIMITS)
    ] = _DEFAULTS.queue_seconds,
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
    require(drain_seconds >= 0, "drain_seconds", f"is {drain_seconds:g}", "use 0 or more")
    require_verifier({strategy: parse_strategy(strategy, 1, Sampling()).strategy}, verifier)
    keys = _read_keys(host, api_key_env, keys_file, no_auth)
    checked_format = _check_format(log_format)
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
    named_verifier = None if verifier is None else find_verifier(verifier, device)
    require(0 <= port <= 65_535, "port", f"is {port}", "use 0 to 65535")
    from branchwise.serving.server import listen  # needs the extra `server`

    with listen(host, port) as listener:
        loaded_verifier = load_verifier(named_verifier)
        server = ModelServer(
            backend=model_options.load(),
            limits=limits,
            strategy=strategy,
            verifier=loaded_verifier,
            keys=keys,
            cors=cors or (),
            host=host,
            drain_seconds=drain_seconds,
        )
        local_only = is_loopback(host) and not no_auth
        asyncio.run(server.serve(listener, local_only=local_only, log_format=checked_format, spans=telemetry))


def _read_keys(host: str, variable: str, file: Path | None, no_auth: bool) -> "APIKeys | KeyFile | None":
    """Return the accepted API keys; None if requests need none.

    Raises ConfigError if other machines could send requests without a key, unless `no_auth` allows it.
    """
    from branchwise.serving.access import APIKeys  # needs the extra `server`
    from branchwise.serving.key_file import KeyFile

    keys = APIKeys.parse(os.environ.get(variable, ""))
    if file is not None:
        require(not no_auth, "no_auth", "is set together with a file of keys", "leave one of them out")
        require(keys is None, "keys_file", f"is given, but {variable} has keys", "use one of them")
        return KeyFile(file)
    if no_auth:
        require(keys is None, "no_auth", f"is set, but {variable} has keys", "unset it, or leave --no-auth out")
        return None
    require(
        keys is not None or is_loopback(host),
        "host",
        f"{host} can be reached from other machines, and {variable} has no API key",
        f"set {variable}, or accept requests without a key by --no-auth",
    )
    return keys


def _check_format(name: str) -> Format:
    if name == "json":
        return "json"
    require(name == "text", "log_format", f"is {name!r}", "use text or json")
    return "text"
