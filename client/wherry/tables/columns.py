"""One column of a table: what its values are, and whether one more may be among them.

Owns: the column's kind as it grows, what ``dtype`` and ``optional`` say, the errors. Does not own: values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import NamedTuple

from wherry.errors import BadTable, BadValue
from wherry.tables.kinds import (
    ANY,
    BOOLEAN,
    NONE,
    NUMBER,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    DictOf,
    Foreign,
    Kind,
    ListOf,
    OneOf,
    Plain,
    allows_none,
    joined,
    members_of,
    one_of,
    optional,
    words,
)
from wherry.tables.values import SIMPLE, is_nan, kind_of, shown, unwrapped

Name = str | int


class State(NamedTuple):
    """What a column is."""

    kind: Kind
    has_nan: bool = False


class Column:
    """One column.

    Args:
        name: a string, or an integer as pandas and numpy have it.
        kind: what it holds before its first value.
    """

    def __init__(self, name: Name, kind: Kind) -> None:
        self.name = name
        # Classes whose values change nothing, so that a million rows are a look at the class each.
        self.known: set[type] = set()
        self._state = State(kind)

    def after(self, value: object, row: int) -> State:
        """Tell what the column is with one more value in it.

        Args:
            row: for the message.

        Raises:
            BadValue: it is of another kind than those before, or nothing that a table can hold.
        """
        try:
            value = unwrapped(value)
            kind = kind_of(value)
        except BadValue as error:
            raise BadValue(f"{self._place(row)}: {error.message}", hint=error.hint) from error
        old, has_nan = self._state
        if kind is NUMBER and is_nan(value):
            if allows_none(old):  # what pandas has for None among strings
                return State(old, has_nan=True)
            has_nan = True
        together = joined(old, kind)
        if together is None:
            raise self._refused(value, row)
        return State(together, has_nan)

    def become(self, state: State, value: object) -> None:
        """Have that value in it, of which ``after`` told the state."""
        if state == self._state and type(value) in SIMPLE:
            self.known.add(type(value))
        self._state = state

    @property
    def written_kind(self) -> Kind:
        """The kind as a file has it. W&B's reader takes NaN for None, which has to be allowed then."""
        kind, has_nan = self._state
        if not has_nan:
            return kind
        known = [NUMBER if each == UNKNOWN else each for each in members_of(kind)]
        return optional(one_of(known))

    def _refused(self, value: object, row: int) -> BadValue:
        if value is None:
            return BadValue(
                f"{self._place(row)}: there is no value, and the column is not optional.",
                hint="Make the table, or add the column, with optional=True.",
            )
        return BadValue(
            f"{self._place(row)}: {shown(value)} is no value of a column of {words(self._state.kind)}.",
            hint="Convert it, or make the table with allow_mixed_types=True.",
        )

    def _place(self, row: int) -> str:
        return f"Row {row}, column {self.name!r}"


def declared(
    given: Iterable[object], dtype: object, allows: bool | Iterable[bool], *, mixed: bool
) -> list[Column]:
    """Make a table's columns as its maker says.

    Args:
        given: their names.
        dtype: a type for all columns, or a list with one for each; None where the values shall tell.
        allows: whether None may be among the values, for all columns or each.
        mixed: any value may be beside any other.

    Raises:
        BadTable: two names are the same, or there is not one dtype, or one optional, a column.
    """
    names = [_name(each) for each in given]
    texts = [str(name) for name in names]
    if len({*texts}) < len(texts):
        twice = next(name for name in texts if texts.count(name) > 1)
        raise BadTable(f"The table has two columns {twice!r}.", hint="Give each its own name.")
    if mixed:
        dtype = ANY
    kinds = dtype if isinstance(dtype, list) else [dtype] * len(names)
    options = [allows] * len(names) if isinstance(allows, bool) else list(allows)
    for said, count in (("dtype", len(kinds)), ("optional", len(options))):
        if count != len(names):
            raise BadTable(
                f"{said} is a list of {count}, and the table has {len(names)} columns.",
                hint="Give one for each column, or a single one for all.",
            )
    return [
        Column(name, optional(kind) if may_lack else kind)
        for name, kind, may_lack in zip(names, map(kind_from_dtype, kinds), options, strict=True)
    ]


def kind_from_dtype(dtype: object) -> Kind:
    """Understand what ``dtype`` may be: a class, or a list or a dict of such. Raises ``BadTable``."""
    if isinstance(dtype, Plain | ListOf | DictOf | OneOf | Foreign):
        return dtype
    if dtype is None:
        return UNKNOWN
    if isinstance(dtype, list):
        inside = [NONE if each is None else kind_from_dtype(each) for each in dtype]
        return ListOf(inside[0]) if len(inside) == 1 else one_of(inside or [ListOf(UNKNOWN)])
    if isinstance(dtype, Mapping):
        return DictOf(tuple((str(key), kind_from_dtype(each)) for key, each in dtype.items()))
    if isinstance(dtype, type):
        for kind in _kinds_of_class(dtype):
            return kind
    raise BadTable(
        f"There is no dtype {dtype!r}.",
        hint="Use int, float, str, bool, datetime, [type] for lists or {'key': type} for dicts.",
    )


def _kinds_of_class(cls: type) -> Iterator[Kind]:
    """By the names of the classes it comes from, so that numpy's need no numpy."""
    for base in cls.__mro__:
        if base in SIMPLE:
            yield SIMPLE[base]
        elif base in (list, tuple, set, frozenset) or base.__name__ == "ndarray":
            yield ListOf(UNKNOWN)
        elif base is dict:
            yield DictOf()
        elif base is date or base.__name__ == "datetime64":
            yield TIMESTAMP
        elif base.__module__ == "numpy" and base.__name__ in _NUMPY:
            yield _NUMPY[base.__name__]


_NUMPY = {"number": NUMBER, "bool": BOOLEAN, "bool_": BOOLEAN, "str_": STRING}


def _name(name: object) -> Name:
    """Check a column's name; numpy's integers become Python's."""
    name = unwrapped(name)
    if isinstance(name, str | int) and not isinstance(name, bool):
        return name
    raise BadTable(
        f"A column can't be called {name!r}, a {type(name).__name__}.",
        hint="Use strings or integers: frame.columns = [str(name) for name in frame.columns]",
    )
