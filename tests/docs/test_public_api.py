"""The public packages export what their modules define, and nothing that does not exist."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import branchwise
import branchwise.backends
import branchwise.evaluation
import branchwise.observability
import branchwise.search
import branchwise.strategies
import branchwise.strategies.voting

ROOT = Path(__file__).parents[2]
FACES = {
    module.__name__: module
    for module in (
        branchwise,
        branchwise.backends,
        branchwise.evaluation,
        branchwise.observability,
        branchwise.search,
        branchwise.strategies,
        branchwise.strategies.voting,
    )
}
OPTIONAL = {"VLLMBackend", "VLLMSettings"}
"""Exported names that need a package which this environment lacks."""
COMPLETE = ("branchwise", "branchwise.backends", "branchwise.search")
"""Packages whose modules export everything public, except for INTERNAL names."""
INTERNAL = {
    "branchwise.backends.base": {"closed_error"},
    "branchwise.backends.models.load": {"check_names", "engine_settings"},
    "branchwise.backends.recorded.record": {"RecordedBranch", "RecordedPrompt", "RecordedScores", "RecordedText"},
    "branchwise.backends.scripted.reply": {"Cancellation", "PlannedBranch", "plan_branch", "wait_or_stop"},
    "branchwise.core.budget": {"BudgetAllocator"},
    "branchwise.core.errors": {"require"},
    "branchwise.core.path": {"TopLogprob", "word_ends"},
    "branchwise.driver.events": {"Reporter", "Together"},
    "branchwise.driver.solve": {"SolveOptions", "run_sync"},
    "branchwise.prompts.library": {"structured"},
    "branchwise.search.best_first": {"FrontierState"},
    "branchwise.search.mcts": {"MCTSState"},
    "branchwise.search.particle": {"ParticleState"},
    "branchwise.search.tree_of_thoughts": {"StackState"},
    "branchwise.strategies.actions": {"check_paths"},
    "branchwise.strategies.judging.judge": {"JudgedReplies"},
    "branchwise.strategies.judging.semantic_consistency": {"GroupedSamples"},
    "branchwise.strategies.judging.universal_self_consistency": {"ChosenSamples"},
    "branchwise.strategies.voting.adaptive_path_consistency": {"AdaptiveSamples"},
    "branchwise.strategies.voting.deepconf": {"ConfidenceSamples", "confidence_threshold", "with_alternatives"},
    "branchwise.strategies.voting.deepconf_online": {"OnlineSamples"},
    "branchwise.strategies.voting.prefix_consistency": {"RegeneratedSamples", "group_votes", "late_prefix"},
    "branchwise.strategies.voting.weighted_vote": {"TrustSamples"},
}
"""Names without an underscore that other modules of branchwise use and users do not."""


def exported() -> set[str]:
    """Return every name that some public package exports."""
    return {name for face in FACES.values() for name in face.__all__}


def sources() -> set[str]:
    """Return the modules that define exported classes and functions."""
    faces = [FACES[name] for name in COMPLETE]
    values = (getattr(face, name, None) for face in faces for name in face.__all__ if name not in OPTIONAL)
    modules = {getattr(value, "__module__", None) for value in values}
    return {module for module in modules if isinstance(module, str) and module.startswith("branchwise.")}


def defined(module: str) -> set[str]:
    """Return the public classes and functions at the top level of a module."""
    file = importlib.import_module(module).__file__
    assert file is not None
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(Path(file).read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")}


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_every_exported_name_exists(face: ModuleType) -> None:
    names = face.__all__
    assert len(set(names)) == len(names)
    missing = [name for name in names if name not in OPTIONAL and not hasattr(face, name)]
    assert not missing


@pytest.mark.parametrize("module", sorted(sources()))
def test_every_public_definition_is_exported(module: str) -> None:
    internal = INTERNAL.get(module, set())
    names = defined(module)
    assert names - exported() - internal == set()
    assert internal <= names, "an internal name is gone"
    assert not internal & exported()


def test_every_strategy_of_the_registry_is_exported() -> None:
    from branchwise.registry import STRATEGIES, make_strategy

    classes = {type(make_strategy(name, 4, branchwise.Sampling())).__name__ for name in STRATEGIES}
    assert classes <= set(branchwise.__all__)


def test_readme_and_examples_import_from_the_public_packages() -> None:
    allowed = {"branchwise", "branchwise.backends", "branchwise.search"}
    texts = {file: file.read_text(encoding="utf-8") for file in (ROOT / "README.md", *(ROOT / "examples").glob("*.py"))}
    for file, text in texts.items():
        imported = re.findall(r"^\s*(?:from|import) (branchwise[\w.]*)", text, re.MULTILINE)
        assert set(imported) <= allowed, file.name


def test_the_core_is_imported_without_posix_modules() -> None:
    """Windows has none of them."""
    code = "import sys\nfor name in ('fcntl', 'resource', 'pwd', 'grp', 'termios'):\n    sys.modules[name] = None\n"
    code += "import branchwise, branchwise.cli.main"
    subprocess.run([sys.executable, "-c", code], check=True)
