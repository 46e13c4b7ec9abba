"""Structured output of LangChain's chat models: objects that paths vote on, or the arguments of a tool."""

from collections.abc import Mapping
from operator import attrgetter, itemgetter

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, JsonValue

from branchwise.chat.object_model import AnyObject, object_model
from branchwise.core.errors import ConfigError, require

Schema = dict[str, object] | type
Objects = dict[str, object] | BaseModel
METHODS = ("json_schema", "function_calling", "json_mode")


def structured_output(
    model: BaseChatModel, schema: Schema | None, method: str | None, *, strict: bool | None, include_raw: bool
) -> Runnable[LanguageModelInput, Objects]:
    """Return the model with objects of a schema as its answers. Raises ConfigError for an invalid schema or method."""
    if method is None:
        method = "json_schema" if _is_model(schema) else "function_calling"
    require(method in METHODS, "method", f"is {method!r}", f"use one of {', '.join(METHODS)}")
    require(schema is not None or method == "json_mode", "schema", "is missing", "pass one, or use method='json_mode'")
    described = {"kwargs": {"method": method}, "schema": schema}
    if method == "function_calling":
        assert schema is not None
        return _tool_output(model, schema, described, strict=strict, include_raw=include_raw)
    answers = _object_class(schema)
    option = "answer_type" if method == "json_schema" else "answer_format"
    asked = model.bind(**{option: answers}, ls_structured_output_format=described)
    parser: Runnable[AIMessage, Objects] = PydanticOutputParser(pydantic_object=answers)
    if issubclass(answers, AnyObject):
        parser = parser | RunnableLambda(attrgetter("root"))
    return _with_raw(asked, parser) if include_raw else asked | parser


def _tool_output(
    model: BaseChatModel, schema: Schema, described: Mapping[str, object], *, strict: bool | None, include_raw: bool
) -> Runnable[LanguageModelInput, Objects]:
    """Return the model with the schema as its only tool, which it must call once."""
    options = {"parallel_tool_calls": False, "strict": strict, "ls_structured_output_format": described}
    asked = model.bind_tools([schema], tool_choice="any", **options)
    name = convert_to_openai_tool(schema)["function"]["name"]
    parser: Runnable[AIMessage, Objects] = (
        PydanticToolsParser(tools=[schema], first_tool_only=True)
        if isinstance(schema, type) and issubclass(schema, BaseModel)
        else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    )
    return _with_raw(asked, parser) if include_raw else asked | parser


def _object_class(schema: Schema | None) -> type[BaseModel]:
    """Return the class of a schema's objects."""
    if schema is None:
        return AnyObject
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema
    if isinstance(schema, dict) and "properties" in schema and "parameters" not in schema:
        return object_model(_json(schema))
    try:
        return object_model(_json(convert_to_json_schema(schema)))
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            "schema", f"can't be read ({str(error).partition(chr(10))[0]})", "pass a JSON schema"
        ) from error


def _json(schema: dict[str, object]) -> dict[str, JsonValue]:
    return AnyObject.model_validate(schema).root


def _is_model(schema: Schema | None) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _with_raw(
    asked: Runnable[LanguageModelInput, AIMessage], parser: Runnable[AIMessage, Objects]
) -> Runnable[LanguageModelInput, Objects]:
    """Return a runnable of the message, the object and the error of parsing it."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")
