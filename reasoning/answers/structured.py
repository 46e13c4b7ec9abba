"""Field-by-field votes on structured (JSON) answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from branchwise.core.answer import Answer
from branchwise.core.votes import beta_confidence, leader


@dataclass(frozen=True, slots=True)
class FieldVote:
    """The object made of each field's leading value, and the lowest confidence of its fields."""

    value: BaseModel
    confidence: float


def vote_fields(model: type[BaseModel], votes: Mapping[Answer, float]) -> FieldVote | None:
    """Return the object made of each field's leading value; None without votes.

    If the model rejects that combination, return the leading whole object instead.
    """
    whole = leader(votes)
    if whole is None:
        return None
    fields: dict[str, dict[str, float]] = {}
    for answer, weight in votes.items():
        for name, value in json.loads(answer.value).items():
            tally = fields.setdefault(name, {})
            encoded = json.dumps(value, sort_keys=True)
            tally[encoded] = tally.get(encoded, 0.0) + weight
    leading = {name: max(tally, key=lambda encoded: tally[encoded]) for name, tally in fields.items()}
    try:
        combined = model.model_validate({name: json.loads(encoded) for name, encoded in leading.items()})
    except ValidationError:
        combined = model.model_validate_json(whole.value)
        leading = {name: json.dumps(value, sort_keys=True) for name, value in json.loads(whole.value).items()}
    confidences = (_confidence(fields[name], encoded) for name, encoded in leading.items())
    return FieldVote(combined, min(confidences, default=1.0))


def _confidence(tally: Mapping[str, float], chosen: str) -> float:
    others = [weight for encoded, weight in tally.items() if encoded != chosen]
    return beta_confidence(tally[chosen], max(others, default=0.0))
