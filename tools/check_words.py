"""Check that docstrings, comments, docs, test names and commit subjects follow the language rules of CONTRIBUTING.md.

    python tools/check_words.py            # every tracked file, and the commits since the rules were introduced
    python tools/check_words.py FILE ...   # these files only

Prints one line per violation (`file:line: rule: text`) and exits with 1 if there is any.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RULES_SINCE = "5de09d70a1b3"
"""Commits after this one must follow the rules."""

SUBJECT_LENGTH = 72
TEST_NAME_LENGTH = 70

OPENING = re.compile(r"(What|How|Whether|Who|Whoever|Where|Which|When|Why|As many|So many)\b")
_PHRASES = (
    "tells?",
    "told",
    "mend(?:s|ed)?",
    "has a say",
    "comes? to nothing",
    r"what (?:\w+ ){1,3}comes to",
    "whoever",
    "so many of",
    "lets? go",
    "foresaw",
    "by now",
    "by itself",
    "(?:is|are) drawn",
    "makes of",
    "(?-i:(?:is|are) none)",
)
DIALECT = re.compile(rf"\b(?:{'|'.join(_PHRASES)})\b", re.IGNORECASE)
NOT_IMPERATIVE = re.compile(r"(?:\w+(?:ed|ing)|The|A|An|What|How|Our)\b")
BASE_FORMS = {"embed", "feed", "need", "seed", "speed", "bring", "string", "ping", "shed", "embedding"}
SKIPPED = ("docs/results/", "tests/data/", "prompts/exemplars.py")


class Violation(NamedTuple):
    """One broken rule."""

    place: str
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.rule}: {self.text.strip()[:100]}"


def main(arguments: list[str]) -> int:
    """Check the given files, or everything; return the exit status."""
    files = [Path(name) for name in arguments] if arguments else _tracked()
    violations = [violation for file in files for violation in _check_file(file)]
    if not arguments:
        violations += _check_commits()
    for violation in violations:
        print(violation)
    return 1 if violations else 0


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith(SKIPPED) and (ROOT / name).is_file()]
    return [ROOT / name for name in names if ROOT / name != Path(__file__).resolve()]


def _check_file(file: Path) -> Iterator[Violation]:
    source = file.read_text(encoding="utf-8")
    name = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
    return _check_markdown(name, source) if file.suffix == ".md" else check_python(name, source)


def check_python(name: str, source: str) -> Iterator[Violation]:
    """Yield the violations in a Python file's docstrings, comments and test names."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and len(node.name) >= TEST_NAME_LENGTH
        ):
            yield Violation(f"{name}:{node.lineno}", "test name of 70 characters or more", node.name)
        for constant in _docstrings(node):
            text = str(constant.value)
            place = f"{name}:{constant.lineno}"
            if OPENING.match(text):
                yield Violation(place, "docstring opens with a question word", text)
            if found := DIALECT.search(text):
                yield Violation(place, f"docstring says {found.group()!r}", text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (found := DIALECT.search(token.string)):
            yield Violation(f"{name}:{token.start[0]}", f"comment says {found.group()!r}", token.string)


def _docstrings(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the string statements of a module, class or function body: its docstring and those of fields."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        for statement in node.body:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value


def _check_markdown(name: str, source: str) -> Iterator[Violation]:
    """Yield the violations in prose; fenced blocks and inline code are program text."""
    fenced = False
    for number, line in enumerate(source.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and (found := DIALECT.search(re.sub(r"`[^`]*`", "", line))):
            yield Violation(f"{name}:{number}", f"text says {found.group()!r}", line)


def _check_commits() -> Iterator[Violation]:
    command = ["git", "log", "--no-merges", "--format=%h %s", f"{RULES_SINCE}..HEAD"]
    log = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    for line in log.stdout.splitlines():  # empty in a shallow clone
        commit, _, subject = line.partition(" ")
        yield from check_subject(f"commit {commit}", subject)


def check_subject(place: str, subject: str) -> Iterator[Violation]:
    """Yield the rules that a commit's subject line breaks."""
    if len(subject) > SUBJECT_LENGTH:
        yield Violation(place, f"subject of {len(subject)} characters", subject)
    statement = subject.partition(": ")[2] or subject  # without its scope
    if NOT_IMPERATIVE.match(statement) and statement.split(" ")[0].lower() not in BASE_FORMS:
        yield Violation(place, "subject is not imperative", subject)
    elif found := DIALECT.search(subject):
        yield Violation(place, f"subject says {found.group()!r}", subject)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
