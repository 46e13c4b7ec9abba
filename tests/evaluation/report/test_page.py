"""The report page."""

import pytest

from branchwise.evaluation import Answered, summarize
from branchwise.evaluation.report import page as page_module
from branchwise.evaluation.report.page import make_section, render
from branchwise.evaluation.report.plot import plot
from tests.support.evaluations import make_answered, make_path
from tests.support.pages import Page

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>'


def rendered(*rows: Answered) -> str:
    return render("t", [make_section(summarize("rows", rows, ["sc"]), rows, None)])


def test_metrics_are_in_the_columns_of_their_names() -> None:
    rows = [make_answered("a", metrics={"f1": 0.5}), make_answered("a", "x", metrics={"bleu": 0.25, "f1": 1.0})]
    summary = summarize("rows", rows, ["sc", "x"])
    assert summary.metrics == ["f1", "bleu"]
    page = render("t", [make_section(summary, rows, None)])
    assert "<th>f1</th><th>bleu</th>" in page
    assert "<td>0.500</td><td></td>" in page
    assert "<td>1.000</td><td>0.250</td>" in page


def test_text_of_models_and_data_sets_is_escaped() -> None:
    one = make_answered(
        EVIL,
        EVIL,
        texts=(EVIL, f"{EVIL} more"),
        question=EVIL,
        reference=EVIL,
        answer=EVIL,
        votes={EVIL: 2.0},
        degraded=[EVIL],
        errors=[EVIL],
    )
    summary = summarize(EVIL, [one], [EVIL])
    svg = plot(summary, [one])["svg"].decode()
    page = Page(render(EVIL, [make_section(summary, [one], svg[svg.index("<svg") :])]))
    assert not {"script", "img", "iframe", "link"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert page.text.count(EVIL) >= 8
    assert "default-src 'none'" in render("t", [])


def test_six_hundred_nested_paths_are_all_on_the_page() -> None:
    texts = ["".join(f"Step {step} is taken with care. " for step in range(paths + 1)) for paths in range(600)]
    html = rendered(make_answered(texts=tuple(texts)))
    page = Page(html)
    assert all(page.text.count(f"Step {step} is taken") == 1 for step in (0, 1, 599))
    assert page.text.count("path 599,") == 1
    assert "left out" not in html
    assert len(html) < 500_000
    assert page.deepest == 2  # browsers limit the depth of elements


def test_a_question_with_too_many_paths_is_cut() -> None:
    paths = [make_path(branch, f"{branch} and its text.", str(branch)) for branch in range(100_000)]
    votes = {str(branch): 1.0 + (branch == 77_777) for branch in range(100_000)}
    html = rendered(make_answered(paths=paths, right=[True] * 100_000, votes=votes, errors=["down"] * 5_000))
    page = Page(html)
    assert len(html) < 1_000_000
    assert "99,000 of 100,000 paths are left out; results.jsonl holds them." in page.text
    assert "999 and its text." in page.text
    assert "1000 and its text." not in page.text
    assert "Votes: 77777 ×2" in page.text
    assert "… 99,900 more answers" in page.text
    assert page.text.count("down") == 100
    assert "… 4,900 more" in page.text


def test_long_texts_are_cut() -> None:
    long, other = "x" * 2_500_000, "y" * 2_500_000
    html = rendered(make_answered(texts=(long, other, "A short one."), question=long, answer=long, errors=[other]))
    text = Page(html).text
    assert len(html) < 1_000_000
    assert text.count("x" * 100_000 + "… (2,400,000 more characters)") == 3
    assert text.count("y" * 100_000 + "… (2,400,000 more characters)") == 2
    assert "A short one." in text


def test_many_long_paths_share_a_limit() -> None:
    texts = [str(path) * 30_000 for path in range(10, 100)]
    html = rendered(make_answered(texts=tuple(texts)))
    text = Page(html).text
    assert len(html) < 1_300_000
    assert texts[15] in text
    assert texts[16] not in text
    assert text.count("… (60,000 characters left out)") == 73
    assert "path 89," in text


def test_questions_that_do_not_fit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_answered(str(row), texts=("A text of some length. " * 10,)) for row in range(300)]
    whole = rendered(*rows)
    assert "left out" not in whole
    monkeypatch.setattr(page_module, "_PAGE_CHARS", len(whole) // 2)
    page = Page(cut := rendered(*rows))
    shown = page.text.count("A text of some length. " * 10)
    assert len(cut) < len(whole) * 0.6
    assert 100 < shown < 160
    assert f"The page is full: {300 - shown} of 300 questions are left out." in page.text
    section = make_section(summarize("rows", rows, ["sc"]), rows, None)
    both = Page(render("t", [section, section]))
    assert both.text.count("The page is full") == 2  # data sets share the page
    assert len(cut) * 0.9 < len(render("t", [section, section])) < len(cut) * 1.1


def test_markup_in_a_cut_text_is_escaped() -> None:
    page = Page(rendered(make_answered(question=EVIL * 5_000, texts=(EVIL * 30_000,))))
    assert not {"script", "img"} & set(page.tags)
