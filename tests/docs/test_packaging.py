"""The wheel holds the whole package and nothing else, and the core is light."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import branchwise as bw

ROOT = Path(__file__).parents[2]
FOLDERS = {"reasoning": "branchwise", "backends": "branchwise/backends", "search": "branchwise/search"}
FOLDERS["prompts"] = "branchwise/prompts"


def tracked() -> list[Path]:
    run = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(line) for line in run.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tracked files, built away from the checkout: stale build folders can't help."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in tracked():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_every_module_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    expected = {
        str(Path(FOLDERS[file.parts[0]], *file.parts[1:]))
        for file in tracked()
        if file.parts[0] in FOLDERS and file.suffix in (".py", ".typed", ".html")
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "branchwise/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_package_folder_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {str(file.parent) for file in tracked() if file.name == "__init__.py" and file.parts[0] in FOLDERS}
    assert set(listed["package-dir"].values()) == folders
    assert set(listed["packages"]) == set(listed["package-dir"])


def test_importing_the_core_brings_pydantic_alone() -> None:
    """Everything else is imported where it is used, so that `--help` does not wait for it."""
    code = "import sys; before = set(sys.modules); import branchwise; print(*sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    brought = {name.partition(".")[0] for name in run.stdout.split()} - set(sys.stdlib_module_names)
    of_pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert {name for name in brought if not name.startswith("_")} <= {"branchwise"} | of_pydantic


def test_every_public_name_exists() -> None:
    assert all(hasattr(bw, name) for name in bw.__all__)
    assert len(set(bw.__all__)) == len(bw.__all__)
