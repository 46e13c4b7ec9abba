"""Texts around an answer: thoughts, `<answer>` tags, special tokens and a next question."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from branchwise.answers.choices import Letter, YesNo
from branchwise.answers.formats import AnswerFormat, Math, Text

M, L, Y, T = Math(), Letter(), YesNo(), Text()

ROWS: list[tuple[AnswerFormat, str, str | None]] = [
    # tags
    (M, "<answer>42</answer>", "42"),
    (M, "<answer>42", "42"),
    (M, "42</answer>", "42"),
    (M, "The answer is 42</answer>", "42"),
    (M, "Let me see.\nThe answer is 42.\n</answer>", "42"),
    (M, "<answer>\nThe answer is 42\n</answer>", "42"),
    (M, "<ANSWER>\n\\boxed{42}\n</ANSWER> as in \\boxed{1}", "42"),
    (M, "So \\boxed{1}? <answer>\n  42 apples\n</answer>", "42 apples"),
    (M, "<final_answer>42</final_answer>", "42"),
    (M, "[ANSWER]42[/ANSWER]", "42"),
    (M, "<answer>x = 4</answer>", "4"),
    (M, "<answer>$\\frac{1}{2}$</answer>", "\\frac{1}{2}"),
    (M, "I will put it in <answer></answer> tags. The answer is 7.", "7"),
    (M, "<answer>5</answer> wait <answer>6</answer>", "6"),
    (M, "The answer is 5. <answer>unknown</answer>", None),
    (M, "<answer>cannot be determined</answer>", None),
    (M, "The answer is <b>42</b>.", "42"),
    (L, "<answer>C</answer>", "C"),
    (L, "<answer>(b) Paris</answer>", "B"),
    (L, "<answer>The correct option is B</answer>", "B"),
    (L, "C</answer>", "C"),
    (Y, "<answer>Yes</answer>", "Yes"),
    (T, "<answer>New York</answer>", "New York"),
    (T, "Paris</answer>", "Paris"),
    (T, "<answer>\nThe answer is Paris.\n</answer>", "Paris"),
    # a next question
    (M, "#### 18\n\nQuestion: Tom has 3 apples. How many?\nAnswer: 3\n#### 3", "18"),
    (M, "The answer is 18.\n\nQ: Tom has 3.\nA: The answer is 3.", "18"),
    (M, "\\boxed{18}\n\n### Problem:\nFind x. \\boxed{3}", "18"),
    (M, "Answer: 18\n\nHuman: thanks. The answer is 3", "18"),
    (M, "#### 18\n\n**Question:** Find x. The answer is 3", "18"),
    (M, "42\n\nQuestion: Find x.\nAnswer: 3", "42"),
    (M, "Die Antwort ist 18.\n\nFrage: Tom hat 3.\nAntwort: 3", "18"),
    (M, "答案是 18。\n\n问题：汤姆有 3 个苹果\n答案是 3。", "18"),
    (M, "The answer is unknown.\n\nQuestion: Find x.\nAnswer: 3", None),
    (M, "Question: how?\nAnswer: 5", "5"),
    (M, "We restate it.\nQuestion: how?\nAnswer: 5", "5"),
    (M, "Question 1: how?\nAnswer 1: 4\nQuestion 2: and?\nThe answer is 6.", "6"),
    (M, "The answer to the question: 5", "5"),
    (L, "B\n\nQuestion: which?\nAnswer: C", "B"),
    (T, "Answer: Paris\n\nQuestion: Which city?\nAnswer: Rome", "Paris"),
    # special tokens
    (M, "Answer: 42<|im_end|>", "42"),
    (M, "The answer is 42.</s>", "42"),
    (M, "42<end_of_turn>", "42"),
    (M, "The answer is 42<｜end▁of▁sentence｜>", "42"),
    (M, "The answer is 42<|endoftext|>Human: next. The answer is 5.", "42"),
    (M, "\\[\\boxed{42}\\]<|eot_id|><|start_header_id|>user<|end_header_id|>\n\\boxed{5}", "42"),
    (M, "<|im_start|>assistant\nThe answer is 42.<|im_end|>\n<|im_start|>user\nThe answer is 5", "42"),
    (M, "<s>[INST] Find x. [/INST] The answer is 42</s>", "42"),
    (L, "The answer is (B)<|eot_id|>", "B"),
    (Y, "Yes<|im_end|>", "Yes"),
    (T, "Answer: Paris<|im_end|>", "Paris"),
    # thoughts
    (M, "<think>\\boxed{5}</think>\nSo 6 it is. The answer is 6.", "6"),
    (M, "<think>\nthe answer is 5, I am sure", None),
    (M, "<thinking>Answer: 5</thinking>The result is 8.", None),
    (M, "[THINK]Answer: 5[/THINK]Answer: 8", "8"),
    (M, "[THINK]Answer: 5", None),
    (M, "<THINK>Answer: 5</THINK> Answer: 6", "6"),
    (M, "Answer: 5</think>Answer: 8", "8"),
    (M, "Answer: 5</think>It is 8", None),
    (M, "Answer: 8 <think>check that the answer is 5</think>", "8"),
    (M, "<reasoning>\\boxed{5}</reasoning>\n<answer>6</answer>", "6"),
    (M, "◁think▷The answer is 5◁/think▷The answer is 6", "6"),
    (M, "<|channel|>analysis<|message|>The answer is 5<|end|>", None),
    (
        M,
        "<|channel|>analysis<|message|>The answer is 5<|end|><|start|>assistant<|channel|>final<|message|>"
        "The answer is 42.<|return|>",
        "42",
    ),
    (L, "<thinking>The answer is A</thinking>The answer is B", "B"),
    (Y, "<think>no</think>yes", "yes"),
    (T, "<think>Answer: X</think>Answer: Paris", "Paris"),
]


@pytest.mark.parametrize(("format_", "text", "answer"), ROWS)
def test_the_answer_of_the_models_own_turn_is_found(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract(text) == answer


@pytest.mark.parametrize(
    ("format_", "text", "answer"),
    [
        (M, "<answer>4", None),
        (M, "<answer>42</ans", None),
        (M, "<answer>42</answer>", "42"),
        (M, "<answer>42\n", "42"),
        (M, "The answer is 42<|im_e", None),
        (M, "The answer is 42<|im_end|>", "42"),
        (M, "#### 18\n\nQuestion: Tom has 3", "18"),
        (M, "#### 18\n\nQuestion: Tom has 3.\nAnswer: 3", "18"),
        (M, "<think>The answer is 5.\n", None),
        (M, "[THINK]The answer is 5.[/THINK]\n", None),
    ],
)
def test_truncated_turns_state_final_answers_only(format_: AnswerFormat, text: str, answer: str | None) -> None:
    assert format_.extract_cut(text) == answer


PIECES = (
    [
        "The answer is ",
        "Answer:",
        "答えは",
        "Respuesta: ",
        '{"answer": ',
        "I pick ",
        "\\boxed{",
        "}",
        "####",
        "Question:",
    ],
    ["<answer>", "</answer>", "<think>", "</think>", "<|im_end|>", "\n", "\u2028", "\u200b", "\u200d", "e\u0301"],
    ["1", "234", "½", "²", "–", "٣", "ｘ", "twelve", "million", "万", "+", "=", "!", ",", ".", "$", "\\text{", "\\"],
    [
        "(B)",
        "b. ",
        "A",
        "yes",
        "sí",
        "U.S.",
        " a.m.",
        "the ",
        " or ",
        " o ",
        "或",
        "です",
        "。",
        "**",
        "`",
        '"',
        "🎉",
        " ",
    ],
)


@settings(deadline=None)
@given(st.lists(st.sampled_from([piece for row in PIECES for piece in row]), max_size=9).map("".join))
def test_any_mixture_is_read_consistently(text: str) -> None:
    for format_ in (M, L, Y, T):
        answer = format_.extract(text)
        assert answer != ""
        assert format_.extract_cut(text) in (answer, None)
        assert answer is None or format_.normal(format_.normal(answer)) == format_.normal(answer)
