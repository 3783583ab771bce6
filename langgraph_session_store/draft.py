"""The record of one state while it is filled, field by field, in the graph's own thread."""

from __future__ import annotations

from copy import copy
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
        if self._instance is None:
            template = _template(self._record)
            extra, private = template.__pydantic_extra__, template.__pydantic_private__
            self._instance = _made(self._record, template.__dict__.copy(), set(), copy(extra), copy(private))
        self._instance.__dict__.update(self.fields)
        self._instance.__pydantic_fields_set__.update(self.fields)
        self.fields.clear()
        return self._instance

    def validate(self, name: str, value: object) -> object:
        """Set a field to the valid form of *value*, and return that."""
        instance = self.instance
        self._record.__pydantic_validator__.validate_assignment(instance, name, value)
        return instance.__dict__[name]


@lru_cache(maxsize=128)
def _template(record: type[SessionRecord]) -> SessionRecord:
    try:
        return record.model_construct()
    except Exception:  # the record's own default_factory or model_post_init
        return _made(record, {}, set(), None, None)


def _made(
    record: type[SessionRecord], fields: dict[str, Any], given: set[str], extra: Any, private: Any
) -> SessionRecord:
    """Return an instance without a question to *record*, made like ``BaseModel.__copy__`` makes its copies."""
    instance = record.__new__(record)
    object.__setattr__(instance, "__dict__", fields)
    object.__setattr__(instance, "__pydantic_fields_set__", given)
    object.__setattr__(instance, "__pydantic_extra__", extra)
    object.__setattr__(instance, "__pydantic_private__", private)
    return instance
