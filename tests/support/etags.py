"""An HTTP server with ETags, in a thread of its own, that tests make slow, flaky or silent."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

_CHUNK_BYTES = 1 << 18


class EtagServer:
    """Serves ``files``; set its fields at any time.

    HEAD is refused below ``/nohead/``; ``/to?<url>`` redirects. Ranges with an open end are honoured.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.delay_s = 0.0
        self.fail_every = 0  # answer each n-th question with 503
        self.silent: set[str] = set()  # paths that are never answered
        self.sick: set[str] = set()  # paths that are answered with 503
        self.busy: dict[
            str, int
        ] = {}  # paths: the next question is answered with 429, Retry-After …
        self.asked: list[tuple[str, float]] = []  # path, when (monotonic)
        self.cut_at: dict[str, int] = {}  # the next GET of a path ends at this byte, without notice
        self.stuck_at: dict[str, int] = {}  # … or sends nothing more
        self.ranges: list[str] = []  # that were asked for
        self.hits: Counter[tuple[str, str]] = Counter()
        self.port = 0
        self._count = 0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def answers(self, method: str = "HEAD") -> int:
        """How many questions were answered, or refused for good."""
        return sum(count for (how, _), count in self.hits.items() if how == method)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())  # which also ends what is still silent

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.silent:
            await asyncio.sleep(3600)
        self.asked.append((request.path, time.monotonic()))
        if request.path in self.busy:
            retry_after = str(self.busy.pop(request.path))
            return web.Response(status=429, headers={"Retry-After": retry_after})
        if request.path in self.sick:
            return web.Response(status=503)
        await asyncio.sleep(self.delay_s)
        self._count += 1
        if self.fail_every and self._count % self.fail_every == 0:
            return web.Response(status=503)
        if request.path == "/to":
            return web.Response(status=302, headers={"Location": request.query_string})
        self.hits[request.method, request.path] += 1
        if request.path.startswith("/nohead/") and request.method == "HEAD":
            return web.Response(status=405)
        body = self.files.get(request.path)
        if body is None:
            return web.Response(status=404)
        if request.method == "GET":
            return await self._send(request, body)
        return web.Response(body=body, headers={"ETag": etag(body)})

    async def _send(self, request: web.Request, body: bytes) -> web.StreamResponse:
        headers, begin = {"ETag": etag(body)}, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if wanted and request.headers.get("If-Range", etag(body)) == etag(body):
            begin = int(wanted[1])
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            self.ranges.append(wanted[0])
        cut, stuck = (at.pop(request.path, None) for at in (self.cut_at, self.stuck_at))
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        response.content_length = len(body) - begin
        await response.prepare(request)
        end = cut or stuck or len(body)
        for at in range(begin, end, _CHUNK_BYTES):
            await response.write(body[at : min(end, at + _CHUNK_BYTES)])
        if stuck:
            await asyncio.sleep(3600)
        if cut and request.transport:
            request.transport.close()
        return response


def etag(body: bytes) -> str:
    """The ETag of a body."""
    return f'"{hashlib.md5(body).hexdigest()}"'


@contextmanager
def etag_server() -> Iterator[EtagServer]:
    """A server for one test."""
    server = EtagServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
