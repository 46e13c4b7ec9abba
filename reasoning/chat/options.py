"""Options of one call to a chat model: sampling parameters and the seed. Session calls and HTTP requests share them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling
from branchwise.core.validation import first_field_error

Model = TypeVar("Model", bound=BaseModel)


class SamplingOptions(BaseModel):
    """Sampling parameters under the names of OpenAI's and vLLM's APIs; None keeps the default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 and -1 turn the filter off."""
    min_p: float | None = None
    max_tokens: int | None = None
    """Maximum number of tokens per path."""
    stop: tuple[str, ...] | None = None
    """Strings that end a path."""
    seed: int | None = None
    """Equal seeds give equal texts, also when a prompt is repeated."""

    @field_validator("stop", mode="before")
    @classmethod
    def _as_tuple(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop

    def override(self, defaults: Sampling) -> Sampling:
        """Return `defaults` with the options that are set. Raises ConfigError for a value out of range."""
        return replace(
            defaults,
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            top_k=defaults.top_k if self.top_k is None else max(0, self.top_k),
            min_p=defaults.min_p if self.min_p is None else self.min_p,
            max_tokens=defaults.max_tokens if self.max_tokens is None else self.max_tokens,
            stop=defaults.stop if self.stop is None else self.stop,
        )


class CallOptions(SamplingOptions):
    """Options of one call. Unknown names are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> "CallOptions":
        """Return the options by name; None counts as not given.

        Raises ConfigError for the first name that is unsupported or value that is invalid.
        """
        given = {name: value for name, value in values.items() if value is not None}
        for name in given:
            if name not in cls.model_fields:
                supported = ", ".join(cls.model_fields)
                raise ConfigError(name, "is not supported", f"leave it out; supported options: {supported}")
        return validated(cls, given)


def validated(model: type[Model], values: Mapping[str, object]) -> Model:
    """Return `values` as an instance of `model`. Raises ConfigError for the first invalid field."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = first_field_error(error)
        field = first.field.partition(".")[0]
        raise ConfigError(field, f"is {values[field]!r}", first.message) from error
