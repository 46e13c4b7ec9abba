"""What vLLM is asked: token ids, and how to draw after them."""

from collections.abc import Mapping, Sequence

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from branchwise.core.keys import choose
from branchwise.core.sampling import Sampling

_SEEDS = 1 << 63


def prompt(token_ids: Sequence[int]) -> Mapping[str, object]:
    """A prompt of tokens, as vLLM's renderers make it (`vllm.inputs.TokensInput`)."""
    return {"type": "token", "prompt_token_ids": list(token_ids)}


def drawing(sampling: Sampling, key: int, position: int, *, logprobs: bool) -> SamplingParams:
    """How a branch is drawn, one token after another.

    vLLM's noise is a generator's, seeded at a request's start: the seed follows from the branch's key and from the
    position where the request begins, so that a branch that goes on does not draw again what it drew before.
    """
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_tokens,
        seed=choose(key, "vllm", position, _SEEDS),
        logprobs=sampling.logprobs if logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def scoring(*, anew: bool) -> SamplingParams:
    """Log-probabilities of the prompt's own tokens; `anew`: of all of them, none taken from the prefix cache.

    vLLM would compute the whole prompt for them. The cache may be read as long as it ends before the tokens that are
    asked for.
    """
    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        skip_reading_prefix_cache=anew,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
