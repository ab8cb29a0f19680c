"""Tables in W&B's JSON, as they are read: a row at a time, whatever the file's size.

Owns: the way through the file. Does not own: the bytes (``held``), what a table does with its rows.

Python's own scanner reads the values, from a window of text that grows only while a single one does not fit
in. The members may come in any order; where rows come before what says how to read them, the file is gone
through twice.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from wherry.errors import BadTable, NotYet
from wherry.tables.columns import Name
from wherry.tables.kinds import (
    TIMESTAMP,
    UNKNOWN,
    DictOf,
    Foreign,
    from_notation,
    members_of,
    optional,
)
from wherry.tables.values import from_milliseconds
from wherry.tables.written import Head

_WINDOW_BYTES = 1 << 18
_MAX_GUESSES = 3  # wrong ones, after which each row is read by itself
_BLANK = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode

Open = Callable[[], BinaryIO]


def read_head(opened: BinaryIO, label: str) -> Head:
    """Read what a table is.

    Args:
        label: names the file in messages.

    Raises:
        BadTable: the file is none of a table.
        NotYet: W&B has put some of its values into files of numpy's.
    """
    text = _Text(opened, label)
    found: dict[str, object] = {}
    for key in _members(text):
        if key != "data":
            found[key] = text.value()
        elif {"columns", "column_types"} <= found.keys():
            break
        else:
            for _ in _items(text):
                pass
    return _head(found, label)


def read_object(opened: BinaryIO, label: str) -> dict[str, object]:
    """Read a small file that is a single object. Raises ``BadTable``."""
    text = _Text(opened, label)
    return {key: text.value() for key in _members(text)}


def read_rows(opened: BinaryIO, label: str, head: Head) -> Iterator[list[object]]:
    """Read a table's rows. Raises ``BadTable``."""
    text, width = _Text(opened, label), len(head.columns)
    times = [at for at, kind in enumerate(head.kinds) if TIMESTAMP in members_of(kind)]
    for key in _members(text):
        if key != "data":
            text.value()
            continue
        for row in _items(text):
            if not isinstance(row, list) or len(row) != width:
                raise text.broken("a row is no list of a value for each column")
            for at in times:
                row[at] = from_milliseconds(row[at])
            yield row


class _Text:
    """A window of the file's text, and the place in it."""

    def __init__(self, opened: BinaryIO, label: str) -> None:
        self._opened = opened
        self._label = label
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._window = ""
        self._at = 0
        self._is_whole = False  # the window reaches to the file's end
        self._bad_guesses = 0

    def peek(self) -> str:
        """Give the next character that is no blank; "" at the end."""
        while True:
            found = _BLANK.match(self._window, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._window) or not self._more():
                return self._window[self._at : self._at + 1]

    def skip(self, expected: str) -> None:
        """Pass over a character. Raises ``BadTable`` where it is another."""
        if self.peek() != expected:
            raise self.broken(f"{expected!r} is missing")
        self._at += 1

    def value(self) -> object:
        """Read the value that begins here. Raises ``BadTable``."""
        self.peek()
        while True:
            try:
                found, end = _decode(self._window, self._at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, ValueError) and self._more():
                    continue
                raise self.broken(str(error)) from error
            if end == len(self._window) and self._more():
                continue  # a number may go on
            self._at = end
            value: object = found
            return value

    def rows(self) -> list[object]:
        """Read rows that are whole in the window; none where that can't be seen in one look.

        Where "],[" lies within a string or a deeper list, what is before it is no JSON with a "]"
        behind it, so that a guess that can be decoded is right.
        """
        end = max(self._window.rfind(between, self._at) for between in ("],[", "], ["))
        if end < 0 or self._bad_guesses == _MAX_GUESSES:
            return []
        guess = f"[{self._window[self._at : end + 1]}]"
        rows: list[object] = []
        length = 0
        with contextlib.suppress(ValueError, RecursionError):
            rows, length = _decode(guess)
        if length < len(guess):
            self._bad_guesses += 1
            return []
        self._at = end + 1
        return rows

    def broken(self, reason: str) -> BadTable:
        """Make the error for a file that is not as it should be."""
        return BadTable(f"{self._label} is no table: {reason}.")

    def _more(self) -> bool:
        """Read on: as much again as the window has, so that a large value costs few tries."""
        if self._is_whole:
            return False
        rest = self._window[self._at :]
        data = self._opened.read(max(_WINDOW_BYTES, len(rest)))
        self._is_whole = not data
        try:
            self._window, self._at = rest + self._decoder.decode(data, final=not data), 0
        except UnicodeDecodeError as error:
            raise self.broken(str(error)) from error
        return True


def _members(text: _Text) -> Iterator[str]:
    """Give the keys of an object; whoever takes one reads its value before the next."""
    text.skip("{")
    while text.peek() != "}":
        key = text.value()
        if not isinstance(key, str):
            raise text.broken("a key is no string")
        text.skip(":")
        yield key
        if text.peek() != "}":
            text.skip(",")


def _items(text: _Text) -> Iterator[object]:
    """Read an array's items one after the other."""
    text.skip("[")
    while text.peek() != "]":
        yield from text.rows() or [text.value()]
        if text.peek() != "]":
            text.skip(",")
    text.skip("]")


def _head(found: dict[str, object], label: str) -> Head:
    columns, nrows = found.get("columns"), found.get("nrows")
    if found.get("_type", "table") != "table" or not isinstance(columns, list):
        raise BadTable(f"{label} is no table: it says that it is a {found.get('_type')!r}.")
    names: list[Name] = [each if isinstance(each, int) else str(each) for each in columns]
    written = found.get("column_types")
    types = DictOf() if written is None else from_notation(written)
    fields = dict(types.fields) if isinstance(types, DictOf) else {}
    kinds = [fields.get(str(name), optional(UNKNOWN)) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if any(
            isinstance(each, Foreign) and '"serialization_path": {' in each.text
            for each in members_of(kind)
        ):
            raise NotYet(
                f"{label} has the column {name!r} in a file of numpy's; reading that is not built yet.",
                hint="Use get_entry() and numpy.load.",
            )
    return Head(names, kinds, nrows if isinstance(nrows, int) else None)
