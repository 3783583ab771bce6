"""Turn the state of a run into the values of its row: pure, typed field by field, and never raising.

A value that its field cannot hold becomes NULL and is explained; the rest of the row is as good as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from .columns import Status
from .convert import RefusedError, converter, plain
from .draft import Draft
from .encode import clean_text, plain_json, tolerant_json
from .errors import DataError
from .record import Column, RecordField, SessionRecord, Source, record_fields
from .redact import MASK, redact_text
from .row import SHAPES, Mode, Shape, Slot, Value

Redact = Callable[[str, Any], Any]

_MISSING: Final = object()
_STATUSES: Final = frozenset(get_args(Status))
_METHODS: Final = (MethodType, FunctionType, BuiltinFunctionType)
_AS_IS: Final[tuple[tuple[Any, type], ...]] = tuple(
    (annotation, kind)
    for kind, bare in ((str, str), (int, int), (float, float), (bool, bool), (list, list[Any]))
    for annotation in (kind, bare, bare | None)
)
_NO_ATTRIBUTES: Final = frozenset({str, int, float, bool, bytes, type(None)})
_NOTES: Final = 20  # fields explained in `rejected`
_PREVIEW: Final = 100
_REASON: Final = 200


class Fields(NamedTuple):
    """What a state says about the record's fields, in the order of *shape*; *rejected* explains each that could not be kept."""

    shape: Shape
    values: tuple[Value, ...]
    rejected: dict[str, dict[str, object]]
    status: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """A field, with all that does not depend on the state."""

    field: RecordField
    name: str
    set: Slot
    fill: Slot
    default: Slot
    convert: Callable[[Any], Value]
    declared: Callable[[], Value] | None
    """Its declared default, None where that is None."""
    key: str | None
    """Its key in the state, where that is its only source."""
    exact: type | None
    """A type whose very instances are valid as they are, and hide nothing."""
    is_json: bool
    hidden: bool


def extract(
    record: type[SessionRecord],
    state: object,
    *,
    reducers: Collection[str] = frozenset(),
    start: bool = False,
    redact: Redact | None = None,
) -> Fields:
    """Return the fields of *record* that *state* holds; never raise.

    A field that the state lacks is its default in a new row. At the *start* of a run, the input of a channel with a reducer
    (one of *reducers*), or of a callable, is not its value yet and fills only NULL; and there is no status. *redact* is called
    with the name and value of each field and returns what may be kept; where it raises, that is ``[redacted]``.
    """
    draft = Draft(record)
    slots: list[Slot] = []
    values: list[Value] = []
    rejected: dict[str, dict[str, object]] = {}
    value: Value
    for plan in _plans(record):
        raw: object = _MISSING
        channel: str | int | None
        slot = plan.set
        try:
            if plan.key is not None and type(state) is dict:
                raw, channel = state.get(plan.key, _MISSING), plan.key
            else:
                raw, channel = _find(plan.field.sources, state, start=start)
            if raw is _MISSING:
                slot = plan.default
                value = plan.declared() if plan.declared else None
                if value is None:
                    continue
            else:
                if start and (channel is None or channel in reducers):
                    slot = plan.fill
                if raw is None:
                    value = None
                elif type(raw) is plan.exact and redact is None:  # nearly all: each call less counts, the graph waits
                    value = plan.convert(raw)
                    draft.fields[plan.name] = raw[:] if isinstance(raw, list) else raw  # a list is the graph's own
                else:
                    value = _store(plan, raw, draft, redact)
        except Exception as error:
            value = draft.fields[plan.name] = None
            _note(rejected, plan, error, raw, hide=plan.hidden or redact is not None)
        slots.append(slot)
        values.append(value)
    status = None if start else _status(record, draft, rejected)
    return Fields(_interned(tuple(slots)), tuple(values), rejected, status)


def field_value(record: type[SessionRecord], name: str, value: object) -> Value:
    """Return what the column of the field *name* holds for *value*; DataError, without the value, if it cannot."""
    plan = next(plan for plan in _plans(record) if plan.name == name)
    try:
        return None if value is None else _store(plan, value, Draft(record), None)
    except Exception as error:
        raise DataError(f"{name}: {_reason(error, hide=plan.hidden)}") from None


@lru_cache(maxsize=SHAPES)
def _interned(shape: Shape) -> Shape:
    """Return the first *shape* that was equal to this one: what later rooms know of a shape they find by its identity."""
    return shape


@lru_cache(maxsize=128)
def _plans(record: type[SessionRecord]) -> tuple[_Plan, ...]:
    def slot(field: RecordField, mode: Mode) -> Slot:
        return Slot(field.name, field.sql_type, mode, field.kind)

    def plan(field: RecordField) -> _Plan:
        convert = converter(field)
        return _Plan(
            field=field,
            name=field.name,
            set=slot(field, "set"),
            fill=slot(field, "fill"),
            default=slot(field, "default"),
            convert=convert,
            declared=_declared(field, convert),
            key=_key(field.sources),
            exact=None if field.redact is not False else _exact(record, field),
            is_json=field.sql_type == "jsonb",
            hidden=field.redact is not False,
        )

    return tuple(map(plan, record_fields(record)))


# --- finding ---


def _find(sources: tuple[Source, ...], state: object, *, start: bool) -> tuple[object, str | int | None]:
    """Return the value of the first source that has one, and its channel; None for a callable's."""
    found: object = _MISSING
    channel: str | int | None = None
    for source in sources:
        if isinstance(source, tuple):
            if type(state) is dict and source[0] not in state and type(source[0]) is str:
                continue
            value = state
            for segment in source:
                value = _step(value, segment)
                if value is _MISSING:
                    break
        else:
            value = _call(source, state, start=start)
        if value is _MISSING:
            continue
        found, channel = value, source[0] if isinstance(source, tuple) else None
        if found is not None:
            break
    return found, channel


def _call(source: Callable[[Any], Any], state: object, *, start: bool) -> object:
    """Ask a callable, which is written for whole states: not where there is none, and what it raises at a *start* says nothing."""
    if state is None:
        return _MISSING
    try:
        return source(state)
    except (LookupError, AttributeError):
        return _MISSING
    except Exception:
        if start:
            return _MISSING
        raise


def _step(value: Any, segment: str | int) -> Any:
    if type(value) is dict and isinstance(segment, str):  # by far the most
        return value.get(segment, _MISSING)
    if isinstance(value, dict):  # not value[segment]: a defaultdict would grow
        found = dict.get(value, segment, _MISSING)
        return dict.get(value, str(segment), _MISSING) if found is _MISSING and isinstance(segment, int) else found
    if isinstance(segment, int):
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return value[segment] if -len(value) <= segment < len(value) else _MISSING
        segment = str(segment)
    if type(value) in _NO_ATTRIBUTES:
        return _MISSING
    if isinstance(value, Mapping):
        return value.get(segment, _MISSING)
    found = getattr(value, segment, _MISSING)
    return _MISSING if isinstance(found, _METHODS) else found


def _key(sources: tuple[Source, ...]) -> str | None:
    match sources:
        case ((str(key),),):
            return key
        case _:
            return None


def _exact(record: type[SessionRecord], field: RecordField) -> type | None:
    """Return the type whose very instances pydantic takes for *field* as they are; None where that is not certain."""
    decorators = record.__pydantic_decorators__
    validated = {name for one in decorators.field_validators.values() for name in one.info.fields}
    validated |= {name for one in decorators.validators.values() for name in one.info.fields}
    if validated & {field.name, "*"}:
        return None
    constrained = any(not isinstance(item, Column) for item in field.info.metadata)
    if constrained or record.model_config != SessionRecord.model_config:
        return None
    # Compared, not looked up: an annotation need not be hashable.
    return next((kind for annotation, kind in _AS_IS if annotation == field.info.annotation), None)


def _declared(field: RecordField, convert: Callable[[Any], Value]) -> Callable[[], Value] | None:
    """Return what gives the default of *field*: without a factory, one that is computed once. None for None."""

    def compute() -> Value:
        default = field.default()
        return None if default is None else convert(plain(default))

    if field.info.default_factory is None:
        with suppress(Exception):  # a default that its column cannot hold is explained each time
            constant = compute()
            return None if constant is None else lambda: constant
    return compute


# --- storing ---


def _store(plan: _Plan, raw: object, draft: Draft, redact: Redact | None) -> Value:
    """Return what the column holds for *raw*, and set the field of *draft* to its validated value."""
    value = raw
    text: str | None = None
    exposed = redact is None and not plan.hidden
    if plan.is_json:
        text = plain_json(raw)
        if text is None or not exposed:
            # Pydantic would consume a generator, and a redacting callable change the graph's own objects.
            text = text or tolerant_json(raw)
            value = from_json(text)
    else:
        value = plain(raw)
    valid = draft.validate(plan.name, value)
    if not exposed:
        return _redacted(plan, valid, redact)
    # An iterator is Pydantic's own, of a field of Iterable, and validates only what is taken from it.
    if text is not None and (valid is value or valid == value or isinstance(valid, Iterator)):
        return text
    return plan.convert(valid)


def _redacted(plan: _Plan, value: object, redact: Redact | None) -> Value:
    try:
        if plan.field.redact is True:
            value = MASK
        elif plan.field.redact is not False:
            value = plan.field.redact(value)
        if redact is not None:
            value = redact(plan.name, value)
    except Exception:
        value = MASK
    try:
        return None if value is None else plan.convert(value)
    except Exception:  # the column is no text, or too short for the mask
        return None


# --- explaining ---


def _status(record: type[SessionRecord], draft: Draft, rejected: dict[str, dict[str, object]]) -> str | None:
    if record.workflow_status is SessionRecord.workflow_status:
        return None
    try:
        status: str | None = plain(draft.instance.workflow_status())
        if status is None or status in _STATUSES:
            return status
        reason = f"workflow_status() must return None or one of {', '.join(sorted(_STATUSES))}"
    except Exception as error:
        reason = f"workflow_status() raised {type(error).__name__}"
    rejected["workflow_status"] = {"reason": reason}
    return None


def _note(rejected: dict[str, dict[str, object]], plan: _Plan, error: Exception, raw: object, *, hide: bool) -> None:
    if len(rejected) >= _NOTES:
        rejected["..."] = {"reason": "more fields hold what their columns cannot"}
        return
    note: dict[str, object] = {"reason": _reason(error, hide=hide)}
    if raw is not _MISSING:
        note["kind"] = type(raw).__name__
        note["preview"] = MASK if hide else _preview(raw)
    rejected[plan.name] = note


def _reason(error: Exception, *, hide: bool) -> str:
    if isinstance(error, RefusedError):
        return str(error)
    if not isinstance(error, ValidationError):
        return f"reading it raised {type(error).__name__}"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if hide:  # the message of the record's own validator, and a dict's key, may hold the value
        return str(first["type"])
    inside = ".".join(str(part) for part in first["loc"][1:])
    reason = f"{inside}: {first['msg']}" if inside else first["msg"]
    return redact_text(clean_text(reason[: 2 * _REASON]))[:_REASON]


def _preview(raw: object) -> str:
    text = clean_text(raw[: _PREVIEW * 4]) if type(raw) is str else tolerant_json(raw, _PREVIEW * 4)
    if type(raw) is not str and text.startswith('"'):  # what JSON knows no other way to write, as NaN
        text = str(from_json(text))
    text = redact_text(text)
    return text if len(text) <= _PREVIEW else text[:_PREVIEW] + "…"
