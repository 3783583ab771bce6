"""The record of one state while it is filled, field by field, in the graph's own thread."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .record import SessionRecord


class Draft:
    """A *record* as far as it is filled. An instance is made only for what wants one: a validator, a status method."""

    __slots__ = ("_instance", "_record", "fields")

    def __init__(self, record: type[SessionRecord]) -> None:
        self._record = record
        self._instance: SessionRecord | None = None
        self.fields: dict[str, Any] = {}
        """Valid values that the instance, if there is one, does not have yet."""

    @property
    def instance(self) -> SessionRecord:
        """The record itself."""
        fields, self.fields = self.fields, {}
        if self._instance is None:
            self._instance = _made(self._record, fields)
        elif fields:
            self._instance.__dict__.update(fields)
            self._instance.__pydantic_fields_set__.update(fields)
        return self._instance

    def validate(self, name: str, value: object) -> object:
        """Set a field to the valid form of *value*, and return that."""
        instance = self.instance
        self._record.__pydantic_validator__.validate_assignment(instance, name, value)
        return instance.__dict__[name]


@lru_cache(maxsize=128)
def _template(record: type[SessionRecord]) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]:
    try:
        made = record.model_construct()
    except Exception:  # the record's own default_factory or model_post_init
        return {}, None, None
    return made.__dict__, made.__pydantic_extra__, made.__pydantic_private__


def _made(record: type[SessionRecord], fields: dict[str, Any]) -> SessionRecord:
    """Return an instance without a question to *record*, made like ``BaseModel.__copy__`` makes its copies."""
    defaults, extra, private = _template(record)
    instance = record.__new__(record)
    object.__setattr__(instance, "__dict__", defaults | fields)
    object.__setattr__(instance, "__pydantic_fields_set__", set(fields))
    object.__setattr__(instance, "__pydantic_extra__", None if extra is None else extra.copy())
    object.__setattr__(instance, "__pydantic_private__", None if private is None else private.copy())
    return instance
