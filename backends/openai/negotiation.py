"""Negotiate the optional fields of requests.

What a server refuses is left out: the field that its message names, else one after another.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from branchwise.backends.openai.endpoint import Endpoint
from branchwise.backends.openai.sampling_probe import Prober, ProbeSample, is_refusal
from branchwise.backends.openai.server_errors import ServerError
from branchwise.backends.openai.server_features import ServerFeatures
from branchwise.core.path import Path


class _Concession(NamedTuple):
    """A change to the features after a refusal."""

    names: tuple[str, ...]
    """Request fields; a message that has one of them refuses it."""
    changes: dict[str, bool | str]

    def applied(self, features: ServerFeatures) -> ServerFeatures:
        return replace(features, **self.changes)  # type: ignore[arg-type]

    def place(self, message: str) -> int | None:
        """Return the place in a message of the first of the names, or None without any."""
        found = [re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z_])", message) for name in self.names]
        return min((match.start() for match in found if match is not None), default=None)


_RUNNING_USAGE = _Concession(("continuous_usage_stats",), {"running_usage": False})
_LOGPROBS = _Concession(("logprobs", "top_logprobs"), {"logprobs": False})
_SEED = _Concession(("seed",), {"seeds": False})
_USAGE = _Concession(("stream_options", "include_usage"), {"usage": False, "running_usage": False})
_GREEDY = _Concession(("temperature",), {"greedy": False})
_TEMPERATURE = _Concession(("temperature",), {"greedy": False, "temperature": False})
_LIMIT = _Concession(("max_tokens",), {"max_tokens_field": "max_completion_tokens"})
_CONCESSIONS = (_RUNNING_USAGE, _LOGPROBS, _SEED, _USAGE, _GREEDY, _TEMPERATURE, _LIMIT)


class Agreed(NamedTuple):
    """Features of requests that a server accepts, and its first response to one."""

    features: ServerFeatures
    sample: ProbeSample


async def negotiate(prober: Prober, kind: type[Endpoint], most: ServerFeatures, root: Path) -> Agreed:
    """Return the features of `most` that the server accepts. Raises ServerError with the last refusal."""
    features, guessed = most, list[_Concession]()
    while True:
        try:
            agreed = Agreed(features, await prober.sample(prober.endpoint(kind, features), root))
            break
        except ServerError as error:
            if not is_refusal(error, optional=kind.optional):
                raise
            possible = [one for one in _CONCESSIONS if one.applied(features) != features]
            if not possible:
                raise
            places = {place: one for one in reversed(possible) if (place := one.place(error.problem)) is not None}
            concession = places[min(places)] if places else possible[0]
            features = concession.applied(features)
            if not places:
                guessed.append(concession)
    return await _restore(prober, kind, root, agreed, most, guessed)


async def _restore(
    prober: Prober,
    kind: type[Endpoint],
    root: Path,
    agreed: Agreed,
    most: ServerFeatures,
    guessed: Sequence[_Concession],
) -> Agreed:
    """Return `agreed` with each feature that a guess gave up although the server accepts it."""
    for concession in guessed[:-1]:  # the last one was refused
        tried = replace(agreed.features, **{name: getattr(most, name) for name in concession.changes})
        sample = await prober.try_sample(prober.endpoint(kind, tried), root)
        if sample is not None:
            agreed = Agreed(tried, sample)
    return agreed
