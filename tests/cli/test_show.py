"""`branchwise show`: the tree on a terminal, as a page, JSON and GraphML, and rejected input."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import networkx
import pytest
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends.scripted.backend import ScriptedBackend
from branchwise.core.tree import NodeState, Tree, TreeNode
from tests.support.commands import assert_rejected, is_plain, quick, run
from tests.support.pages import Page

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)> [bold red]x[/] \x1b]0;title\x07 \x9b2J \ud800 \x00'
SCRIPT = {"": ["First left. Then right. The answer is 1.", "Elsewhere. The answer is 2."]}
SEARCHED = Tree(
    (
        TreeNode(0, None, "", 0, visits=5),
        TreeNode(1, 0, "Step one.\nMore of it.", 8, value=0.5, visits=3),
        TreeNode(2, 0, EVIL, 9, value=0.25, visits=2, state=NodeState.PRUNED),
        TreeNode(3, 1, "A longer step. " * 40, 160, value=0.75, visits=2),
        TreeNode(4, 3, "The answer is 1.", 5, "1", 0.875, 1, NodeState.ENDED),
        TreeNode(5, 1, "", 1, state=NodeState.FAILED, note=f"the model failed: {EVIL}"),
        TreeNode(6, 2, "The answer is 2.", 5, EVIL, None, 1, NodeState.ENDED),
        TreeNode(7, 2, "Nothing.", 2, state=NodeState.ENDED),
    )
)


def trace(folder: Path, tree: Tree | None = None, **fields: JsonValue) -> Path:
    """Write a trace in the form of `branchwise solve`."""
    result = bw.solve_sync("q", ScriptedBackend(SCRIPT), strategy=bw.PathConsistency.plain(4))
    record = (result if tree is None else replace(result, tree=tree)).record()
    setup = {"question": "Which way?", "strategy": "path-consistency", "model": "scripted", "task": "math", "seed": 0}
    file = folder / "trace.json"
    file.write_text(json.dumps({**setup, **record, **fields}))
    return file


def shown_tree(*arguments: str | bytes) -> list[str]:
    """Return the lines that `show` prints below the header."""
    done = run("show", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert is_plain(done.stdout)
    return [line.rstrip() for line in done.stdout.partition("\n\n")[2].splitlines()]


def test_a_trace_of_solve_is_shown(tiny_model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    solved = run("solve", "What is 3 + 3?", *quick(tiny_model_folder), "--trace", str(file))
    assert solved.returncode == 1  # without an answer
    done = run("show", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    head = dict(line.split(None, 1) for line in done.stdout.partition("\n\n")[0].splitlines())
    assert head["question"] == "What is 3 + 3?"
    assert head["strategy"].startswith("adaptive-path-consistency, ")
    assert (head["answer"], head["votes"]) == ("none", "none")
    assert head["cost"].startswith("sampled 24 tokens")
    lines = done.stdout.partition("\n\n")[2].splitlines()
    assert lines[0].split() == ["0", "prompt", "×3"]
    assert [line[:4] for line in lines[1:]] == ["├── ", "├── ", "└── "]
    assert all("→ no answer  ×1  8 tokens" in line for line in lines[1:])


def test_the_best_path_is_marked(tmp_path: Path) -> None:
    assert shown_tree(str(trace(tmp_path))) == [
        "★ 0  prompt  ×4",
        "├── ★ 1  → 1  ×1  11 tokens  First left. Then right. The answer is 1.",
        "├── 2  → 2  ×1  7 tokens  Elsewhere. The answer is 2.",
        "├── 3  → 1  ×1  11 tokens  First left. Then right. The answer is 1.",
        "└── 4  → 2  ×1  7 tokens  Elsewhere. The answer is 2.",
    ]


def test_a_search_tree_shows_all_figures_and_no_control_characters(tmp_path: Path) -> None:
    """An only child stays on the level of its parent; texts are cut at the end of the line."""
    lines = shown_tree(str(trace(tmp_path, SEARCHED)))
    begins = [
        "★ 0  prompt  ×5",
        "├── ★ 1  value 0.5  ×3  8 tokens  Step one. More of it.",
        "│   ├── ★ 3  value 0.75  ×2  160 tokens  A longer step. A longer step. A longer",
        "│   │   ★ 4  → 1  value 0.875  ×1  5 tokens  The answer is 1.",
        '│   └── 5  failed  the model failed: <script>alert("1")</script><img src=x',
        '└── 2  pruned  value 0.25  ×2  9 tokens  <script>alert("1")</script><img src=x onerror=alert(2)> [bold red]x',
        '    ├── 6  → <script>alert("1")</script><img src=x onerror=alert(2)> [bold red]x[/]  ]0;titl…  ×1  5 tokens',
        "    └── 7  → no answer  2 tokens  Nothing.",
    ]
    assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins
    assert lines[2].endswith("…")
    assert max(map(len, lines)) == 200
    assert lines[5].endswith("]0;title 2J")


def test_depth_limits_the_levels_and_full_shows_whole_texts(tmp_path: Path) -> None:
    file = str(trace(tmp_path, SEARCHED))
    shallow = shown_tree(file, "--depth", "1")
    assert [line[:12] for line in shallow] == [
        "★ 0  prompt ",
        "├── ★ 1  val",
        "│   └── … 3 ",
        "└── 2  prune",
        "    └── … 2 ",
    ]
    assert shallow[2].endswith("… 3 more nodes")
    assert shown_tree(file, "--depth", "2") == shown_tree(file)
    whole = shown_tree(file, "--full")
    assert sum(line.count("longer") for line in whole) == 40
    place = whole.index("│     Step one.")  # indented: not a node
    assert whole[place - 1 : place + 2] == [
        "├── ★ 1  value 0.5  ×3  8 tokens",
        "│     Step one.",
        "│     More of it.",
    ]


def line(length: int) -> Tree:
    """Return a tree with a single path of `length` steps."""
    steps = (TreeNode(n, n - 1, f"Step {n}.", 3) for n in range(1, length))
    return Tree((TreeNode(0, None, "", 0), *steps, TreeNode(length, length - 1, "", 0, "1", state=NodeState.ENDED)))


def comb(length: int) -> Tree:
    """Return a tree with a pruned sibling at each step of its path."""
    nodes = [TreeNode(0, None, "", 0)]
    for step in range(length):
        above = max(0, 2 * step - 1)
        nodes.append(TreeNode(2 * step + 1, above, f"Step {step}.", 3))
        nodes.append(TreeNode(2 * step + 2, above, "No.", 1, state=NodeState.PRUNED))
    return Tree(tuple(nodes))


def test_deep_trees_are_printed(tmp_path: Path) -> None:
    lines = shown_tree(str(trace(tmp_path, line(2000))))
    assert len(lines) == 2001
    assert lines[1999] == "★ 1999  3 tokens  Step 1999."
    file = str(trace(tmp_path, comb(400)))
    lines = shown_tree(file)
    assert any(each.endswith("more nodes") for each in lines)
    assert len(lines) < 100
    lines = shown_tree(file, "--depth", "400")
    assert len(lines) == 801
    assert any(each.endswith("── 799  3 tokens  Step 399.") for each in lines)


def test_the_page_is_one_file_and_escapes_text_of_the_model(tmp_path: Path) -> None:
    fields = {"question": EVIL, "answer": EVIL, "votes": {EVIL: 2.0}, "errors": [EVIL], "degraded": [EVIL]}
    file = trace(tmp_path, SEARCHED, strategy=EVIL, model=EVIL, **cast("dict[str, JsonValue]", fields))
    done = run("show", str(file), "--html", str(tmp_path / "tree.html"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"wrote {tmp_path / 'tree.html'}\n")
    page = Page((tmp_path / "tree.html").read_text())
    assert not {"script", "img", "iframe", "link", "a"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "href")}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert page.text.count('<script>alert("1")</script>') >= 10
    assert page.text.count("A longer step.") >= 40
    assert page.tags.count("details") == 4  # three that branch, and one with more text than a line holds
    assert page.deepest == 3
    text = (tmp_path / "tree.html").read_text()
    assert "--right:" in text  # from style.html


def test_the_page_marks_the_best_path_and_opens_it(tmp_path: Path) -> None:
    run("show", str(trace(tmp_path, SEARCHED)), "--html", str(tmp_path / "tree.html"))
    text = (tmp_path / "tree.html").read_text()
    assert text.count(' best"') == 4
    assert text.count('best" open>') == 2
    assert "confidence 50.0%, " in text


def page_of(tree: Tree, folder: Path, **fields: JsonValue) -> str:
    """Return the page that `show` writes."""
    done = run("show", str(trace(folder, tree, **fields)), "--html", str(folder / "tree.html"))
    assert done.returncode == 0, done.stderr
    return (folder / "tree.html").read_text()


def test_deep_trees_have_pages(tmp_path: Path) -> None:
    page = Page(page_of(line(2000), tmp_path))
    assert page.deepest == 0
    assert "Step 1999." in page.text
    assert "left out" not in page.text
    page = Page(page_of(comb(2000), tmp_path))
    assert page.deepest == 100
    assert "Step 98." in page.text
    assert "3,802 of 4,001 nodes are left out." in page.text
    assert "… 3,802 more nodes below node 197" in page.text


def test_a_tree_with_too_many_nodes_shows_the_best_path(tmp_path: Path) -> None:
    """The best path ends at the last of 100,000 nodes."""
    nodes = [TreeNode(0, None, "", 0), TreeNode(1, 0, "Left", 1), TreeNode(2, 0, "Right", 1)]
    nodes += [TreeNode(n, 1, f"Branch {n}.", 3, "2", state=NodeState.ENDED) for n in range(3, 100_000)]
    nodes.append(TreeNode(100_000, 2, "The best.", 3, "1", state=NodeState.ENDED))
    html = page_of(Tree(tuple(nodes)), tmp_path, answer="1", votes={str(vote): 1.0 for vote in range(50_000)})
    page = Page(html)
    assert len(html) < 10_000_000
    assert "The best." in page.text
    assert "Branch 9998." in page.text
    assert "Branch 9999." not in page.text
    assert "90,001 of 100,001 nodes are left out." in page.text
    assert "… 90,001 more nodes below node 1" in page.text
    assert "… 49,900 more answers" in page.text


def test_long_texts_of_a_tree_are_cut(tmp_path: Path) -> None:
    nodes = [TreeNode(0, None, "", 0), *(TreeNode(n, 0, f"{n} " * 100_000, 9) for n in range(1, 200))]
    html = page_of(Tree(tuple(nodes)), tmp_path, question="q" * 3_000_000)
    assert len(html) < 11_000_000
    assert "99 of 200 nodes are left out." in html
    assert "(2,900,000 more characters)" in html


def test_graphml_and_json_contain_the_tree(tmp_path: Path) -> None:
    file = str(trace(tmp_path, SEARCHED))
    done = run("show", file, "--json", "--graphml", str(tmp_path / "tree.graphml"))
    assert done.returncode == 0, done.stderr
    graph = networkx.node_link_graph(json.loads(done.stdout), edges="edges")
    expected = SEARCHED.graph()
    assert dict(graph.nodes(data=True)) == dict(expected.nodes(data=True))
    assert list(graph.edges) == list(expected.edges)
    assert graph.graph["best_path"] == [0, 1, 3, 4]
    assert (graph.graph["question"], graph.graph["answer"]) == ("Which way?", "1")
    assert list(networkx.read_graphml(tmp_path / "tree.graphml", node_type=int).edges) == list(expected.edges)


@pytest.mark.skipif(sys.platform != "linux", reason="xdg-open is Linux's")
def test_open_starts_a_browser(tmp_path: Path) -> None:
    browser = tmp_path / "xdg-open"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {tmp_path}/opened.partial; mv {tmp_path}/opened.partial {tmp_path}/opened\n'
    )
    browser.chmod(0o755)
    page = str(tmp_path / "tree.html")
    done = run("show", str(trace(tmp_path)), "--html", page, "--open", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    deadline = 200
    while not (tmp_path / "opened").exists() and deadline:
        deadline -= 1
        time.sleep(0.05)
    assert (tmp_path / "opened").read_text().strip() == page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "trace: cannot read missing.json (No such file or directory)"),
        (["."], "trace: cannot read . (Is a directory)"),
        (["text.json"], "trace: text.json is not one JSON object; write one with branchwise solve --trace FILE"),
        (["binary.json"], "trace: binary.json is not one JSON object"),
        (["nested.json"], "trace: nested.json is not one JSON object"),
        (["list.json"], "trace: list.json is not one JSON object"),
        (["results.jsonl"], "results.jsonl is not one JSON object; for an evaluation, run branchwise report"),
        (["one.jsonl"], "one.jsonl belongs to an evaluation; run branchwise report on its folder"),
        (["object.json"], "trace: object.json is not a trace (question: Field required)"),
        (["old.json"], "trace: old.json has no tree: an older version wrote it; write it again with"),
        (["broken.json"], "trace: the tree in broken.json: node 1 comes before its parent 7"),
        (["trace.json", "--depth", "0"], "--depth: is 0"),
        (["trace.json", "--open"], "--open: needs a page; name its file with --html"),
        (["trace.json", "--html", "missing/tree.html"], "--html: cannot write missing/tree.html (No such file"),
        (["trace.json", "--graphml", "."], "--graphml: cannot write . (Is a directory)"),
        (["trace.json", "--html", "trace.json"], "--html: trace.json is the trace itself"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(arguments: Sequence[str], message: str, tmp_path: Path) -> None:
    good = json.loads(trace(tmp_path).read_text())
    row = json.dumps({"reference": "1", "correct": True})
    files: dict[str, str] = {
        "text.json": "answer 1\n",
        "nested.json": "[" * 100_000,
        "list.json": "[]",
        "results.jsonl": f"{row}\n{row}\n",
        "one.jsonl": f"{row}\n",
        "object.json": "{}",
        "old.json": json.dumps({name: value for name, value in good.items() if name != "tree"}),
        "broken.json": json.dumps({**good, "tree": [good["tree"][0], {**good["tree"][1], "parent": 7}]}),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "binary.json").write_bytes(b"\xff\x00")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert_rejected(run("show", *arguments, cwd=tmp_path), message)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_missing_extra_affects_only_the_page(tmp_path: Path) -> None:
    (tmp_path / "jinja2.py").write_text("raise ModuleNotFoundError(name='jinja2')\n")
    env = {"PYTHONPATH": str(tmp_path)}
    file = str(trace(tmp_path))
    done = run("show", file, "--html", str(tmp_path / "tree.html"), env=env)
    assert_rejected(done, "jinja2 is not installed; run: pip install 'branchwise[plot]'")
    assert not (tmp_path / "tree.html").exists()
    assert run("show", file, env=env).returncode == 0
