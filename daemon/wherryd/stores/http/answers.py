"""What the answers of every server have in common.

Owns: ranges of an object's bytes, dates, the words for a store that fails, when to come back, and why other
bytes arrived than were meant.
Does not own: what a status means (``s3.answers``, ``gs.answers``).
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from anyio import to_thread

from wherry.errors import StoreDamaged, StoreUnavailable, StoreUnfit
from wherryd.stores.base import Body, FileBody, PackBody, Sink
from wherryd.stores.bodies import changed, find_changed
from wherryd.stores.http.transport import Response, arriving, pour

_LONGEST_WAIT_S = 60.0


def range_header(offset: int, size: int | None) -> dict[str, str]:
    """Ask for a part of an object (RFC 9110 §14.2); for all of it, nothing."""
    last = "" if size is None else str(offset + size - 1)
    return {"Range": f"bytes={offset}-{last}"} if offset or last else {}


async def ranged(
    key: str, status: int, response: Response | None, offset: int, size: int | None
) -> AsyncGenerator[bytes, None]:
    """Give the bytes that were asked for, out of a good answer or a 416.

    Raises ``StoreDamaged`` where there are fewer, ``StoreUnfit`` where others come.
    """
    left = size
    if _has_range(key, status, response, offset):
        assert response
        async for chunk in arriving(response):
            yield chunk[:left]
            left = None if left is None else max(0, left - len(chunk))
            if left == 0:
                return
    _check_left(key, left)


async def poured(
    key: str, status: int, response: Response | None, offset: int, size: int | None, sink: Sink
) -> None:
    """Give the bytes that were asked for to a sink. Raises as ``ranged``."""
    left = size

    def count(piece: memoryview) -> None:
        nonlocal left
        sink(piece)
        left = None if left is None else left - len(piece)

    if _has_range(key, status, response, offset):
        assert response
        await pour(response, size, count)
    _check_left(key, left)


def _has_range(key: str, status: int, response: Response | None, offset: int) -> bool:
    if response and status == 200 and offset and not _begins_at(response, offset):
        raise StoreUnfit(f"GET {key}: the store gives whole objects only.")
    return response is not None  # none: from the end, or beyond (416)


def _check_left(key: str, left: int | None) -> None:
    if left:
        raise StoreDamaged(f"{key} is {left} bytes too short.")


def _begins_at(response: Response, offset: int) -> bool:
    """Whether a range is given under another status than 206, as rclone does."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


async def why_damaged(what: str, body: Body) -> Exception:
    """Find out whether a body's file is not what its digest says, or the network spoilt it."""
    if isinstance(body, FileBody | PackBody):
        file = await to_thread.run_sync(find_changed, body)
        if file is not None:
            return changed(file, "is not what it was when it was hashed")
    return StoreUnavailable(f"{what}: other bytes arrived than were sent.")


def fails(said: str, *, is_too_much: bool) -> str:
    """Say that a store has done nothing of what it was asked, as far as is known."""
    why = "The store has too much to do." if is_too_much else "The store fails."
    return f"{why} {said}."


def wait_s(headers: Mapping[str, str]) -> float:
    """How long the server wants to be left alone, by its own clock; a minute at most."""
    now = parse_date(headers.get("Date", ""))
    asked = retry_after_s(headers.get("Retry-After"), math.inf if now is None else now)
    return min(asked or 0.0, _LONGEST_WAIT_S)


def retry_after_s(text: str | None, now: float) -> float | None:
    """Seconds that a server asks to be left alone (RFC 9110 §10.2.3); None where it does not say."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, until.replace(tzinfo=until.tzinfo or UTC).timestamp() - now)


def parse_date(text: str) -> float | None:
    """Read an HTTP date (RFC 9110 §5.6.7): seconds since 1970, or None."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
