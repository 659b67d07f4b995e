"""Validation of the exchange's messages: the types of which all models of replies and pushes are made.

Each endpoint and each kind of frame that is read has one model: REST in `models_rest.py`, streams in `models_push.py`. A model
names the keys that the bot reads and their types; other keys are ignored (the exchange adds some every year). A message that
does not fit raises a `WireError` naming the key and its value, and nothing else is ever raised, whatever the message is: null, a
list, a text, `NaN`, a number of 400 digits, a negative quantity, 100,000 rows.

The bounds are far beyond what the exchange sends, yet low enough that nothing downstream can overflow: 40 digits, ids that fit
63 bits, times before the year 2100.

Pydantic validates them because it was already a dependency. On trial models `msgspec` took 4.1 µs for a bookTicker and 8.1 for
an order update, pydantic 6.5 and 12.0; a frame may cost 200 more than before. `python -m bench.frames` measures it.
"""

import reprlib
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from bot.core.errors import WireError

T = TypeVar("T")

ZERO: Final = Decimal(0)
MOST_DIGITS: Final = 40  # with sign, point and exponent
LAST_MS: Final = 4_102_444_800_000  # the year 2100
LARGEST: Final = 2**63 - 1


class Untimely(WireError):
    """A message has a timestamp that the exchange's clock cannot have reached: the message is wrong, or our clock."""


def _absent_is_zero(value: Any) -> Any:
    return 0 if value is None or value == "" else value


def _absent_is_empty(value: Any) -> Any:
    return "" if value is None else value


def _decimal_or_zero(text: str | None) -> Decimal:
    return Decimal(text) if text else ZERO


def _written(digits: str, *, may_be_absent: bool = False) -> GetPydanticSchema:
    """Return the schema of a decimal, checked as text by a pattern; bounds on the number took a bookTicker from 7 to 11 µs."""
    pattern = rf"^(?:{digits})(?:[eE](?:-[0-9]{{1,2}}|\+?[0-2]?[0-9]))?$"
    if may_be_absent:
        pattern = rf"^$|{pattern}"
    text = core_schema.str_schema(pattern=pattern, max_length=MOST_DIGITS, coerce_numbers_to_str=True)
    schema: CoreSchema = (
        core_schema.no_info_after_validator_function(_decimal_or_zero, core_schema.nullable_schema(text))
        if may_be_absent
        else core_schema.no_info_after_validator_function(Decimal, text)
    )
    return GetPydanticSchema(lambda source, handler: schema)


_ANY: Final = r"-?[0-9]+(?:\.[0-9]*)?"
_NOT_NEGATIVE: Final = r"[0-9]+(?:\.[0-9]*)?|-0+(?:\.0*)?"
_POSITIVE: Final = r"0*[1-9][0-9]*(?:\.[0-9]*)?|0+\.0*[1-9][0-9]*"
Number = Annotated[Decimal, _written(_ANY)]
Amount = Annotated[Decimal, _written(_NOT_NEGATIVE)]  # a quantity or a price
Positive = Annotated[Decimal, _written(_POSITIVE)]
NumberOrZero = Annotated[Decimal, _written(_ANY, may_be_absent=True)]  # may be absent, null or empty
AmountOrZero = Annotated[Decimal, _written(_NOT_NEGATIVE, may_be_absent=True)]
Real = Annotated[float, Field(allow_inf_nan=False)]  # for the kernels
Stamp = Annotated[int, Field(ge=0, le=LAST_MS)]  # UTC epoch ms; 0 where the exchange has none
StampOrZero = Annotated[Stamp, BeforeValidator(_absent_is_zero)]
Whole = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=64)]  # symbols, assets, kinds
OptionalName = Annotated[str, Field(max_length=64)] | None
NameOrEmpty = Annotated[str, Field(max_length=64), BeforeValidator(_absent_is_empty)]
ClientId = Annotated[str, Field(min_length=1, max_length=100)]  # ours have 36; the exchange's own orders may have more
OrderId = Annotated[str, Field(min_length=1, max_length=40, coerce_numbers_to_str=True)]
OrderIdOrEmpty = Annotated[str, Field(max_length=40, coerce_numbers_to_str=True), BeforeValidator(_absent_is_empty)]
Words = Annotated[str, Field(max_length=1_000), BeforeValidator(_absent_is_empty)]


class Message(BaseModel):
    """Base of all models: frozen, and ignoring keys that it does not name."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, payload: Any) -> Self:
        """Return the model of a decoded message.

        Raises
        ------
        WireError
            The message does not fit the model.
        """
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            raise misfit(error, payload) from None


def reader(form: type[T], most: int) -> Callable[[Any], list[T]]:
    """Return a function that validates a list of at most `most` items and raises `WireError` at the first fault."""
    bounded: Any = Annotated[list[form], Field(max_length=most), FailFast()]  # type: ignore[valid-type]
    adapter: TypeAdapter[list[T]] = TypeAdapter(bounded)

    def read(payload: Any) -> list[T]:
        try:
            return adapter.validate_python(payload)
        except ValidationError as error:
            raise misfit(error, payload) from None

    return read


_REPR = reprlib.Repr()
_REPR.maxdict, _REPR.maxlist, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 12, 4, 60, 60, 30


def shortened(payload: object) -> str:
    """Return a message as truncated text, without formatting a large one in full first."""
    try:
        text = _REPR.repr(payload)
    except ValueError:  # a number with too many digits to print
        text = f"a {type(payload).__name__} that cannot be written out"
    return text if len(text) <= 300 else text[:300] + "…"


def unreadable(key: str, value: object, payload: object) -> WireError:
    """Return the error that names a key and its value."""
    return WireError(f"cannot read {key!r} = {shortened(value)} in the exchange's message: {shortened(payload)}")


def misfit(error: ValidationError, payload: object) -> WireError:
    """Return the error that describes the first fault of a message in one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    key, inner = "", payload
    for part in first["loc"]:  # after the key, a part may name the union member that was tried
        if isinstance(inner, dict) and isinstance(part, str):
            key, inner = part, inner.get(part)
        elif isinstance(inner, list) and isinstance(part, int) and part < len(inner):
            inner = inner[part]
        else:
            break
    if first["type"] == "missing" and key:
        return WireError(f"the exchange's message lacks {key!r}: {shortened(payload)}")
    if not first["loc"]:
        return WireError(f"the exchange's message has another form than this kind has: {shortened(payload)}")
    return unreadable(key or ".".join(map(str, first["loc"])), first["input"], payload)
