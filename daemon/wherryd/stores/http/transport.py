"""The one HTTP session of a store.

Owns: connections, time-outs, and that each request goes out once: aiohttp sends a PUT again by itself when
a connection that it had kept turns out to be closed; that a server which has moved is found where it is
now. Does not own: what an answer means.

Kept connections are dropped after 4 s without use, sooner than servers drop them, since a request on a
connection that the server is just closing has an unknown outcome.
"""

from __future__ import annotations

import http.client
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple, TypeVar

import aiohttp
import anyio
import msgspec
from anyio import to_thread
from yarl import URL

from wherry.errors import StoreUnavailable
from wherryd.stores.base import Body, OutcomeUnknown, Sink
from wherryd.stores.bodies import CHUNK_BYTES
from wherryd.stores.http.blocking import Lines, Received, Unreachable
from wherryd.stores.http.route import Route, find_route
from wherryd.stores.http.sending import Readable, Sending, patience
from wherryd.stores.traffic import Asked, Traffic

_CONNECT_S = 10
_SILENCE_S = 30  # without a byte leaving or coming
_KEPT_S = 4
#: How long a name's addresses are taken for good: those of S3 have a TTL of a few seconds.
_NAMES_S = 5
#: Errors of a connection that was never made.
_UNSENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    Unreachable,
)
#: Errors of one that broke, or whose other side speaks no HTTP. TimeoutError is an OSError.
_BROKEN = (aiohttp.ClientError, http.client.HTTPException, OSError)
_OMITTED = ("Accept", "Accept-Encoding", "User-Agent")
_READS = ("GET", "HEAD")

_T = TypeVar("_T")


class Request(msgspec.Struct, frozen=True):
    """One request, with all that says whose it is."""

    method: str
    url: str  # percent-encoded
    headers: Mapping[str, str]
    body: Body | Readable = b""
    is_large: bool = False  # a GET whose answer is so large that a thread is to receive it


Response = aiohttp.ClientResponse | Received
"""An answer: its head is here, its body unread."""


class Arrival(NamedTuple):
    """An answer's head, and the request that it ended."""

    response: Response
    asked: Asked


class Transport:
    """Sends requests to the servers of one store.

    Args:
        traffic: what all requests of this daemon share.
        bundle: the variable that may name a file of certificates to trust.
    """

    def __init__(self, traffic: Traffic, bundle: str = "") -> None:
        self._traffic = traffic
        self._bundle = bundle
        self._session: aiohttp.ClientSession | None = None
        self._lines = Lines(_CONNECT_S, _KEPT_S)
        self._routes: dict[str, Route] = {}

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncGenerator[Arrival, None]:
        """Send a request, once; give the answer with its body unread.

        Raises, also while the response is read:
            StoreUnavailable: the request did not go out, as its server is down or can't be reached; or it
                only reads and got no answer.
            OutcomeUnknown: it writes, went out at least in part, and got no answer.
            FileChanged, FileUnreadable: of its body's file.
        """
        sending = self._sending(request)
        asked, route = await self._asked(request)
        with _translated(request, sending):
            async with await self._answered(asked, request, route, sending) as response:
                yield Arrival(response, asked)

    async def exchange(self, request: Request, read: Callable[[Response], Awaitable[_T]]) -> _T:
        """Send a request, once; give what ``read`` makes of the answer, all of which it reads.

        Raises as ``send``. It costs less.
        """
        sending = self._sending(request)
        asked, route = await self._asked(request)
        with _translated(request, sending):
            async with await self._answered(asked, request, route, sending) as response:
                return await read(response)

    async def aclose(self) -> None:
        """Give back the connections."""
        self._lines.close()
        if self._session:
            await self._session.close()
            self._session = None

    def _sending(self, request: Request) -> Sending | None:
        return Sending(request.body, self._traffic.bandwidth) if request.body else None

    async def _asked(self, request: Request) -> tuple[Asked, Route]:
        """Wait for a place among what the server is asked; the way to it."""
        server = "/".join(request.url.split("/", 3)[:3])
        route = await self._route(server)
        return await self._traffic.host(server).ask(_size_of(request.body)), route

    async def _answered(
        self, asked: Asked, request: Request, route: Route, sending: Sending | None
    ) -> Response:
        """Send, and wait for the answer's head; whatever happens, ``asked`` is told."""
        try:
            response = await self._sent(request, route, sending)
        except _BROKEN as exc:
            if sending and sending.failure:
                asked.dropped()
            else:
                asked.failed(f"The last one, {_named(request)}: {_said(exc)}.")
            raise
        except BaseException:
            asked.dropped()
            raise
        asked.answered(response.status)
        return response

    async def _sent(self, request: Request, route: Route, sending: Sending | None) -> Response:
        headers = {**request.headers, **route.headers}
        if request.is_large and route.proxy is None:
            return await self._lines.get(request.url, headers, route.trusted, _SILENCE_S)
        with patience(_SILENCE_S, sending):
            return await self._open().request(
                request.method,
                URL(request.url, encoded=True),
                headers=headers,
                data=sending,
                allow_redirects=False,
                ssl=route.trusted,
                proxy=route.proxy,
                proxy_headers=route.proxy_headers,
            )

    async def _route(self, server: str) -> Route:
        if server not in self._routes:
            self._routes[server] = await to_thread.run_sync(find_route, server, self._bundle)
        return self._routes[server]

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEPT_S, ttl_dns_cache=_NAMES_S
                ),
                timeout=aiohttp.ClientTimeout(connect=_CONNECT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_OMITTED,
                auto_decompress=False,
                middlewares=(_send_once,),
                read_bufsize=CHUNK_BYTES,
            )
        return self._session


async def arriving(response: Response) -> AsyncGenerator[bytes, None]:
    """Give a response's body as it comes. Raises what ``Transport.send``, around it, makes errors of."""
    if isinstance(response, Received):
        while piece := await response.read(CHUNK_BYTES):
            yield piece
        return
    content = response.content
    while not content.at_eof():
        if content.is_eof():  # the rest is here: nothing to be patient for
            piece = content.read_nowait(CHUNK_BYTES)
        else:
            with anyio.fail_after(_SILENCE_S):
                piece = await content.read(CHUNK_BYTES)
        if piece:
            yield piece


async def pour(response: Response, most: int | None, sink: Sink) -> None:
    """Give a response's body to a sink, ``most`` bytes or all. Raises as ``arriving``."""
    if isinstance(response, Received):
        await response.pour(most, sink)
        return
    async for piece in arriving(response):
        await to_thread.run_sync(sink, memoryview(piece)[:most])
        most = None if most is None else max(0, most - len(piece))
        if most == 0:
            return


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


@contextmanager
def _translated(request: Request, sending: Sending | None) -> Iterator[None]:
    """Let no error of aiohttp's out."""
    try:
        yield
    except _UNSENT as exc:
        raise StoreUnavailable(f"No connection for {_named(request)}: {_said(exc)}") from exc
    except _BROKEN as exc:
        if sending and sending.failure:
            raise sending.failure from exc
        kind = StoreUnavailable if request.method in _READS else OutcomeUnknown
        raise kind(f"No answer to {_named(request)}: {_said(exc)}") from exc


def _size_of(body: Body | Readable) -> int:
    return len(body) if isinstance(body, bytes) else body.size


def _named(request: Request) -> str:
    return f"{request.method} {request.url.partition('?')[0]}"


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or f"nothing came for {_SILENCE_S} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return (
            f"{error.host}:{error.port} can't be reached: {error.__cause__ or type(error).__name__}"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):  # its own words hold the proxy's URL
        return f"the proxy says {error.status} {error.message}"
    return str(error) or type(error).__name__
