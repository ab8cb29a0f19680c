"""References to ``http://`` and ``https://``.

Owns: HEAD, or a GET of one byte where HEAD is refused or says nothing; redirects; what came instead of
an answer. Does not own: what an answer's head means (``answers``), connections (``session``).

Each question goes out at most once to each address that it is sent on to.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from yarl import URL

from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherry.wire.secrets import masked
from wherryd.clock import Clock
from wherryd.references.answers import (
    check_same,
    etag_digest,
    refusal,
    rest_from,
    size_of,
    without_first,
)
from wherryd.references.base import Found, Page, Seen, Target
from wherryd.references.session import Session, is_unknown_name

_REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 10
#: Refusals of HEAD that may not concern GET.
_HEAD_REFUSED = (403, 405, 501)
_ONE_BYTE = {"Range": "bytes=0-0"}
#: The checksum and the size shall be those of the bytes themselves, not of a compressed form.
_PLAIN = {"Accept": "*/*", "Accept-Encoding": "identity"}
_CHUNK_BYTES = 1 << 20


class HttpResolver:
    """Finds out about URLs; see ``base.Resolver`` for what each method promises.

    Args:
        clock: tells until when ``Retry-After`` is.
        session: whose connections are used.
    """

    def __init__(self, clock: Clock, session: Session) -> None:
        self._clock = clock
        self._session = session

    def host(self, target: Target) -> str:
        return host_of(target.uri)

    async def look(self, target: Target) -> Found | None:
        response = await self._head(target.uri)
        if response.status in _HEAD_REFUSED or (_is_good(response) and _says_nothing(response)):
            response = await self._first_byte(target.uri)
        if not _is_good(response):
            raise self._refusal(target.uri, response)
        path = URL(target.uri).path.rstrip("/").rpartition("/")[2]
        return Found(target.uri, path, etag_digest(response.headers.get("ETag")), _size(response))

    async def list(self, target: Target, after: str) -> Page:
        del after
        raise ReferenceFailed(f"{masked(target.uri)} can't be listed: a URL is one file")

    async def check(self, seen: Seen) -> None:
        found = await self.look(Target(seen.uri))
        assert found is not None
        check_same(seen, found.digest, found.size)

    async def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        count = start
        asked = _PLAIN | rest_from(start, seen)
        async with self._follow("GET", seen.uri, asked) as response:
            if not _is_good(response):
                raise self._refusal(seen.uri, response)
            check_same(seen, etag_digest(response.headers.get("ETag")), size_of(response.headers))
            chunks = response.content.iter_chunked(_CHUNK_BYTES)
            with translated(seen.uri):
                async for chunk in without_first(start, response.headers, chunks):
                    count += len(chunk)
                    yield chunk
        if seen.size not in (None, count):
            raise ReferenceFailed(
                f"{masked(seen.uri)} gave {count:,} bytes; {seen.size:,} were there when it was logged"
            )

    async def aclose(self) -> None:
        await self._session.aclose()

    async def _head(self, uri: str) -> aiohttp.ClientResponse:
        async with self._follow("HEAD", uri, _PLAIN) as response:
            return response

    async def _first_byte(self, uri: str) -> aiohttp.ClientResponse:
        async with self._follow("GET", uri, _PLAIN | _ONE_BYTE) as response:
            response.close()  # with the connection: the rest of a large body is not waited for
            return response

    @asynccontextmanager
    async def _follow(
        self, method: str, uri: str, headers: dict[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send, and go where the answer points; give the response that points nowhere, body unread."""
        url = URL(uri)
        for _ in range(1 + MOST_REDIRECTS):
            async with self._send(method, url, headers, uri) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = _next(url, response, uri)
        raise ReferenceFailed(
            f"{masked(uri)} is redirected more than {MOST_REDIRECTS} times, last to {masked(str(url))}",
            hint="Reference the address where it ends.",
        )

    @asynccontextmanager
    async def _send(
        self, method: str, url: URL, headers: dict[str, str], uri: str
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        with translated(uri):
            response = await self._session.request(method, url, headers)
        async with response:
            yield response

    def _refusal(self, uri: str, response: aiohttp.ClientResponse) -> Exception:
        host = host_of(str(response.url))
        return refusal(masked(uri), host, response.status, response.headers, self._clock.now())


def host_of(url: str) -> str:
    """Host, and port where it is another than usual, as users know it."""
    parts = URL(url)
    port = "" if parts.is_default_port() else f":{parts.port}"
    return f"{parts.host or ''}{port}"


def _is_good(response: aiohttp.ClientResponse) -> bool:
    # 416: nothing to give the first byte of, the file is empty
    return 200 <= response.status < 300 or (
        response.status == 416 and size_of(response.headers) == 0
    )


def _says_nothing(response: aiohttp.ClientResponse) -> bool:
    return not response.headers.get("ETag") and _size(response) is None


def _size(response: aiohttp.ClientResponse) -> int | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None  # it is the size of another form
    return size_of(response.headers)


def _next(url: URL, response: aiohttp.ClientResponse, uri: str) -> URL:
    try:
        there = url.join(URL(response.headers["Location"]))
    except ValueError as exc:
        raise ReferenceFailed(f"{masked(uri)} is redirected to what is no URL") from exc
    if there.scheme not in ("http", "https") or (url.scheme == "https" and there.scheme == "http"):
        raise ReferenceFailed(
            f"{masked(uri)} is redirected to {masked(str(there))}: not followed, as it is no https URL",
            hint="Reference the address where it ends.",
        )
    return there


@contextmanager
def translated(uri: str, host: str = "") -> Iterator[None]:
    """Let no error of aiohttp's out.

    Args:
        host: whom to leave alone; the URL's by default.
    """
    host, shown = host or host_of(uri), masked(uri)
    try:
        yield
    except aiohttp.ClientConnectorDNSError as exc:
        unknown = is_unknown_name(exc)
        said = "is no host's name" if unknown else "can't be looked up now"
        raise ReferenceUnavailable(
            f"{exc.host} {said}, which {shown} needs", host=host, unknown_name=unknown
        ) from exc
    except aiohttp.ClientSSLError as exc:
        raise ReferenceFailed(
            f"{exc.host} can't prove that it is the host of {shown}: {_tls_reason(exc)}",
            hint="SSL_CERT_FILE names further certificates to trust, in the daemon's environment.",
        ) from exc
    except (aiohttp.InvalidURL, ValueError) as exc:
        raise ReferenceFailed(f"{shown} is no URL that can be asked for") from exc
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        raise ReferenceUnavailable(
            f"{host} gives no answer for {shown}: {_said(exc)}", host=host
        ) from exc


def _tls_reason(error: aiohttp.ClientSSLError) -> str:
    cause = error.__cause__ or error.__context__
    return getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "TLS failed"


def _said(error: BaseException) -> str:
    """What went wrong, without what may be secret: a proxy's URL, say, has a password."""
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answers {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "what comes is no HTTP"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
