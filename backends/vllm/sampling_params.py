"""Prompts and sampling parameters in vLLM's own types."""

from collections.abc import Mapping, Sequence

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from branchwise.core.keys import choose
from branchwise.core.sampling import Sampling

_SEEDS = 1 << 63


def tokens_prompt(token_ids: Sequence[int]) -> Mapping[str, object]:
    """Return a prompt of tokens, as vLLM's renderers make it (`vllm.inputs.TokensInput`)."""
    return {"type": "token", "prompt_token_ids": list(token_ids)}


def branch_params(sampling: Sampling, key: int, position: int, *, logprobs: bool) -> SamplingParams:
    """Return the parameters of a branch that starts at `position`.

    vLLM seeds a generator at the start of each request. The seed follows from the branch's key and position, so a
    continued branch does not repeat the noise of its beginning.
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


def scoring_params(*, skip_cache: bool) -> SamplingParams:
    """Return parameters that report the log-probabilities of the prompt's own tokens.

    By default vLLM skips the prefix cache for them. It may be read as long as it ends before the scored tokens.
    """
    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        skip_reading_prefix_cache=skip_cache,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
