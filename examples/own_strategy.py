"""A custom strategy: sample two paths at a time until two of them agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import branchwise as bw


@dataclass(frozen=True)
class UntilTwoAgree(bw.PerQuestion[bw.Samples]):
    """Stops at the first answer that two paths share."""

    name = "until-two-agree"

    paths: int = 10  # most to sample

    def initial_state(self, root: bw.Path) -> bw.Samples:
        return bw.Samples(root)

    def next_actions(self, samples: bw.Samples) -> Sequence[bw.Action]:
        agreed = any(weight >= 2 for weight in samples.majority().votes.values())
        if agreed or samples.pending or samples.requested >= self.paths:
            return ()
        return samples.sample(2, bw.Sampling())

    def decide(self, samples: bw.Samples) -> bw.Decision:
        return samples.majority()


def main(backend: bw.Backend) -> bw.Result:
    """Solve a question with the strategy, as with a built-in one."""
    result = bw.solve_sync("What is 6 times 7?", backend, strategy=UntilTwoAgree())
    print(result.answer, f"after {len(result.paths)} paths")
    return result


if __name__ == "__main__":
    main(bw.load("Qwen2.5-Coder-0.5B-Instruct"))
