"""An HTTP server with ETags, in a thread of its own, that tests make slow, flaky or silent."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


class EtagServer:
    """Serves ``files``; set its fields at any time.

    HEAD is refused below ``/nohead/``; ``/to?<url>`` redirects.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.delay_s = 0.0
        self.fail_every = 0  # answer each n-th question with 503
        self.silent: set[str] = set()  # paths that are never answered
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
        return web.Response(body=body, headers={"ETag": etag(body)})


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
