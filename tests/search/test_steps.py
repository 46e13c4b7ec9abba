"""Steps of a search: their ends, their tokens against those of one sample, and proposed steps."""

import re
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import branchwise as bw
from branchwise.backends.scripted.backend import Reply, ScriptedBackend
from branchwise.search.beam import Beam
from branchwise.search.best_of_n import BestOfN
from branchwise.search.steps import Step
from branchwise.search.tree_of_thoughts import ToTBFS
from tests.support.branches import MakeEngine
from tests.support.search_scripts import RecordingStrategy


def continuing(text: str) -> ScriptedBackend:
    """Return a backend that replies with the rest of a text."""
    return ScriptedBackend(lambda path, before: Reply(text[len(path.whole_text) :]))


def steps_of(text: str, step: Step, sampling: bw.Sampling | None = None) -> list[str]:
    """Return the steps in which a text is sampled."""
    strategy = BestOfN(1, step=step, max_steps=1000, sampling=sampling or bw.Sampling())
    tree = bw.solve_sync("q", continuing(text), strategy=strategy).tree
    assert [node.parent for node in tree.nodes[1:]] == list(range(len(tree.nodes) - 1))
    assert [node.state for node in tree.nodes[:-1]] == ["open"] * (len(tree.nodes) - 1)
    assert tree.nodes[-1].state == "ended"
    return [node.text for node in tree.nodes[1:]]


FENCE = "Run this:\n```python\nx = 1\n\ny = 2. \n```\nThat is it."
ALIGNED = "So\n\\begin{align}\na &= 1. 5\\\\\nb &= 2\n\\end{align}\nThus it ends."
CASES: list[tuple[Step, str, list[str]]] = [
    ("line", "One. Two.\nThree.\nFour", ["One. Two.\n", "Three.\n", "Four"]),
    ("line", "One.\n\n\nTwo.\n", ["One.\n", "\n\nTwo.\n", ""]),  # the end is a step of its own
    ("line", FENCE, ["Run this:\n", "```python\nx = 1\n\ny = 2. \n```\n", "That is it."]),
    ("line", ALIGNED, ["So\n", "\\begin{align}\na &= 1. 5\\\\\nb &= 2\n\\end{align}\n", "Thus it ends."]),
    ("line", "$$\nx = 1\n$$\nSo 1.", ["$$\nx = 1\n$$\n", "So 1."]),
    ("line", "## First\nAdd.\n## Next\nDone.", ["## First\nAdd.\n", "## Next\nDone."]),
    ("paragraph", "One.\nTwo.\n\nThree.\nFour.", ["One.\nTwo.\n\n", "Three.\nFour."]),
    ("paragraph", "```\na\n\nb\n```\nThere.\n\nEnd.", ["```\na\n\nb\n```\nThere.\n\n", "End."]),
    ("sentence", "It is 3.50 or 1,234. Yes! No? End.", ["It is 3.50 or 1,234.", " Yes!", " No?", " End."]),
    (
        "sentence",
        "Mr. Smith has 5! ways. So $x. y$ holds. End.",
        ["Mr. Smith has 5! ways.", " So $x. y$ holds.", " End."],
    ),
    ("sentence", 'He said "no." Then he left.\nEnd.', ['He said "no."', " Then he left.\n", "End."]),
    ("sentence", "1. First. Add.\n2. Next.", ["1. First.", " Add.\n", "2. Next."]),
    ("sentence", "Take \\frac{1. 2}{3} of it. End.", ["Take \\frac{1. 2}{3} of it.", " End."]),
    ("numbered", "1. First.\nMore.\n2. Next.\n3. End.", ["1. First.\nMore.\n", "2. Next.\n", "3. End."]),
    ("numbered", "Step 1: a\nb\nStep 2: c\n\nd", ["Step 1: a\nb\n", "Step 2: c\n\nd"]),
    ("numbered", "Plan:\n1) a\n2) b\n\n**Step 3** c", ["Plan:\n", "1) a\n", "2) b\n\n", "**Step 3** c"]),
    ("path", "One.\nTwo.\n", ["One.\nTwo.\n"]),
    (4, "a b c d e f g h i", ["a b c d", " e f g h", " i"]),
    (4, "a b c 3.14 e f", ["a b c", " 3.14 e", " f"]),
    (2, "```\nx = 1\n```\nb c d", ["```\nx = 1\n```\n", "b c", " d"]),
    (2, "So $x + y$ it is", ["So", " $x + y$ it", " is"]),
    (2, "So $5 + y it", ["So", " $5 + y", " it"]),
    ("sentence", "It costs $5. She pays `a. b` of it. End.", ["It costs $5.", " She pays `a. b` of it.", " End."]),
]


@pytest.mark.parametrize(("step", "text", "steps"), CASES)
def test_steps_end_by_their_kind(step: Step, text: str, steps: list[str]) -> None:
    assert steps_of(text, step) == steps


PIECES = [
    "word",
    " is",
    " 3.14",
    " 1,234",
    " \\frac{1}{2}",
    "\\boxed{42}",
    "\n",
    "\n\n",
    ". ",
    "! ",
    "? ",
    "\n1. ",
    "\nStep 2: ",
    "\n```\ncode. x\ny = 2\n\nz\n```\n",
    " \\[ x\n= 2. 5 \\]",
    "\\begin{align}\na. b\n\\end{align}",
    " e.g. ",
    " $5",
]


def cut_region(text: str, cut: int) -> str:
    """Return the kind of region a cut goes through (a number, LaTeX, a code fence), or "" for none."""
    if re.search(r"\d[.,]?\Z", text[:cut]) and re.match(r"[.,]?\d", text[cut:]):
        return "a number"
    for region, pattern in (
        ("a fence", r"^```$.*?^```$"),
        ("a group", r"\{[^{}]*\}"),
        ("mathematics", r"\\\[.*?\\\]"),
        ("an environment", r"\\begin\{align\}.*?\\end\{align\}"),
    ):
        if any(match.start() < cut < match.end() for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)):
            return region
    return ""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=14).map("".join),
    st.sampled_from(["line", "paragraph", "sentence", "numbered", 1, 3, 8]),
)
def test_no_step_ends_inside_a_region(text: str, step: Step) -> None:
    steps = steps_of(text, step)
    assert "".join(steps) == text
    for cut in list(accumulate(map(len, steps)))[:-1]:
        assert not cut_region(text, cut), (text[:cut], text[cut:])


@pytest.mark.parametrize("step", ["line", "sentence", "numbered", 3])
@pytest.mark.parametrize("limit", [1, 5, 9, 10, 11])
def test_the_token_limit_holds_over_all_steps_of_a_path(step: Step, limit: int) -> None:
    text = "1. a b.\n2. c d. e f\n3. g h i j."
    steps = steps_of(text, step, bw.Sampling(max_tokens=limit))
    tokens = continuing(text).vocabulary.tokens(text)
    vocabulary = continuing(text).vocabulary
    spelled = vocabulary.decode(vocabulary.tokens(text)[:limit])
    assert len(tokens) > limit
    found = "".join(steps)
    assert spelled.startswith(found)
    assert spelled[len(found) :].lstrip(".\n") in ("", " c", " e", "2", "3")  # a stop string at the very end is trimmed


# On an engine


@pytest.mark.parametrize("step", ["line", "sentence", "paragraph", "numbered", 1, 7, 20])
@pytest.mark.parametrize("question", ["What is 6 times 7?", "How many?", "Say it"])
def test_greedy_steps_have_the_tokens_of_one_greedy_path(make_engine: MakeEngine, step: Step, question: str) -> None:
    engine, greedy = make_engine("llama"), bw.Sampling(temperature=0.0, max_tokens=80)
    (whole,) = bw.solve_sync(question, engine, strategy=bw.Greedy(greedy)).paths
    result = bw.solve_sync(question, engine, strategy=BestOfN(1, step=step, max_steps=1000, sampling=greedy))
    assert result.paths[-1].path.all_token_ids() == whole.path.all_token_ids()
    # Invalid bytes become one replacement character or several, depending on the chunks.
    found, wanted = "".join(node.text for node in result.tree.nodes), whole.path.answer_text
    assert found.replace("\ufffd", "") == wanted.replace("\ufffd", "")
    assert len(result.tree.nodes) > 2 or step in ("paragraph", "numbered", "sentence", "line")


def test_a_path_that_fills_the_context_ends(make_engine: MakeEngine) -> None:
    engine = make_engine("llama")
    for step in (5, "line"):
        strategy = Beam(2, width=1, step=step, value="logprob", max_steps=1000)
        result = bw.solve_sync("x" * 250, engine, strategy=strategy)
        assert len([node for node in result.tree.nodes if node.state == "ended"]) >= 2
        assert all(len(branch.path.all_token_ids()) <= engine.capabilities.context for branch in result.paths)


# Proposed steps

LISTS = {
    "": "1. Add 2 and 3\n2) Multiply them\n- Add 2 and 3\n* Subtract\n\nAnswer: 6",
    "Add 2 and 3\n": "Halve it\nAnswer: 2.5",
    "Multiply them\n": "Answer: 6",
}
ENDS = {"Answer: 6\n": "The answer is 6.", "Add 2 and 3\nAnswer: 2.5\n": "The answer is 2.5."}
ENDS["Multiply them\nAnswer: 6\n"] = "The answer is 6."


def proposing(path: bw.Path, before: int) -> str:
    """Reply with a list of steps to a list prompt, and finish paths that mention the answer."""
    messages = path.root.messages
    assert messages is not None
    if messages.turns[-1].content.startswith("Write "):
        so_far = messages.turns[-2].content if messages.turns[-2].role == "assistant" else ""
        return LISTS.get(so_far, "")
    return ENDS[path.whole_text]


def test_proposed_steps_by_hand() -> None:
    """Four steps: a repeated line is one step, and the fifth is dropped. Then two steps of each kept one."""

    async def verifier(path: bw.Path) -> float:
        values = {"Add 2 and 3\n": 0.9, "Multiply them\n": 0.8, "Subtract\n": 0.1}
        return values.get(path.answer_text, 0.5)

    recorder = RecordingStrategy(ToTBFS(4, keep=2, propose=True, value="verifier"))
    result = bw.solve_sync("q", ScriptedBackend(proposing), strategy=recorder, verifier=verifier)
    nodes = [(n.parent, n.text, n.state, n.answer) for n in result.tree.nodes[1:]]
    assert nodes[:4] == [
        (0, "Add 2 and 3\n", "open", None),
        (0, "Multiply them\n", "open", None),
        (0, "Subtract\n", "pruned", None),
        (0, "Answer: 6\nThe answer is 6.", "ended", "6"),
    ]
    assert nodes[4:] == [  # each scores .5: the first two that ended stay
        (1, "Halve it\n", "pruned", None),
        (1, "Answer: 2.5\nThe answer is 2.5.", "ended", "2.5"),
        (2, "Answer: 6\nThe answer is 6.", "ended", "6"),
    ]
    assert result.votes == {"6": 1.0, "2.5": 0.5}
    assert len(recorder.expansions) == 6, "three lists, and three paths that mention the answer"


def test_a_stop_string_inside_a_step_resumes_the_sample() -> None:
    """The first step takes three requests of one sample, one for each line; the next step is a new sample."""
    strategy = BestOfN(1, step="line")
    result = bw.solve_sync("q", continuing("\\[\nx\n\\]\nEnd."), strategy=strategy)
    assert [branch.path.text for branch in result.paths] == ["\\[\n", "x\n", "\\]\n", "End."]
    assert len({branch.path.key for branch in result.paths[:3]}) == 1
    assert result.paths[3].path.key != result.paths[0].path.key
    assert result.tree.nodes[1].cost.sampled == sum(len(branch.path.token_ids) for branch in result.paths[:3])


def test_the_users_stop_string_ends_the_path_and_is_not_shown() -> None:
    text = "One.\nTwo END three\nFour"
    assert steps_of(text, "line", bw.Sampling(stop=("END",))) == ["One.\n", "Two "]
