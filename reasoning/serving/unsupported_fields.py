"""Fields of chat completion requests that would change the answer and that no strategy supports."""

from collections.abc import Mapping

from pydantic import JsonValue

from branchwise.core.errors import ConfigError
from branchwise.core.validation import shortened

_NEUTRAL: Mapping[str, tuple[JsonValue, ...]] = {
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "documents": ([],),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "skip_special_tokens": (True,),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Each with the values that change nothing, as null does. Unknown fields are ignored: they identify the client, or
describe how the reply is delivered."""


def reject_unsupported(body: Mapping[str, object]) -> None:
    """Raise ConfigError for the first field whose value would change the answer."""
    for name, value in body.items():
        if name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
            raise ConfigError(name, f"{shortened(value)} is not supported", "leave it out")
