# ruff: noqa: E501 (programs in tables)
"""Tests run outside the program's process: right programs pass, cheats fail."""

import sys

import pytest

from branchwise.sandbox.outcome import Kind, Limits
from branchwise.sandbox.sandbox import run_tests
from branchwise.verifiers.programs import UnitTests, used_names
from tests.support.cheats import CHEATS, FORGERIES

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs run on Linux alone")

ASSERTS = UnitTests(("assert f(1) == 42", "assert f(2) == 43"))
CHECK = UnitTests(("def check(candidate):\n    assert candidate(1) == 42\n    assert candidate(2) == 43",), "f")
NEAR = UnitTests(("assert abs(f(1) - 42) < 0.1 and f(2) in (43, 44) and 43 in [f(2)]",))


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_passes_no_test(name: str) -> None:
    for tests in (ASSERTS, CHECK, NEAR):
        assert tests.share(CHEATS[name]) == 0.0


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_message_passes_no_test(name: str) -> None:
    program, tests = FORGERIES[name]
    outcome = run_tests(program, tests, ("f",), Limits(seconds=10))
    assert not outcome.passed


def test_the_right_program_passes() -> None:
    for tests in (ASSERTS, CHECK, NEAR):
        assert tests.passes("def f(x): return x + 41")


VALUES = """[None, True, 7, 10**5000, -0.5, float("inf"), "\\ud800\\n", b"\\xff", bytearray(b"a"), [1, [2]], (1, (2,)), {1, 2},
frozenset([3]), {"a": {1: (2,)}, (1, 2): []}, 1 + 2j, range(1, 9, 2), int, ValueError, collections.deque([1]),
collections.Counter("aab"), collections.OrderedDict(a=1), decimal.Decimal("1.10"), fractions.Fraction(1, 3),
datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6), datetime.time(1, 2), datetime.timedelta(-1, 2, 3)]"""
IMPORTS = "import collections, datetime, decimal, fractions\n"


def test_plain_data_is_copied_both_ways() -> None:
    program = f"{IMPORTS}def f(x):\n    assert x == {VALUES}, x\n    return x"
    tests = f"{IMPORTS}values = {VALUES}\nassert f(values) == values\nassert list(map(type, f(values))) == list(map(type, values))"
    outcome = run_tests(program, tests, ("f",))
    assert outcome.passed, outcome


OBJECTS = {
    "a class": (
        "class V:\n    def __init__(self, x): self.x = x\n    def __add__(self, o): return V(self.x + o.x)\n"
        "    def __eq__(self, o): return self.x == o.x\n    def __len__(self): return 7\n    def __repr__(self): return 'V!'",
        "v = V(1)\nassert (v + V(2)).x == 3 and v == V(1) and v != V(2) and v != 1\nassert len(v) == 7 and repr(v) == 'V!'\n"
        "v.y = 5\nassert v.y == 5 and isinstance(v, V) and not hasattr(v, 'z')",
    ),
    "a generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2] and next(f(1)) == 0 and sum(f(4)) == 6"),
    "a closure": ("def f(x):\n    return lambda y: x + y", "assert f(1)(2) == 3"),
    "a record": ("from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(): return P(1, 2)",
                 "assert f() == (1, 2) and f().b == 2"),
    "changed arguments": ("def f(a, d, s):\n    a.sort()\n    d['k'] = [1]\n    s.clear()",
                          "a, d, s = [2, 1], {}, {1}\nf(a, d, s)\nassert (a, d, s) == ([1, 2], {'k': [1]}, set())"),
    "a callback": ("def f(g, items): return [g(item) for item in items]",
                   "assert f(lambda x: x * 2, [1, 2]) == [2, 4] and f(len, ['ab']) == [2] and f(str.upper, ['a']) == ['A']"),
    "an iterator": ("def f(items): return [2 * item for item in items]", "assert f(x for x in (1, 2)) == [2, 4] == f(map(int, '12'))"),
    "an object of the tests": ("def f(node):\n    node.value, old = 9, node.value\n    return old",
                               "class Node:\n    value = 4\nnode = Node()\nassert f(node) == 4 and node.value == 9"),
    "an own exception": ("class Odd(ValueError): pass\ndef f(x): raise Odd('no', x)",
                         "for kind in (Odd, ValueError):\n    try: f(3)\n    except kind as error: assert error.args == ('no', 3)\n"
                         "    else: assert False"),
    "an exception of a module": ("import json\ndef f(x): return json.loads(x)",
                                 "import json\ntry: f('{')\nexcept json.JSONDecodeError: pass\nelse: assert False"),
    "printed text": ("def f(x): print(x)", "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as text:\n    f(3)\n"
                     "assert text.getvalue() == '3\\n'"),
    "an imported module": ("import math\nfrom collections import Counter\ndef f(x): return Counter(x)",
                           "assert math.isclose(1, 1.0) and f('aa') == Counter(a=2)"),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_tests_use_what_the_program_defines(name: str) -> None:
    program, tests = OBJECTS[name]
    outcome = run_tests(program, tests, sorted(used_names(tests)))
    assert outcome.passed, outcome


@pytest.mark.parametrize(
    ("program", "kind", "detail"),
    [
        ("1 / 0", Kind.FAILED, "ZeroDivisionError"),
        ("def f(x): return 1 / 0", Kind.FAILED, "ZeroDivisionError"),
        ("def g(x): return 1", Kind.FAILED, "NameError"),
        ("def f(x): return 2", Kind.FAILED, "AssertionError"),
        ("import sys\ndef f(x): sys.exit(0)", Kind.EXITED, "SystemExit"),
        ("import os\ndef f(x): os._exit(0)", Kind.EXITED, "status 0"),
        ("import os\ndef f(x): os.abort()", Kind.CRASHED, "ended by SIG"),
        ("import os\nif os.fork() == 0:\n    import time\n    time.sleep(60)\nos._exit(0)", Kind.EXITED, "status 0"),
        ("def f(x): return bytearray(10 << 30)", Kind.MEMORY, ""),
        ("def f(x):\n    while True: pass", Kind.TIMEOUT, "2 seconds"),
        ("def f(x):\n    while True: print('x' * 999)", Kind.OUTPUT, "bytes"),
    ],
)
def test_the_end_of_a_tested_program_is_reported(program: str, kind: Kind, detail: str) -> None:
    outcome = run_tests(program, "assert f(1) == 1", ("f",), Limits(seconds=2 if kind is Kind.TIMEOUT else 30))
    assert outcome.kind is kind, outcome
    assert detail in outcome.detail


@pytest.mark.parametrize(
    ("tests", "names"),
    [
        ("assert set(f(1)) == set([2])", {"f"}),
        ("assert sum(10, 15) == 6", {"sum"}),
        ("import math\ndef check(c):\n    assert math.isclose(c(1), poly([2]))", {"poly"}),
        ("for x in range(3):\n    assert g(x) == x", {"g"}),
    ],
)
def test_names_of_the_program_that_tests_use(tests: str, names: set[str]) -> None:
    assert used_names(tests) == names
