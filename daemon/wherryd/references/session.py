"""The connections to the servers of references.

Owns: one pool, how many connections in all, time-outs, the environment's proxies and certificates. Does not
own: what is asked (``http``, ``gs``), how many questions a host gets at once (``asking``).
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
from anyio import to_thread
from yarl import URL

IN_ALL = 256
CONNECT_S = 10.0
#: For the head of an answer, and then for each further piece.
ANSWER_S = 30.0
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class Session:
    """Sends requests; opened at the first one.

    Args:
        answer_s: seconds until an answer's head must be there.
    """

    def __init__(self, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None
        self._opening = anyio.Lock()
        self._proxies: dict[tuple[str, str], str | None] = {}  # by scheme and host

    async def request(
        self, method: str, url: URL, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """Send one request; give the response with its body unread. Raises what aiohttp does.

        A name and a password in the URL go to its own host only.
        """
        session = self._session or await self._open()
        with anyio.fail_after(self._answer_s):
            return await session.request(
                method, url, headers=headers, allow_redirects=False, proxy=self._proxy_for(url)
            )

    async def aclose(self) -> None:
        """Give back the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                trusted = await to_thread.run_sync(ssl.create_default_context)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=IN_ALL, ssl=trusted),
                    timeout=aiohttp.ClientTimeout(
                        connect=None, sock_connect=CONNECT_S, sock_read=self._answer_s
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                )
            return self._session

    def _proxy_for(self, url: URL) -> str | None:
        """The proxy that the environment names; looked for once, for it takes longer than a request."""
        place = url.scheme, url.authority
        if place not in self._proxies:
            self._proxies[place] = _proxy_for(url)
        return self._proxies[place]


def is_unknown_name(error: BaseException | None) -> bool:
    """Whether a connection failed since there is no host of that name; other look-ups may do better."""
    if not isinstance(error, aiohttp.ClientConnectorDNSError):
        return False
    return getattr(error.os_error, "errno", None) in _NO_SUCH_NAME


def _proxy_for(url: URL) -> str | None:
    """The proxy that the environment names, as for other programs."""
    parts = urlsplit(str(url))
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)
