"""The part of a model's text that states its answer: without thoughts, and without what follows its turn."""

import re
from collections.abc import Callable, Iterator

# Marks of thoughts, and the header of the final channel, before which everything is thought.
_THOUGHT = re.compile(
    r"(?P<open><(?:think|thinking|thought|thoughts|reasoning|scratchpad|seed:think)>|\[THINK\]|<\|begin_of_thought\|>|◁think▷"
    r"|<\|channel\|>(?:analysis|commentary))"
    r"|</(?:think|thinking|thought|thoughts|reasoning|scratchpad|seed:think)>|\[/THINK\]|<\|end_of_thought\|>|◁/think▷"
    r"|<\|channel\|>final(?:\s*<\|constrain\|>\w*)?<\|message\|>",
    re.IGNORECASE,
)
# Special tokens that end a turn, or begin the next one.
_TOKEN = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|eot|eos|end|end_of_text|endoftext|end_of_turn|endofturn|end_of_turn_token"
    r"|start_header_id|end_header_id|start|return|user|assistant|begin_of_text|end▁of▁sentence|begin▁of▁sentence)\|>"
    r"|</?s>|<(?:bos|eos|eot|end_of_turn|start_of_turn)>|\[INST\]",
    re.IGNORECASE,
)
_ROLE = re.compile(r"\s*(?:assistant|model|ai)?\s*", re.IGNORECASE)
# A new question on a line of its own. Numbered ones are steps of one solution.
_QUESTION = re.compile(
    r"^[#*_ \t]*(?:(?:next|new|another) )?(?:question|q|problem|exercise|human|user|instruction|pregunta|problema|frage"
    r"|aufgabe|domanda|pergunta|вопрос|задача|问题|問題|题目|質問|질문|문제|คำถาม|โจทย์|swali|প্রশ্ন|ప్రశ్న|प्रश्न|सवाल"
    r"|سؤال|السؤال|soru|câu hỏi|pertanyaan)[*_]*[ ]?[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_TAG = re.compile(r"(?P<open><(?:final[_ ]?)?answer>|\[ANSWER\])|</(?:final[_ ]?)?answer>|\[/ANSWER\]", re.IGNORECASE)
_STYLE_END = re.compile(r"</(b|strong|em|i|u|mark|code|p|span|div|li)>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s?/?>", re.IGNORECASE)


def first_stated(text: str, find: Callable[[str], str | None]) -> str | None:
    """Return what `find` finds in the first part of a text that states an answer, or None.

    `find` returns None if a part states no answer, and "" if it takes an answer back. The parts are the content of
    `<answer>` tags, which is the only one if they are closed; the text before a new question, with which base models
    continue after their answer; and the whole text.
    """
    found = (find(part) for part in _parts(text))
    return next((answer for answer in found if answer is not None), None) or None


def _parts(text: str) -> Iterator[str]:
    text = _without_html(_own_turn(without_thoughts(text)))
    tagged, closed = _tagged(text)
    if tagged:
        yield tagged
    if not closed:
        question = next((mark for mark in _QUESTION.finditer(text) if text[: mark.start()].strip()), None)
        if question is not None:
            yield text[: question.start()]
        yield text


def without_thoughts(text: str) -> str:
    """Remove the thoughts. A closing mark alone ends thoughts that the prompt opened; open ones run to the end."""
    kept: list[str] = []
    begin, inside = 0, False
    for mark in _THOUGHT.finditer(text):
        if not mark["open"]:
            kept = kept if inside else []
            begin, inside = mark.end(), False
        elif not inside:
            kept.append(text[begin : mark.start()])
            inside = True
    return "".join(kept) if inside else "".join(kept) + text[begin:]


def _own_turn(text: str) -> str:
    """Cut the text at the first special token after its first words."""
    begin = 0
    for token in _TOKEN.finditer(text):
        if not _ROLE.fullmatch(text, begin, token.start()):
            return text[begin : token.start()]
        begin = token.end()
    return text[begin:]


def _without_html(text: str) -> str:
    """Remove the tags of a style that is closed somewhere; "a<b>c" alone may be an inequality."""
    text = _BREAK.sub("\n", text)
    names = "|".join({found[1].lower() for found in _STYLE_END.finditer(text)})
    return re.sub(rf"</?(?:{names})>", "", text, flags=re.IGNORECASE) if names else text


def _tagged(text: str) -> tuple[str, bool]:
    """Return the last nonempty content of `<answer>` tags as a statement, "" without one, and True if it is closed."""
    opened: int | None = None
    found, closed = "", False
    for mark in _TAG.finditer(text):
        if mark["open"]:
            opened = mark.end()
            continue
        content = text[opened or 0 : mark.start()].strip()
        if content and (opened is not None or not closed):
            found, closed = _statement(content, opened), True
        opened = None
    if opened is not None and not closed:
        found = _statement(text[opened:].strip(), opened)
    return found, closed


def _statement(content: str, opened: int | None) -> str:
    """Return the content of tags after a lead. Several lines before a closing tag alone may be a solution."""
    return content if not content or (opened is None and "\n" in content) else f"Answer: {content}"
