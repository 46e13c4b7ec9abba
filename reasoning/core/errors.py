"""The error hierarchy. Every message states the problem and how to fix it.

BranchwiseError
├── ConfigError(field, problem, fix)     an argument is invalid (also a ValueError)
│   └── ContextLengthError               a prompt is too long for the model's context
├── ModelError(problem, fix)             a model cannot be found, fetched or loaded
├── MissingExtraError(package, extra)    an optional dependency is not installed (also an ImportError)
├── BudgetError(limit)                   a branch was not started because the budget is exhausted
├── SandboxError(problem, fix)           programs cannot run safely here (branchwise.sandbox.outcome)
├── CallError(what, error)               a user's code (a verifier, an answer format, an observer) failed
└── BackendError(problem, retryable, hint)   a model failed while it processed a request
    ├── ContinuationError            a backend did not continue a path after its text
    └── UnsupportedError             a backend does not support the request at all
"""

from typing import Self


class BranchwiseError(Exception):
    """Base class of every error that branchwise raises on purpose. All of them pass through a process pool."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default pickle calls the class with `args`, the message, where these classes take several arguments.
        return _copy_error, (type(self), self.args), self.__dict__


class ConfigError(BranchwiseError, ValueError):
    """A field of a configuration is invalid."""

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{field}: {problem}; {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix

    def renamed(self, field: str) -> Self:
        """Return the same error of a field that has another name where the value came from."""
        return type(self)(field, self.problem, self.fix)


class ContextLengthError(ConfigError):
    """A prompt is too long for the model's context."""


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
        self.package = self.name = package
        self.extra = extra


class BudgetError(BranchwiseError):
    """A branch was not started because the budget is exhausted."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"{limit}: is spent; raise it to explore more")
        self.limit = limit


class CallError(BranchwiseError):
    """Code that the user passed to branchwise raised an exception."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(f"{what}: failed with {type(error).__name__}: {error}")
        self.what = what


class BackendError(BranchwiseError):
    """A backend failed while it processed a request.

    `retryable` is True if the same request may succeed later; `hint` is advice to the user.
    """

    def __init__(self, problem: str, *, retryable: bool, hint: str) -> None:
        super().__init__(f"{problem}; {hint}")
        self.problem = problem
        self.retryable = retryable
        self.hint = hint


class ContinuationError(BackendError):
    """A backend did not continue a path after its text, although it has continued paths before."""

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(problem, retryable=False, hint=hint)


class UnsupportedError(BackendError):
    """A backend does not support a kind of request at all."""

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(problem, retryable=False, hint=hint)


def require(condition: bool, field: str, problem: str, fix: str) -> None:
    """Raise ConfigError unless `condition` holds."""
    if not condition:
        raise ConfigError(field, problem, fix)


def _copy_error(kind: type[BranchwiseError], args: tuple[object, ...]) -> BranchwiseError:
    """Return an error of a class with the given `args`, without running the constructor of the class."""
    error = kind.__new__(kind, *args)
    if isinstance(error, ImportError):
        ImportError.__init__(error, *args)  # it keeps its message apart
    return error
