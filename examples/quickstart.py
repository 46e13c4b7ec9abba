"""One question, many paths, one answer with its cost."""

import branchwise as bw

QUESTION = "Natalia sold clips to 48 of her friends in April, and half as many in May. How many in all?"


def main(backend: bw.Backend) -> bw.Result:
    """Answer a word problem with path-consistency."""
    result = bw.solve_sync(QUESTION, backend, strategy=bw.PathConsistency(paths=16), seed=0)
    print(f"answer {result.answer}, confidence {result.confidence:.0%}, votes {dict(result.votes)}")
    print(f"{result.usage.sampled} tokens sampled, {result.usage.reused} prompt tokens reused")
    return result


if __name__ == "__main__":
    main(bw.load("Qwen2.5-Coder-0.5B-Instruct"))
