"""Forms of tool calls other than JSON in tags: lists in Python's syntax, function tags and parameters."""

import json
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

import branchwise as bw
from branchwise.answers.formats import Math
from branchwise.chat.tool_calls import ToolCallFormat, split_calls
from branchwise.chat.tool_set import ToolSet
from tests.support.talks import Talk

ADD: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "number"}},
    "required": ["a"],
    "additionalProperties": False,
}
FIND: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "tags": {"type": "array"},
        "where": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "exact": {"type": ["boolean", "null"]},
        "name": {"type": ["string", "null"]},
        "order": {"enum": ["up", "down"]},
    },
}


def tool_set(*, strict: bool = False, parallel: bool = True) -> ToolSet:
    schemas = {"add": ADD, "find": FIND, "now": {}, "clock.set": {}}
    tools: list[dict[str, JsonValue]] = [
        {"type": "function", "function": {"name": name, "parameters": schema, "strict": strict}}
        for name, schema in schemas.items()
    ]
    return ToolSet.of(tools, parallel=parallel)


TOOLS = tool_set()


def read(text: str, tools: ToolSet = TOOLS) -> tuple[str, list[tuple[str, JsonValue]]]:
    content, calls = split_calls(text, tools)
    return content, [(call.name, json.loads(call.arguments)) for call in calls]


SUM: list[tuple[str, JsonValue]] = [("add", {"a": 1, "b": 2})]
XML = "<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n</function>"


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("[add(a=1, b=2)]", "", SUM),
        ("[add(a=1, b=2), now()]", "", [*SUM, ("now", {})]),
        ("[\n  add(\n    a=1,\n    b=2,\n  ),\n]", "", SUM),
        ("I add them.\n[add(a=1, b=2)]", "I add them.", SUM),
        ("I add them: [add(a=1, b=2)]\nDone.", "I add them: \nDone.", SUM),
        ("[add(a=1, b=2)]\n[now()]", "", [*SUM, ("now", {})]),
        ("<|python_start|>[add(a=1, b=2)]<|python_end|>", "", SUM),
        ("```python\n[add(a=1, b=2)]\n```", "", SUM),
        ("Well.\n```tool_code\n[add(a=1, b=2)]\n```\n", "Well.", SUM),
        ("[clock.set(at='noon')]", "", [("clock.set", {"at": "noon"})]),
        ("[find(text='it\\'s [a](b)')]", "", [("find", {"text": "it's [a](b)"})]),
        ("[find(tags=[1, -2.5, 'x'])]", "", [("find", {"tags": [1, -2.5, "x"]})]),
        ('[find(text="a\nb\\d", exact=false)]', "", [("find", {"text": "a\nb\\d", "exact": False})]),
        ("[find(where={'k': None, 'l': (1, 2)})]", "", [("find", {"where": {"k": None, "l": [1, 2]}})]),
        ('<function=add>{"a": 1, "b": 2}</function>', "", SUM),
        ('Look: <function=add>{"a": 1, "b": 2}}</function> there', "Look:  there", SUM),
        ("<function=add>{'a': 1, 'b': 2}", "", SUM),  # complete except for the closing tag
        ('<function="add">\n{"a": 1, "b": 2}\n</function><function=now></function>', "", [*SUM, ("now", {})]),
        (XML, "", SUM),
        (f"<tool_call>\n{XML}\n</tool_call>", "", SUM),
        (f"Yes.\n<tool_call>\n{XML}\n</tool_call>\n<tool_call>\n{XML}\n</tool_call>", "Yes.", SUM * 2),
        (f"<tool_call>{XML}{XML}</tool_call>", "", SUM * 2),
        (f"{XML}\n</tool_call>", "", SUM),  # without the opening tag
        (XML.replace("\n</parameter>", ""), "", SUM),  # without closing tags
        (f"<tool_call>{XML.replace('</parameter>', '', 1)}</tool_call>", "", SUM),
        ('<|python_start|>{"name": "add", "parameters": {"a": 1, "b": 2}}<|python_end|>', "", SUM),
        (f"<tool_call>{{'name': 'now', 'arguments': {{}}}}</tool_call>\n{XML}", "", [("now", {}), *SUM]),
        ("<tool_call>[{'name': 'now', 'arguments': {}}, {\"name\": \"now\"}]</tool_call>", "", [("now", {})] * 2),
        ("{'name': 'add', 'arguments': {'a': 1, 'b': 2}}", "", SUM),
        ("{'name': 'find', 'parameters': {'exact': true}}}", "", [("find", {"exact": True})]),
        ("{'name': 'find', 'parameters': {'text': \"it's\"}}", "", [("find", {"text": "it's"})]),
        ('<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2,}}</tool_call>', "", SUM),
        ('<tool_call>{"name": "add", "arguments": "{\'a\': 1, \'b\': 2}"}</tool_call>', "", SUM),
        ('{"name": "add", "arguments": {"a": 1, "b": 2}}}', "", SUM),
    ],
)  # fmt: skip
def test_forms_of_calls(text: str, content: str, calls: list[tuple[str, JsonValue]]) -> None:
    assert read(text) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "[subtract(a=1, b=2)]",  # no tool
        "Models write [subtract(a=1)]",
        "Write <function=subtract>{}</function> for that",
        "<tool_call>\n<function=subtract>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
        "{'name': 'subtract', 'arguments': {}}",
        "[add(a=1, b=2), subtract(a=1)]",
        "A call is written as [add(a=1, b=2)] in Llama's syntax.",  # within a sentence
        "Type `[add(a=1, b=2)]`",
        "x = [add(a=1, b=2)]",
        "table[add(a=1)]",
        "[add(1, 2)]",  # without names
        "[add(**{'a': 1})]",
        "[add(a=b)]",  # no literals
        "[add(a=1+1)]",
        "[add(a=add(a=1))]",
        "[add(a=1).b]",
        "[add(a=b'1')]",
        "[add(a={1, 2})]",
        "[add(a={1: 2})]",
        "[add(a=1e999)]",
        "[add(a=1j)]",
        "[add(a='\\ud800')]",
        "[add(a=" + "[" * 500 + "]" * 500 + ")]",
        "[add(a=" + "-" * 50_000 + "1)]",
        "[add(a=" + "9" * 5_000 + ")]",
        "[add(a=1, a=2)]",
        "[add(a=1, b=2)",  # truncated
        "[add(a=1, b='2)]",
        XML[: XML.index("</function>")],
        XML[:30],
        f"<tool_call>\n{XML[:-1]}",
        '<function=add>{"a": 1',
        "[add, now]",
        "[]",
        "See [add](https://example.org) and [now()](https://example.org).",
    ],
)
def test_texts_that_are_no_calls(text: str) -> None:
    assert split_calls(text, TOOLS) == (text, ())


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        ("text", "1", "1"),
        ("text", "true", "true"),
        ("text", " a\n b ", " a\n b "),
        ("text", "<b>{x}</b>\n", "<b>{x}</b>\n"),
        ("text", "", ""),
        ("text", "if a < b:\n    </function> <p>", "if a < b:\n    </function> <p>"),
        ("name", "null", None),
        ("name", "nullify", "nullify"),
        ("name", "None", "None"),
        ("tags", '["a", 1]', ["a", 1]),
        ("tags", "['a', None]", ["a", None]),
        ("where", '{"k": true}', {"k": True}),
        ("where", "null", None),
        ("where", "nowhere", "nowhere"),
        ("exact", "true", True),
        ("exact", "False", False),
        ("exact", "TRUE", True),
        ("exact", "None", None),
        ("exact", "maybe", "maybe"),
        ("order", "up", "up"),
        ("unknown", "1", "1"),
    ],
)
def test_parameters_have_the_types_of_the_schema(parameter: str, text: str, value: JsonValue) -> None:
    call = f"<function=find>\n<parameter={parameter}>\n{text}\n</parameter>\n</function>"
    assert read(call) == ("", [("find", {parameter: value})])


def test_an_empty_parameter_of_another_type_is_left_out() -> None:
    call = "<function=find>\n<parameter=tags>\n</parameter>\n<parameter=text></parameter>\n</function>"
    assert read(call) == ("", [("find", {"text": ""})])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
literals: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
keys = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True).filter(lambda key: not keyword.iskeyword(key))


@given(
    st.lists(st.tuples(st.sampled_from(["now", "clock.set"]), st.dictionaries(keys, literals, max_size=3)), min_size=1)
)
def test_lists_hold_any_literal(made: list[tuple[str, dict[str, JsonValue]]]) -> None:
    items = [f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in made]
    assert read(f"[{', '.join(items)}]") == ("", made)


def test_equal_calls_in_different_forms_are_one_vote() -> None:
    forms = [
        "[add(b=2.0, a=1)]",
        '<function=add>{"a": 1, "b": 2}</function>',
        f"<tool_call>\n{XML}\n</tool_call>",
        '{"name": "add", "arguments": {"a": 1, "b": 2}}}',
        "<tool_call>{'name': 'add', 'arguments': {'a': 1, 'b': 2}}</tool_call>",
    ]
    task = bw.Task(name="agent", format=ToolCallFormat(TOOLS, Math(), prose=True))
    result = bw.solve_sync("q", Talk([*forms, "[add(a=1)]", "Hm."]), strategy=bw.SelfConsistency(7), task=task)
    assert list(result.votes.values()) == [5.0, 1.0, 1.0]
    assert result.answer == '[{"name": "add", "arguments": {"a": 1, "b": 2}}]'


def test_one_call_at_most() -> None:
    one = tool_set(parallel=False)
    assert read("Both: [add(a=1), now()]", one) == ("Both:", [("add", {"a": 1})])
    assert read(f"{XML}<function=now></function>", one) == ("", SUM)
    assert read(f"{XML}<function=now></function>")[1] == [*SUM, ("now", {})]
    format_ = ToolCallFormat(one)
    assert format_.extract("[add(a=1), now()]") == format_.extract("[add(a=1)]")


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("[add(a=1)]", True),
        ("[add(a=1, b=2.5)]", True),
        ("[add(a='1')]", False),
        ("[add(b=2)]", False),
        ("[add(a=1, c=3)]", False),
        ("[add(a=1), add(b=2)]", False),
        (XML, True),
        (XML.replace("1", "one"), False),
    ],
)
def test_calls_of_strict_tools_fit_the_schema(text: str, is_valid: bool) -> None:
    assert bool(split_calls(text, tool_set(strict=True)).calls) is is_valid
    assert split_calls(text, tool_set()).calls


def test_schemas_of_strict_tools_are_checked() -> None:
    def strict(schema: dict[str, JsonValue]) -> ToolSet:
        return ToolSet.of([{"function": {"name": "add", "parameters": schema, "strict": True}}])

    with pytest.raises(bw.ConfigError, match=r"tools: the schema of add is invalid .*; correct it"):
        strict({"type": "numbr"}).check()
    remote = strict({"$ref": "http://localhost:9/schema"})
    remote.check()
    assert not remote.accepts("add", {})  # nothing is fetched
    slow = strict({"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert slow.accepts("add", {"a": "a" * 40 + "b"})  # patterns are not checked
    deep = strict({"$ref": "#"})
    assert not deep.accepts("add", {})


@pytest.mark.parametrize("text", ["\n[add(a=1", " <function=add>", f"\n<tool_call>{XML[:40]}", "\n{'name': 'add'"])
def test_a_truncated_text_may_become_a_call(text: str) -> None:
    assert ToolCallFormat(TOOLS, Math()).extract_cut(f"{'' if text[1] == '{' else 'The answer is 7.'}{text}") is None
    assert ToolCallFormat(TOOLS, Math()).extract_cut("The answer is 7.\nI hope") == "7"
