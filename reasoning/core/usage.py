"""The usage ledger: tokens, forward passes and seconds of a run."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class DrafterUsage(BaseModel):
    """Draft tokens of one drafter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drafted: int = 0
    """Draft tokens that a forward pass verified."""
    accepted: int = 0
    """Draft tokens that were accepted."""

    def __add__(self, other: "DrafterUsage") -> "DrafterUsage":
        return DrafterUsage(drafted=self.drafted + other.drafted, accepted=self.accepted + other.accepted)


class Usage(BaseModel):
    """Tokens, forward passes and seconds. Sums are exact; tests check the equations below.

    Every branch and every scored path is a request whose input tokens are counted once:
    `prompt == reused + prefilled`. `discarded` and `accepted` are parts of `sampled`. A branch that was
    preempted and resumed is one more request: its input, including the tokens it had sampled, counts again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: int = 0
    """Input tokens of all requests."""
    reused: int = 0
    """Input tokens whose keys and values were in the KV cache."""
    prefilled: int = 0
    """Input tokens that were computed."""
    sampled: int = 0
    """Sampled tokens, including the tokens of a stop string but not those after it."""
    discarded: int = 0
    """Sampled tokens of branches that were cancelled or failed before they ended."""
    drafted: int = 0
    """Draft tokens that a forward pass verified, one per position."""
    accepted: int = 0
    """Sampled tokens that a drafter had proposed."""
    drafters: Mapping[str, DrafterUsage] = {}
    """`drafted` and `accepted` per drafter, by name."""
    scored: int = 0
    """Tokens of given continuations whose log-probability was computed."""
    forward_passes: float = 0.0
    """Forward passes of the target model; a shared pass is divided between questions by their positions in it."""
    seconds: float = 0.0
    """Wall-clock time of the run; times of concurrent questions do not add up."""

    def lost(self) -> "Usage":
        """Return the usage of a branch that is not kept: all its sampled tokens are discarded."""
        return self.model_copy(update={"discarded": self.sampled})

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt=self.prompt + other.prompt,
            reused=self.reused + other.reused,
            prefilled=self.prefilled + other.prefilled,
            sampled=self.sampled + other.sampled,
            discarded=self.discarded + other.discarded,
            drafted=self.drafted + other.drafted,
            accepted=self.accepted + other.accepted,
            drafters={
                name: self.drafters.get(name, DrafterUsage()) + other.drafters.get(name, DrafterUsage())
                for name in sorted({*self.drafters, *other.drafters})
            },
            scored=self.scored + other.scored,
            forward_passes=self.forward_passes + other.forward_passes,
            seconds=self.seconds + other.seconds,
        )
