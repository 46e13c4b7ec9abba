"""Programs as answers: finding them, making them whole, checking them."""

import sys
import warnings

import pytest

import branchwise as bw
from branchwise.answers.code import Code
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.core.path import Path, StopReason
from branchwise.sandbox.outcome import Limits, SandboxError
from branchwise.verifiers.examples import examples
from branchwise.verifiers.programs import DocstringExamples, UnitTests, assemble

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

ADD = '''from typing import List


def helper(x: int) -> int:
    return x


def add(numbers: List[int]) -> int:
    """ Add them.
    >>> add([1, 2])
    3
    >>> add([])
    0
    """
'''
WHOLE = "def add(numbers: List[int]) -> int:\n    return helper(sum(numbers))"
BODY = "    return helper(sum(numbers))"

F = "```python\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"Here it is:\n\n{F}{WHOLE}\n```\n\nIt adds.", WHOLE),
        (f"```py\n{WHOLE}\n```", WHOLE),
        (f"```\n{WHOLE}\n```", WHOLE),
        (f"{F}def f(): pass\n```\nBetter:\n{F}{WHOLE}\n```", WHOLE),
        (f"{F}{WHOLE}\n```\nUse it:\n{F}print(add([1]))\n```\nOutput:\n```\n1\n```", WHOLE),
        (f"{F}{WHOLE}\n```\n```bash\npython add.py\n```", WHOLE),
        (f"{F}{WHOLE}\n", WHOLE),  # never closed
        (f"1. So:\n   {F}   def f():\n       return 1\n   ```", "def f():\n    return 1"),
        (f"{F}\n\n{BODY}\n\n```", BODY),
        (f"{F}x = 'a'\ny = '''\n```'''\n```", "x = 'a'\ny = '''\n```'''"),
        (WHOLE, WHOLE),
        (BODY, BODY),
        (f"return helper(sum(numbers))\n{BODY}", f"return helper(sum(numbers))\n{BODY}"),
        (f"{F}def broken(:\n```", "def broken(:"),
        (f"{F}\n```", None),
        ("42", None),
        ("Yes", None),
        ("I would add them up.", None),
        ("```json\n{}\n```", None),
        ("```\nsome output here\n```", None),
    ],
)
def test_a_program_is_found(text: str, code: str | None) -> None:
    assert Code().extract(text) == code


def test_of_a_text_that_was_cut_off_whole_blocks_count() -> None:
    assert Code().extract_cut(f"{F}{WHOLE}\n```\nIt ad") == WHOLE
    assert Code().extract_cut(f"{F}{WHOLE}\n```\n{F}def other():\n    ret") == WHOLE
    assert Code().extract_cut(f"{F}{WHOLE}") is None
    assert Code().extract_cut(WHOLE) is None


def test_programs_are_the_same_but_for_comments_docstrings_and_layout() -> None:
    same = [
        "def f(x):\n    return x+1",
        'def f(x):\n    """More."""\n    return x + 1  # one more\n',
        "def f( x ):\n\n  return (x + 1)",
    ]
    code = Code()
    assert len({code.normal(one) for one in same}) == 1
    assert code.normal(same[0]) != code.normal("def f(x):\n    return x+2")
    assert code.normal("    return x+1") == code.normal("return (x + 1)")
    assert code.display(same[1]) == same[1].rstrip()  # what can be run
    assert code.display(BODY) == BODY


@pytest.mark.parametrize(
    "code", ["(" * 50000, "-" * 99999 + "1", "1" + "+1" * 49000, "\ud800 = 1", "x = '\0'", "9" * 99999, "x" * 10**6]
)
def test_any_text_has_a_normal_form(code: str) -> None:
    assert Code().normal(code) == code.strip()


def test_reading_a_program_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Code().normal("x = '\\d' is 1") == "x = '\\\\d' is 1"


@pytest.mark.parametrize(
    "code",
    [
        WHOLE,
        BODY,
        "return helper(sum(numbers))",
        "total = 0\n    for number in numbers:\n        total += number\n    return helper(total)",
        f"{ADD}{BODY}",
        f"from __future__ import annotations\n\n{WHOLE}",
        "add = lambda numbers: helper(sum(numbers))",
    ],
)
@needs_linux
def test_a_program_is_made_whole(code: str) -> None:
    """The code may repeat the beginning, define only the function, or be its body at any indentation."""
    assert UnitTests(("def check(f):\n    assert f([1, 2]) == 3",), "add").passes(assemble(ADD, code))


def test_where_the_question_is_no_program_the_code_is_all() -> None:
    assert assemble("Write a function that adds.", WHOLE) == WHOLE


def path(question: str, text: str, reason: StopReason | None = StopReason.END) -> Path:
    turns = (bw.Message(role="system", content=">>> 1\n2"), bw.Message(role="user", content=question))
    return Path(Path(None, 0, (), "", messages=bw.Messages(turns=turns)), 1, (), text, stop_reason=reason)


@pytest.mark.parametrize(
    ("code", "share"),
    [
        ("def add(n):\n    return sum(n)", 1.0),
        ("def add(n):\n    return 3", 0.5),
        ("def add(n):\n    return 7", 0.0),
        ("def add(n):\n    return 1 / 0", 0.0),
        ("def add(n):\n    while True: pass", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("def add(n) return", 0.0),
    ],
)
@needs_linux
def test_a_path_is_scored_by_the_examples_its_program_passes(code: str, share: float) -> None:
    verifier = DocstringExamples(limits=Limits(seconds=20, cpu_seconds=1))
    assert verifier(path(ADD, f"So:\n{F}{code}\n```")) == share


@needs_linux
def test_a_path_without_a_program_scores_nothing() -> None:
    for text in ("I can't.", f"{F}def add(n):\n    return sum(n)"):
        assert DocstringExamples()(path(ADD, text, StopReason.LENGTH)) == 0.0
    assert DocstringExamples()(path(ADD, "I think that", None)) == 0.0


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (ADD, [("add([1, 2])", "3"), ("add([])", "0")]),
        ('def f(x):\n    """\n    >>>f(1)\n    2\n    """\n', [("f(1)", "2")]),
        ('def f(x):\n    """\n    >>> f(1) == 2\n    """\n', [("f(1) == 2", "True")]),
        (
            'def f(x):\n    """\n    f(1) == 2\n    For f([0, 1], k="a"): no\n    * f("a)") => "b"  \n'
            '    f(3) should return True.\n    f(4) returns None\n    f(a) = 1\n    f(5) = x + 1\n'
            '    f(1) is odd\n    """\n',
            [("f(1)", "2"), ('f("a)")', "'b'"), ("f(3)", "True"), ("(f(4)) is None", "True")],
        ),
        ("Write `f`:\n\n```\n>>> f(1)\n2\n```\nf(1) == 2", [("f(1)", "2")]),
        ('def f(x):\n    """\n      >>> f(1)\n    2\n    """\n', []),
        ("Write f(1) == 2.", []),
        ("x = 1\n", []),
    ],
)  # fmt: skip
def test_the_examples_of_a_question(question: str, found: list[tuple[str, str]]) -> None:
    assert [(one.source.strip(), one.want.strip()) for one in examples(question)] == found


SETUP = '''def push(stack, x):
    """
    >>> stack = []
    >>> push(stack, 'a')
    >>> stack
    ["a"]
    >>> push(stack, None)
    Traceback (most recent call last):
    ...
    ValueError: not None
    """
'''


@pytest.mark.parametrize(
    ("body", "share"),
    [
        ("if x is None:\n        raise ValueError('None')\n    stack.append(x)", 1.0),
        ("stack.append(x)", 0.5),
        ("return 1", 0.0),
    ],
)
@needs_linux
def test_examples_build_on_those_before_them(body: str, share: float) -> None:
    assert DocstringExamples()(path(SETUP, f"{F}def push(stack, x):\n    {body}\n```")) == share


@needs_linux
def test_without_examples_a_program_must_run_and_define_what_is_asked_for() -> None:
    verifier, question = DocstringExamples(), 'def f(x):\n    """One more."""\n'
    assert verifier(path(question, "    return x + 1")) == 1.0
    assert verifier(path(question, f"{F}def g(x):\n    return 1\n```")) == 1.0  # f's docstring is a body, too
    assert verifier(path(question, f"{F}def f(x):\n    return 1\n1 / 0\n```")) == 0.0
    assert verifier(path("Write f.", f"{F}def f(x):\n    return 1\n```")) == 1.0
    assert verifier(path("Write f.", f"{F}print(1)\n```")) == 0.0


@needs_linux
def test_a_path_is_scored_by_the_tests_it_passes() -> None:
    tests = UnitTests(("assert f(4) == 2", "assert f(9) == 3", "assert f(2) == 1"), imports=("import math",))
    for code, share in (("math.isqrt(x)", 1.0), ("x // 3", 1 / 3), ("oops", 0.0)):
        program = f"def f(x):\n    return {code}"
        assert tests(path("Roots.", f"{F}{program}\n```")) == pytest.approx(share)
        assert tests.passes(program) is (share == 1.0)
    assert tests(path("Roots.", "No.")) == 0.0
    with pytest.raises(bw.ConfigError, match="tests: is empty"):
        UnitTests(())


def test_a_sandbox_that_cannot_be_had_is_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SandboxError):
        DocstringExamples()(path(ADD, BODY))


@needs_linux
async def test_the_best_of_some_programs_answers() -> None:
    """Paths of equal probability; only the examples separate them."""
    backend = ScriptedBackend({"": [f"{F}def add(n):\n    return {value}\n```" for value in ("3", "sum(n)", "0")]})
    seen: dict[str, float] = {}
    verifier = DocstringExamples()

    def score(path: Path) -> float:
        return seen.setdefault(path.answer_text.split("return ")[1].split("\n")[0], verifier(path))

    strategy = bw.BestOfN(3, value="verifier")
    result = await bw.solve(ADD, backend, strategy=strategy, task=bw.task("code"), verifier=score)
    assert seen == {"3": 0.5, "sum(n)": 1.0, "0": 0.5}
    assert result.answer == "def add(n):\n    return sum(n)"
