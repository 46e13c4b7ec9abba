"""Structured answers, voted field by field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.core.answer import Answer
from branchwise.core.votes import beta_confidence, leader


@dataclass(frozen=True, slots=True)
class FieldVote:
    """The object the fields' majorities make, and the confidence of the least sure field."""

    value: BaseModel
    confidence: float


def vote_fields(model: type[BaseModel], votes: Mapping[Answer, float]) -> FieldVote | None:
    """Each field's most voted value. None without votes; the leading whole object where the fields
    don't fit together."""
    whole = leader(votes)
    if whole is None:
        return None
    fields: dict[str, dict[str, float]] = {}
    for answer, weight in votes.items():
        for name, value in json.loads(answer.value).items():
            tally = fields.setdefault(name, {})
            written = json.dumps(value, sort_keys=True)
            tally[written] = tally.get(written, 0.0) + weight
    chosen = {name: max(tally, key=lambda written: tally[written]) for name, tally in fields.items()}
    try:
        value = model.model_validate({name: json.loads(written) for name, written in chosen.items()})
    except ValidationError:
        value = model.model_validate_json(whole.value)
        chosen = {name: json.dumps(v, sort_keys=True) for name, v in json.loads(whole.value).items()}
    return FieldVote(value, min((_sureness(fields[name], best) for name, best in chosen.items()), default=1.0))


def _sureness(tally: Mapping[str, float], best: str) -> float:
    others = [weight for written, weight in tally.items() if written != best]
    return beta_confidence(tally[best], max(others, default=0.0))
