"""How numbers, times and names are written for people. No I/O.

Owns: spans of time, and making a text safe for a terminal. Does not own: what is said about a
request (``states``), where it is printed (``output``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from wherry.progress import size_text

_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60))
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_SHORT_ID = 8


def progress_text(done_bytes: int, size_bytes: int) -> str:
    """Write how far an upload is: ``12.3 MiB of 1.5 GiB``; the size alone at its ends."""
    if 0 < done_bytes < size_bytes:
        return f"{size_text(done_bytes)} of {size_text(size_bytes)}"
    return size_text(size_bytes)


def span_text(seconds: float) -> str:
    """Write a span of time in one unit: ``12 s``, ``3 min``, ``2 d``."""
    for unit, length_s in _SPANS:
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def read_span(text: str) -> float:
    """Read a span of time: ``60``, ``60s``, ``10m``, ``1.5h``; in seconds.

    Raises:
        ValueError: says what is allowed.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|)", text.strip(), re.ASCII)
    if not found:
        raise ValueError(f"{text!r} is no time; write 60s, 10m or 1.5h")
    return float(found[1]) * _SECONDS[found[2]]


def seconds_until(stamp: str, now: datetime | None = None) -> float | None:
    """Say how far an RFC 3339 time is ahead; below zero where it has passed, None where it is none."""
    try:
        there = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    if there.tzinfo is None:
        return None
    return (there - (now or datetime.now(UTC))).total_seconds()


def local_time(stamp: str) -> str:
    """Write an RFC 3339 time by this machine's clock, to the second."""
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return stamp


def printable(text: str) -> str:
    """Escape what is no character to print, so that a file's name can't steer the terminal."""
    return "".join(map(_shown, text))


def first_line(text: str) -> str:
    """Leave out an error's hint, which stands on a line of its own."""
    return text.strip().partition("\n")[0]


def count_text(count: int, thing: str, things: str = "") -> str:
    """Write how many: ``1 request``, ``2,000 requests``."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Shorten ids to their ends, as long as tells them apart: they begin with the time."""
    whole = set(ids)
    length = _SHORT_ID
    while len({id_[-length:] for id_ in whole}) < len(whole):
        length += 1
    return {id_: id_[-length:].lstrip("-") for id_ in whole}


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
