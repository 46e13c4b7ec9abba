"""Verifiers that run a path's program in the sandbox: unit tests and docstring examples."""

import ast
import builtins
import doctest
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from branchwise.answers.code import parse, parse_program
from branchwise.core.errors import require
from branchwise.core.path import Path
from branchwise.prompts.library import TASKS
from branchwise.prompts.task import Task
from branchwise.sandbox.outcome import LIMITS, Limits
from branchwise.sandbox.sandbox import run_program, run_tests
from branchwise.verifiers.examples import beginning, examples, function
from branchwise.verifiers.question import question_text

_FUTURE = re.compile(r"^from __future__ import [^\n]+\n?", re.MULTILINE)
# Output is compared as doctest does; literals that are written differently but equal also match.
_CHECK = """
def _check(examples):
    import ast, contextlib, doctest, io, sys
    class Checker(doctest.OutputChecker):
        def check_output(self, want, got, flags):
            if super().check_output(want, got, flags):
                return True
            try:
                return ast.literal_eval(want.strip()) == ast.literal_eval(got.strip())
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return False
    names = sys.modules["program"].__dict__
    output = []
    runner = doctest.DocTestRunner(Checker(), False, doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)
    for source, want, message in examples:
        if want or message:
            example = doctest.Example(source, want, message)
            test = doctest.DocTest([example], names, "example", None, None, None)
            if runner.run(test, out=output.append, clear_globs=False).failed:
                raise AssertionError("".join(output))
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, "<example>", "single"), names)
"""


@dataclass(frozen=True, slots=True)
class UnitTests:
    """Verifier that scores a path by the share of tests its program passes; 0.0 without a program."""

    tests: tuple[str, ...]
    """Python source run after the program, each test alone; typically assertions."""
    entry_point: str = ""
    """Function passed to each test's `check`, as in HumanEval; "" if the tests call it themselves."""
    imports: tuple[str, ...] = ()
    """Lines inserted before the program."""
    task: Task = TASKS["code"]
    """Task whose format reads the programs."""
    limits: Limits = LIMITS
    """Limits of each run."""

    def __post_init__(self) -> None:
        require(bool(self.tests), "tests", "is empty", "give at least one")

    def __call__(self, path: Path) -> float:
        """Return the score. Raises SandboxError if programs cannot be run safely here."""
        code = self.task.extract(path)
        return 0.0 if code is None else self.share(assemble(question_text(path), code))

    def share(self, program: str) -> float:
        """Return the share of tests that a program passes."""
        return _share(self._whole(program), self._checks(), self.limits, self._names())

    def passes(self, program: str) -> bool:
        """Return whether a program passes all tests, in one run."""
        return _passes(self._whole(program), self._checks(), self.limits, self._names())

    def _names(self) -> frozenset[str]:
        return used_names("\n".join([*self.imports, *self._checks()]), self.entry_point)

    def _whole(self, program: str) -> str:
        return "\n".join([*self.imports, program])

    def _checks(self) -> list[str]:
        call = f"\ncheck({self.entry_point})" if self.entry_point else ""
        return ["\n".join([*self.imports, f"{test}{call}"]) for test in self.tests]


@dataclass(frozen=True, slots=True)
class DocstringExamples:
    """Verifier that scores a path by the share of the question's examples its program passes.

    The question is the last user turn: Python with `>>>` examples (or lines like `f(3) == 9`) in its docstrings, or
    text with `>>>` examples. Without examples, a program scores 1.0 if it runs and defines the requested function (for
    a question in prose, any function). A path without a program scores 0.0, as does a program that fails to run.
    """

    task: Task = TASKS["code"]
    """Task whose format reads the programs."""
    limits: Limits = LIMITS
    """Limits of each run."""

    def __call__(self, path: Path) -> float:
        """Return the score. Raises SandboxError if programs cannot be run safely here."""
        question, code = question_text(path), self.task.extract(path)
        if code is None:
            return 0.0
        program = assemble(question, code)
        found = examples(question)
        checks = [_CHECK + f"_check({group!r})" for group in _groups(found)]
        if checks:
            return _share(program, checks, self.limits, used_names("".join(one.source for one in found)))
        return float(_defines(question, code, program) and _passes(program, [], self.limits, frozenset()))


def assemble(question: str, code: str) -> str:
    """Return the complete program of a question and its answer.

    If the question is the beginning of a program (imports, a signature and a docstring), it precedes the code, which
    may repeat it or be the body of its last function. Otherwise the code is the program.
    """
    start = beginning(question)
    if start is None:
        return code
    if not _is_body(code, start):
        return _futures_first(f"{question}\n\n{code}\n")
    indented = textwrap.indent(textwrap.dedent(code), "    ")
    continued = textwrap.indent(textwrap.dedent(f"    {code.lstrip()}"), "    ")
    bodies = (code, indented, continued) if code[:1].isspace() else (indented, continued)
    wholes = [f"{question}\n{body}\n" for body in bodies]
    return _futures_first(next((whole for whole in wholes if parse_program(whole) is not None), wholes[0]))


def _groups(found: Sequence[doctest.Example]) -> Iterator[Sequence[tuple[str, str, str | None]]]:
    """Yield each example with expected output after the setup lines before it; without any, all lines as one group."""
    setup: list[tuple[str, str, str | None]] = []
    checked = False
    for example in found:
        one = (example.source, example.want, example.exc_msg)
        if example.want or example.exc_msg:
            checked = True
            yield [*setup, one]
        else:
            setup.append(one)
    if setup and not checked:
        yield setup


def _share(program: str, checks: Sequence[str], limits: Limits, names: frozenset[str]) -> float:
    """Return the share of checks that pass. All run together first; if that fails, each runs alone."""
    if _passes(program, checks, limits, names):
        return 1.0
    if len(checks) == 1 or not _passes(program, [], limits, names):
        return 0.0
    return sum(_passes(program, [check], limits, names) for check in checks) / len(checks)


def _passes(program: str, checks: Sequence[str], limits: Limits, names: frozenset[str]) -> bool:
    whole = _futures_first(program)
    if not checks:
        return run_program(whole, limits).passed
    return run_tests(whole, _futures_first("\n\n".join(checks)), sorted(names), limits).passed


def used_names(tests: str, entry_point: str = "") -> frozenset[str]:
    """Return the names that tests use and do not define: those of the program.

    A built-in name is the program's only if the tests use no other, so that a program cannot redefine `set` for them.
    """
    tree = parse_program(tests)
    nodes = [] if tree is None else list(ast.walk(tree))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    defined = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
    used = {node.id for node in names} - defined
    free = {name for name in used if not hasattr(builtins, name)} | ({entry_point} if entry_point else set())
    return frozenset(free or used)


def _is_body(code: str, start: ast.Module) -> bool:
    """Return whether the code continues the beginning, instead of defining its function again."""
    name = function(start)
    tree = parse(code)
    if tree is None:
        return re.search(rf"\bdef\s+{re.escape(name)}\b", code) is None
    return name not in _defined(tree)


def _defined(tree: ast.Module) -> set[str]:
    """Return the top-level names of functions, classes and variables."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _defines(question: str, code: str, program: str) -> bool:
    """Return whether a program defines the requested function; any name if the question is prose."""
    start = beginning(question)
    tree = parse(program)
    if tree is None:
        return False
    if start is None:
        return bool(_defined(tree))
    return _is_body(code, start) or function(start) in _defined(tree)


def _futures_first(program: str) -> str:
    """Move `from __future__` imports to the top, where Python requires them."""
    futures = _FUTURE.findall(program)
    return "".join(line.rstrip("\n") + "\n" for line in futures) + _FUTURE.sub("", program) if futures else program
