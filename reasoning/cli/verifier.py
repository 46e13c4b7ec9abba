"""The option `--verifier`: checked against the strategies first, loaded once everything else has been checked."""

from collections.abc import Mapping

import typer

from branchwise.cli.interrupts import interruptible
from branchwise.cli.render.progress import fetch_progress
from branchwise.core.errors import require
from branchwise.core.summary import printable
from branchwise.driver import Verifier
from branchwise.strategies.options import uses_verifier
from branchwise.strategies.strategy import AnyStrategy
from branchwise.verifiers.registry import NamedVerifier
from branchwise.verifiers.registry import verifier as find_verifier


def find_verifier_for(
    strategies: Mapping[str, AnyStrategy], spec: str | None, device: str | None
) -> NamedVerifier | None:
    """Return the verifier that `spec` names, not loaded yet; None if there is no spec.

    Prints a note if no strategy is known to use it. Raises ConfigError if the verifier is unknown, or missing while a
    strategy needs one.
    """
    require_verifier(strategies, spec)
    if spec is None:
        return None
    found = find_verifier(spec, device)
    if not any(uses_verifier(strategy) for strategy in strategies.values()):
        note = f"note: {', '.join(strategies)} may not use the verifier: no option is set to verifier"
        typer.echo(printable(note), err=True)
    return found


def require_verifier(strategies: Mapping[str, AnyStrategy], spec: str | None) -> None:
    """Raise ConfigError if a strategy needs a verifier and there is no spec for one."""
    using = [name for name, strategy in strategies.items() if uses_verifier(strategy)]
    missing = spec is None and using
    require(not missing, "verifier", f"is missing, but {', '.join(using)} needs one", "add --verifier NAME")


def load_verifier(named: NamedVerifier | None) -> Verifier | None:
    """Return the loaded verifier, fetching what it needs, with progress on a terminal; None for None."""
    if named is None:
        return None
    with interruptible(), fetch_progress(f"loading the verifier {printable(named.name)}") as progress:
        return named.make(progress)
