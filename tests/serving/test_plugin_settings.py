"""Settings of the plugin for `vllm serve`, read from environment variables."""

import pytest

import branchwise as bw
from branchwise.chat.limits import Limits
from branchwise.serving.plugin_settings import DEFAULTS, PluginSettings


def test_every_limit_has_a_variable() -> None:
    settings = PluginSettings.read(
        {
            "BRANCHWISE_MAX_PATHS": "4",
            "BRANCHWISE_MAX_TOKENS": "500",
            "BRANCHWISE_MAX_SECONDS": "1.5",
            "BRANCHWISE_MAX_BODY_BYTES": "1000",
            "BRANCHWISE_MAX_QUESTIONS": "2",
            "BRANCHWISE_QUEUE": "0",
            "BRANCHWISE_MAX_QUEUE_SECONDS": "3",
            "BRANCHWISE_LOG_FORMAT": "json",
            "BRANCHWISE_TELEMETRY": "1",
            "BRANCHWISE_API_KEY": "another program's",
        }
    )
    assert settings == PluginSettings(Limits(4, 500, 1.5, 1000, 2, 0, 3), "json", spans=True)


@pytest.mark.parametrize("environment", [{}, {"BRANCHWISE_MAX_PATHS": "", "BRANCHWISE_TELEMETRY": "0"}])
def test_defaults_hold_for_what_is_not_given(environment: dict[str, str]) -> None:
    assert PluginSettings.read(environment) == PluginSettings(DEFAULTS)


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("BRANCHWISE_MAX_PATHS", "0", "use a whole number, at least 1"),
        ("BRANCHWISE_MAX_PATHS", "2.5", "use a whole number, at least 1"),
        ("BRANCHWISE_MAX_TOKENS", "many", "use a whole number, at least 1"),
        ("BRANCHWISE_MAX_BODY_BYTES", "-1", "use a whole number, at least 1"),
        ("BRANCHWISE_MAX_QUESTIONS", "٣x", "use a whole number, at least 1"),
        ("BRANCHWISE_QUEUE", "-1", "use a whole number, at least 0"),
        ("BRANCHWISE_MAX_SECONDS", "inf", "use a positive number"),
        ("BRANCHWISE_MAX_QUEUE_SECONDS", "0", "use a positive number"),
        ("BRANCHWISE_LOG_FORMAT", "xml", "use text or json"),
        ("BRANCHWISE_TELEMETRY", "maybe", "use 1 or 0"),
    ],
)
def test_invalid_values_name_the_variable_and_the_fix(name: str, text: str, fix: str) -> None:
    with pytest.raises(bw.ConfigError) as caught:
        PluginSettings.read({name: text})
    assert str(caught.value) == f"{name}: is {text!r}; {fix}"
