"""How a command prints: tables for people, JSON for programs, notes and errors beside them.

Owns: standard output and standard error, tables, the forms of ``--json``. Does not own: what is
printed, exit codes (``app``). rich is imported when there are rows, and not for JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from wherry.errors import WherryError

#: A pipe has no width: nothing is wrapped for it.
_PIPE_COLUMNS = 10_000

#: For errors that come without one.
_HINTS = {
    "NotFoundError": "`wherry ls` lists what is committed, `wherry queue` what is not yet.",
    "TypeTaken": "Name that type with --type, or choose another name.",
}

Json = Mapping[str, object]


def print_json(value: Json) -> None:
    """Print one JSON object."""
    _write(json.dumps(value, indent=2) + "\n")


def print_json_with(value: Json, key: str, items: Iterable[Json]) -> None:
    """Print one JSON object whose last key holds an array, an item a line, as the items come."""
    head = json.dumps(value, indent=2).removesuffix("\n}")
    _write(f"{head},\n  {json.dumps(key)}: ")
    before = "[\n    "
    for item in items:
        _write(before + json.dumps(item))
        before = ",\n    "
    _write("[]\n}\n" if before == "[\n    " else "\n  ]\n}\n")


def print_array(items: Iterable[Json]) -> None:
    """Print a JSON array, an item a line, as the items come."""
    before = "[\n"
    for item in items:
        _write(before + json.dumps(item))
        before = ",\n"
    _write("[]\n" if before == "[\n" else "\n]\n")


def print_lines(items: Iterable[Json]) -> None:
    """Print JSON lines: an object a line, as the items come."""
    for item in items:
        _write(json.dumps(item) + "\n")


def print_text(text: str = "") -> None:
    """Print a line."""
    _write(text + "\n")


def print_now(text: str) -> None:
    """Print a text that need not be a line, and all that was printed before; at once, as somebody waits."""
    _write(text)
    sys.stdout.flush()


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line, the values below one another."""
    pairs = list(fields)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_text(f"{name:<{width}}  {value}".rstrip())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; nothing where there are no rows.

    Args:
        columns: headings; one that ends in ``>`` has its cells on the right.
        rows: a text for each column.
    """
    listed = list(rows)
    if not listed:
        return
    made = _table(columns)
    for row in listed:
        made.add_row(*row)
    _print_table(made)


def note(text: str) -> None:
    """Tell people something beside the output, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: WherryError) -> None:
    """Tell what happened, and what to do, on standard error."""
    note(f"wherry: {error.message or type(error).__name__}")
    hint = error.hint or _HINTS.get(type(error).__name__)
    if hint:
        note(f"  {hint}")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # the terminal's encoding lacks a character of a name
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _print_table(made: Table) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(markup=False, highlight=False, emoji=False).print(made)
        return
    plain = Console(width=_PIPE_COLUMNS, color_system=None, markup=False, emoji=False)
    with plain.capture() as captured:
        plain.print(made)
    for line in captured.get().splitlines():
        print_text(line.rstrip())


def _table(columns: Sequence[str]) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in columns:
        right = heading.endswith(">")
        made.add_column(heading.rstrip(">"), justify="right" if right else "left", overflow="fold")
    return made
