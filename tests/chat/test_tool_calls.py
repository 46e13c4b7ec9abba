"""Tool calls as answers: which texts are calls, and which calls are equal."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

import branchwise as bw
from branchwise.answers.formats import Math, Text
from branchwise.chat.tool_calls import PROSE, ToolCallFormat, split_calls
from branchwise.chat.tool_set import Tool, ToolSet
from tests.support.talks import Talk, call

NAMES = ("add", "get_weather", "now")
TOOLS = ToolSet(tuple(Tool(name, {}) for name in NAMES))
FORMAT = ToolCallFormat(TOOLS, Math())

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(texts, values, max_size=4)
calls = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)

SYNTAXES = ("qwen", "bare", "fenced", "list", "mistral", "JSON text", "function", "single quotes", "surplus brace")


def as_text(made: list[tuple[str, dict[str, JsonValue]]], syntax: str) -> str:
    """Return calls as a model writes them."""
    key = "parameters" if syntax in ("bare", "fenced") else "arguments"
    objects = [
        json.dumps({"name": name, key: json.dumps(given) if syntax == "JSON text" else given}) for name, given in made
    ]
    match syntax:
        case "bare":
            return "\n".join(objects)
        case "fenced":
            return "\n".join(f"```json\n{text}\n```" for text in objects)
        case "list":
            return f"[{', '.join(objects)}]"
        case "mistral":
            return f"[TOOL_CALLS] [{', '.join(objects)}]"
        case "function":
            return "\n".join(f"<function={name}>{json.dumps(given)}</function>" for name, given in made)
        case "single quotes":
            quoted = [repr({"name": name, "arguments": given}) for name, given in made]
            return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in quoted)
        case "surplus brace":
            return "\n".join(f"<tool_call>\n{text}}}\n</tool_call>" for text in objects)
        case _:
            return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in objects)


@given(calls, st.sampled_from(SYNTAXES))
def test_calls_are_parsed_in_every_syntax(made: list[tuple[str, dict[str, JsonValue]]], syntax: str) -> None:
    split = split_calls(as_text(made, syntax), TOOLS)
    assert split.content == ""
    assert [(each.name, json.loads(each.arguments)) for each in split.calls] == made
    assert len({each.id for each in split.calls}) == len(made)


@given(calls, st.sampled_from(SYNTAXES), st.sampled_from(SYNTAXES), st.randoms(use_true_random=False))
def test_equal_calls_are_one_answer(
    made: list[tuple[str, dict[str, JsonValue]]], one: str, other: str, chance: random.Random
) -> None:
    again = [(name, shuffled(given, chance)) for name, given in made]
    first, second = FORMAT.extract(as_text(made, one)), FORMAT.extract(as_text(again, other))
    assert first is not None
    assert second is not None
    normal = FORMAT.normal(first)
    assert FORMAT.normal(second) == FORMAT.display(second) == normal
    assert FORMAT.normal(normal) == normal  # it is its own normal form
    assert FORMAT.extract(normal) is not None
    assert not FORMAT.is_symbolic(normal)


def shuffled(value: dict[str, JsonValue], chance: random.Random) -> dict[str, JsonValue]:
    """Return an equal object: keys in another order, some whole numbers as floats if that is exact."""

    def same(inner: JsonValue) -> JsonValue:
        if isinstance(inner, dict):
            return shuffled(inner, chance)
        if isinstance(inner, list):
            return [same(item) for item in inner]
        if isinstance(inner, int) and not isinstance(inner, bool) and float(inner) == inner and chance.random() < 0.5:
            return float(inner)
        return inner

    items = list(value.items())
    chance.shuffle(items)
    return {key: same(inner) for key, inner in items}


@given(st.sampled_from(NAMES), arguments, st.sampled_from(SYNTAXES), st.integers(0, 10_000))
def test_truncated_call_is_no_call(name: str, inputs: dict[str, JsonValue], syntax: str, place: int) -> None:
    text = as_text([(name, inputs)], syntax)
    end = text.rindex("}") + (0 if syntax == "surplus brace" else 1)  # of the JSON
    cut = text[: place % len(text)]
    # Complete except for the closing mark.
    closed = syntax not in ("list", "mistral") and len(cut) >= end and not cut[end:].strip(" \n}")
    split = split_calls(cut, TOOLS)
    assert (split.content, len(split.calls)) == (("", 1) if closed else (cut, 0))
    assert ToolCallFormat(TOOLS, Text()).extract_cut(cut) is None


@given(st.text(max_size=60) | st.text("<tool_call>{}[]()\"'=name:argumts,/ \n`", max_size=60))
def test_any_text_is_parsed_without_error(text: str) -> None:
    split = split_calls(text, TOOLS)
    assert split.calls or split.content == text
    answer = FORMAT.extract(text)
    FORMAT.extract_cut(text)
    if answer is not None:
        FORMAT.normal(answer)


ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


@pytest.mark.parametrize(
    ("text", "content", "count"),
    [
        (f"Let me see.\n<tool_call>\n{ADD}\n</tool_call>", "Let me see.", 1),
        (f"<tool_call>{ADD}</tool_call> and <tool_call>{ADD}</tool_call> it is", "and  it is", 2),
        (f"<tool_call>\n{ADD}", "", 1),  # complete except for the closing tag
        (f"I sum.[TOOL_CALLS][{ADD}]", "I sum.", 1),
        (f"<|python_tag|>{ADD}; {ADD}", "", 2),
        ('<tool_call>{"name": "now"}</tool_call>', "", 1),
        ('<tool_call>{"name": "now", "arguments": null}</tool_call>', "", 1),
        ('<tool_call>{"name": "now", "arguments": ""}</tool_call>', "", 1),
        ('<tool_call>{"name": "add", "arguments": {"a": "</tool_call><tool_call>"}}</tool_call>', "", 1),
    ],
)
def test_texts_with_calls(text: str, content: str, count: int) -> None:
    split = split_calls(text, TOOLS)
    assert (split.content, len(split.calls)) == (content, count)


@pytest.mark.parametrize(
    "text",
    [
        f"<tool_call>{ADD[:-1]}</tool_call>",
        f"<tool_call>\n{ADD}\nand then",
        f"<tool_call>\n{ADD}</tool_cal",
        f"For example {ADD}",
        f"{ADD} adds them",
        f"```python\n{ADD}\n```",
        f"[TOOL_CALLS][{ADD}",
        f"[TOOL_CALLS][{ADD}, 7]",
        '<tool_call>{"name": "multiply", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": [1, 2]}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "a=1"}</tool_call>',
        '<tool_call>{"name": "add", "arguments": false}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": "\\ud800"}}</tool_call>',
        '<tool_call>{"name": ["add"], "arguments": {}}</tool_call>',
        "<tool_call>" + '{"name": "add", "arguments": ' + '{"a":' * 5000 + "1" + "}" * 5001 + "</tool_call>",
        '{"name": "now"}',
        "[]",
        "{}",
        "",
    ],
)
def test_texts_without_calls(text: str) -> None:
    assert split_calls(text, TOOLS) == (text, ())
    assert ToolCallFormat(TOOLS).extract(text) is None


def test_order_case_and_types_distinguish_calls() -> None:
    def normal(*texts: str) -> set[str]:
        return {FORMAT.normal(FORMAT.extract(text) or "") for text in texts}

    same = ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1e0}', '"{\\"a\\": 1, \\"b\\": 2}"')
    assert normal(*(call("add", given) for given in same)) == {'[{"name": "add", "arguments": {"a": 1, "b": 2}}]'}
    other = ('{"a": 1}', '{"a": "1"}', '{"a": true}', '{"a": "x"}', '{"a": "X"}', '{"a": [1, 2]}', '{"a": [2, 1]}')
    assert len(normal(*(call("add", given) for given in other))) == len(other)
    one, two = call("add", '{"a": 1}'), call("now", "{}")
    assert len(normal(one + two, two + one, one, two)) == 4


def test_ids_depend_on_text_and_salt() -> None:
    text = call("now", "{}") + call("now", "{}")
    first = [each.id for each in split_calls(text, TOOLS, "a").calls]
    assert first == [each.id for each in split_calls(text, TOOLS, "a").calls]
    assert len({*first, *(each.id for each in split_calls(text, TOOLS, "b").calls)}) == 4
    assert all(each.startswith("call_") for each in first)


def test_fallback_reads_texts_without_calls() -> None:
    assert FORMAT.extract("The answer is 7.0") == "7.0"
    assert FORMAT.normal("7.0") == FORMAT.display("7.0") == "7"
    assert FORMAT.is_symbolic("\\frac{1}{2}")
    assert ToolCallFormat(TOOLS).extract("The answer is 7") is None
    assert not ToolCallFormat(TOOLS).is_symbolic("7")


def test_prose_votes_if_enabled() -> None:
    prose = ToolCallFormat(TOOLS, Math(), prose=True)
    assert prose.extract("It is sunny.") == prose.extract("Sunny, I think.") == PROSE
    assert prose.normal(PROSE) == prose.display(PROSE) == PROSE
    assert not prose.is_symbolic(PROSE)
    assert prose.extract("The answer is 7") == "7"
    assert prose.extract(" \n") is None
    assert prose.extract_cut("It is sunny.") is None  # a call may follow
    assert FORMAT.extract("It is sunny.") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (call("now", "{}"), '[{"name": "now", "arguments": {}}]'),  # another call may follow
        ('<tool_call>{"name": "now", "arguments": {}}', None),
        ('{"name": "now", "arguments": {}}', None),
        ("The answer is 7.\n<tool_call>", None),
        ('The answer is 7.\n<tool_call>{"name": "no', None),
        ("The answer is 7. [TOOL_CALLS]", None),
        ("The answer is 7.\nI hope", "7"),
        ("The answer is 7", None),
    ],
)
def test_extract_cut(text: str, answer: str | None) -> None:
    assert FORMAT.extract_cut(text) == answer


def test_tool_names_must_be_given() -> None:
    assert ToolSet.of([{"type": "function", "function": {"name": "add"}}, {"name": "now"}]).names == ("add", "now")
    with pytest.raises(bw.ConfigError, match="tools: hold a tool without a name"):
        ToolSet.of([{"type": "function", "function": {"description": "Adds."}}])


async def test_majority_of_equal_calls_wins() -> None:
    replies = [
        call("add", '{"a": 1, "b": 3}'),
        "The answer is 5.",
        '{"name": "add", "parameters": {"b": 2.0, "a": 1}}',
        "I call.\n" + call("add", '{"a": 1, "b": 2}'),
        "I don't know.",
    ]
    task = bw.Task(name="agent", format=FORMAT)
    result = await bw.solve("q", Talk(replies), strategy=bw.SelfConsistency(5), task=task)
    assert result.answer == '[{"name": "add", "arguments": {"a": 1, "b": 2}}]'
    assert list(result.votes.values()) == [2.0, 1.0, 1.0]
