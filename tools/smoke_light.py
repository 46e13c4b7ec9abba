"""Check that the light core works where only its own dependencies are installed, on any platform.

python tools/smoke_light.py
"""

import subprocess
import sys

import branchwise as bw
from branchwise.backends import ScriptedBackend

HEAVY = ("torch", "transformers", "vllm", "fastapi")


def main() -> None:
    """Solve a question on the scripted backend and run the command line; raise AssertionError where something fails."""
    backend = ScriptedBackend(
        {"": ["6 * 7 = 42. The answer is 42.", "The answer is 41.", "It is 42. The answer is 42."]}
    )
    result = bw.solve_sync("What is 6 times 7?", backend, strategy=bw.SelfConsistency(3))
    assert result.answer == "42", result
    assert result.usage.sampled > 0, result.usage
    loaded = [name for name in HEAVY if name in sys.modules]
    assert not loaded, f"imported without need: {loaded}"
    command = [sys.executable, "-m", "branchwise.cli.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(f"branchwise {bw.__version__} on {sys.platform}: answer {result.answer}, votes {dict(result.votes)}")


if __name__ == "__main__":
    main()
