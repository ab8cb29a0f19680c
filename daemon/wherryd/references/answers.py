"""What an HTTP answer's head says of an object, and what a refusal means. No I/O.

Owns: ETag, size, ``Retry-After``, which statuses are final, whether an object is still what it was, going
on in the middle of one. Does not own: sending (``http``, ``s3``, ``gs``). Sources: RFC 9110 sections 8.6
(Content-Length), 8.8.3 (ETag), 10.2.3 (Retry-After), 13.1.5 (If-Range), 14.4 (Content-Range).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from wherry.errors import ReferenceFailed, ReferenceUnavailable, WherryError
from wherry.wire.secrets import masked
from wherryd.references.base import Seen
from wherryd.stores.http.answers import retry_after_s

_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_BEGIN = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
#: Statuses below 500 after which the same question may be answered otherwise soon.
_PASSING = (408, 421, 425, 429)
_HINTS = {
    401: "It wants credentials, which a plain URL can't carry.",
    403: "Whoever runs the daemon may not see it.",
    404: "Look whether the address is right.",
    410: "It was taken away.",
}


def etag_digest(etag: str | None) -> str | None:
    """An ETag as a digest: ``etag:abc`` for the strong ``"abc"``, ``etag:W/"abc"`` for a weak one."""
    if not etag:
        return None
    strong = len(etag) > 1 and etag[0] == etag[-1] == '"'
    return f"etag:{etag[1:-1] if strong else etag}"


def is_same_etag(one: str | None, other: str | None) -> bool:
    """Compare two digests that were made of ETags, weakly (RFC 9110 section 8.8.3.2)."""
    return one == other or (
        one is not None and other is not None and _opaque(one) == _opaque(other)
    )


def _opaque(digest: str) -> str:
    weak = digest.removeprefix("etag:").removeprefix('W/"')
    return weak.removesuffix('"')


def check_same(seen: Seen, digest: str | None, size: int | None) -> None:
    """Raise ``ReferenceFailed`` where the server says something else than it did."""
    if not is_same_etag(seen.digest, digest):
        what = "ETag" if "etag:" in f"{seen.digest} {digest}" else "checksum"
        raise _changed(
            seen, f"its {what} was {seen.digest or 'missing'} and is {digest or 'missing'}"
        )
    if seen.size is not None and size is not None:
        check_size(seen, size)


def check_size(seen: Seen, size: int) -> None:
    """Raise ``ReferenceFailed`` where so many bytes are another number than the recorded one."""
    if seen.size not in (None, size):
        raise _changed(seen, f"it had {seen.size:,} bytes, and has {size:,}")


def _changed(seen: Seen, how: str) -> ReferenceFailed:
    return ReferenceFailed(
        f"{masked(seen.uri)} has changed since it was logged: {how}",
        hint="Log the artifact again to reference what is there now.",
    )


def size_of(headers: Mapping[str, str]) -> int | None:
    """The object's size in bytes: of the whole, also where a part was sent; None where none is told."""
    whole = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if whole:
        return int(whole[1])
    told = headers.get("Content-Length", "")
    return int(told) if told.isdecimal() and "Content-Range" not in headers else None


def rest_from(start: int, seen: Seen) -> dict[str, str]:
    """The headers that ask for the bytes from ``start`` on, of the object that was seen.

    RFC 9110 section 13.1.5: only a strong ETag can say which object is meant.
    """
    if not start:
        return {}
    headers = {"Range": f"bytes={start}-"}
    etag = (seen.digest or "").removeprefix("etag:")
    if etag != seen.digest and etag and not etag.startswith("W/"):
        headers["If-Range"] = f'"{etag}"'
    return headers


async def without_first(
    start: int, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The bytes from ``start`` on, whether the server left out those before or gives all.

    Raises ``ReferenceUnavailable`` where it gives some other part.
    """
    part = _BEGIN.fullmatch(headers.get("Content-Range", ""))
    left_out = start - (int(part[1]) if part else 0)
    if left_out < 0:
        raise ReferenceUnavailable(f"asked for what follows byte {start:,}, got {part and part[0]}")
    async for chunk in chunks:
        if len(chunk) > left_out:
            yield chunk[left_out:]
        left_out = max(0, left_out - len(chunk))


def refusal(
    uri: str, host: str, status: int, headers: Mapping[str, str], now: float
) -> WherryError:
    """The error that a status is.

    Args:
        uri: as users know it, without secrets.
        now: seconds since 1970.
    """
    if status >= 500 or status in _PASSING:
        return ReferenceUnavailable(
            f"{host} answers {status} for {uri}",
            host=host,
            retry_after_s=retry_after_s(headers.get("Retry-After"), now),
        )
    return ReferenceFailed(f"{host} answers {status} for {uri}", hint=_HINTS.get(status))
