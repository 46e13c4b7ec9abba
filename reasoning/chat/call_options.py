"""What one call of an agent's model may set, besides its messages and tools."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from branchwise.core.errors import ConfigError
from branchwise.core.sampling import Sampling


class Options(BaseModel):
    """Options of a call; None leaves a thing as the model has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    """Most tokens of a path."""
    stop: tuple[str, ...] | None = None
    """A path ends where one of these appears."""
    seed: int | None = None
    """Equal seeds give equal texts, however often a prompt is asked."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop

    @classmethod
    def read(cls, given: Mapping[str, object]) -> "Options":
        """The options by name; None counts as not given. Raises ConfigError for the first that is unknown or makes no
        sense."""
        asked = {name: value for name, value in given.items() if value is not None}
        for name in asked:
            if name not in cls.model_fields:
                raise ConfigError(name, "can't be honoured", f"leave it out; what can is {', '.join(cls.model_fields)}")
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = str(first["loc"][0])
            raise ConfigError(field, f"is {asked[field]!r}", first["msg"]) from error

    def sampling(self, usual: Sampling) -> Sampling:
        """How paths are drawn, `usual` where nothing is said. Raises ConfigError."""
        return replace(
            usual,
            temperature=usual.temperature if self.temperature is None else self.temperature,
            top_p=usual.top_p if self.top_p is None else self.top_p,
            top_k=usual.top_k if self.top_k is None else max(0, self.top_k),  # others write -1 for off
            min_p=usual.min_p if self.min_p is None else self.min_p,
            max_tokens=usual.max_tokens if self.max_tokens is None else self.max_tokens,
            stop=usual.stop if self.stop is None else self.stop,
        )
