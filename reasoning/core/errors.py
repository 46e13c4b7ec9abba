"""The error tree. Every message names what is wrong and what to do about it.

BranchwiseError
├── ConfigError(field, problem, fix)     an argument is wrong (also a ValueError)
├── ModelError(problem, fix)             a model cannot be found, fetched or loaded
├── MissingExtraError(package, extra)    an optional dependency is not installed (also an ImportError)
├── BudgetError(limit)                   a branch was not started: the budget for it is spent
├── SandboxError(problem, fix)           programs can't be run safely here (branchwise.sandbox.sandbox)
├── CallError(what, error)               code that was handed in (a verifier, a format, an observer) failed
└── BackendError(problem, retryable, hint)   a model failed while it was working
"""


class BranchwiseError(Exception):
    """Base of every error branchwise raises on purpose."""


class ConfigError(BranchwiseError, ValueError):
    """A field of a configuration is wrong."""

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{field}: {problem}; {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix


class ModelError(BranchwiseError):
    """A model cannot be found, fetched, converted or loaded."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")
        self.problem = problem
        self.fix = fix


class MissingExtraError(BranchwiseError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'branchwise[{extra}]'")
        self.package = package
        self.extra = extra


class BudgetError(BranchwiseError):
    """A branch was not started because what pays for it is spent."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"{limit}: is spent; raise it to explore more")
        self.limit = limit


class CallError(BranchwiseError):
    """Code that was handed to branchwise raised something of its own."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(f"{what}: failed with {type(error).__name__}: {error}")
        self.what = what


class BackendError(BranchwiseError):
    """A backend failed while it was working on a request.

    `retryable` says whether the same request may succeed later; `hint` is advice to a person.
    """

    def __init__(self, problem: str, *, retryable: bool, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.retryable = retryable
        self.hint = hint


def require(condition: bool, field: str, problem: str, fix: str) -> None:
    """Raise ConfigError unless `condition` holds."""
    if not condition:
        raise ConfigError(field, problem, fix)
