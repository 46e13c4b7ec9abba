"""The drafter `siblings`."""

import pytest

from branchwise.backends.engine.branch import EngineBranch
from branchwise.backends.engine.engine import Engine
from branchwise.backends.engine.speculation import siblings as siblings_module
from branchwise.backends.engine.speculation.draft import Draft
from branchwise.backends.engine.speculation.drafter import DraftRequest
from branchwise.backends.engine.speculation.siblings import Siblings
from branchwise.backends.stream import Extension
from branchwise.backends.tokenization.detokenizer import Detokenizer
from branchwise.core.sampling import Sampling


async def test_the_least_recently_used_questions_are_evicted(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "_CAPACITY", 60)
    siblings = Siblings()
    detokenizer = Detokenizer(tiny_engine._tokenizer.backend_tokenizer, (1, 2), ())
    branches = [
        EngineBranch(
            extension=Extension(1, lambda copy: None),
            copy=0,
            key=question,
            sampling=Sampling(),
            detokenizer=detokenizer,
            prefix=(1, 2),
            priority=0,
            prompt_hash=question,
        )
        for question in range(9)
    ]
    for _ in range(3):
        for branch in branches:  # a branch whose question was evicted starts a new sequence
            branch.sampled.extend([7, 8, 9])
            siblings.observe(branch, [7, 8, 9])
            assert siblings._size == sum(map(len, siblings._questions.values())) <= 60
    assert list(siblings._questions)[-1] == 8
    assert 0 not in siblings._questions
    draft = Draft()
    branches[8].sampled.extend([7])
    siblings.propose([DraftRequest(draft, branches[8], 4)])
    assert draft.tokens[:2] == [8, 9]
