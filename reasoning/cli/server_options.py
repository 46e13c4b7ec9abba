"""Options of the commands that serve HTTP: `serve` and `mcp --http`."""

from pathlib import Path
from typing import Annotated

import typer

SERVER, LIMITS = "Server", "Limits"

Host = Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=SERVER)]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", rich_help_panel=SERVER)]
APIKeyVariable = Annotated[
    str,
    typer.Option(
        help="Environment variable with the API keys, separated by commas or newlines.", rich_help_panel=SERVER
    ),
]
NoAuth = Annotated[
    bool, typer.Option("--no-auth", help="Accept requests without an API key from anyone.", rich_help_panel=SERVER)
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of API keys and quotas, in place of the variable; read again when it changes.",
        rich_help_panel=SERVER,
    ),
]
DrainSeconds = Annotated[
    float,
    typer.Option(
        help="Seconds that running questions may take after a signal. A second signal stops them.",
        rich_help_panel=SERVER,
    ),
]
LogFormat = Annotated[str, typer.Option(help="Format of the log: text or json.", rich_help_panel=SERVER)]
MaxBodyBytes = Annotated[int, typer.Option(help="Maximum size of a request body in bytes.", rich_help_panel=LIMITS)]
MaxQuestions = Annotated[
    int, typer.Option(help="Maximum number of questions answered at a time.", rich_help_panel=LIMITS)
]
Queue = Annotated[int, typer.Option(help="Maximum number of questions that wait in the queue.", rich_help_panel=LIMITS)]
MaxQueueSeconds = Annotated[float, typer.Option(help="Time limit in the queue in seconds.", rich_help_panel=LIMITS)]
