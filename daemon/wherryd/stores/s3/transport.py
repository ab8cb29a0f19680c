"""The one HTTP session of a store.

Owns: connections, time-outs, and that each request goes out once: aiohttp sends a PUT again by itself when
a connection that it had kept turns out to be closed. Does not own: what an answer means.

Kept connections are dropped after 4 s without use, sooner than servers drop them, since a request on a
connection that the server is just closing has an unknown outcome.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
import msgspec
from anyio import to_thread
from yarl import URL

from wherry.errors import CaptureError, StoreUnavailable
from wherryd.stores.base import Body, FileBody, OutcomeUnknown
from wherryd.stores.bodies import CHUNK_BYTES, read_piece

_CONNECT_S = 10
_SILENCE_S = 30  # without a byte going or coming
_KEPT_S = 4
#: Errors of a connection that was never made.
_UNSENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)
_OMITTED = ("Accept", "Accept-Encoding", "User-Agent")
_READS = ("GET", "HEAD")


class Request(msgspec.Struct, frozen=True):
    """One request, signed."""

    method: str
    url: str  # percent-encoded
    headers: Mapping[str, str]
    body: Body = b""


class Transport:
    """Sends requests to one server."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._opening = anyio.Lock()

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send a request, once; give the response with its body unread.

        Raises, also while the response is read:
            StoreUnavailable: the request did not go out, or it only reads and got no answer.
            OutcomeUnknown: it writes, went out at least in part, and got no answer.
            FileChanged, FileUnreadable: of its body's file.
        """
        session = await self._open(request.url)
        sending = _Sending(request.body) if request.body else None
        with _translated(request, sending):
            with anyio.fail_after(_SILENCE_S) as silence:
                response = await session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    data=sending and sending.data(silence),
                    allow_redirects=False,
                    proxy=self._proxy,
                )
            async with response:
                yield response

    async def aclose(self) -> None:
        """Give back the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _open(self, url: str) -> aiohttp.ClientSession:
        if self._session:
            return self._session
        async with self._opening:
            if self._session is None:
                trusted = await to_thread.run_sync(_trusted) if url.startswith("https:") else False
                self._proxy = _proxy_for(url)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S, ssl=trusted),
                    timeout=aiohttp.ClientTimeout(connect=_CONNECT_S, sock_read=_SILENCE_S),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    skip_auto_headers=_OMITTED,
                    auto_decompress=False,
                    middlewares=(_send_once,),
                    read_bufsize=CHUNK_BYTES,
                )
            return self._session


class _Dropped(aiohttp.ClientError):
    """The connection broke. aiohttp sends again after its own errors that say so, not after this."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except _UNSENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _Dropped(str(exc) or type(exc).__name__) from exc


class _Sending:
    """A body on its way."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.failure: CaptureError | None = None

    def data(self, silence: anyio.CancelScope) -> bytes | AsyncGenerator[bytes, None]:
        """What aiohttp sends; each piece that goes out puts off the end of patience."""
        body = self._body
        if isinstance(body, bytes) and len(body) <= CHUNK_BYTES:
            return body
        return self._pieces(silence)

    async def _pieces(self, silence: anyio.CancelScope) -> AsyncGenerator[bytes, None]:
        body = self._body
        size = body.size if isinstance(body, FileBody) else len(body)
        for offset in range(0, size, CHUNK_BYTES):
            silence.deadline = anyio.current_time() + _SILENCE_S
            if isinstance(body, FileBody):
                body.told(offset)
            yield await self._piece(offset, min(CHUNK_BYTES, size - offset))
        silence.deadline = anyio.current_time() + _SILENCE_S

    async def _piece(self, offset: int, size: int) -> bytes:
        body = self._body
        if isinstance(body, bytes):
            return body[offset : offset + size]
        try:
            return await to_thread.run_sync(read_piece, body, offset, size)
        except CaptureError as exc:
            self.failure = exc
            raise


@contextmanager
def _translated(request: Request, sending: _Sending | None) -> Iterator[None]:
    """Let no error of aiohttp's out."""
    try:
        yield
    except _UNSENT as exc:
        raise StoreUnavailable(f"No connection for {_named(request)}: {_said(exc)}") from exc
    except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
        if sending and sending.failure:
            raise sending.failure from exc
        kind = StoreUnavailable if request.method in _READS else OutcomeUnknown
        raise kind(f"No answer to {_named(request)}: {_said(exc)}") from exc


def _named(request: Request) -> str:
    return f"{request.method} {request.url.partition('?')[0]}"


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or f"nothing came for {_SILENCE_S} s"
    return str(error) or type(error).__name__


def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names, as for other programs."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)
