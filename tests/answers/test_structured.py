"""Structured answers: extraction of JSON objects, and votes per field."""

from pydantic import BaseModel, model_validator

from branchwise.answers.formats import Structured
from branchwise.answers.groups import AnswerGroups
from branchwise.answers.structured import vote_fields
from branchwise.core.answer import Answer
from branchwise.core.votes import count


class Person(BaseModel):
    name: str
    age: int


async def test_each_field_takes_its_leading_value() -> None:
    groups = AnswerGroups(Structured(Person))
    people = [
        Person(name=name, age=age) for name, age in [("Ada", 36), ("Ada", 35), ("Eva", 36), ("Ida", 36), ("Ada", 34)]
    ]
    voted = vote_fields(Person, count([await groups.place(person.model_dump_json()) for person in people]))
    assert voted is not None
    assert voted.value == Person(name="Ada", age=36)  # every whole object has one vote
    assert 0.5 < voted.confidence < 1


def test_extract_returns_the_last_valid_object() -> None:
    format_ = Structured(Person)
    assert format_.extract('so {"name": "Ada", "age": 36} it is') == '{"name":"Ada","age":36}'
    assert format_.extract('{"name": "Ada"}') is None
    assert format_.extract('first {"name": "A", "age": 1} then {"name": "B", "age": 2}') == '{"name":"B","age":2}'
    assert format_.extract("{" * 5000) is None


class Ordered(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def _check(self) -> "Ordered":
        if self.low > self.high:
            raise ValueError("low exceeds high")
        return self


def test_invalid_combination_falls_back_to_the_leading_object() -> None:
    votes = {(1, 2): 3.0, (5, 6): 2.0, (5, 7): 2.0}
    answers = {Answer(Ordered(low=low, high=high).model_dump_json()): weight for (low, high), weight in votes.items()}
    voted = vote_fields(Ordered, answers)  # low=5 and high=2 lead
    assert voted is not None
    assert voted.value == Ordered(low=1, high=2)


def test_no_votes_give_no_object() -> None:
    assert vote_fields(Person, {}) is None
