"""Rewriting of mathematical notation into the LaTeX that the parser in worker.py reads.

Typed notation ("sqrt(8)", "√18", "x**2", "π/2") becomes LaTeX. Notation that the parser drops or misreads (primes,
labels of angles and segments, degrees in trigonometry) becomes a symbol or a factor that it keeps.
"""

import hashlib
import re

from branchwise.answers.brackets import closing

_COMMANDS = (
    "π=pi θ=theta α=alpha β=beta γ=gamma δ=delta ε=epsilon λ=lambda μ=mu σ=sigma τ=tau φ=phi ψ=psi ω=omega ρ=rho η=eta "
    "ξ=xi Δ=Delta Ω=Omega Φ=Phi Σ=Sigma ∞=infty ≤=le ≥=ge ⩽=le ⩾=ge ≠=ne ≈=approx ≡=equiv ∪=cup ∩=cap ∈=in ∅=emptyset "
    "∖=setminus ±=pm ∓=mp ×=times ·=cdot ⋅=cdot ÷=div …=ldots ⋯=cdots ∠=angle △=triangle ⟨=langle ⟩=rangle ∧=land "
    "∨=lor ℝ=mathbb{R} ℤ=mathbb{Z} ℚ=mathbb{Q} ℕ=mathbb{N} ℂ=mathbb{C}"
)
_CHARACTERS = str.maketrans({one[0]: f"\\{one[2:]} " for one in _COMMANDS.split()} | {"°": "^\\circ ", "′": "'"})

_TRIGONOMETRY = r"(?:sin|cos|tan|cot|sec|csc)"
_TYPED = re.compile(
    rf"(?<![\\A-Za-z])(sqrt|cbrt|exp|ln|log|lim|gcd|lcm|max|min|det|arg|a(?:rc)?{_TRIGONOMETRY}|{_TRIGONOMETRY}h?|pi|theta"
    r"|alpha|beta|gamma|delta|epsilon|lambda|mu|sigma|tau|phi|psi|omega|infinity|infty|inf)(?![A-Za-z])"
)
_RENAMED = {"infinity": "infty", "inf": "infty"}
_BARE_ROOT = re.compile(r"\\(sqrt|cbrt)\s*(\[[^\[\]]*\])?\s*(\d+(?:\.\d+)?|\\[A-Za-z]+|[A-Za-z](?![A-Za-z]))")
_BARE_POWER = re.compile(r"\^\s*(-?\d+(?!\d*\.)|-[A-Za-z])")
_SLASHED = re.compile(r"(?<![\w.^}/])(\d+)/(\d+)(?=\s*(?:[A-Za-z(]|\\(?!text)))")  # "1/2x" is half of x
_BARE_ACCENT = re.compile(r"\\(hat|vec|bar|tilde|dot|overline|mathbf|boldsymbol)\s+([A-Za-z])(?![A-Za-z])")
_FACTOR = re.compile(r"(?<![\w.\\{^])(\d+)\s*\((?=.)")  # the parser adds in "3(4)"
_FRACTION = re.compile(r"\\(frac|binom)\s*(\d|\{(?:[^{}]|\{[^{}]*\})*\})\s*(\d|\{(?:[^{}]|\{[^{}]*\})*\})")
_MIXED = re.compile(r"(?<![\d.}])(\d+)\s*(\\frac\{\d+\}\{\d+\})")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")
_COUNTS = re.compile(r"(?<![A-Za-z\d}])(?:\{\s*\})?[_^]?\{?(\d+)\}?\s*([CP])\s*_?\{?(\d+)\}?(?![A-Za-z\d])")
_DEGREES = re.compile(
    r"(\d+(?:\.\d+)?|\\frac\{[^{}]*\}\{[^{}]*\}|\([^()]*\)|\\?[A-Za-z]+)\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b)"
)
_DEGREE_SIGN = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b")
_LABEL = re.compile(
    r"\\(angle|triangle|overline|widehat|overarc|overrightarrow|overleftrightarrow|odot)\s*\{?\s*([A-Z][A-Z']{0,3})\s*\}?"
    r"(?![A-Za-z])"
)
_UNORDERED = ("overline", "widehat", "overarc", "overleftrightarrow", "triangle")  # AB is BA
_PRIMED = re.compile(r"([A-Za-z](?:_\{?\w+\}?)?)\s*(?:\^\s*\{?\s*((?:\\prime\s*)+)\}?|('+))")
_WORD_INDEX = re.compile(r"([A-Za-z])_\{?\s*([A-Za-z]{2,})\s*\}?")


def to_latex(text: str) -> str:
    """Return the LaTeX of a cleaned expression in mixed notation. Equal expressions may still have different LaTeX."""
    text = text.translate(_CHARACTERS).replace("**", "^").replace("^\\prime", "'")
    text = re.sub(r"\\[dtc](frac|binom)(?![A-Za-z])", r"\\\1", text)
    text = re.sub(r"\\sqrt([A-Za-z])(?![A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"\\operatorname\*?\s*\{(\w+)\}", r"\\\1 ", text)
    text = text.replace("√", "\\sqrt ").replace("∛", "\\sqrt[3] ").replace("∜", "\\sqrt[4] ")
    text = _SLASHED.sub(r"\\frac{\1}{\2}", _in_braces(text, r"\^"))
    text = re.sub(r"(?<![A-Za-z\\])log(2|10)(?=\s*\()", r"\\log_{\1}", text)
    text = _BARE_ACCENT.sub(r"\\\1{\2}", _BARE_POWER.sub(r"^{\1}", text))
    text = _FACTOR.sub(r"\1\\cdot (", text)
    text = _TYPED.sub(lambda found: "\\" + _RENAMED.get(found[1], found[1]), text)
    text = re.sub(r"\\log\s*_\s*(\w)", r"\\log_{\1} ", text)
    text = re.sub(rf"\\a({_TRIGONOMETRY[3:-1]})(?![A-Za-z])", r"\\arc\1", text)
    text = _braced_roots(text)
    text = _FRACTION.sub(lambda found: f"\\{found[1]}{_braced(found[2])}{_braced(found[3])}", text)
    text = _in_radians(text)
    text = _PRIMED.sub(lambda found: _symbol(f"{found[1]}{len(found[3] or re.findall('prime', found[2]))}'"), text)
    text = _LABEL.sub(_label, text)
    text = _WORD_INDEX.sub(lambda found: _symbol(f"{found[1]}_{found[2]}"), text)
    text = _COUNTS.sub(_count, text)
    text = _REPEATING.sub(_repeating, text)
    text = _DECIMAL.sub(lambda found: f"\\frac{{{int(found[1] + found[2])}}}{{{10 ** len(found[2])}}}", text)
    return re.sub(r"\s+", " ", _MIXED.sub(r"(\1+\2)", text)).strip()


def _braced(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"


def _braced_roots(text: str) -> str:
    """Give every root its argument in braces: "\\sqrt (x+1)", "\\sqrt[3]2" and "\\sqrt18" have none."""
    text = _BARE_ROOT.sub(lambda found: f"\\{found[1]}{found[2] or ''}{{{found[3]}}}", text)
    return _in_braces(text, r"\\(?:sqrt|cbrt)(?![A-Za-z])\s*(?:\[[^\[\]]*\])?").replace("\\cbrt{", "\\sqrt[3]{")


def _in_braces(text: str, command: str) -> str:
    """Replace the parentheses after a command, a pattern, by braces."""
    pattern = re.compile(rf"(?:{command})\s*(?=\()")
    start = 0
    while found := pattern.search(text, start):
        start, end = found.end(), closing(text, found.end())
        if end is not None:
            text = f"{text[:start]}{{{text[start + 1 : end]}}}{text[end + 1 :]}"
    return text


def _in_radians(text: str) -> str:
    """Convert degrees to radians beside trigonometric functions, where they change the value; drop them elsewhere."""
    if re.search(rf"\\(?:arc)?{_TRIGONOMETRY}", text):
        return _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text)
    return _DEGREE_SIGN.sub("", text)


def _label(found: re.Match[str]) -> str:
    """Return a symbol for a labelled figure. Angle ABC is angle CBA, and segment AB is segment BA."""
    kind, letters = found.groups()
    points = re.findall(r"[A-Z]'*", letters)
    if kind in _UNORDERED:
        points.sort()
    if kind == "angle":
        points = min(points, points[::-1])
    return _symbol(f"{kind} {points}")


def _symbol(name: str) -> str:
    """Return a symbol that is equal for equal names only."""
    return f" Z_{{{int(hashlib.sha256(name.encode()).hexdigest()[:10], 16)}}} "


def _count(found: re.Match[str]) -> str:
    """Return combinations "5C2" and permutations "5P2" in standard notation."""
    total, kind, chosen = int(found[1]), found[2], int(found[3])
    if kind == "C":
        return f"\\binom{{{total}}}{{{chosen}}}"
    return f"\\frac{{{total}!}}{{({total}-{chosen})!}}"


def _repeating(found: re.Match[str]) -> str:
    """Return "1.2\\overline{34}" as a fraction."""
    whole, fixed, period = found.groups()
    below = (10 ** len(period) - 1) * 10 ** len(fixed)
    above = int(whole + fixed or 0) * (10 ** len(period) - 1) + int(period)
    return f"\\frac{{{above}}}{{{below}}}"
