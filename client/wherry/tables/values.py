"""Python values in a table: of which kind each is, and what it becomes in a file.

Owns: single values, numpy's and pandas' among them, without importing either. Does not own: columns, files.

NaN is a number and None is none, here and in the file. What pandas and numpy have for "missing" and is no
number (``NaT``, ``NA``) is None.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from wherry.errors import BadValue
from wherry.tables.kinds import (
    BOOLEAN,
    MAX_FIELDS,
    NONE,
    NUMBER,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    DictOf,
    Kind,
    ListOf,
    inner,
)

_MAX_DEPTH = 100
_MAX_INT_BITS = 10_000  # Python refuses to write or read over 4,300 digits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Of values whose class alone tells.
SIMPLE: dict[type, Kind] = {
    type(None): NONE,
    bool: BOOLEAN,
    str: STRING,
    int: NUMBER,
    float: NUMBER,
    datetime: TIMESTAMP,
    date: TIMESTAMP,
}
_HINT = (
    "A table holds numbers, strings, booleans, datetimes, None, and lists, dicts and arrays of them:"
    " convert it first, for instance by str(value)."
)


def unwrapped(value: object) -> object:
    """Give the Python value of a scalar or an array of another library; any other value as it is.

    Raises:
        BadValue: a time of numpy's is before year 1 or after 9999.
    """
    name = type(value).__name__
    if name in (
        "NaTType",
        "NAType",
    ):  # pandas'; a NaT is a datetime by class, and not by what it can
        return None
    if isinstance(value, Decimal):
        return float(value)
    if name == "datetime64":
        return _datetime(value)
    to_datetime = getattr(value, "to_pydatetime", None)
    if name == "Timestamp" and callable(to_datetime):
        found: object = to_datetime(warn=False)
        return found
    tolist = getattr(value, "tolist", None)
    if not callable(tolist) or isinstance(value, type):
        return value
    listed: object = tolist()
    if type(listed) is type(value):  # numpy's longdouble, which has no Python type of its precision
        return (
            float(listed) if isinstance(listed, float) or hasattr(listed, "__float__") else listed
        )
    if getattr(getattr(value, "dtype", None), "kind", "") == "M" and isinstance(value, Iterable):
        return [unwrapped(each) for each in value]
    return listed


def kind_of(value: object, depth: int = 0) -> Kind:
    """Tell which kind a value is of, ``unwrapped`` or not.

    Raises:
        BadValue: a table can't hold it.
    """
    kind = SIMPLE.get(type(value))
    if kind is None:
        value = unwrapped(value)
        kind = SIMPLE.get(type(value)) or _kind_of_subclass(value)
    if kind is NUMBER and isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        raise BadValue(f"it is an integer of {value.bit_length():,} bits.", hint="Use str(value).")
    if kind is not None:
        return kind
    if depth > _MAX_DEPTH:
        raise BadValue(
            f"it is nested over {_MAX_DEPTH} levels deep, or contains itself.", hint=_HINT
        )
    if isinstance(value, Mapping):
        return _kind_of_dict(value, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return _kind_of_list(value, depth)
    raise _unfit(value)


def plain(value: object) -> object:
    """Turn what JSON has no form for into what it has, one level deep. Raises ``BadValue``."""
    value = unwrapped(value)
    if isinstance(value, datetime | date):
        return milliseconds(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=lambda each: (type(each).__name__, repr(each)))
    if isinstance(value, Mapping):
        return dict(value)
    if value is None or isinstance(value, bool | int | float | str | list | tuple):
        return value
    raise _unfit(value)


def milliseconds(value: date) -> int | float:
    """Write a time as W&B does: milliseconds since 1970 in UTC, microseconds as a fraction.

    Args:
        value: a datetime; one without a zone is in UTC. A date is its first moment.
    """
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    whole, rest = divmod((aware - _EPOCH) // _MICROSECOND, 1000)
    return whole + rest / 1000 if rest else whole


def from_milliseconds(value: object) -> object:
    """Read a time back, in UTC; any other value, and a time that Python has not, as it is."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return value
    try:
        return _EPOCH + timedelta(microseconds=round(value * 1000))
    except (OverflowError, ValueError):
        return value


def is_nan(value: object) -> bool:
    """Whether a value is the number NaN."""
    return isinstance(value, float) and value != value


def shown(value: object) -> str:
    """Name a value in a message."""
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def _kind_of_subclass(value: object) -> Kind | None:
    if isinstance(value, str):
        return STRING
    if isinstance(value, int | float):
        return NUMBER
    return TIMESTAMP if isinstance(value, date) else None


def _kind_of_dict(value: Mapping[object, object], depth: int) -> Kind:
    fields: dict[str, Kind] = {}
    for key, each in value.items():
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise BadValue(f"it has the key {shown(key)} in a dict.", hint="Use strings as keys.")
        fields[str(key)] = _kind_inside(each, depth)
    if len(fields) > MAX_FIELDS:
        raise BadValue(
            f"it is a dict of {len(fields):,} keys.",
            hint=f"Over {MAX_FIELDS:,}, give a list of pairs, or save it to a file of its own.",
        )
    return DictOf(tuple(fields.items()))


def _kind_of_list(value: Iterable[object], depth: int) -> Kind:
    items = list(value)
    if {*map(type, items)} <= {int, float} and all(each == each for each in items):
        return ListOf(NUMBER if items else UNKNOWN, len(items))
    element: Kind = UNKNOWN
    for each in items:
        element = inner(element, _kind_inside(each, depth))
    return ListOf(element, len(items))


def _kind_inside(value: object, depth: int) -> Kind:
    """As ``kind_of``, where W&B's reader takes NaN for None and no times."""
    kind = kind_of(value, depth + 1)
    if kind is TIMESTAMP:
        raise BadValue(
            f"it has {shown(value)} inside of a list or dict, where W&B's tools can't read it.",
            hint="Give it a column of its own, or use value.isoformat().",
        )
    return NONE if kind is NUMBER and is_nan(unwrapped(value)) else kind


def _datetime(value: object) -> object:
    """Make numpy's datetime64 a datetime; what is below a microsecond is cut off."""
    found: object = value.astype("datetime64[us]").tolist()  # type: ignore[attr-defined]
    if isinstance(found, int):
        raise BadValue(
            f"the time {value} is none that Python's datetime has.", hint="Use str(value)."
        )
    return found


def _unfit(value: object) -> BadValue:
    said = f"{shown(value)} is nothing that a table can hold."
    if isinstance(value, bytes | bytearray):
        return BadValue(
            said,
            hint="Text: value.decode(). Other bytes: base64.b64encode(value).decode(), or a file of"
            " their own, by add_file.",
        )
    if isinstance(value, timedelta) or type(value).__name__ == "timedelta64":
        return BadValue(
            said, hint="Use value.total_seconds(), or value / numpy.timedelta64(1, 's')."
        )
    if isinstance(value, complex):
        return BadValue(said, hint="Give value.real and value.imag a column each.")
    return BadValue(said, hint=_HINT)
