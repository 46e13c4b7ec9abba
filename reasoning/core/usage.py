"""The ledger: what an answer cost."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Drafted(BaseModel):
    """What one drafter proposed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drafted: int = 0
    """Tokens it proposed that a pass verified."""
    accepted: int = 0
    """Those among them that were sampled."""

    def __add__(self, other: "Drafted") -> "Drafted":
        return Drafted(drafted=self.drafted + other.drafted, accepted=self.accepted + other.accepted)


class Usage(BaseModel):
    """Tokens, passes and seconds. Sums of these are exact; see the equations.

    Every branch and every scored path is a request whose input tokens are counted once:
    `prompt == reused + prefilled`. `discarded` and `accepted` are parts of `sampled`. A branch that had
    to make room and went on later is one more request: its input, what it had sampled included, counts again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: int = 0
    """Input tokens of all requests."""
    reused: int = 0
    """Input tokens whose keys and values were held already."""
    prefilled: int = 0
    """Input tokens that were computed."""
    sampled: int = 0
    """Tokens drawn, a stop's own tokens included, those after a stop not."""
    discarded: int = 0
    """Sampled tokens of branches that were cancelled or failed before they ended."""
    drafted: int = 0
    """Tokens proposed by drafters and verified in a pass, a position each."""
    accepted: int = 0
    """Sampled tokens that a drafter had proposed."""
    drafters: Mapping[str, Drafted] = {}
    """The same two for each drafter, by name."""
    scored: int = 0
    """Tokens of given continuations whose log-probability was computed."""
    forward_passes: float = 0.0
    """Passes of the target model; a pass shared by questions counts for each by its share of positions."""
    seconds: float = 0.0
    """Wall-clock time of the run; it does not add up over concurrent questions."""

    def lost(self) -> "Usage":
        """The cost of a branch that is not kept: everything it sampled is discarded."""
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
                name: self.drafters.get(name, Drafted()) + other.drafters.get(name, Drafted())
                for name in sorted({*self.drafters, *other.drafters})
            },
            scored=self.scored + other.scored,
            forward_passes=self.forward_passes + other.forward_passes,
            seconds=self.seconds + other.seconds,
        )
