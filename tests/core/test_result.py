"""A result as text, as HTML and as JSON that is read back."""

import html.parser
import json
import math
from dataclasses import replace

import pytest
from pydantic import BaseModel

import branchwise as bw
from branchwise.backends import Reply, ScriptedBackend
from branchwise.registry import STRATEGIES, make_strategy

MARKUP = '<script>alert("1")</script> & <b>\x1b[31m'


class Order(BaseModel):
    item: str
    count: int


class Nested(BaseModel):
    orders: list[Order]
    note: str | None = None


def reply(path: bw.Path, before: int) -> Reply:
    text = f"Step 1.\nStep {before}.\nThe answer is {before % 3}."
    return Reply(text[len(path.whole_text) :], logprob=-0.1 * (1 + before))


def solved(strategy: str = "self-consistency:paths=5", **options: object) -> bw.Result:
    backend = ScriptedBackend(reply, scores={"True": -0.2, "sure": -0.1})
    return bw.solve_sync("q", backend, strategy=strategy, **options)  # type: ignore[arg-type]


def copied(result: bw.Result, answer_type: type[BaseModel] | None = None) -> bw.Result:
    return bw.Result.model_validate_json(result.model_dump_json(), answer_type=answer_type)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_result_of_every_strategy_is_read_back(name: str) -> None:
    sampling = bw.Sampling(logprobs=2)
    backend = ScriptedBackend(reply, scores={"True": -0.2, "sure": -0.1})
    result = bw.solve_sync("q", backend, strategy=make_strategy(name, 4, sampling), budget=bw.Budget(paths=30))
    assert result.paths
    assert copied(result) == result
    assert copied(copied(result)).record() == result.record()
    assert copied(result).tree.children(0) == result.tree.children(0)


def test_a_prompt_with_tools_and_a_prefix_is_read_back() -> None:
    call = bw.ToolCall(id="c", name="add", arguments='{"a": 1}')
    turns = (
        bw.Message(role="user", content="1+1?"),
        bw.Message(role="assistant", tool_calls=(call,)),
        bw.Message(role="tool", content="2", tool_call_id="c"),
    )
    tools = ({"type": "function", "function": {"name": "add", "parameters": {"a": [1, None]}}},)
    backend = ScriptedBackend(lambda path, before: "The answer is 2.")
    result = bw.solve_sync(bw.Messages(turns=turns, tools=tools, prefix="So: "), backend)  # type: ignore[arg-type]
    assert copied(result) == result
    assert copied(result).paths[0].path.root.messages == result.paths[0].path.root.messages


def test_failures_and_problems_are_read_back() -> None:
    failing = ScriptedBackend(lambda path, before: Reply("The answer is 4.", fail_after=before % 2 or None))
    result = replace(bw.solve_sync("q", failing, strategy="best-of-n:paths=4"), degraded=("no scores",))
    assert result.errors
    assert copied(result) == result


def test_a_structured_value_is_read_back_with_its_type() -> None:
    text = json.dumps({"orders": [{"item": MARKUP, "count": 2}]})
    backend = ScriptedBackend(lambda path, before: text)
    result = bw.solve_sync("q", backend, answer_type=Nested, strategy="self-consistency:paths=3")
    assert isinstance(result.value, Nested)
    assert copied(result, Nested) == result
    plain = copied(result).value
    assert plain is not None
    assert plain.model_dump() == result.value.model_dump()


def test_a_path_of_many_segments_is_read_back() -> None:
    backend = ScriptedBackend(lambda path, before: ("word " * 600 + "The answer is 1.")[len(path.whole_text) :])
    result = bw.solve_sync("q", backend, strategy=bw.Beam(1, width=1, step=2, max_steps=1000, value="logprob"))
    assert len(list(result.paths[-1].path.segments())) > 200
    assert copied(result) == result


def test_infinite_numbers_and_half_characters_are_read_back() -> None:
    result = solved()
    branch = result.paths[0]
    odd = replace(branch, path=replace(branch.path, text="\ud83d", logprobs=(-math.inf,)), answer=bw.Answer("\udcff"))
    node = replace(result.tree.nodes[0], value=math.inf)
    changed = replace(result, paths=(odd,), tree=bw.Tree((node,)))
    assert copied(changed) == changed
    assert copied(changed) != result


@pytest.mark.parametrize(
    "change",
    [
        {"key": 7},
        {"text": "other"},
        {"token_ids": ()},
        {"logprobs": None},
        {"stop_reason": bw.StopReason.LENGTH},
        {"parent": None},
    ],
)
def test_branches_of_other_paths_are_not_equal(change: dict[str, object]) -> None:
    branch = solved().paths[0]
    assert branch == replace(branch, path=replace(branch.path))
    assert branch != replace(branch, path=replace(branch.path, **change))  # type: ignore[arg-type]
    assert branch != replace(branch, answer=bw.Answer("0", "zero"))
    assert len({branch, replace(branch)}) == 1


@pytest.mark.parametrize("data", ["", "{}", "[]", "null", "{", b"\xff", '{"answer": 1}', "7"])
def test_other_data_are_refused(data: str | bytes) -> None:
    with pytest.raises(bw.ConfigError, match=r"^result: .*; write it with Result.model_dump_json$") as caught:
        bw.Result.model_validate_json(data)
    assert "\n" not in str(caught.value)


def test_print_is_a_summary() -> None:
    shown = str(solved())
    assert shown.splitlines()[:4] == [
        "answer      0",
        "confidence  50.0%",
        "votes       0 ×2  1 ×2  2 ×1",
        "branches    5 finished, 5 with an answer",
    ]


def test_print_is_short_whatever_the_answer() -> None:
    answer = "def f():\n    return 1\n" * 400
    notes = tuple(f"problem {number}\nwith two lines" for number in range(40))
    votes = {f"{answer}{number}": 1.0 for number in range(30)}
    result = bw.Result(answer, 0.5, votes, bw.Outcome.NO_ANSWER, bw.Usage(), degraded=notes, errors=notes)
    lines = str(result).splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= 220
    assert "note        and 76 more" in lines


class Elements(html.parser.HTMLParser):
    """Collects the elements of a page and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(result: bw.Result) -> Elements:
    parser = Elements()
    parser.feed(result._repr_html_())
    parser.close()
    assert not parser.open
    return parser


def test_html_shows_votes_and_a_tree() -> None:
    page = elements(solved("beam:paths=4,width=2,value=logprob"))
    assert page.seen == {"div", "details", "summary", "span", "b"}
    assert "tree of" in page.text
    assert "★ Step 1." in page.text


def test_html_escapes_everything() -> None:
    backend = ScriptedBackend(lambda path, before: f"{MARKUP}\nAnswer: {MARKUP}{before}")
    result = bw.solve_sync(MARKUP, backend, task="text", strategy="self-consistency:paths=12")
    page = elements(replace(result, errors=(MARKUP,), degraded=(MARKUP,)))
    assert "script" not in page.seen
    assert "\x1b" not in page.text
    assert page.text.count("<script>") >= 5


def test_html_of_a_result_without_anything_is_short() -> None:
    page = elements(bw.Result(None, None, {}, bw.Outcome.FAILED, bw.Usage(), errors=("no",)))
    assert "details" not in page.seen
    assert "none" in page.text


def test_html_of_a_large_tree_is_small() -> None:
    result = solved("self-consistency:paths=80")
    assert len(result.tree.nodes) > 60
    assert len(result._repr_html_()) < 20_000
    assert "more nodes" in result._repr_html_()
