"""The report page."""

from branchwise.evaluation import summarize
from branchwise.evaluation.report.page import make_section, render
from branchwise.evaluation.report.plot import plot
from tests.support.evaluations import make_answered
from tests.support.pages import Page

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>'


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
