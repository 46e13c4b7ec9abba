"""The result of `branchwise solve` on a terminal."""

from rich.console import Console

from branchwise.cli.render.lines import print_answer, print_line
from branchwise.core.result import Outcome, Result


def print_result(console: Console, result: Result) -> None:
    """Print the answer, the votes, the outcome if it is not complete, and the usage."""
    print_answer(console, result.answer, result.confidence, result.votes)
    answered = sum(branch.answer is not None for branch in result.paths)
    print_line(console, "paths", f"{len(result.paths)} finished, {answered} with an answer")
    if result.outcome is not Outcome.COMPLETE:
        print_line(console, "outcome", result.outcome.value, style="yellow")
    for note in (*result.degraded, *result.errors):
        print_line(console, "note", note)
    usage = result.usage
    print_line(console, "prompt", f"{usage.prompt} tokens: {usage.reused} reused, {usage.prefilled} prefilled")
    drafts = f", {usage.accepted} of {usage.drafted} draft tokens accepted" if usage.drafted else ""
    print_line(console, "sampled", f"{usage.sampled} tokens, {usage.discarded} of them discarded{drafts}")
    print_line(console, "time", f"{usage.seconds:.1f} s, {usage.forward_passes:.0f} forward passes")
