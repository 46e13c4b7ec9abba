"""Conversion of lm-eval's generation arguments (a task's `generation_kwargs`, `--gen_kwargs`) to Sampling."""

from collections.abc import Mapping

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first one present counts
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "until")
_WITHOUT_EFFECT: dict[str, object] = {"num_beams": 1, "repetition_penalty": 1.0, "use_cache": True}


def sampling_for(options: Mapping[str, object]) -> Sampling:
    """Convert the generation arguments by lm-eval's rules.

    Sampling is greedy without a temperature and `do_sample`. `do_sample` alone means temperature 1, `do_sample: false`
    is greedy at any temperature. Raises ConfigError for unsupported arguments.
    """
    for name, value in options.items():
        if name not in (*_LIMITS, *_SAMPLING) and value is not None and _WITHOUT_EFFECT.get(name) != value:
            known = ", ".join((*_SAMPLING, *_LIMITS))
            raise ConfigError(f"gen_kwargs.{name}", "is not supported", f"remove it; supported are {known}")
    do_sample = options.get("do_sample")
    given = _number(options, "temperature")
    temperature = (1.0 if do_sample else 0.0) if given is None else given
    limit = next((found for name in _LIMITS if (found := _number(options, name)) is not None), None)
    top_k, top_p, min_p = (_number(options, name) for name in ("top_k", "top_p", "min_p"))
    return Sampling(
        temperature=0.0 if do_sample is False else temperature,
        top_p=1.0 if top_p is None else top_p,
        top_k=0 if top_k is None else max(0, int(top_k)),  # lm-eval also uses -1 for off
        min_p=min_p or 0.0,
        max_tokens=None if limit is None else int(limit),
        stop=_stops(options.get("until")),
    )


def _number(options: Mapping[str, object], name: str) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    try:
        return float(str(value))
    except ValueError as error:
        raise ConfigError(f"gen_kwargs.{name}", f"is {value!r}", "use a number") from error


def _stops(until: object) -> tuple[str, ...]:
    if until is None:
        return ()
    given = [until] if isinstance(until, str) else until
    if not isinstance(given, list | tuple) or not all(isinstance(stop, str) for stop in given):
        raise ConfigError("gen_kwargs.until", f"is {until!r}", "use a string or a list of strings")
    return tuple(stop for stop in given if stop)
