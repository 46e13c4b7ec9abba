"""The option `--verifier` of the commands that run a model."""

from collections.abc import Mapping

import typer

from branchwise.cli.options import fetch_progress, interruptible, printable
from branchwise.core.errors import require
from branchwise.driver import Verifier
from branchwise.strategies.strategy import AnyStrategy
from branchwise.verifiers.registry import VERIFIERS, NamedVerifier, uses_verifier
from branchwise.verifiers.registry import verifier as find_verifier

VERIFIER_HELP = (
    f"Checks paths, for strategies with value=verifier: {', '.join(VERIFIERS)}, reward:MODEL, MODULE:FUNCTION or "
    "FILE.py:FUNCTION."
)


def chosen_verifier(
    spec: str | None, device: str | None, strategies: Mapping[str, AnyStrategy]
) -> NamedVerifier | None:
    """The verifier, not loaded yet. Raises ConfigError where there is none such, or one is missing."""
    using = [name for name, strategy in strategies.items() if uses_verifier(strategy)]
    if spec is None:
        require(not using, "verifier", f"{', '.join(using)} checks paths but none was given", "add --verifier NAME")
        return None
    found = find_verifier(spec, device)
    if not using:
        said = f"note: {', '.join(strategies)} may not ask the verifier: no option is set to verifier"
        typer.echo(printable(said), err=True)
    return found


def loaded_verifier(chosen: NamedVerifier | None) -> Verifier | None:
    """The verifier, with what it needs fetched and loaded; with progress on a terminal."""
    if chosen is None:
        return None
    with interruptible(), fetch_progress(f"loading the verifier {printable(chosen.name)}") as progress:
        return chosen.make(progress)
