"""Answered questions: consistency of their fields."""

import pytest
from pydantic import ValidationError

from tests.support.evaluations import make_answered


def test_every_path_needs_a_grade() -> None:
    with pytest.raises(ValidationError, match="has 1 paths, but grades for 0"):
        make_answered(right=())
