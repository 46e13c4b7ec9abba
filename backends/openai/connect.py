"""Connect to a server by its address. The HTTP client is imported on the call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from branchwise.core.validation import wrong_type

if TYPE_CHECKING:
    from branchwise.backends.openai.backend import OpenAIBackend


def connect(
    base_url: str | Sequence[str],
    model: str | None = None,
    api_key: str | None = None,
    context: int | None = None,
) -> "OpenAIBackend":
    """Return a backend over an OpenAI-compatible server. Needs no torch; works inside a running event loop, too.

    base_url    address of the server, with or without /v1, or one for each replica of the model
    model       name of the model on the server; None: the only one that it lists
    api_key     the key; None takes it from the environment variable OPENAI_API_KEY, if it is set
    context     most tokens of a path, prompt included; None: the length that the server reports, else 4096

    A few short requests find out what the server supports. Paths are continued by token ids where it takes them, and
    as text where it continues text; results state what is missing. `OpenAISettings` has more options.

    Raises ConfigError for invalid arguments, and BackendError, with the server's own words, if it refuses every request
    or can't be reached.
    """
    from branchwise.backends.openai.backend import OpenAIBackend
    from branchwise.backends.openai.settings import OpenAISettings

    if not isinstance(base_url, str | Sequence):
        raise wrong_type("base_url", base_url, "use an address such as http://localhost:8000")
    urls = (base_url,) if isinstance(base_url, str) else tuple(base_url)
    return OpenAIBackend.load(OpenAISettings(urls, model=model, api_key=api_key, context=context))
