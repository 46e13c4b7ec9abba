"""JSON objects as answers where only a JSON schema is known, not a pydantic class."""

from collections.abc import Mapping

from pydantic import BaseModel, GetJsonSchemaHandler, JsonValue, RootModel, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from branchwise.chat.json_schema import check_schema, fits


class AnyObject(RootModel[dict[str, JsonValue]]):
    """Any JSON object."""


def object_model(schema: Mapping[str, JsonValue], field: str = "schema") -> type[BaseModel]:
    """Return the class of the JSON objects that fit a schema.

    Raises ConfigError about `field` if the schema is invalid; MissingExtraError if it can't be checked.
    """
    fixed = dict(schema)
    check_schema(field, str(fixed.get("title", "the answer")), fixed)

    class FittingObject(AnyObject):
        @model_validator(mode="after")
        def _check(self) -> "FittingObject":
            if not fits(fixed, self.root):
                raise ValueError("does not fit the schema")
            return self

        @classmethod
        def __get_pydantic_json_schema__(
            cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
        ) -> JsonSchemaValue:
            return dict(fixed)

    return FittingObject
