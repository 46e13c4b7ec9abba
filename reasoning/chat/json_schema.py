"""Checks of values against a JSON schema, with the package jsonschema."""

import functools
import json
from collections.abc import Callable, Mapping

from pydantic import JsonValue

from branchwise.core.errors import ConfigError, MissingExtraError

Schema = Mapping[str, JsonValue]
_PATTERNS = ("pattern", "patternProperties")  # a search for a hostile pattern may never end: they are not checked


def fits(schema: Schema, value: JsonValue) -> bool:
    """Return True if a value fits a schema, apart from its patterns. References to other documents fit nothing."""
    try:
        return _check(json.dumps(schema, sort_keys=True))(value)
    except RecursionError:
        return False


def check_schema(field: str, name: str, schema: Schema) -> None:
    """Raise ConfigError about `field` if the schema of `name` is invalid; MissingExtraError without jsonschema."""
    try:
        from jsonschema import Draft202012Validator, SchemaError
    except ImportError as error:
        raise MissingExtraError(error.name or "jsonschema", "agents") from error
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ConfigError(field, f"the schema of {name} is invalid ({error.message})", "correct it") from error


@functools.lru_cache(maxsize=256)
def _check(schema: str) -> Callable[[JsonValue], bool]:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = extend(Draft202012Validator, dict.fromkeys(_PATTERNS, lambda *_: ()))
    validator = kind(json.loads(schema), registry=Registry())  # an empty registry: nothing is fetched

    def check(value: JsonValue) -> bool:
        try:
            return bool(validator.is_valid(value))
        except Unresolvable:
            return False

    return check
