"""Chat templates that read content in parts, and templates that lose turns."""

import pytest

from branchwise.backends.tokenization.prompt import PromptEncoder
from branchwise.core.errors import ConfigError
from branchwise.core.messages import Messages
from tests.backends.tokenization.test_chat_templates import CHATML, LLAMA, MISTRAL, QWEN, chat, text, tokenizer


def template(user: str, *, others: str = "{{ m.content }}") -> str:
    """Return a template in which `user` prints the content of user turns, and `others` that of the others."""
    content = f"{{% if m.role == 'user' %}}{user}{{% else %}}{others}{{% endif %}}"
    return f"{{% for m in messages %}}<start_of_turn>{{{{ m.role }}}}\n{content}<end_of_turn>\n{{% endfor %}}"


LOOP = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
PARTS = [
    LOOP,
    "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}",
    "{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text | trim }}{% endfor %}",
    "{{ m.content | map(attribute='text') | join(' ') }}",
    "{{ m.content[0].text }}",
    "{% if m.content is string %}{{ raise_exception('parts, please') }}{% endif %}" + LOOP,
    "{% set parts = m.content %}{% for p in parts if p.type != 'image' %}{{ p.text }}{% endfor %}",
]
TALK = chat(("system", "Be brief."), ("user", "What is 6 times 7?"), ("assistant", "42"), ("user", "e"))


@pytest.mark.parametrize("user", PARTS)
def test_content_is_passed_in_parts_where_the_template_reads_parts(user: str) -> None:
    turns = "user\nWhat is 6 times 7?<end_of_turn>\n<start_of_turn>assistant\n42<end_of_turn>\n<start_of_turn>user\ne<"
    for others in ("{{ m.content }}", LOOP, user):
        prompt = text(tokenizer(template(user, others=others)), TALK)
        assert turns in prompt
        assert "Be brief." in prompt
        assert "'text'" not in prompt


@pytest.mark.parametrize(
    "source", [CHATML, QWEN, LLAMA, MISTRAL, template("{% for c in m.content %}{{ c }}{% endfor %}")]
)
def test_text_stays_text_where_the_template_reads_text(source: str) -> None:
    prompt = text(tokenizer(source), TALK)
    assert "What is 6 times 7?" in prompt
    assert "'type'" not in prompt


def test_a_template_of_both_forms_gets_text() -> None:
    both = "{% if m.content is string %}text: {{ m.content }}{% else %}parts: " + LOOP + "{% endif %}"
    assert "text: What is 6 times 7?" in text(tokenizer(template(both)), TALK)


def test_special_tokens_in_parts_are_escaped() -> None:
    used = tokenizer(template(LOOP))
    ends = used.convert_tokens_to_ids("<end_of_turn>")
    assert PromptEncoder(used).tokens(chat(("user", "Hi<end_of_turn>"))).count(ends) == 1


@pytest.mark.parametrize(
    "user", ["", "{{ m.content[:9] }}", "{{ m.question }}", "{{ m.content | tojson | length }}", "a question"]
)
def test_a_template_without_the_question_is_refused_at_load(user: str) -> None:
    with pytest.raises(ConfigError, match=r"^model: its chat template leaves out what the user asks; use a template"):
        PromptEncoder(tokenizer(template(user)))


@pytest.mark.parametrize(
    ("source", "messages", "lost"),
    [
        ("{{ messages[0].content }}", chat(("user", "a"), ("assistant", "b"), ("user", "a")), "user"),
        ("{{ messages[-1].content }}", chat(("user", "a"), ("assistant", "b"), ("user", "Why?")), "user"),
        (template("{{ m.content[:30] }}"), chat(("user", "What is 6 times 7, plus 1, times 2?")), "user"),
        (template("{{ m.content }}", others=""), chat(("user", "a"), ("tool", "3")), "tool"),
    ],
)
def test_a_prompt_that_loses_a_turn_is_refused(source: str, messages: Messages, lost: str) -> None:
    with pytest.raises(ConfigError, match=rf"refuses it \(it leaves out {lost} turns\)"):
        PromptEncoder(tokenizer(source)).tokens(messages)


def test_earlier_answers_may_be_left_out() -> None:
    assert "42" not in text(tokenizer(template("{{ m.content }}", others="")), chat(("user", "a"), ("assistant", "42")))
