"""Making do with what a backend can: what is asked of it, and the notes that say what it was not."""

from collections.abc import Callable
from dataclasses import replace

from branchwise.backends.base import Capabilities
from branchwise.core.path import Path
from branchwise.core.sampling import Sampling

NO_SCORES = "the backend does not score given texts: what needs it was left out"
NO_CANCEL = "the backend cannot stop one branch of a request: cancelled branches were sampled on"

Note = Callable[[str], None]


def standing_notes(able: Capabilities) -> tuple[str, ...]:
    """What is degraded whatever the strategy asks for."""
    notes = list(able.changes)
    if not able.keyed:
        notes.append("the backend does not draw by key: the same seed may give other paths")
    if not able.counted:
        notes.append("the server tells no usage: tokens are counted here, and those of prompts are estimated")
    if able.prefix_reuse == 0:
        notes.append("the backend keeps no prefixes: what paths have in common is computed for each")
    if not able.token_out:
        notes.append("the backend shows no tokens: paths are text alone and can't be cut into steps")
    return tuple(notes)


def fit_sampling(sampling: Sampling, able: Capabilities, note: Note) -> Sampling:
    """The sampling with no more alternatives than the backend reports."""
    most = able.top_k_logprobs if able.logprobs else 0
    if sampling.logprobs <= most:
        return sampling
    note(f"{sampling.logprobs} alternatives were asked for with each token, the backend reports {most}")
    return replace(sampling, logprobs=most)


def note_start(path: Path, able: Capabilities, note: Note) -> None:
    """What continuing `path` loses."""
    if path.parent is not None and not able.token_in:
        note("the backend takes no tokens: prefixes are tokenized again by the server")
