"""Words around a stated answer, in the languages of MGSM and others: "The answer is 5", "La respuesta es 5", "答案是5".

All languages are tried, because a model may think in one and answer in another. A language costs time only if its
noun occurs in the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_MARKUP = r"[*_]*"
_REMARK = r"(?:\s*\([^()\n]{1,40}\)(?=\s*[:=：]))?"  # "Answer (in dollars): 5"
_VALUE = r"(?=\s*\(?[-+]?[\d$\\])|(?=\s*\([A-Za-z]\))|(?=\s+(?-i:[A-Z])(?!\w))"  # without a verb: "జవాబు 42", "Ответ B"


class _Language(NamedTuple):
    """Words with which a language announces an answer, as regular expressions; "|" divides alternatives."""

    nouns: str
    links: str
    """Verbs between the noun and the value. A colon, an equals sign and an arrow always are links."""
    between: str = ""
    """Words with which a complement of the noun begins: "to the question", "finale"."""
    not_after: tuple[str, ...] = ()
    """Text before the noun that announces something else: "step by step answer"."""
    spaced: bool = True
    """False if the script puts no spaces between words."""
    negated: str = ""
    """Beginnings of the verb in a statement of what the answer is not."""
    bare: bool = False
    """True if the value may follow without a verb."""


_ENGLISH = _Language(
    nouns=r"answers?|ans|correct\s+option|right\s+option|best\s+option|correct\s+choice|right\s+choice|best\s+choice",
    links=r"is|are|(?:would|should|must|will) be|comes (?:out )?to",
    between="to|for|of|in|therefore|thus|then",
    not_after=("this ", "that ", "your ", "step ", "step-"),
)
_LANGUAGES = (
    _ENGLISH,
    _Language(  # Spanish
        "respuestas?|opción correcta|alternativa correcta",
        "es|son|sería|será|debe ser",
        "final|correcta|a|al|de|del|para|en|entonces",
        negated="no es",
    ),
    _Language(  # Portuguese
        "respostas?|opção correta|alternativa correta",
        "é|são|seria|será|deve ser",
        "final|correta|certa|à|ao|a|para|da|do",
        negated="não é",
    ),
    _Language(  # French
        "réponses?|reponse|option correcte",
        "est|sont|serait|sera|doit être",
        "finale|correcte|exacte|à|au|de|du|pour",
        negated="n'est",
    ),
    _Language(  # Italian
        "risposta|risposte|opzione corretta",
        "è|e'|sono|sarebbe|sarà",
        "finale|corretta|esatta|giusta|alla|al|per",
        negated="non è",
    ),
    _Language(  # German
        "antwort|antworten|endantwort|richtige option|korrekte option",
        "ist|sind|lautet|wäre|beträgt",
        "auf|für|zu|also|daher|somit",
        not_after=("schritt-",),
    ),
    _Language("antwoord", "is|zijn|luidt", "op|voor|van"),  # Dutch
    _Language("svaret|svar", "är|er|blir", "på|til"),  # Swedish, Danish, Norwegian
    _Language("jibu", "ni|litakuwa", "sahihi|la mwisho|kwa swali|la swali|lake|letu"),  # Swahili
    _Language("jawaban|jawabannya", "adalah|ialah|yaitu", "akhir|yang|dari|untuk|akhirnya"),  # Indonesian, Malay
    _Language("đáp án|câu trả lời", "là", "cuối|đúng|cho|của"),  # Vietnamese
    _Language("cevap|yanıt|cevabı|yanıtı", "şudur", bare=True),  # Turkish
    _Language("odpowiedź|odpowiedz", "to|jest|brzmi|wynosi", "końcowa|prawidłowa|poprawna|na"),  # Polish
    _Language(  # Russian
        "ответ|ответы|ответом|правильный вариант",
        "есть|будет|равен|это|является|[—–-](?=\\s)",
        "на|к|задачи|в",
        negated="не",
        bare=True,
    ),
    _Language("відповідь", "це|є|буде|[—–-](?=\\s)", "на|до", bare=True),  # Ukrainian
    _Language("απάντηση", "είναι", "στην|στο|σε"),  # Greek
    _Language(  # Chinese
        "答案|正确选项|正確選項|正确的选项",
        "(?:应该|應該|应当|应|應|就|便|即|也)?(?:是|为|為|等于|等於|选|選)|应该",
        "选项|選項|最终|应该",
        negated="不是",
        spaced=False,
        bare=True,
    ),
    _Language("故选|故選|应选|應選", "择|擇|(?=\\s*[(（A-Z])", spaced=False),  # Chinese: "so choose"
    _Language("答", "(?=[:：])", not_after=("问", "問", "回", "解"), spaced=False),  # Chinese: "A: 42"
    _Language("答え|こたえ|正解|解答|回答", "は|が", "", ("ごとの", "逐步", "ごとに"), spaced=False),  # Japanese
    _Language("정답|답", "은|는|이", "", ("대", "응", "화"), spaced=False),  # Korean
    _Language("คำตอบ", "คือ|เป็น|เท่ากับ", "ที่ถูกต้อง|สุดท้าย|ของ|นี้|จึง|ก็", spaced=False),  # Thai
    _Language("উত্তর|উত্তরটি", "হল|হলো|হচ্ছে|হবে|হয়", "", ("ধাপে ধাপে ",), bare=True),  # Bengali
    _Language("సమాధానం|జవాబు", "ఇది", "", ("దశలవారీగా ",), bare=True),  # Telugu
    _Language("उत्तर|जवाब", "है|होगा|हैं", bare=True),  # Hindi
    _Language(  # Arabic and Persian
        "إجابة|الإجابة|اجابة|الاجابة|جواب|الجواب|پاسخ",
        "هو|هي|هى|است|برابر",
        "الصحيحة|الصحيح|النهائية|النهائي|على|عن",
        bare=True,
    ),
    _Language("תשובה|התשובה", "היא|הוא", "הסופית|הנכונה|ל"),  # Hebrew
)


@cache
def _pattern(language: _Language) -> re.Pattern[str]:
    """Return the pattern of a lead: noun, complement, link."""
    before = "".join(f"(?<!{text})" for text in language.not_after)
    edge = r"(?![\w\u0900-\u0963\u0970-\u0dff])" if language.spaced else ""
    space = r"\s+" if language.spaced else r"\s*"
    start = r"(?<![^\W\d_])" if language.spaced else ""
    complement = rf"(?:,?{space}(?:{language.between}){edge}[^.:\n]{{0,80}}?)?" if language.between else ""
    bare = f"|{_VALUE}" if language.bare else ""
    negated = rf"|{space}(?=(?:{language.negated}){edge})" if language.negated else ""
    possessive = r"|['’]s(?=\s+(?:(?-i:[^a-z\s])|(?:yes|no|true|false)\b))" if language is _ENGLISH else ""
    return _compile(
        rf"{start}{before}(?:{language.nouns}){edge}{_MARKUP}{complement}{_REMARK}"
        rf"(?:\s*(?:[:=：＝→⇒]|->)|{space}(?:{language.links}){edge}{bare}{negated}{possessive}){_MARKUP}\s?[:：]?"
    )


@cache
def _title(language: _Language) -> re.Pattern[str]:
    """Return the pattern of a heading with nothing but the noun and words like "final"."""
    first = r"(?:[^\W\d]+[ ]){0,2}" if language.spaced else r"\w{0,6}"
    if language is _ENGLISH:
        first = r"(?:the\s+)?(?:(?:final|correct)\s+)?"
    last = rf"(?:[ ](?:{language.between}))?" if language.between else ""
    return _compile(rf"^[#*_ \t]*{first}(?:{language.nouns}){last}[*_:： \t]*$")


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(unicodedata.normalize("NFC", pattern), re.IGNORECASE | re.MULTILINE)


def _gates(language: _Language) -> tuple[str, ...]:
    """Return words of which at least one is in every text that has a lead."""
    nouns = unicodedata.normalize("NFC", language.nouns)
    return tuple({re.split(r" |\\s\+|s\?", noun)[0] for noun in nouns.split("|")})


_GATES = tuple((_gates(language), language) for language in _LANGUAGES)


def lead_ends(text: str) -> Iterator[int]:
    """Yield the positions after the leads ("the answer is", "Answer:", a heading "### Answer") of every language."""
    lowered = text.lower()
    for words, language in _GATES:
        if any(word in lowered for word in words):
            for pattern in (_pattern(language), _title(language)):
                yield from (found.end() for found in pattern.finditer(text))


REASONS = (
    "porque|pues|ya que|parce que|car|puisque|weil|denn|poiché|perché|pois|omdat|eftersom|kwa sababu|karena|çünkü"
    "|ponieważ|потому|поскольку|так как|ведь|бо|因为|因為|なぜなら|왜냐하면|เพราะ|কারণ|ఎందుకంటే|क्योंकि|لأن|زیرا"
)
"""Words that begin a reason; the English ones are in statement.py. This and the next ones are alternatives."""
FILLERS = (
    "donc|alors|entonces|por lo tanto|por tanto|portanto|quindi|dunque|also|daher|somit|dus"
    "|aproximadamente|environ|etwa|ungefähr|circa|примерно|около|大约|大約|约为|約|约"
)
"""Words between a lead and the value that do not change it."""
NEGATIONS = "no es|não é|n'est|non è|nicht|niet|inte|ikke|не|不是|ではな|ไม่ใช่"
"""Words that open a statement of what the answer is not."""
CONJUNCTION = (
    r"(?:(?<![^\W\d_])(?:or|and|o|u|y|e|ou|et|oder|und|или|и|na|au)(?![^\W\d_])|或者|或|和|与|與|と|か|또는|และ|หรือ)"
)
"""Pattern of a word between two answers."""
LIST_WORD = re.compile(
    r"(?<=[\d)}])(?:\s+(?:o|ou|et|oder|und|или|и|na|au)\s+|\s*(?:或者|或|和|与|與|と|または|또는|และ|หรือ)\s*)"
    r"(?=[-+]?[\d\\(]|[A-Za-z]\s*=)"
    r"|(?<=[\d)}])\s+(?:y|u|e|i)\s+(?=\d|\\d?frac|[A-Za-z]\s*=)",  # a sign would make them variables: "3 y -2"
    re.IGNORECASE,
)
"""A word between two values: "2 o 3", "x = 2 oder x = 3", "2或3"."""
ENDINGS = "'[dt][ıiuü]r|です|である|でした|だ|입니다|이다|이에요|예요| है| हैं| হবে"
"""Verbs that follow the value."""
OPTIONS = (
    "option|choice|letter|answer|opción|opção|opzione|alternativa|letra|lettre|lettera|antwort|buchstabe|вариант|буква"
    "|选项|選項|選択肢|ตัวเลือก|ข้อ|বিকল্প|विकल्प|ఎంపిక|chaguo|보기"
)
YES = (
    "yes|true|y|t|sí|si|oui|ja|sim|sì|да|так|是的|是|对|はい|예|네|ใช่|ndiyo|হ্যাঁ|అవును|हाँ|हां|نعم|evet|ya|có"
    "|verdadero|verdadeiro|vrai|wahr|vero|верно|истина|正确|真|จริง"
)
NO = (
    "no|false|n|f|non|nein|nee|não|нет|否|不对|いいえ|아니요|아니오|ไม่ใช่|ไม่|hapana|না|కాదు|नहीं|لا|hayır|tidak|không"
    "|falso|faux|falsch|неверно|ложь|错误|假|เท็จ"
)
