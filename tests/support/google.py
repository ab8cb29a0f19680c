"""Cloud Storage's JSON API, as its pages describe it and as far as stores use it, in a thread of the tests.

For what no emulator does: sessions that tell how far they are and keep what came of a request that was cut
(in whole 256 KiB, as Google does), checksums that are looked at, tokens, and faults at a chosen request.
Sources: Cloud Storage, "Resumable uploads", "Data validation and change detection", "Objects", "HTTP status
and error codes".
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
from aiohttp import web

from tests.support.servers import HOST

_QUANTUM_BYTES = 256 << 10
_PAGE = 1000


@dataclass
class Held:
    """An object."""

    body: bytes
    generation: int
    crc32c: str
    created: float


@dataclass
class Session:
    """An upload that is under way, or done."""

    bucket: str
    metadata: dict[str, Any]
    condition: str | None
    body: bytearray = field(default_factory=bytearray)
    made: str = ""  # generation


class Refuse(Exception):
    """An answer in the form of Google's errors."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Cut(Exception):
    """The connection ends without an answer."""


NO_BUCKET = Refuse(404, "notFound", "The specified bucket does not exist.")
Fault = Callable[[web.Request], None]


class Google:
    """A server; as a context manager it starts and stops.

    ``before`` and ``after`` are called with each request before and after it was acted on; they may raise
    ``Refuse`` or ``Cut``.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Held]] = {}
        self.sessions: dict[str, Session] = {}
        #: Who shows none of these is refused; None: all may.
        self.tokens: set[str] | None = None
        #: Bytes of uploads that arrived, each as often as it did.
        self.received = 0
        #: A request of a session is cut when the server has so many bytes of it.
        self.cut_at: int | None = None
        self.before: Fault | None = None
        self.after: Fault | None = None
        #: Methods and targets.
        self.asked: list[str] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._generation = time.time_ns() // 1000

    def __enter__(self) -> Self:
        self._stop, started = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(run()))

        async def run() -> None:
            runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, HOST, self.port)
            await site.start()
            self.port = runner.addresses[0][1]
            started.set()
            await self._stop.wait()
            await runner.cleanup()

        self._thread.start()
        assert started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{HOST}:{self.port}"

    def address(self, bucket: str, prefix: str = "") -> str:
        """The store address of a prefix in a bucket, which is made."""
        self.buckets.setdefault(bucket, {})
        return f"gs://{bucket}{prefix and '/' + prefix}?endpoint_url={self.endpoint}"

    # ── one request ────────────────────────────────────────────────────────────────────────────
    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.BaseRequest)
        self.asked.append(f"{request.method} {request.raw_path}")
        try:
            self._check_token(request)
            if self.before:
                self.before(request)  # type: ignore[arg-type]
            answer = await self._answer(request)
            if self.after:
                self.after(request)  # type: ignore[arg-type]
        except Refuse as error:
            return _error(request, error)
        except (Cut, ConnectionResetError):
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)
        answer.headers["X-GUploader-UploadID"] = "of this request"
        return answer

    def _check_token(self, request: web.BaseRequest) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        is_session = "upload_id=" in request.raw_path
        if self.tokens is not None and not is_session and token not in self.tokens:
            raise Refuse(401, "authError", "Invalid Credentials" if token else "Login Required")

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        parts = urlsplit(request.raw_path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix("/upload")
        bucket, _, rest = path.removeprefix("/storage/v1/b/").partition("/o")
        name, bucket = unquote(rest.removeprefix("/")), unquote(bucket)
        if bucket not in self.buckets:
            raise NO_BUCKET
        if "upload_id" in query:
            return await self._session(request, query["upload_id"])
        if parts.path.startswith("/upload"):
            return await self._upload(request, bucket, query)
        if not name:
            return web.json_response(self._list(bucket, query))
        return self._object(request, bucket, name, query)

    def _object(
        self, request: web.BaseRequest, bucket: str, name: str, query: dict[str, str]
    ) -> web.Response:
        held = self.buckets[bucket].get(name)
        if held is None:
            raise Refuse(404, "notFound", f"No such object: {bucket}/{name}")
        if request.method == "DELETE":
            self._check_condition(bucket, name, query.get("ifGenerationMatch"))
            del self.buckets[bucket][name]
            return web.Response(status=204)
        if query.get("alt") == "media":
            return _media(request, held)
        return web.json_response(_resource(name, held))

    def _list(self, bucket: str, query: dict[str, str]) -> dict[str, object]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start = query.get("startOffset", "").encode()
        token = base64.b64decode(query.get("pageToken", ""))
        found: dict[bytes, tuple[str, Held | None]] = {}
        for name, held in self.buckets[bucket].items():
            head, mark, _ = name.removeprefix(prefix).partition(delimiter or "\0")
            if not name.startswith(prefix) or name.encode() < start:
                continue
            is_folder = bool(delimiter and mark)
            shown = f"{prefix}{head}{mark}" if is_folder else name
            if shown.encode() > token:
                found[shown.encode()] = shown, None if is_folder else held
        page = sorted(found)[: int(query.get("maxResults", _PAGE))]
        told: dict[str, object] = {"kind": "storage#objects"}
        items = [(name, held) for name, held in (found[each] for each in page)]
        told["items"] = [_resource(name, held) for name, held in items if held]
        told["prefixes"] = [name for name, held in items if held is None]
        if len(found) > len(page):
            told["nextPageToken"] = base64.b64encode(page[-1]).decode()
        return told

    # ── uploads ────────────────────────────────────────────────────────────────────────────────
    async def _upload(
        self, request: web.BaseRequest, bucket: str, query: dict[str, str]
    ) -> web.Response:
        body, condition = await self._read_whole(request), query.get("ifGenerationMatch")
        if query["uploadType"] == "resumable":
            metadata = json.loads(body)
            self._check_condition(bucket, metadata["name"], condition)
            session = f"session-{len(self.sessions)}"
            self.sessions[session] = Session(bucket, metadata, condition)
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            return web.Response(headers={"Location": self.endpoint + path})
        assert query["uploadType"] == "multipart"
        metadata, content = _parts_of(body, request.headers["Content-Type"])
        return self._make(bucket, metadata, content, condition)

    async def _session(self, request: web.BaseRequest, name: str) -> web.Response:
        session = self.sessions.get(name)
        if session is None:
            raise Refuse(404, "notFound", "Upload session not found")
        if request.method == "DELETE":
            del self.sessions[name]
            raise Refuse(499, "", "Client Closed Request")
        said, _, total = request.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if said != "*":
            start, end = map(int, said.split("-"))
            await self._take(request, session, start, end + 1, int(total))
        if session.made:
            held = self.buckets[session.bucket].get(session.metadata["name"])
            held = held or Held(b"", int(session.made), "", 0.0)
            return web.json_response(_resource(session.metadata["name"], held))
        if len(session.body) == int(total):
            self._check_hash(request, session)
            made = self._make(
                session.bucket, session.metadata, bytes(session.body), session.condition
            )
            session.made = str(json.loads(made.body)["generation"])  # type: ignore[arg-type]
            return made
        has = {"Range": f"bytes=0-{len(session.body) - 1}"} if session.body else {}
        return web.Response(status=308, headers=has)

    async def _take(
        self, request: web.BaseRequest, session: Session, start: int, end: int, total: int
    ) -> None:
        """Keep the bytes that are new; those that were there are not looked at."""
        if start > len(session.body):
            raise Refuse(400, "invalid", f"bytes {len(session.body)} to {start} are missing")
        at = start
        try:
            async for piece in request.content.iter_chunked(1 << 16):
                self.received += len(piece)
                session.body += piece[max(0, len(session.body) - at) :]
                at += len(piece)
                if self.cut_at is not None and len(session.body) >= self.cut_at:
                    self.cut_at = None
                    raise Cut
        finally:
            if at < end or end < total:  # in whole quanta, unless it is the end
                del session.body[len(session.body) // _QUANTUM_BYTES * _QUANTUM_BYTES :]

    def _check_hash(self, request: web.BaseRequest, session: Session) -> None:
        told = request.headers.get("X-Goog-Hash", "").removeprefix("crc32c=")
        if told:
            _check_crc32c(bytes(session.body), told)

    async def _read_whole(self, request: web.BaseRequest) -> bytes:
        body = b"".join([piece async for piece in request.content.iter_chunked(1 << 20)])
        self.received += len(body)
        return body

    def _make(
        self, bucket: str, metadata: dict[str, Any], body: bytes, condition: str | None
    ) -> web.Response:
        name = metadata["name"]
        self._check_condition(bucket, name, condition)
        if "crc32c" in metadata:
            _check_crc32c(body, metadata["crc32c"])
        self._generation += 1
        held = Held(body, self._generation, _crc32c(body), time.time())
        self.buckets[bucket][name] = held
        return web.json_response(_resource(name, held))

    def _check_condition(self, bucket: str, name: str, condition: str | None) -> None:
        held = self.buckets[bucket].get(name)
        if condition is not None and int(condition) != (held.generation if held else 0):
            said = "At least one of the pre-conditions you specified did not hold."
            raise Refuse(412, "conditionNotMet", said)


class GoogleObjects:
    """A prefix of a bucket, read without a request; see ``reading.Objects``."""

    def __init__(self, server: Google, bucket: str, prefix: str) -> None:
        self._objects = server.buckets[bucket]
        self._prefix = f"{prefix}/"

    def keys(self, prefix: str) -> list[str]:
        whole = self._prefix + prefix
        found = sorted((name for name in self._objects if name.startswith(whole)), key=str.encode)
        return [name.removeprefix(self._prefix) for name in found]

    def get(self, key: str) -> bytes:
        return self._objects[self._prefix + key].body


def _error(request: web.BaseRequest, error: Refuse) -> web.Response:
    headers = {"X-GUploader-UploadID": "of this request"}
    if "alt=media" in request.raw_path:
        return web.Response(status=error.status, text=error.message, headers=headers)
    detail = {"domain": "global", "reason": error.reason, "message": error.message}
    told = {"code": error.status, "message": error.message, "errors": [detail]}
    return web.json_response({"error": told}, status=error.status, headers=headers)


def _media(request: web.BaseRequest, held: Held) -> web.Response:
    headers = {
        "X-Goog-Generation": str(held.generation),
        "X-Goog-Hash": f"crc32c={held.crc32c}",
        "Last-Modified": f"{datetime.fromtimestamp(held.created, UTC):%a, %d %b %Y %H:%M:%S} GMT",
    }
    asked = request.headers.get("Range", "").removeprefix("bytes=")
    if not asked:
        return web.Response(body=held.body, headers=headers)
    first, _, last = asked.partition("-")
    if int(first) >= len(held.body):
        raise Refuse(
            416, "requestedRangeNotSatisfiable", "The requested range cannot be satisfied."
        )
    body = held.body[int(first) : int(last) + 1 if last else None]
    headers["Content-Range"] = f"bytes {first}-{int(first) + len(body) - 1}/{len(held.body)}"
    return web.Response(status=206, body=body, headers=headers)


def _resource(name: str, held: Held) -> dict[str, str]:
    return {
        "kind": "storage#object",
        "name": name,
        "size": str(len(held.body)),
        "generation": str(held.generation),
        "crc32c": held.crc32c,
        "timeCreated": datetime.fromtimestamp(held.created, UTC).isoformat(),
    }


def _parts_of(body: bytes, content_type: str) -> tuple[dict[str, Any], bytes]:
    """Take a multipart/related body apart."""
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    assert body.startswith(boundary + b"\r\n") and body.endswith(b"\r\n" + boundary + b"--\r\n")
    told, content = body[len(boundary) + 2 : -len(boundary) - 6].split(b"\r\n" + boundary + b"\r\n")
    return json.loads(told.split(b"\r\n\r\n", 1)[1]), content.split(b"\r\n\r\n", 1)[1]


def _check_crc32c(body: bytes, told: str) -> None:
    if told != _crc32c(body):
        said = f'Provided CRC32C "{told}" doesn\'t match calculated CRC32C "{_crc32c(body)}".'
        raise Refuse(400, "invalid", said)


def _crc32c(body: bytes) -> str:
    return base64.b64encode(google_crc32c.value(body).to_bytes(4)).decode()
