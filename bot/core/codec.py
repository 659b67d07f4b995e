"""Encode every event, intent and record as plain JSON values, and decode them without loss.

The journal stores what happened and what was decided; after a crash, replaying the same events, exact to the last digit,
restores the same engine state. So money is encoded as text, enums by value, klines and quotes as short lists, and
numbers that JSON lacks (NaN, infinity) as text. A decoded value equals the encoded one.

The plan of each type is built once from its annotations, when this module is imported: a field that is already a JSON
value costs nothing.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from decimal import Decimal
from enum import Enum
from operator import attrgetter, index
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from bot.core.errors import DataError
from bot.core.events import Event
from bot.core.intents import Intent
from bot.core.records import Record, TradeFill
from bot.core.types import Denied, Income, Instrument, OrderReport, PositionReport

Json = dict[str, Any]
Convert = Callable[[Any], Any]

#: Marks a value in a free-form dictionary that JSON cannot represent: {"$": kind, "v": text or list}.
TAG: Final = "$"
INT64: Final = 2**63


def pack(value: Any) -> Json:
    """Return the fields of an event, intent or record as JSON values, without its type name.

    Raises
    ------
    DataError
        The value is not an event, intent or record.
    """
    try:
        encode_fields = _CODECS[type(value).__name__][0]
    except KeyError:
        raise DataError(f"{type(value).__name__} is not an event, intent or record") from None
    return encode_fields(value)


def unpack(name: str, body: Json) -> Any:
    """Return a value of the type `name`; a missing field takes its default, an unknown one is an error.

    >>> unpack("TimerFired", {"at_ms": 3, "name": "entry"})
    TimerFired(at_ms=3, name='entry')

    Raises
    ------
    DataError
        The type is unknown or the fields are invalid.
    """
    try:
        decode_fields = _CODECS[name][1]
    except KeyError:
        raise DataError(f"{name!r} is not an event, intent or record that this version knows") from None
    try:
        return decode_fields(body)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise DataError(f"a stored {name} cannot be read: {type(error).__name__} {error}") from error


def encode(value: Any) -> Json:
    """Return `pack(value)` with the type name under `type`."""
    return {"type": type(value).__name__, **pack(value)}


def decode(body: Mapping[str, Any]) -> Any:
    """Return the value that `encode` wrote.

    >>> from bot.core.intents import SetTimer
    >>> decode(encode(SetTimer("entry", 700)))
    SetTimer(name='entry', delay_ms=700)
    """
    rest = dict(body)
    return unpack(str(rest.pop("type", "nothing")), rest)


def _encode_float(value: Any) -> float | str:
    if type(value) is not float:
        value = float(value)  # numpy scalars and integers
    return value if value - value == 0.0 else repr(value)  # NaN and infinity as text


def _encode_free(value: Any) -> Any:
    """Encode a free-form value: JSON values unchanged; Decimal, tuple, non-finite floats and large integers tagged."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is float:
        return value if value - value == 0.0 else {TAG: "float", "v": repr(value)}
    if kind is int:
        return value if -INT64 <= value < INT64 else {TAG: "int", "v": str(value)}
    if kind is Decimal:
        return {TAG: "decimal", "v": str(value)}
    if kind is list:
        return [_encode_free(item) for item in value]
    if kind is tuple:
        return {TAG: "tuple", "v": [_encode_free(item) for item in value]}
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise DataError("a dictionary that is to be stored has a key that is not text")
        plain = {key: _encode_free(item) for key, item in value.items()}
        return {TAG: "dict", "v": plain} if TAG in value else plain
    if isinstance(value, Enum):
        return _encode_free(value.value)
    if hasattr(value, "item"):  # a numpy scalar
        return _encode_free(value.item())
    raise DataError(f"a {kind.__name__} cannot be stored in a free-form dictionary")


def _decode_free(value: Any) -> Any:
    if type(value) is list:
        return [_decode_free(item) for item in value]
    if type(value) is not dict:
        return value
    if TAG not in value:
        return {key: _decode_free(item) for key, item in value.items()}
    inner = value["v"]
    match value[TAG]:
        case "float":
            return float(inner)
        case "int":
            return int(inner)
        case "decimal":
            return Decimal(inner)
        case "tuple":
            return tuple(_decode_free(item) for item in inner)
        case "dict":
            return {key: _decode_free(item) for key, item in inner.items()}
    raise DataError(f"{value[TAG]!r} is not a tag that this version knows")


def _plan(annotation: Any) -> tuple[Convert | None, Convert | None]:
    """Return the encoder and decoder of a field with this annotation; None where the value is used unchanged."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is str:
        return None, None
    if annotation is bool:
        return bool, None
    if annotation is int:
        return index, None  # rejects fractions, accepts numpy integers
    if annotation is float:
        return _encode_float, float
    if annotation is Decimal:
        return str, Decimal
    if origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        return _plan_optional(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return _plan_tuple(arguments)
    if annotation is Any or origin in (dict, Union, types.UnionType):
        return _encode_free, _decode_free
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return attrgetter("value"), annotation
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return _plan_named_tuple(annotation)
    if isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__"):
        return _plan_dataclass(annotation)
    if origin is Literal:
        return None, None
    raise TypeError(f"no way to store a {annotation!r}")


def _plan_optional(annotation: Any) -> tuple[Convert, Convert]:
    encode_one, decode_one = _plan(annotation)

    def encode_optional(value: Any) -> Any:
        return value if value is None or encode_one is None else encode_one(value)

    def decode_optional(value: Any) -> Any:
        return value if value is None or decode_one is None else decode_one(value)

    return encode_optional, decode_optional


def _plan_tuple(arguments: tuple[Any, ...]) -> tuple[Convert, Convert]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        encode_one, decode_one = _plan(arguments[0])
        encoder = list if encode_one is None else lambda value: [encode_one(item) for item in value]
        decoder = tuple if decode_one is None else lambda value: tuple([decode_one(item) for item in value])
        return encoder, decoder
    plans = [_plan(argument) for argument in arguments]
    encoders, decoders = [plan[0] for plan in plans], [plan[1] for plan in plans]
    return (
        lambda value: _each(value, encoders),
        lambda value: tuple(_each(value, decoders)),
    )


def _each(values: Any, converts: list[Convert | None]) -> list[Any]:
    return [value if convert is None else convert(value) for value, convert in zip(values, converts, strict=True)]


def _plan_named_tuple(kind: Any) -> tuple[Convert, Convert]:
    hints = get_type_hints(kind)
    plans = [_plan(hints[name]) for name in kind._fields]
    encoders, decoders = [plan[0] for plan in plans], [plan[1] for plan in plans]
    return lambda value: _each(value, encoders), lambda value: kind(*_each(value, decoders))


def _plan_dataclass(kind: Any) -> tuple[Convert, Convert]:
    hints = get_type_hints(kind)
    parts = fields(kind)
    names = tuple(part.name for part in parts)
    optional = {part.name for part in parts if part.default is not MISSING or part.default_factory is not MISSING}
    plans = {name: _plan(hints[name]) for name in names}
    to_encode = [(name, plan[0]) for name, plan in plans.items() if plan[0] is not None]
    to_decode = [(name, plan[1]) for name, plan in plans.items()]
    read = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)

    def encode_fields(value: Any) -> Json:
        body = dict(zip(names, read(value), strict=True))
        for name, convert in to_encode:
            body[name] = convert(body[name])
        return body

    def decode_fields(body: Json) -> Any:
        if len(body) == len(names):
            return kind(*[body[name] if convert is None else convert(body[name]) for name, convert in to_decode])
        unknown = body.keys() - set(names)
        missing = set(names) - body.keys() - optional
        if unknown or missing:
            raise ValueError(f"fields unknown {sorted(unknown)}, missing {sorted(missing)}")
        return kind(**{n: body[n] if convert is None else convert(body[n]) for n, convert in to_decode if n in body})

    return encode_fields, decode_fields


#: All storable types: events, intents, records and the values nested in them.
TYPES: Final[tuple[type, ...]] = (
    *get_args(Event),
    *get_args(Intent),
    *get_args(Record),
    TradeFill,
    Denied,
    Income,
    Instrument,
    OrderReport,
    PositionReport,
)
_CODECS: Final[dict[str, tuple[Convert, Convert]]] = {kind.__name__: _plan_dataclass(kind) for kind in TYPES}
