"""How near an answer that is a text comes to its reference."""

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
    """Exact match, and precision, recall and F1 over words, as SQuAD counts them (Rajpurkar et al. 2016,
    arXiv 1606.05250): without case, punctuation and articles."""
    found, wanted = _words(answer or ""), _words(reference)
    both = sum((Counter(found) & Counter(wanted)).values())
    precision, recall = both / len(found) if found else 0.0, both / len(wanted) if wanted else 0.0
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return {
        "exact_match": float(answer is not None and found == wanted),
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def resemblance(answer: str | None, reference: str) -> dict[str, float]:
    """BLEU (sacrebleu's, of the sentence) and ROUGE-L (rouge-score's F-measure, stemmed), both from 0 to 1.

    Raises MissingExtraError without the extra `metrics`.
    """
    check_metrics()
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_bleu

    text = answer or ""
    rouge = RougeScorer(["rougeL"], use_stemmer=True).score(reference, text)["rougeL"].fmeasure
    return {"bleu": sentence_bleu(text, [reference]).score / 100, "rouge_l": float(rouge)}


def check_metrics() -> None:
    """Raises MissingExtraError where `resemblance` can't be told."""
    for package in ("rouge_score", "sacrebleu"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "metrics")


async def perplexity(backend: Backend, task: Task, question: str, text: str) -> float:
    """exp of minus the mean log-probability of `text` after the question's prompt, by token.

    Raises BackendError where the backend can't score texts.
    """
    messages = task.render(question)
    root = await backend.root(messages, root_key(0, messages.model_dump_json()))
    (logprobs,) = (await backend.score(root, [text])).logprobs
    return math.exp(-sum(logprobs) / len(logprobs))


def _words(text: str) -> list[str]:
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()
