"""Strategies described by text as `name:option=value`."""

import inspect

import pytest
from pydantic import JsonValue

import branchwise as bw
from branchwise.backends import ScriptedBackend
from branchwise.chat.config import ChatConfig
from branchwise.chat.limits import Limits
from branchwise.cli import eval as eval_command
from branchwise.cli import mcp as mcp_command
from branchwise.cli import solve as solve_command
from branchwise.integrations import mcp
from branchwise.registry import STRATEGIES, make_strategy, parse_strategy
from branchwise.serving.completions import ChatCompletions
from branchwise.serving.request import ChatRequest, StrategyOptions
from branchwise.strategies.actions import DEFAULT_PATHS
from branchwise.strategies.options import field_docs, format_value, join_options, options_of

SAMPLING = bw.Sampling(temperature=0.9)


def parsed(spec: str) -> tuple[str, object]:
    name, strategy = parse_strategy(spec, 16, SAMPLING)
    return name, strategy


def error_of(spec: str) -> str:
    with pytest.raises(bw.ConfigError) as caught:
        make_strategy(spec, 16, SAMPLING)
    assert caught.value.field == "strategy"
    return str(caught.value)


def test_a_name_without_options_is_the_default() -> None:
    for name in STRATEGIES:
        assert parsed(name) == (name, STRATEGIES[name](16, SAMPLING))


def test_options_change_the_registrys_strategy() -> None:
    name, plain = parsed("path-consistency-plain:window=4")
    assert name == "path-consistency-plain:window=4"
    expected = bw.PathConsistency(16, window=4, root_share=0.0, step_back=False, stop_at=None, sampling=SAMPLING)
    assert plain == expected
    assert parsed("self-consistency:paths=3") == ("self-consistency:paths=3", bw.SelfConsistency(3, SAMPLING))


def test_equal_configurations_have_equal_names() -> None:
    typed = "path-consistency: stop-at=none,window= 4,threshold=0.90,step_back=NO"
    name, one = parsed(typed)
    assert name == "path-consistency:window=4,threshold=0.9,step_back=false,stop_at=none"
    assert parsed(name) == (name, one)
    assert one == bw.PathConsistency(16, 4, threshold=0.9, step_back=False, stop_at=None, sampling=SAMPLING)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("path-consistncy:window=4", "'path-consistncy' is unknown; did you mean path-consistency?"),
        ("path-consistency:windows=4", "has no option 'windows'; did you mean window? it has paths, window, max_level"),
        ("path-consistency:sampling=4", "has no option 'sampling'; it has paths, window"),
        ("greedy:paths=4", "greedy has no option 'paths'; leave it out: it has none"),
        ("path-consistency:window=four", "path-consistency: window is 'four'; use an integer"),
        ("path-consistency:window=4.5", "window is '4.5'; use an integer"),
        ("path-consistency:window=none", "window is 'none'; use an integer"),
        ("path-consistency:stop_at=never", "stop_at is 'never'; use a number or none"),
        ("path-consistency:stop_at=nan", "stop_at is 'nan'; use a number or none"),
        ("path-consistency:step_back=maybe", "step_back is 'maybe'; use true or false"),
        ("weighted-vote:trust=max", "trust is 'max'; use mean, min, product or p-true"),
        ("path-consistency:window", "'window' has no value; write option=value"),
        ("path-consistency:", "'' has no value"),
        ("path-consistency:window=4,", "'' has no value"),
        ("path-consistency:max-level=1,max_level=2", "max_level is given twice; give it once"),
        ("path-consistency:window=0", "path-consistency: window is 0; use at least 1"),
    ],
)
def test_errors_name_the_problem_and_the_fix(spec: str, message: str) -> None:
    assert message in error_of(spec)


def test_an_unknown_strategy_suggests_the_closest_name() -> None:
    with pytest.raises(bw.ConfigError, match="did you mean path-consistency"):
        make_strategy("path-consistncy", 3, SAMPLING)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_option_has_a_docstring_and_accepts_its_value(name: str) -> None:
    strategy = STRATEGIES[name](16, SAMPLING)
    found, docs = options_of(strategy), field_docs(type(strategy))
    assert [option for option in found if not docs.get(option)] == []
    spec = f"{name}:{join_options([f'{option.name}={format_value(option.value)}' for option in found.values()])}"
    if found:
        assert parsed(spec) == (spec, strategy)


def test_every_strategy_has_one_default_of_paths() -> None:
    for name, make in STRATEGIES.items():
        strategy = make(DEFAULT_PATHS, bw.Sampling())
        if strategy.name == name:
            assert type(strategy)() == strategy, name
    assert bw.PathConsistency.plain() == STRATEGIES["path-consistency-plain"](DEFAULT_PATHS, bw.Sampling())
    assert bw.WeightedVote.cisc() == STRATEGIES["cisc"](DEFAULT_PATHS, bw.Sampling())


def test_commands_requests_and_adapters_keep_the_default_of_the_strategy() -> None:
    commands = (solve_command.solve, eval_command.evaluate, mcp_command.mcp)
    assert {inspect.signature(command).parameters["paths"].default for command in commands} == {None}
    assert ChatConfig().paths is mcp.DEFAULTS.paths is StrategyOptions().paths is None
    assert ChatConfig().resolve_strategy(bw.Sampling()) == bw.AdaptivePathConsistency()
    assert make_strategy("self-consistency", None, bw.Sampling()) == bw.SelfConsistency()


@pytest.mark.parametrize(("most", "paths"), [(64, DEFAULT_PATHS), (5, 5)])
def test_a_server_keeps_the_default_within_its_limit(most: int, paths: int) -> None:
    served = ChatCompletions(ScriptedBackend({"": ["42"]}), Limits(paths=most))
    body: JsonValue = {
        "model": "scripted",
        "messages": [{"role": "user", "content": "q"}],
        "branchwise": {"strategy": "esc"},
    }
    assert served.resolve(ChatRequest.parse(body)).strategy == bw.EarlyStopping(paths)
