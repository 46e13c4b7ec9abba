"""Metrics of a text: its similarity to a reference, and its perplexity under a model."""

import math
import re
import string
from collections import Counter
from importlib.util import find_spec

from branchwise.backends.base import Backend
from branchwise.core.errors import MissingExtraError
from branchwise.core.keys import root_key
from branchwise.prompts.task import Task

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def overlap(answer: str | None, reference: str) -> dict[str, float]:
    """Return exact match and the precision, recall and F1 of words.

    Ignores case, punctuation and articles, as SQuAD does (Rajpurkar et al. 2016, arXiv 1606.05250).
    """
    found, expected = _words(answer or ""), _words(reference)
    common = sum((Counter(found) & Counter(expected)).values())
    precision = common / len(found) if found else 0.0
    recall = common / len(expected) if expected else 0.0
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return {
        "exact_match": float(answer is not None and found == expected),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def similarity(answer: str | None, reference: str) -> dict[str, float]:
    """Return BLEU (sacrebleu, sentence level) and ROUGE-L (rouge-score, F-measure with stemming), both from 0 to 1.

    Raises MissingExtraError without the extra `metrics`.
    """
    check_metrics()
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_bleu

    text = answer or ""
    rouge = RougeScorer(["rougeL"], use_stemmer=True).score(reference, text)["rougeL"].fmeasure
    return {"bleu": sentence_bleu(text, [reference]).score / 100, "rouge_l": float(rouge)}


def check_metrics() -> None:
    """Raise MissingExtraError if the packages of `similarity` are not installed."""
    for package in ("rouge_score", "sacrebleu"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "metrics")


async def perplexity(backend: Backend, task: Task, question: str, text: str) -> float:
    """Return the perplexity of `text` after the question's prompt: exp of the negative mean log-probability per token.

    Raises BackendError if the backend can't score texts.
    """
    messages = task.render(question)
    root = await backend.root(messages, root_key(0, messages.model_dump_json()))
    (logprobs,) = (await backend.score(root, [text])).logprobs
    return math.exp(-sum(logprobs) / len(logprobs))


def _words(text: str) -> list[str]:
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()
