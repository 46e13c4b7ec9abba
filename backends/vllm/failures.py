"""Errors of vLLM as BackendErrors."""

from branchwise.core.errors import BackendError


def aborted_error(reason: str) -> BackendError:
    """Return the error of a branch that vLLM aborted."""
    return BackendError(f"vLLM gave the request up ({reason})", retryable=True, hint="ask again")


def request_error(error: BaseException) -> BackendError:
    """Return the error of a request for which vLLM raised `error`.

    vLLM's own classes are recognized by name, for they have moved between its versions.
    """
    if isinstance(error, BackendError):
        return error
    names = {ancestor.__name__ for ancestor in type(error).__mro__}
    description = f"{type(error).__name__}: {error}"
    if "EngineDeadError" in names:
        return BackendError("vLLM's engine died", retryable=False, hint="see its log, then load it again")
    if "GracefulHTTPError" in names:
        return BackendError(f"vLLM turned the request away ({error})", retryable=True, hint="ask again later")
    if "VLLMClientError" in names or isinstance(error, ValueError):
        return BackendError(f"vLLM refuses the request ({error})", retryable=False, hint="change what it names")
    cause = f", from {type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ is not None else ""
    return BackendError(
        f"vLLM failed in the request ({description}{cause})",
        retryable="EngineGenerateError" in names,
        hint="see its log, and report this with the model's name and vLLM's version",
    )
